"""What a removal does, in words, before it is done and after: of a computer's seat, and of a serial as a whole.

Pure but for find_serial, which asks the server.
"""

from collections.abc import Mapping
from typing import Any

from als.protocol import Role
from als_agents.errors import Refused
from als_tools import formats, rows
from als_tools.columns import Row
from als_tools.console.dialogs import Answer, Question
from als_tools.console.permission import why_not
from als_tools.rows import Ask


def least_operation(is_used_view: bool) -> str:
    """Give the operation that Remove needs at least: a seat can be freed by an operator, a serial not."""
    return "revoke" if is_used_view else "remove"


def seat_question(lease: Row, role: Role) -> Question:
    """Ask what to remove: the answer is "free", "serial" or None."""
    host, product = formats.clean(str(lease["host"])), lease["product"]
    what = f"{lease['product_name']} ({product})"
    if lease["state"] == "lapsed":
        seat = f"The license of {host} for {what} has lapsed already: its seat is free, and only the record is left."
    else:
        seat = f"{host} ({formats.binary(lease['mac'])}) holds a seat of {what}, on the serial {lease['serial_id']}."
    text = (
        f"{seat}\n\n"
        f"Free the seat: the next computer can have it. If the program is run on {host} again, it takes a seat "
        "again, if one is free then.\n\n"
        f"Take the serial out completely: the serial {lease['serial_id']} and every license on it, not only this "
        "one. You will be told how many before it is done."
    )
    return Question(
        "Remove",
        text,
        (
            Answer("free", "Free this seat", "warning", why_not("revoke", role)),
            Answer("serial", "Take the serial out…", "error", why_not("remove", role)),
        ),
    )


def serial_question(license_row: Row, role: Role) -> Question:
    """Ask whether a serial is to be taken out; the answer is "remove" or None."""
    used, seats = license_row["used"], formats.counted(license_row["total"], "seat")
    serial_id = license_row["serial_id"]
    text = f"The serial {serial_id} with its {seats} of {license_row['product_name']} leaves this server for good.\n\n"
    if used:
        computers = formats.counted(used, "computer")
        text += (
            f"{computers} hold{'s' if used == 1 else ''} a license on it and will lose it. At the next run of the "
            "program each of them needs a free seat on another serial, or it will not run. (Where licenses of the "
            "product cannot be reused, the list of its computers is kept and comes back with the serial.)"
        )
        label = f"Remove serial and {formats.counted(used, 'license')}"
    else:
        text += "No computer uses it."
        label = "Remove the serial"
    text += "\n\nThe same serial can be imported again; a trial does not start anew by that."
    return Question("Remove a serial completely", text, (Answer("remove", label, "error", why_not("remove", role)),))


def find_serial(ask: Ask, lease: Row) -> Row:
    """Find the license row of a lease's serial. Raises what `ask` raises, Refused when it is gone."""
    for row in rows.all_rows(ask, "licenses", product=lease["product"]):
        if row["serial_id"] == lease["serial_id"]:
            return row
    raise Refused("unknown_serial", "This server has no such serial any more.")


def done(operation: str, row: Row, reply: Mapping[str, Any]) -> str:
    """Say what was done."""
    if operation == "revoke":
        return f"{row['host']} gave back its seat of {row['product']}; the next computer can have it."
    leases = formats.counted(reply.get("leases", 0), "license")
    return f"{row['serial_id'] or 'The serial'} is removed, with {leases} on it."


def details(row: Row, is_used_view: bool) -> str:
    """Write out what the columns may have left out or cut."""
    name = formats.clean(str(row["product_name"]))
    if not is_used_view:
        return f"{name}\n{row['serial']}"
    components = formats.clean(", ".join(row["components"]) or "none")
    host, version = formats.clean(str(row["host"])), formats.clean(str(row["version"] or "?"))
    return f"{host}  {formats.binary(row['mac'])}  {name}  components: {components}  version {version}\n{row['serial']}"
