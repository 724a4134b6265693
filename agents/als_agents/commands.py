"""What `als-agent` does once and ends: acquire, renew, check, release, identity, configure."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from als import keyfile
from als.protocol import mac_text
from als_agents import flags, identity
from als_agents.adapters import adapters, choose
from als_agents.errors import ClientError, Refused
from als_agents.server import Server
from als_agents.workplace import Workplace

EXIT_DONE = 0
EXIT_REFUSED = 1
EXIT_NO_SERVER = 3


def say(text: str) -> None:
    """Print a line of output."""
    print(text)  # noqa: T201


def complain(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr)  # noqa: T201


def acquire(arguments: argparse.Namespace) -> int:
    """Take a license, or share the computer's; exit 1 and "invalid license" when refused, 3 when nobody answers."""
    return _hold(arguments, "acquire", {})


def renew(arguments: argparse.Namespace) -> int:
    """Renew the license as a run of the component does."""
    return _hold(arguments, "renew", {"want_lease": True})


def _hold(arguments: argparse.Namespace, operation: str, more: Mapping[str, Any]) -> int:
    workplace = flags.workplace(arguments, {})
    try:
        reply, _ = workplace.ask_for_computer(
            operation,
            product=arguments.product,
            component=arguments.component,
            version=arguments.version_of_product,
            **more,
        )
    except Refused as refused:
        complain(f"invalid license: {refused.message}")
        return EXIT_REFUSED
    except ClientError as error:
        complain(f"invalid license: {error}")
        return error.exit_code
    lease = reply["lease"]
    if arguments.plain and lease is not None:
        say("\t".join([reply["result"], lease["product"], lease["serial_id"], lease["host"], str(lease["renew_by"])]))
    else:
        _show(arguments, reply, lambda: _hold_text(reply))
    return EXIT_DONE


def _hold_text(reply: Mapping[str, Any]) -> str:
    lease = reply["lease"]
    if lease is None:
        return f"{reply['result']}: this component takes no license"
    until = "for good" if lease["renew_by"] is None else f"until {_local(lease['renew_by'])} unless renewed"
    return f"{reply['result']}: {lease['product_name']} on {lease['host']}, serial {lease['serial_id']}, {until}"


def check(arguments: argparse.Namespace) -> int:
    """Ask whether seats are free; takes none."""
    reply, _ = flags.workplace(arguments, {}).ask_for_computer("check", product=arguments.product)
    if arguments.plain:
        say("\t".join(str(reply[key]) for key in ("total", "used", "free", "engaged")))
        return EXIT_DONE
    engaged = "this computer holds one" if reply["engaged"] else "this computer holds none"
    text = f"{arguments.product}: {reply['free']} of {reply['total']} licenses free, {reply['used']} used; {engaged}"
    _show(arguments, reply, lambda: text)
    return EXIT_DONE


def release(arguments: argparse.Namespace) -> int:
    """Give a component's license back, as its uninstallation does."""
    reply, _ = flags.workplace(arguments, {}).ask_for_computer(
        "release", product=arguments.product, component=arguments.component
    )
    words = {
        "component_removed": "the component is gone; others of the product still hold the computer's license",
        "freed": "the license is free for another computer",
        "kept": "the component is gone; a license of this product stays with its computer",
        "not_held": "there was nothing to give back",
    }
    if arguments.plain:
        say(reply["result"])
    else:
        _show(arguments, reply, lambda: f"{reply['result']}: {words.get(reply['result'], '')}")
    return EXIT_DONE


def show_identity(arguments: argparse.Namespace) -> int:
    """Show what is sent for this computer, and why each adapter was kept or left out."""
    workplace = flags.workplace(arguments, {})
    computer = workplace.computer()
    choices = choose(adapters())
    if arguments.json:
        rows = [
            {"adapter": item.adapter.name, "mac": _mac(item.adapter.mac), "kept": item.kept, "reason": item.reason}
            for item in choices
        ]
        document = {**_jsonable(computer), "key": keyfile.to_z85(workplace.pair.public), "adapters": rows}
        say(json.dumps(document, indent=2))
        return EXIT_DONE
    say(f"host        {computer['host']}")
    say(f"address     {computer['address']}")
    say(f"macs        {', '.join(mac_text(mac) for mac in computer['macs'])}")
    say(f"machine id  {computer.get('machine_id') or '-'}   (a hash; the machine's own id is never sent)")
    say(f"kind        {computer.get('kind') or '-'}")
    say(f"key         {keyfile.to_z85(workplace.pair.public)}")
    for item in choices:
        word = "sent" if item.kept else "left out"
        say(f"  {item.adapter.name:<15} {_mac(item.adapter.mac) or '-':<17} {word}: {item.reason}")
    if computer["macs"] == [identity.made_mac(computer.get("machine_id") or computer["host"])]:
        say("  there is no adapter to go by: the address is made from the machine id; set ALS_MACS to choose one")
    return EXIT_DONE


def _mac(mac: bytes | None) -> str | None:
    return mac_text(mac) if mac is not None else None


def configure(arguments: argparse.Namespace, ask: Callable[[str], str] = input) -> int:
    """Store which server to use: by name or address, or let it be searched; asks where there is a terminal."""
    workplace = flags.workplace(arguments, {})
    servers: list[Server] = []
    if arguments.server is None and not arguments.search and sys.stdin.isatty():
        say("License server: type its name or address, or press Enter to search the local network.")
        answer = ask("> ").strip()
        workplace.server = answer or None
    if workplace.server is None and not arguments.search and not sys.stdin.isatty():
        raise flags.BadSettings("name a server with --server, or let it be searched with --search")
    servers = workplace.finder.find_all(workplace.server, server_key=workplace.server_key)
    servers = _chosen(servers, ask)
    workplace.parameters.choose_servers([server.as_stored() for server in servers])
    for server in servers:
        say(f"stored {server} ({server.fingerprint})")
    _greet(workplace)
    return EXIT_DONE


def _chosen(servers: list[Server], ask: Callable[[str], str]) -> list[Server]:
    """Let a person choose among the servers that a search found; without a terminal all are kept, in their order."""
    if len({server.server_id for server in servers}) < 2 or not sys.stdin.isatty():
        return servers
    for number, server in enumerate(servers, 1):
        say(f"{number}  {server}")
    answer = ask(f"Which one? [1-{len(servers)}, Enter for all] ").strip()
    if not answer:
        return servers
    if not answer.isdecimal() or not 1 <= int(answer) <= len(servers):
        raise flags.BadSettings(f"{answer!r} is none of 1 to {len(servers)}")
    return [servers[int(answer) - 1]]


def _greet(workplace: Workplace) -> None:
    """Say hello, so that the catalog's facts are there for days without a server."""
    reply, server = workplace.ask("hello")
    workplace.parameters.remember_catalog(reply["products"])
    say(f"{server} answers; it knows {', '.join(product['code'] for product in reply['products']) or 'no product yet'}")


def _show(arguments: argparse.Namespace, reply: Mapping[str, Any], text: Callable[[], str]) -> None:
    say(json.dumps(_jsonable(_without_head(reply)), indent=2) if arguments.json else text())


def _without_head(reply: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in reply.items() if key not in ("v", "id", "ok", "time")}


def _jsonable(value: Any) -> Any:
    """Write what JSON cannot hold as the tools do: a MAC with colons, other bytes in hexadecimal."""
    if isinstance(value, bytes):
        return mac_text(value) if len(value) == 6 else value.hex()
    if isinstance(value, Mapping):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    return value


def _local(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M %Z")
