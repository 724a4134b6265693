"""Importing serials over a real server: every result of the document, and what becomes of a serial's end."""

from collections.abc import Iterator
from typing import Any

import pytest

from contract_client import (
    DAY_S,
    DAY_ZERO_S,
    IMPORTED,
    SYMBOLS,
    Vendor,
    day_number,
    new_keys,
    serial_bytes,
    server_lock,
    short_id,
)
from server_process import Product, Site, counted, product_text


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for this module."""
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site


def test_import_results(site: Site) -> None:
    """Each serial of an import gets its own result, and a bad one never stops the others."""
    product, vendor, stranger = site.product(), site.vendor, Vendor()
    good = vendor.issue(product.number, 5)
    yesterday = day_number(site.now_s()) - 1
    number, issuer = product.number, vendor.issue(product.number)
    serials = {
        "mistyped": good[:-1] + SYMBOLS[(SYMBOLS.index(good[-1]) + 1) % 32],
        "unsupported": vendor.issue(number, format_number=2),
        "unknown_vendor": stranger.issue(number),
        "forged": stranger.issue(number, issuer=serial_bytes(issuer)[20:22]),
        "unknown_product": vendor.issue(65_000),
        "wrong_server": vendor.issue(number, lock=server_lock(new_keys().public)),
        "expired": vendor.issue(number, last_day=yesterday),
        "added": good,
    }
    reply = site.with_role("operator").ask("import", serials=[*serials.values(), good])
    assert set(reply) == {"rows", "added", "licenses_added"}
    assert (reply["added"], reply["licenses_added"]) == (1, 5)
    assert [row["result"] for row in reply["rows"]] == [*serials, "already_present"]
    assert [row["line"] for row in reply["rows"]] == list(range(1, 10))
    for row in reply["rows"]:
        assert set(row) == IMPORTED
        assert type(row["message"]) is str or row["result"] == "added"
    by_result = {row["result"]: row["serial_id"] for row in reply["rows"]}
    assert by_result["mistyped"] is None
    for result in ("added", "already_present"):
        assert by_result[result] == short_id(product.code, good)
    assert counted(site.admin, product) == (5, 0, 5)


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        ("unsupported", {"flags": 2}),
        ("unsupported", {"flags": 0x81}),
        ("unsupported", {"seats": 0}),
        ("unsupported", {"seats": 1_000_001}),
        ("unsupported", {"format_number": 0}),
        ("forged", {"signature": bytes(64)}),
        ("added", {"seats": 1_000_000}),
        ("added", {"trial": True, "trial_days": 65_535}),
        ("added", {"last_day": 65_535}),
    ],
)
def test_import_bounds(site: Site, expected: str, changes: dict[str, Any]) -> None:
    """The bounds of a serial's fields are those of the document."""
    assert site.import_one(site.vendor.issue(site.product().number, **changes))[0] == expected


def test_import_order_of_checks(site: Site) -> None:
    """A serial that is wrong in several ways is told the first in the document's order."""
    vendor, stranger, product = site.vendor, Vendor(), site.product()
    lock = server_lock(new_keys().public)
    assert site.import_one(stranger.issue(65_000, 0, lock=lock))[0] == "unsupported"
    assert site.import_one(stranger.issue(65_000, lock=lock))[0] == "unknown_vendor"
    assert site.import_one(vendor.issue(65_000, signature=bytes(64)))[0] == "forged"
    assert site.import_one(vendor.issue(65_000, lock=lock))[0] == "unknown_product"
    assert site.import_one(vendor.issue(product.number, lock=lock, last_day=1))[0] == "wrong_server"


def test_import_reads_leniently(site: Site) -> None:
    """Case, look-alike letters and the separators do not matter, and the server's own lock is accepted."""
    product = site.product()
    lock = server_lock(site.server.server_key)
    serial = site.vendor.issue(product.number, 3, lock=lock)
    sloppy = serial.lower().replace("0", "o").replace("1", "l").replace("-", " ")
    assert site.import_one(sloppy) == ("added", short_id(product.code, serial))
    for text in (serial, serial.replace("-", ""), serial.replace("1", "I"), serial.replace("-", "\n", 3)):
        assert site.import_one(text)[0] == "already_present"
    assert counted(site.admin, product) == (3, 0, 3)


def test_identity_of_a_serial(site: Site) -> None:
    """A serial is known by vendor and id: other content is no new serial, another vendor's is."""
    product, same, other = site.product(), bytes(range(8)), Vendor()
    assert site.import_one(site.vendor.issue(product.number, 1, serial_id=same))[0] == "added"
    assert site.import_one(site.vendor.issue(product.number, 2, serial_id=same))[0] == "already_present"
    serial = other.issue(product.number, 4, serial_id=same)
    assert site.import_one(serial)[0] == "unknown_vendor"
    (site.server.data_dir / "vendors" / "other.pub").write_text(other.pub_line, encoding="ascii")
    assert site.import_one(serial)[0] == "added"
    assert counted(site.admin, product) == (5, 0, 5)


def test_catalog_is_read_again(site: Site) -> None:
    """A product that a vendor brings later counts from the next import on, and only its own vendor's serials do."""
    owner = Vendor()
    (site.server.data_dir / "vendors" / "owner.pub").write_text(owner.pub_line, encoding="ascii")
    number = 9_000
    assert site.import_one(owner.issue(number))[0] == "unknown_product"
    assert site.admin.refused("check", product="LATE").code == "unknown_product"
    text = product_text("LATE", number, "30d", "1h", 'true\nvendor = "owner"')
    path = site.server.data_dir / "catalog.d" / "late.toml"
    path.write_text(text, encoding="utf-8")
    assert site.import_one(site.vendor.issue(number))[0] == "unknown_vendor"
    assert site.import_one(owner.issue(number, 3))[0] == "added"
    assert counted(site.admin, Product("LATE", number)) == (3, 0, 3)
    lease = site.admin.ask("acquire", product="LATE", component="agent", computer=site.computer())["lease"]

    path.write_text("[products", encoding="utf-8")
    assert site.import_one(owner.issue(number, 4))[0] == "added"  # the catalog in force stays

    path.unlink()
    assert site.import_one(owner.issue(number))[0] == "unknown_product"
    assert site.admin.rows("leases", product="LATE") == [lease]
    assert [row["total"] for row in site.admin.rows("licenses", product="LATE")] == [3, 4]
    computer = {"macs": [lease["mac"]], "host": lease["host"], "address": lease["address"]}
    wanted = {"product": "LATE", "component": "agent", "computer": computer}
    for operation in ("acquire", "renew"):
        assert site.admin.refused(operation, **wanted).code == "unknown_product"
    assert site.admin.ask("release", **wanted) == {"result": "freed"}


def test_ends_of_serials(site: Site) -> None:
    """A serial is good to the end of its last day, a trial for its days, and both to the sooner one."""
    product, today = site.product(), day_number(site.now_s())
    ends = [(today, 0), (0, 10), (today + 5, 30), (today + 30, 5)]
    for last_day, trial_days in ends:
        serial = site.vendor.issue(product.number, trial=True, last_day=last_day, trial_days=trial_days)
        result, serial_id = site.import_one(serial)
        assert result == "added"
        row = next(row for row in site.admin.rows("licenses") if row["serial_id"] == serial_id)
        end_of_day = DAY_ZERO_S + (last_day + 1) * DAY_S
        end_of_trial = row["imported_at"] + trial_days * DAY_S
        assert row["trial"] is True
        assert row["expires_at"] == min(
            *([end_of_day] if last_day else []), *([end_of_trial] if trial_days else []), 2**63
        )


def test_trial_is_counted_from_its_first_import(site: Site) -> None:
    """Removing a trial and importing it again does not start it anew."""
    product = site.product()
    serial = site.vendor.issue(product.number, trial=True, trial_days=3)
    serial_id = site.import_one(serial)[1]
    first = site.admin.rows("licenses", product=product.code)[0]
    site.admin.ask("remove", serial_id=serial_id)
    site.admin.wait_until(lambda reply: reply["time"] > first["imported_at"], "hello")
    assert site.import_one(serial)[0] == "added"
    assert site.admin.rows("licenses", product=product.code)[0]["expires_at"] == first["expires_at"]
