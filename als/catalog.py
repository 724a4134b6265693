"""What is sold: products and their components, read from TOML and checked to the last key.

Knows nothing of serials, seats or who uses them. Every complaint names file, line and key.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from als.tomlplace import Place

PRODUCT_NUMBER_MAX = 65_535  # two bytes in a serial
COMPONENTS_MAX = 200  # a lease stores one byte of length for its list
NAME_BYTES_MAX = 200
PERIOD_S_MAX = 10 * 365 * 86_400  # ten years: longer is "never"
_CODE = re.compile(r"[A-Za-z0-9-]{1,32}\Z")
_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhd])\Z")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class CatalogError(Exception):
    """A catalog that cannot be used; the message names file, line and key."""


@dataclass(frozen=True, slots=True)
class Component:
    """A program of a product. `licensed` ones take a seat, `works_offline` ones run without a server (R8)."""

    code: str
    name: str
    licensed: bool = True
    works_offline: bool = False


@dataclass(frozen=True, slots=True)
class Product:
    """What a serial is for. `period_s` None never lapses; `vendor` None lets any vendor's serials count."""

    code: str
    number: int
    name: str
    components: Mapping[str, Component]
    period_s: int | None
    heartbeat_s: int
    reusable: bool
    counts: str = "computers"
    vendor: str | None = None


class Catalog:
    """All products, found by code (as on the wire) or by number (as inside a serial)."""

    def __init__(self, products: Iterable[Product]) -> None:
        self.by_code: dict[str, Product] = {}
        self.by_number: dict[int, Product] = {}
        for product in sorted(products, key=lambda product: product.number):
            self.by_code[product.code] = product
            self.by_number[product.number] = product

    @property
    def products(self) -> tuple[Product, ...]:
        """All products in the order of their numbers."""
        return tuple(self.by_code.values())

    def finite_periods_s(self) -> list[int]:
        """The periods of the products whose leases lapse."""
        return [product.period_s for product in self.products if product.period_s is not None]


def builtin() -> Catalog:
    """The manual's four products."""
    return Catalog(_builtin_products())


def load(folder: Path, with_builtin: bool = True) -> Catalog:
    """Read all `*.toml` in `folder` (which may be absent). Raises CatalogError."""
    products = _builtin_products() if with_builtin else []
    origins = {product.code: "the built-in products" for product in products}
    numbers = {product.number: product for product in products}
    codes = {product.code.lower() for product in products}
    for path in sorted(folder.glob("*.toml")) if folder.is_dir() else []:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise CatalogError(f"{path}: cannot be read: {error}") from None
        for product in parse(text, str(path)):
            if product.code.lower() in codes:
                where = Place(str(path), text).at("products", product.code)
                other = next(code for code in origins if code.lower() == product.code.lower())
                raise CatalogError(f"{where}: the code {product.code} is already taken by {origins[other]}")
            if product.number in numbers:
                other = numbers[product.number].code
                where = Place(str(path), text).at("products", product.code, "number")
                raise CatalogError(
                    f"{where}: the number {product.number} is already taken by {other} in {origins[other]}"
                )
            origins[product.code] = str(path)
            numbers[product.number] = product
            codes.add(product.code.lower())
            products.append(product)
    return Catalog(products)


def parse(text: str, file: str) -> list[Product]:
    """Read the products of one catalog file. Raises CatalogError."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and a number of 5,000 digits, and 500 brackets
        raise CatalogError(f"{file}: {error}") from None
    place = Place(file, text)
    _refuse_unknown_keys(document, {"products"}, place, ())
    products = _table(document.get("products", {}), place, ("products",))
    if not products:
        raise CatalogError(f"{file}: there is no [products.CODE] in it")
    result = [_product(code, value, place) for code, value in products.items()]
    seen: dict[int, str] = {}
    for product in result:
        if product.number in seen:
            where = place.at("products", product.code, "number")
            raise CatalogError(f"{where}: the number {product.number} is already taken by {seen[product.number]}")
        seen[product.number] = product.code
    return result


def _builtin_products() -> list[Product]:
    text = resources.files("als").joinpath("builtin.toml").read_text(encoding="utf-8")
    return parse(text, "builtin.toml")


def _table(value: object, place: Place, path: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CatalogError(f"{place.at(*path)}: must be a table, like [{'.'.join(path)}]")
    return value


def _refuse_unknown_keys(table: Mapping[str, Any], known: set[str], place: Place, path: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise CatalogError(f"{place.at(*path, key)}: unknown key; known are {', '.join(sorted(known))}")


_PRODUCT_KEYS = {"number", "name", "counts", "period", "heartbeat", "reusable", "vendor", "components"}
_COMPONENT_KEYS = {"name", "licensed", "works_offline"}


def _product(code: str, value: object, place: Place) -> Product:
    path = ("products", code)
    table = _table(value, place, path)
    if not _CODE.match(code):
        raise CatalogError(f"{place.at(*path)}: a product's code is 1 to 32 letters, digits and hyphens")
    _refuse_unknown_keys(table, _PRODUCT_KEYS, place, path)
    number = table.get("number")
    if type(number) is not int or not 1 <= number <= PRODUCT_NUMBER_MAX:
        raise CatalogError(f"{place.at(*path, 'number')}: must be a whole number from 1 to {PRODUCT_NUMBER_MAX}")
    period_s = _duration(table, "period", place, path, never=True)
    heartbeat_s = _duration(table, "heartbeat", place, path, never=False)
    assert heartbeat_s is not None
    reusable = _bool(table, "reusable", True, place, path)
    if not reusable and period_s is not None:
        raise CatalogError(f'{place.at(*path, "period")}: must be "never" for a product that is not reusable')
    if period_s is not None and heartbeat_s > period_s:
        raise CatalogError(f"{place.at(*path, 'heartbeat')}: must not be longer than the period")
    components = _table(table.get("components", {}), place, (*path, "components"))
    if not 1 <= len(components) <= COMPONENTS_MAX:
        raise CatalogError(f"{place.at(*path, 'components')}: a product has 1 to {COMPONENTS_MAX} components")
    return Product(
        code=code,
        number=number,
        name=_text(table, "name", None, place, path),
        components={key: _component(key, item, place, path) for key, item in components.items()},
        period_s=period_s,
        heartbeat_s=heartbeat_s,
        reusable=reusable,
        counts=_text(table, "counts", "computers", place, path),
        vendor=_text(table, "vendor", "", place, path) or None,
    )


def _component(code: str, value: object, place: Place, product_path: tuple[str, ...]) -> Component:
    path = (*product_path, "components", code)
    table = _table(value, place, path)
    if not _CODE.match(code):
        raise CatalogError(f"{place.at(*path)}: a component's code is 1 to 32 letters, digits and hyphens")
    _refuse_unknown_keys(table, _COMPONENT_KEYS, place, path)
    return Component(
        code=code,
        name=_text(table, "name", code, place, path),
        licensed=_bool(table, "licensed", True, place, path),
        works_offline=_bool(table, "works_offline", False, place, path),
    )


def _text(table: Mapping[str, Any], key: str, default: str | None, place: Place, path: tuple[str, ...]) -> str:
    value = table.get(key, default)
    if type(value) is not str or len(value.encode()) > NAME_BYTES_MAX or (default is None and not value):
        raise CatalogError(f"{place.at(*path, key)}: must be a text of at most {NAME_BYTES_MAX} bytes")
    return value


def _bool(table: Mapping[str, Any], key: str, default: bool, place: Place, path: tuple[str, ...]) -> bool:
    value = table.get(key, default)
    if type(value) is not bool:
        raise CatalogError(f"{place.at(*path, key)}: must be true or false")
    return value


def _duration(table: Mapping[str, Any], key: str, place: Place, path: tuple[str, ...], *, never: bool) -> int | None:
    """Read "30d" as seconds, "never" as None."""
    value = table.get(key)
    if never and value == "never":
        return None
    found = _DURATION.match(value) if type(value) is str else None
    hint = ' or "never"' if never else ""
    if found is None:
        raise CatalogError(f'{place.at(*path, key)}: must be a time above zero like "30d", "12h", "90m", "45s"{hint}')
    seconds = int(found[1]) * _UNIT_S[found[2]]
    if seconds > PERIOD_S_MAX:
        raise CatalogError(f"{place.at(*path, key)}: must be at most ten years{hint}")
    return seconds
