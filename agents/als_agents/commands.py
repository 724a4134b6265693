"""What `als-agent` does once and ends: acquire, renew, check, release, identity."""

import argparse
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from als import keyfile, streams
from als.protocol import MAC_BYTES, mac_text
from als_agents import flags, identity
from als_agents.adapters import adapters, choose
from als_agents.errors import ClientError, Refused

EXIT_DONE = 0

_RELEASED = {
    "component_removed": "the component is gone; others of the product still hold the computer's license",
    "freed": "the license is free for another computer",
    "kept": "the component is gone; a license of this product stays with its computer",
    "not_held": "there was nothing to give back",
}


def say(text: str) -> None:
    """Print a line of output."""
    print(_printable(text))  # noqa: T201


def complain(text: str) -> None:
    """Print a line on stderr. Where that cannot be written, licenses are kept all the same."""
    streams.complain(_printable(text))


def _printable(text: str) -> str:
    """Replace what could play with a terminal: some of it was written by whoever answers as a server."""
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)


def acquire(settings: argparse.Namespace) -> int:
    """Take a license, or share the computer's; "invalid license" and 1 when refused, 3 when nobody answers."""
    return _hold(settings, "acquire", {})


def renew(settings: argparse.Namespace) -> int:
    """Renew the license as a run of the component does; otherwise as acquire."""
    return _hold(settings, "renew", {"want_lease": True})


def _hold(settings: argparse.Namespace, operation: str, more: Mapping[str, Any]) -> int:
    product, component = flags.required(settings, "product", "component")
    workplace = flags.workplace(settings)
    version = settings.version_of_product
    try:
        reply, _ = workplace.ask_for_computer(operation, product=product, component=component, version=version, **more)
    except Refused as refused:
        complain(f"invalid license: {refused.message}")
        return refused.exit_code
    except ClientError as error:
        complain(f"invalid license: {error}")
        return error.exit_code
    lease = reply.get("lease") or {}
    fields = (reply["result"], lease.get("product"), lease.get("serial_id"), lease.get("host"), lease.get("renew_by"))
    return _show(settings, reply, fields, lambda: _hold_text(reply["result"], lease))


def _hold_text(result: str, lease: Mapping[str, Any]) -> str:
    if not lease:
        return f"{result}: this component takes no license"
    until = "for good" if lease["renew_by"] is None else f"until {_local(lease['renew_by'])} unless renewed"
    return f"{result}: {lease['product_name']} on {lease['host']}, serial {lease['serial_id']}, {until}"


def check(settings: argparse.Namespace) -> int:
    """Ask whether seats are free; takes none."""
    (product,) = flags.required(settings, "product")
    reply, _ = flags.workplace(settings).ask_for_computer("check", product=product)
    engaged = "this computer holds one" if reply["engaged"] else "this computer holds none"
    text = f"{product}: {reply['free']} of {reply['total']} licenses free, {reply['used']} used; {engaged}"
    fields = [reply[key] for key in ("total", "used", "free", "engaged")]
    return _show(settings, reply, fields, lambda: text)


def release(settings: argparse.Namespace) -> int:
    """Give a component's license back, as its uninstallation does."""
    product, component = flags.required(settings, "product", "component")
    reply, _ = flags.workplace(settings).ask_for_computer("release", product=product, component=component)
    result = reply["result"]
    return _show(settings, reply, [result], lambda: f"{result}: {_RELEASED.get(result, '')}")


def show_identity(settings: argparse.Namespace) -> int:
    """Show what is sent for this computer, and why each adapter was kept or left out."""
    workplace = flags.workplace(settings)
    computer = workplace.computer(workplace.finder.likely_host(workplace.server))
    key = keyfile.to_z85(workplace.pair.public)
    rows = [
        {"adapter": item.adapter.name, "mac": _mac(item.adapter.mac), "kept": item.kept, "reason": item.reason}
        for item in choose(adapters())
    ]
    if settings.json:
        say(json.dumps({**_jsonable(computer), "key": key, "adapters": rows}, indent=2))
        return EXIT_DONE
    if settings.plain:
        for name, value in {**_jsonable(computer), "key": key}.items():
            say(f"{name}\t{','.join(value) if isinstance(value, list) else _plain(value)}")
        return EXIT_DONE
    say(f"host        {computer['host']}")
    say(f"address     {computer['address']}")
    say(f"macs        {', '.join(mac_text(mac) for mac in computer['macs'])}")
    say(f"machine id  {computer.get('machine_id') or '-'}   (a hash; the machine's own id is never sent)")
    say(f"kind        {computer.get('kind') or '-'}")
    say(f"key         {key}")
    for row in rows:
        word = "sent" if row["kept"] else "left out"
        say(f"  {row['adapter']:<15} {row['mac'] or '-':<17} {word}: {row['reason']}")
    if computer["macs"] == [identity.made_mac(computer.get("machine_id") or computer["host"])]:
        say("  there is no adapter to go by: the address is made from the machine id; set ALS_MACS to choose one")
    return EXIT_DONE


def _show(
    settings: argparse.Namespace,
    reply: Mapping[str, Any],
    fields: "list[Any] | tuple[Any, ...]",
    text: Callable[[], str],
) -> int:
    """Print a reply in the form that was asked for."""
    if settings.json:
        content = {key: value for key, value in reply.items() if key not in ("v", "id", "ok", "time")}
        say(json.dumps(_jsonable(content), indent=2))
    else:
        say("\t".join(_plain(field) for field in fields) if settings.plain else text())
    return EXIT_DONE


def _plain(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mac(mac: bytes | None) -> str | None:
    return mac_text(mac) if mac is not None else None


def _jsonable(value: Any) -> Any:
    """Write what JSON cannot hold as the tools do: a MAC with colons, other bytes in hexadecimal."""
    if isinstance(value, bytes):
        return mac_text(value) if len(value) == MAC_BYTES else value.hex()
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    return value


def _local(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M %Z")
