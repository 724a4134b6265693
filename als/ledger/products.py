"""The products that the store has met: their code and name by number, kept when a catalog forgets them."""

from collections.abc import Mapping

from als.catalog import Catalog, Product
from als.records import pack_value, product_key, unpack_value
from als.store.transaction import Table, Transaction

PRODUCTS_MAX = 65_536  # two bytes of number


def known(tx: Transaction) -> Mapping[int, tuple[str, str]]:
    """All products met, number -> (code, name)."""
    found: dict[int, tuple[str, str]] | None = tx.memo.get("products")
    if found is None:
        rows = tx.scan(Table.PRODUCTS, limit=PRODUCTS_MAX)
        found = {int.from_bytes(key, "big"): tuple(unpack_value(raw)) for key, raw in rows}
        tx.memo["products"] = found
    return found


def meet(tx: Transaction, product: Product) -> None:
    """Remember a product that serials or leases are about to name; looks at no other product's row."""
    memo_key = ("met", product.number)
    if tx.memo.get(memo_key) is product:
        return
    tx.memo[memo_key] = product
    key, named = product_key(product.number), pack_value([product.code, product.name])
    if tx.get(Table.PRODUCTS, key) != named:
        tx.put(Table.PRODUCTS, key, named)
        tx.memo.pop("products", None)


def number_of(tx: Transaction, catalog: Catalog, code: str) -> int | None:
    """Find a product's number by its code, in the catalog or among those met before."""
    product = catalog.by_code.get(code)
    if product is not None:
        return product.number
    return next((number for number, (met, _) in known(tx).items() if met == code), None)


def name_of(tx: Transaction, catalog: Catalog, number: int) -> tuple[str, str]:
    """Give code and name of a product, as the catalog has them now or as they were last known."""
    product = catalog.by_number.get(number)
    if product is not None:
        return product.code, product.name
    return known(tx).get(number, (f"product-{number}", f"unknown product {number}"))
