"""The commands about people: making a key pair, and the table of those who may do more than an agent."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from als import keyfile
from als.protocol import NAME_BYTES_MAX, Role
from als_agents import key_pairs
from als_tools import columns, connection, formats, rows
from als_tools.arguments import read_key
from als_tools.connection import Link
from als_tools.failures import Exit, Failure
from als_tools.options import Access, Form, Selection, ServerArgument
from als_tools.output import Output

SECRET_SUFFIX = ".key_secret"
ACTIONS = ("list", "add", "remove")
ROLES = tuple(role.text for role in Role)
USAGE = "als admins SERVER [list | add KEY NAME ROLE | remove KEY]"


def keygen(
    form: Form,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to write the key pair, FILE.key_secret and FILE.key.",
            show_default="your own, which als uses by itself",
        ),
    ] = None,
) -> None:
    """Make a key pair, or show the one you have, so that an administrator can give it a role."""
    output = form.output()
    try:
        if out is None:
            pair = key_pairs.own_pair()
        else:
            pair = _make(Path(str(out).removesuffix(SECRET_SUFFIX)))
    except keyfile.KeyFileError as error:
        raise Failure(Exit.WRONG_USAGE, str(error)) from None
    fingerprint = keyfile.fingerprint(pair.public)
    lines = (
        f"key          {pair.public.hex()}\n"
        f"fingerprint  {fingerprint}\n"
        f"An administrator gives it a role: als admins SERVER add {pair.public.hex()} NAME viewer"
    )
    content = {"key": pair.public, "fingerprint": fingerprint}
    output.document(content, lines, [f"{pair.public.hex()}\t{fingerprint}"])


def _make(path: Path) -> keyfile.KeyPair:
    """Make a key pair under a name that is free. Raises Failure."""
    secret = path.with_name(path.name + SECRET_SUFFIX)
    if secret.exists():
        raise Failure(Exit.REFUSED, f"{secret} exists already and is kept; choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        pair = keyfile.generate()
        keyfile.write(path.parent, path.name, pair)
    except OSError as error:
        raise Failure(Exit.REFUSED, f"{secret} cannot be written ({error.strerror}); choose another place") from None
    return pair


def admins(
    access: Access,
    form: Form,
    selection: Selection,
    server: ServerArgument = None,
    action: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="list | add KEY NAME ROLE | remove KEY",
            help=f"KEY is Z85, hexadecimal or a .key file, for remove also a name; ROLE is one of {', '.join(ROLES)}.",
        ),
    ] = None,
) -> None:
    """List, add and remove those who may look into the server or change it."""
    output = form.output()
    given, verb, rest = _understood([] if server is None else [server, *(action or [])])
    with connection.connect(given, access, changes_state=verb != "list") as link:
        if verb == "list":
            _list(link, output, selection)
        elif verb == "add":
            _add(link, output, *rest)
        else:
            _remove(link, output, rest[0])


def _understood(words: Sequence[str]) -> tuple[str | None, str, Sequence[str]]:
    """Take the words of the command apart as server, action and what the action needs. Raises Failure."""
    server: str | None = None
    if words and words[0] not in ACTIONS:
        server, words = words[0], words[1:]
    action, rest = (words[0], words[1:]) if words else ("list", [])
    if len(rest) != {"list": 0, "add": 3, "remove": 1}.get(action):
        raise Failure(Exit.WRONG_USAGE, f"the command is written so: {USAGE}")
    if action == "add" and rest[2] not in ROLES:
        raise Failure(Exit.WRONG_USAGE, f'"{formats.clean(rest[2])}" is no role; there are {", ".join(ROLES)}')
    if action == "add" and not 1 <= len(rest[1].encode()) <= NAME_BYTES_MAX:
        raise Failure(Exit.WRONG_USAGE, f"a name has 1 to {NAME_BYTES_MAX} bytes")
    return server, action, rest


def _list(link: Link, output: Output, selection: Selection) -> None:
    try:
        columns.ADMINS.choose(selection.columns)
        found = rows.arranged(
            rows.all_rows(link.ask, "admins"),
            columns.ADMINS,
            selection.sort,
            selection.reverse,
            selection.limit,
        )
    except columns.UnknownColumnError as error:
        raise Failure(Exit.WRONG_USAGE, str(error)) from None
    output.rows(columns.ADMINS, found, selection.columns, tail={"next": None})


def _add(link: Link, output: Output, key: str, name: str, role: str) -> None:
    reply = link.ask("admin_add", key=read_key(key), name=name, role=role)
    sentences = {
        "added": f"{formats.clean(name)} is now {role} on {link.name}.",
        "changed": f"{formats.clean(name)} is now {role} on {link.name}; the key was known before.",
        "already_present": f"{formats.clean(name)} is {role} on {link.name} already.",
    }
    _report(output, reply["result"], sentences)


def _remove(link: Link, output: Output, key_or_name: str) -> None:
    reply = link.ask("admin_remove", key=_key_of(link, key_or_name))
    sentences = {
        "removed": f"{formats.clean(key_or_name)} is removed from {link.name}.",
        "not_present": f"{formats.clean(key_or_name)} is not among the administrators of {link.name}.",
    }
    _report(output, reply["result"], sentences)


def _report(output: Output, result: str, sentences: dict[str, str]) -> None:
    output.document({"result": result}, sentences.get(result, result), [result])


def _key_of(link: Link, text: str) -> bytes:
    """Find the key that is meant by a key, a file or an administrator's name. Raises Failure."""
    named = [row for row in rows.all_rows(link.ask, "admins") if row["name"] == text]
    if len(named) > 1:
        raise Failure(
            Exit.WRONG_USAGE,
            f'{len(named)} administrators are called "{formats.clean(text)}"; give the key of the one that you mean',
        )
    key: bytes = named[0]["key"] if named else read_key(text)
    return key
