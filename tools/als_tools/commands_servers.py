"""The commands about servers as a whole: which there are, how one is, whose key is believed."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer

from als import keyfile, protocol
from als_agents import discovery
from als_agents.discovery import FoundServer
from als_agents.server_address import address_text
from als_agents.servers import Server
from als_tools import columns, connection, formats, rows, snapshot, views
from als_tools.arguments import is_fingerprint, read_key
from als_tools.columns import Row, UnknownColumnError
from als_tools.failures import Exit, Failure
from als_tools.options import LIST_WAIT_S_DEFAULT, SERVER_FORMS, Access, Form, Selection, ServerArgument, read_port
from als_tools.output import say


def list_servers(
    form: Form,
    selection: Selection,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.05, help="How long to collect answers.")
    ] = LIST_WAIT_S_DEFAULT,
    discovery_port: Annotated[
        int,
        typer.Option(
            metavar="PORT",
            envvar="ALS_DISCOVERY_PORT",
            callback=read_port,
            help="The UDP port that servers are searched on.",
        ),
    ] = protocol.PORT,
) -> None:
    """List the license servers on the local network."""
    output = form.output()
    try:
        columns.SERVERS.choose(selection.columns)
        found = discovery.discover(wait, discovery_port)
        listed: Sequence[Row] = list(_documents(found) if output.form == "json" else _lines(found))
        arranged = rows.arranged(listed, columns.SERVERS, selection.sort, selection.reverse, selection.limit)
        shown = _named_once(arranged) if output.form == "table" else arranged
        output.rows(columns.SERVERS, shown, selection.columns)
    except UnknownColumnError as error:
        raise Failure(Exit.WRONG_USAGE, str(error)) from None
    if not found:
        say(
            "No license server answered on this network. Start one with: als-server run. "
            "One behind a router is reached by its address: als status HOST"
        )


def _documents(found: Sequence[FoundServer]) -> Iterator[Row]:
    """Give the rows of the JSON document, one for each server."""
    for server in found:
        yield {
            "server_id": server.server_id,
            "name": server.name,
            "version": server.version,
            "addresses": [{"address": host, "port": port} for host, port in server.addresses],
            "key": server.key,
        }


def _lines(found: Sequence[FoundServer]) -> Iterator[Row]:
    """Give the rows for people, one for each address."""
    for server in found:
        for host, port in server.addresses:
            yield {
                "server_id": server.server_id,
                "name": server.name,
                "address": host,
                "port": port,
                "version": server.version,
                "fingerprint": keyfile.fingerprint(server.key),
            }


def _named_once(lines: Iterable[Row]) -> Iterator[Row]:
    """Leave out of each line what the line above says of the same server: a cluster is one name."""
    above: Row = {}
    for line in lines:
        same = (line["server_id"], line["fingerprint"]) == (above.get("server_id"), above.get("fingerprint"))
        yield {key: line[key] for key in ("address", "port")} if same else line
        above = line


def status(access: Access, form: Form, server: ServerArgument = None) -> None:
    """Show how a server is: what is wrong first, then its clock, pools and numbers."""
    output = form.output()
    with connection.connect(server, access) as link:
        reply = link.ask("status")
        seen = snapshot.take(reply, link.address, link.server.fingerprint)
    content = {key: value for key, value in reply.items() if key not in connection.ENVELOPE}
    output.document(content, views.status_view(seen, output.zone), views.status_plain(seen, output.zone))


def trust(
    access: Access,
    form: Form,
    server: Annotated[str, typer.Argument(metavar="SERVER", help=SERVER_FORMS)],
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="[KEY]",
            help="The server's public key (Z85, hexadecimal or a .key file) or its fingerprint. Left out: the key "
            "that the server shows now.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Hold a server to its key from now on, in place of any other key that was known for it."""
    output = form.output()
    finds = connection.finder(access)
    seen = finds.look(server)
    if key is not None:
        _refuse_other(seen, key)
    finds.known.trust(seen.as_pin())
    content: dict[str, Any] = {
        "server_id": seen.server_id,
        "name": seen.name,
        "address": seen.host,
        "port": seen.port,
        "key": seen.key,
    }
    where = address_text(seen.host, seen.port)
    sentence = f"{formats.clean(seen.name)} at {where} is trusted by the key {seen.fingerprint}"
    output.document(content, sentence, [f"{formats.clean(seen.name)}\t{where}\t{seen.fingerprint}"])
    if key is None:
        say("Compare the fingerprint with the one that als status shows on the server itself.")


def _refuse_other(seen: Server, key: str) -> None:
    """Raise Failure when the server shows another key than the one that was given."""
    wanted = key if is_fingerprint(key) else keyfile.fingerprint(read_key(key))
    if wanted.rstrip("=") != seen.fingerprint:
        raise Failure(
            Exit.NOT_TRUSTED,
            f"the server shows the key {seen.fingerprint}, not {wanted}: it is another server, or its key is new",
        )
