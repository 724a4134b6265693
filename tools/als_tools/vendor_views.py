"""What als-vendor writes about serials: the fields of one, the list of those just issued."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from als import crockford, serial
from als.catalog import Product
from als.serial import Serial
from als_tools import formats
from als_tools.output import Form, jsonable
from als_tools.vendor_inputs import DAY_ZERO

Document = Mapping[str, Any]
"""The fields of one serial: values of the wire's kinds, absent ones None."""

SIGNATURES = {
    "valid": "valid, of the vendor {vendor}",
    "forged": "FORGED: not that of the vendor who is named in the serial",
    "unknown_vendor": "not checked: none of the public keys here is of the vendor who is named in the serial",
    "not_checked": "not checked: no public key here; --pub names one",
}


def document(text: str, content: Serial, product: Product | None) -> dict[str, Any]:
    """Give the fields of a serial; `product` is None when no catalog has its number."""
    symbols = crockford.encode(content.serial_id.to_bytes(8, "big"))
    return {
        "serial_id": symbols if product is None else serial.short_id(product.code, content.serial_id),
        "product": None if product is None else product.code,
        "product_name": None if product is None else product.name,
        "product_number": content.product_number,
        "seats": content.seats,
        "last_day": _date(content.last_day),
        "expires_at": serial.end_of_last_day(content.last_day),
        "trial": content.trial,
        "trial_days": content.trial_days or None,
        "lock": None if content.lock == serial.NO_LOCK else content.lock,
        "issuer": content.issuer,
        "serial": text,
    }


def _date(last_day: int) -> str | None:
    return (DAY_ZERO + timedelta(days=last_day)).isoformat() if last_day else None


def picture(fields: Document, signature: str, vendor: str | None) -> str:
    """Write a serial's fields for a person, one a line."""
    number = fields["product_number"]
    product = f"{fields['product_name']} ({fields['product']}, number {number})"
    trial_days = fields["trial_days"]
    rows = {
        "serial id": fields["serial_id"],
        "product": product if fields["product"] else f"number {number}, in no catalog here; --catalog names one",
        "licenses": formats.count(fields["seats"]),
        "last day": f"{fields['last_day']}, to its end in UTC" if fields["last_day"] else "none",
        "trial": ("yes" if fields["trial"] else "no")
        + (f", {formats.counted(trial_days, 'day')} from the first import" if trial_days else ""),
        "locked to": f"the server whose key's hash begins {fields['lock'].hex()}" if fields["lock"] else "no server",
        "issuer": f"the vendor whose key's hash begins {fields['issuer'].hex()}",
        "signature": SIGNATURES[signature].format(vendor=vendor),
        "serial": fields["serial"],
    }
    return "\n".join(f"{name:<10}  {value}" for name, value in rows.items())


def plain(fields: Document) -> list[str]:
    """Write a serial's fields for programs: name, tab, value."""
    return [f"{name}\t{_plain_value(value)}" for name, value in fields.items()]


def _plain_value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(jsonable(value))


def issued(rows: Iterable[Document], form: Form) -> Iterator[str]:
    """Write issued serials line by line: the serial alone, all fields after it with tabs, or one JSON document."""
    if form == "json":
        separator = '{"rows": [\n'
        for row in rows:
            yield separator + json.dumps(jsonable(row))
            separator = ",\n"
        yield "\n]}\n"
        return
    for row in rows:
        if form == "plain":
            values = (_plain_value(value) for name, value in row.items() if name != "serial")
            yield "\t".join([row["serial"], *values]) + "\n"
        else:
            yield row["serial"] + "\n"
