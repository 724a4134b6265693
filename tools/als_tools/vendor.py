"""The program `als-vendor`: make a vendor's key, issue serials with it, show what a serial says.

Needs no server. The private key stays in the vendor's own folder; only NAME.pub is given to customers.
"""

import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import als
from als import files, serial, vendorkeys
from als.catalog import Product, builtin
from als.serial import Serial
from als_tools import program, signing_keys, vendor_inputs, vendor_views
from als_tools import vendor_options as options
from als_tools.arguments import read_key
from als_tools.failures import Exit, Failure
from als_tools.formats import counted
from als_tools.output import Output, say
from als_tools.vendor_inputs import PROGRAM

NAME_DEFAULT = "vendor"


def init(
    name: options.Name = NAME_DEFAULT,
    directory: options.Directory = None,
    key: options.NewKey = None,
    passphrase: options.NewPassphrase = False,
    json: options.Json = False,
    plain: options.Plain = False,
) -> None:
    """Make your key pair: NAME.pem, which signs serials and stays with you, and NAME.pub for your customers."""
    output = _output(json, plain)
    if key is None and not vendorkeys.is_name(name):
        raise typer.BadParameter(f'"{name}" is no name; use up to 64 letters, digits, . _ - and no space')
    path = key or vendor_inputs.key_folder(directory) / (name + signing_keys.SUFFIX)
    public_path = signing_keys.public_path(path)
    try:
        private_key = signing_keys.make(path, vendor_inputs.new_passphrase(passphrase))
    except signing_keys.SigningKeyError as error:
        raise Failure(Exit.REFUSED, str(error)) from None
    public = signing_keys.public_key(private_key)
    content = {"name": public_path.stem, "key": str(path), "pub": str(public_path), "public_key": public}
    picture = (
        f"private key  {path}   (keep it to yourself, and keep a copy in a safe place)\n"
        f"public key   {public_path}\n"
        f"Customers make their server count your serials with: als-server add-vendor {public_path}"
    )
    output.document(content, picture, ["\t".join([public_path.stem, str(path), str(public_path), public.hex()])])


def issue(
    product: options.Code,
    seats: options.Seats,
    count: options.Count = 1,
    until: options.Until = None,
    trial_days: options.TrialDays = None,
    lock: options.Lock = None,
    key: options.Key = None,
    directory: options.Directory = None,
    catalogs: options.Catalogs = None,
    output_file: options.OutputFile = None,
    json: options.Json = False,
    plain: options.Plain = False,
) -> None:
    """Issue serials, one a line: new ones at every call."""
    form = _output(json, plain).form
    keys = key.parent if key is not None else vendor_inputs.key_folder(directory)
    sold = vendor_inputs.product_of(product, catalogs, keys)
    last_day = 0 if until is None else vendor_inputs.last_day(until)
    server_lock = serial.NO_LOCK if lock is None else serial.lock_of(read_key(lock))
    private_key, vendor = vendor_inputs.signing_key(key, directory)
    if sold.vendor not in (None, vendor):
        say(f"{PROGRAM}: note: the catalog counts only serials of the vendor {sold.vendor} for {sold.code}")
    taken = builtin().by_number.get(sold.number)
    if taken is not None and taken.code != sold.code:
        say(
            f"{PROGRAM}: note: the number {sold.number} is {taken.code}'s, which every server knows as long as its "
            "administrator does not switch it off; servers refuse your catalog until then"
        )
    pattern = Serial(
        product_number=sold.number,
        seats=seats,
        serial_id=0,
        last_day=last_day,
        trial_days=trial_days or 0,
        issuer=serial.issuer_of(signing_keys.public_key(private_key)),
        lock=server_lock,
        trial=trial_days is not None,
    )
    lines = vendor_views.issued(_issued(pattern, count, private_key, sold), form)
    if output_file is None:
        sys.stdout.writelines(lines)
        return
    _write_new_file(output_file, "".join(lines))
    say(f"{counted(count, 'serial')} of {sold.name}, {counted(seats, 'license')} each, written to {output_file}")


def show(
    text: options.Text,
    pub: options.PublicKeys = None,
    directory: options.Directory = None,
    catalogs: options.Catalogs = None,
    json: options.Json = False,
    plain: options.Plain = False,
) -> None:
    """Show what a serial says, and whether the signature is the vendor's. Exit code 1 when it is not."""
    output = _output(json, plain)
    try:
        raw = serial.read(" ".join(text))
        content = serial.decode(raw)
    except serial.SerialError as error:
        raise Failure(Exit.REFUSED, f"{error.result}: {error}") from None
    signature, vendor = _check_signature(raw, content, vendor_inputs.vendor_keys(pub, directory))
    products = vendor_inputs.products(catalogs, vendor_inputs.key_folder(directory))
    product = next((item for item in products if item.number == content.product_number), None)
    fields = vendor_views.document(serial.write(raw), content, product)
    picture = vendor_views.picture(fields, signature, vendor)
    fields |= {"signature": signature, "vendor": vendor}
    output.document(fields, picture, vendor_views.plain(fields))
    if signature == "forged":
        raise Failure(Exit.REFUSED, "forged: the signature is not that of the vendor who is named in the serial")
    if signature == "unknown_vendor" and pub:
        raise Failure(Exit.REFUSED, "unknown_vendor: the serial names another vendor than those whose keys were given")


def _output(json: bool, plain: bool) -> Output:
    if json and plain:
        raise typer.BadParameter("--json and --plain exclude each other")
    return Output("json" if json else "plain" if plain else "table")


def _issued(
    pattern: Serial, count: int, private_key: Ed25519PrivateKey, product: Product
) -> Iterator[Mapping[str, Any]]:
    """Sign `count` serials like `pattern`, each with an id of its own, and give their fields."""
    for _ in range(count):
        content = replace(pattern, serial_id=secrets.randbits(64))
        text = serial.write(serial.sign(content, private_key))
        yield vendor_views.document(text, content, product)


def _write_new_file(path: Path, text: str) -> None:
    """Write a file that only its owner can read, and over none that is there. Raises Failure."""
    try:
        signing_keys.write_new(path, text.encode(), files.SECRET_MODE)
    except FileExistsError:
        raise Failure(Exit.REFUSED, f"{path} exists and is kept; name another file") from None
    except OSError as error:
        raise Failure(Exit.REFUSED, f"{path} cannot be written: {error.strerror or error}") from None


def _check_signature(raw: bytes, content: Serial, keys: Mapping[str, bytes]) -> tuple[str, str | None]:
    """Say what the signature is worth (a key of vendor_views.SIGNATURES), and whose it is."""
    if not keys:
        return "not_checked", None
    named = {name: key for name, key in keys.items() if serial.issuer_of(key) == content.issuer}
    for name, key in named.items():
        if serial.verify(raw, key):
            return "valid", name
    return ("forged" if named else "unknown_vendor"), None


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {als.__version__}")
        raise typer.Exit()


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Issue serial numbers for ALS license servers."""


def _application() -> typer.Typer:
    """Make the application. Every option's environment variable is ALS_VENDOR_COMMAND_OPTION unless it names one."""
    application = typer.Typer(
        name=PROGRAM,
        callback=_root,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    for command in (init, issue, show):
        prefix = f"ALS_VENDOR_{command.__name__}".upper()
        application.command(context_settings={"auto_envvar_prefix": prefix})(command)
    return application


app = _application()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `als-vendor` and exit with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(int(program.run(app, words or ["--help"], PROGRAM)))
