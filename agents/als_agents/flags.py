"""The settings of `als-agent`: flag > environment > agent.toml > default. Knows no command.

SETTINGS is the one list of them; flags, help, variables and the file's keys are made from it.
"""

import argparse
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from als import folders, keyfile, protocol
from als.protocol import parse_mac
from als_agents import identity
from als_agents.errors import ClientError
from als_agents.server import read_server_key
from als_agents.workplace import Workplace

CONFIG_NAME = "agent.toml"
GRACE_S_DEFAULT = 10.0
ON_LOST = ("term", "kill", "ignore")
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}


class BadSettings(ClientError):
    """A flag, a variable or agent.toml that cannot be meant; the message names it."""

    exit_code = 2


def _text(value: object) -> str:
    if type(value) is not str or not value:
        raise ValueError("must be a text, and not empty")
    return value


def _code(value: object) -> str:
    text = _text(value)
    if not protocol.is_code(text):
        raise ValueError(f"must be 1 to {protocol.CODE_CHARS_MAX} letters, digits and hyphens")
    return text


def _text_of(most_bytes: int) -> Callable[[object], str]:
    """Make what reads a text of at most so many bytes."""

    def read(value: object) -> str:
        text = _text(value)
        try:
            size_bytes = len(text.encode())
        except UnicodeEncodeError:  # bytes of the command line that are no text in the locale's encoding
            raise ValueError("cannot be read in this locale; set LC_ALL to one with UTF-8") from None
        if size_bytes > most_bytes:
            raise ValueError(f"must have at most {most_bytes} bytes")
        return text

    return read


_version = _text_of(protocol.VERSION_BYTES_MAX)
_host = _text_of(protocol.HOST_BYTES_MAX)
_address = _text_of(protocol.ADDRESS_BYTES_MAX)


def _texts(value: object) -> str:
    """Read one text or a list of them, as the text with commas that a server argument is."""
    if isinstance(value, list) and value:
        return ",".join(_text(item) for item in value)
    return _text(value)


def _truth(value: object) -> bool:
    if type(value) is bool:
        return value
    word = value.lower() if isinstance(value, str) else None
    if word not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return word in _TRUE


def _seconds(value: object) -> float:
    seconds = float(value) if isinstance(value, str | int | float) and type(value) is not bool else -1.0
    if not 0.0 <= seconds < float("inf"):
        raise ValueError("must be a number of seconds")
    return seconds


def _on_lost(value: object) -> str:
    if value not in ON_LOST:
        raise ValueError(f"must be one of {', '.join(ON_LOST)}")
    return str(value)


def _path(value: object) -> Path:
    return Path(_text(value)).expanduser()


class License(NamedTuple):
    """One component to keep licensed."""

    product: str
    component: str
    version: str | None = None


def _licenses(value: object) -> list[License]:
    """Read [[licenses]] tables, or texts PRODUCT/COMPONENT (a variable: with commas between them)."""
    items = [item for item in value.split(",") if item.strip()] if isinstance(value, str) else value
    if not isinstance(items, list):
        raise ValueError("must be tables: [[licenses]]")
    return [_license(item) for item in items]


def _license(item: object) -> License:
    if isinstance(item, str):
        product, slash, component = item.strip().partition("/")
        if not (product and slash and component):
            raise ValueError(f"{item!r} must be written as PRODUCT/COMPONENT")
        return License(_code(product), _code(component))
    if not isinstance(item, dict) or not item.keys() <= {"product", "component", "version"}:
        raise ValueError("each of [[licenses]] has product, component and, if wanted, version")
    version = item.get("version")
    return License(
        _code(item.get("product")), _code(item.get("component")), None if version is None else _version(version)
    )


class Setting(NamedTuple):
    """One setting. `read` checks a flag's text, a variable's, or agent.toml's value, and raises ValueError.

    `shown` is the default for the help, where it is not `default` itself. One without a variable or not in the file
    is none of theirs.
    """

    name: str
    metavar: str
    read: Callable[[object], Any]
    help: str
    default: Any = None
    shown: str = ""
    in_environment: bool = True
    in_file: bool = True
    variable_name: str = ""
    flag_name: str = ""
    repeats: bool = False

    @property
    def flag(self) -> str:
        """The flag that sets it."""
        return f"--{(self.flag_name or self.name).replace('_', '-')}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it, "" for none."""
        return self.variable_name or (f"ALS_{self.name.upper()}" if self.in_environment else "")


SETTINGS: Mapping[str, Setting] = {
    setting.name: setting
    for setting in (
        Setting("product", "CODE", _code, "the product's code", shown="none"),
        Setting("component", "CODE", _code, "the component's code", shown="none"),
        Setting("version_of_product", "TEXT", _version, "what the server shows as its version", shown="none"),
        Setting(
            "licenses",
            "PRODUCT/COMPONENT",
            _licenses,
            "what to keep licensed; may be repeated",
            shown="--product and --component",
            flag_name="license",
            repeats=True,
        ),
        Setting(
            "server",
            "HOST[:PORT]",
            _texts,
            "the license server, or several with commas, the preferred one first",
            shown="the stored one, else all that answer a search",
        ),
        Setting("server_key", "KEY", _text, "its public key, or its server.key", shown="remembered at first use"),
        Setting(
            "client_dir",
            "DIR",
            _path,
            "folder of this agent's key pair, known servers, stored server and agent.toml",
            shown="the user's data folder",
            in_file=False,
        ),
        Setting(
            "config",
            "FILE",
            _path,
            "settings in TOML, the flags' names as keys",
            shown=f"{CONFIG_NAME} in the client's folder",
            in_file=False,
            variable_name="ALS_AGENT_CONFIG",
        ),
        Setting("identity", "FILE", _path, "another key pair, a .key_secret file", shown="this agent's own"),
        Setting(
            "works_offline",
            "",
            _truth,
            "run the program too when no server can be reached",
            shown="what the server's catalog said last",
        ),
        Setting(
            "on_lost",
            "|".join(ON_LOST),
            _on_lost,
            "when the license is lost meanwhile: end the program, and kill it after the grace time; kill it; or only "
            "say so",
            "term",
        ),
        Setting("grace", "SECONDS", _seconds, "how long the program may take to end", GRACE_S_DEFAULT),
        Setting("release_at_end", "", _truth, "give the license back at the end", False, shown="it is kept"),
        Setting(
            "mac",
            "MAC",
            lambda value: value,
            "speak for the computer with this address, not for this one; may be repeated",
            shown="the adapters', or ALS_MACS for this computer",
            in_environment=False,
            in_file=False,
            repeats=True,
        ),
        Setting(
            "host",
            "NAME",
            _host,
            "the computer's name; say the same one each time that --mac says the same address",
            shown="this computer's; with --mac, pc- and the address",
            in_file=False,
        ),
        Setting("address", "IP", _address, "the computer's IP address", shown="the one that reaches the server"),
    )
}


def add(parser: argparse.ArgumentParser, *names: str, group: str = "") -> None:
    """Add the flags of settings, under a heading of their own if `group` names one."""
    target = parser.add_argument_group(group) if group else parser
    for name in names:
        setting = SETTINGS[name]
        variable = f"{setting.variable}; " if setting.variable else ""
        text = f"{setting.help} [{variable}default: {setting.shown or setting.default}]".replace("%", "%%")
        if setting.read is _truth:
            target.add_argument(setting.flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        elif setting.repeats:
            target.add_argument(setting.flag, dest=name, metavar=setting.metavar, action="append", help=text)
        else:
            target.add_argument(setting.flag, metavar=setting.metavar, help=text)


def add_unneeded(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add flags that a command takes, as its neighbors do, and does nothing with; they are not resolved."""
    for name in names:
        setting = SETTINGS[name]
        text = f"{setting.help}; not needed here [default: {setting.shown}]"
        parser.add_argument(setting.flag, dest=f"unneeded_{name}", metavar=setting.metavar, help=text)


def resolve(arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> argparse.Namespace:
    """Fill in what no flag said, and check everything. Raises BadSettings, naming flag, variable or file and key."""
    values = vars(arguments)
    for name in ("client_dir", "config"):
        if name in values:
            values[name] = _resolved(SETTINGS[name], values[name], environment, {}, "")
    folder = values.get("client_dir") or folders.client_dir()
    values["client_dir"] = folder
    file, document = _read_config(values.get("config"), folder)
    for name in values.keys() & SETTINGS.keys() - {"client_dir", "config"}:
        values[name] = _resolved(SETTINGS[name], values[name], environment, document, file)
    return arguments


def _resolved(
    setting: Setting, given: object, environment: Mapping[str, str], document: Mapping[str, Any], file: str
) -> Any:
    """Give a setting's value from the first place that has one."""
    places: list[tuple[str, object]] = [(setting.flag, given)]
    if setting.variable:
        places.append((setting.variable, environment.get(setting.variable) or None))
    if setting.in_file:
        places.append((f"{file}: {setting.name}", document.get(setting.name)))
    for place, value in places:
        if value is not None:
            try:
                return setting.read(value)
            except ValueError as error:
                raise BadSettings(f"{place}: {error}") from None
    return setting.default


def _read_config(path: Path | None, folder: Path) -> tuple[str, dict[str, Any]]:
    """Read agent.toml; one that nobody named may be absent. Raises BadSettings."""
    file = path if path is not None else folder / CONFIG_NAME
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError) as error:
        if path is not None:
            raise BadSettings(f"{file}: {error.strerror}") from None
        return str(file), {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadSettings(f"{file}: {error}") from None
    known = [name for name, setting in SETTINGS.items() if setting.in_file]
    unknown = [key for key in document if key not in known]
    if unknown:
        raise BadSettings(f"{file}: {unknown[0]}: unknown key; known are {', '.join(known)}")
    return str(file), document


def required(settings: argparse.Namespace, *names: str) -> Sequence[str]:
    """Give the values of settings that must be there. Raises BadSettings."""
    for name in names:
        if getattr(settings, name) is None:
            setting = SETTINGS[name]
            raise BadSettings(f"{setting.flag} is missing; {setting.variable} and {CONFIG_NAME} may name it too")
    return [getattr(settings, name) for name in names]


def workplace(settings: argparse.Namespace) -> Workplace:
    """Put together what a command works with. Raises ClientError, KeyFileError."""
    return Workplace(
        server=settings.server,
        server_key=read_server_key(settings.server_key) if settings.server_key else None,
        folder=settings.client_dir,
        pair=pair(settings),
        computer=given_computer(settings),
    )


def pair(settings: argparse.Namespace) -> keyfile.KeyPair | None:
    """Read the key pair that was named; None for the agent's own. Raises KeyFileError."""
    return keyfile.read(settings.identity) if settings.identity else None


def given_computer(settings: argparse.Namespace) -> dict[str, Any] | None:
    """Give the computer that the settings describe, None for this one as it is. Raises BadSettings, BadIdentity."""
    macs, host, address = (getattr(settings, name, None) for name in ("mac", "host", "address"))
    if not (macs or host or address):
        return None
    try:
        parsed = [parse_mac(text) for text in macs or []]
    except ValueError as error:
        raise BadSettings(f"--mac: {error}") from None
    if parsed:  # another computer: nothing of this one belongs to it
        return {"macs": parsed, "host": host or f"pc-{parsed[0].hex()}", "address": address or ""}
    own = identity.computer()
    return {**own, "host": host or own["host"], "address": address or own["address"]}
