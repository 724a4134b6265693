"""The options of als-vendor, each with its environment variable and default in its help."""

from pathlib import Path
from typing import Annotated

import typer

from als import serial
from als_tools.vendor_inputs import PASSPHRASE_VARIABLE

COUNT_MAX = 100_000  # 18 MB of serials: more at once is a slip of the finger

Name = Annotated[
    str, typer.Argument(metavar="[NAME]", envvar="ALS_VENDOR_NAME", help="What customers' servers call you.")
]
Directory = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        envvar="ALS_VENDOR_DIR",
        help="The folder of your keys.",
        show_default="this platform's, for als-vendor",
    ),
]
NewKey = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        envvar="ALS_VENDOR_KEY",
        help="Where to write the private key; the public one goes beside it.",
        show_default="DIR/NAME.pem",
    ),
]
NewPassphrase = Annotated[
    bool,
    typer.Option(
        "--passphrase",
        help=f"Ask for a passphrase to lock the private key with. {PASSPHRASE_VARIABLE}, when set, is taken "
        "without asking.",
        show_default="no passphrase",
        show_envvar=False,  # ALS_VENDOR_PASSPHRASE is the passphrase itself, not this flag
    ),
]
Code = Annotated[
    str, typer.Option("--product", metavar="CODE", help="The product, by its code in the catalog.", show_default=False)
]
Seats = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, max=serial.SEATS_MAX, help="How many computers a serial is for.", show_default=False
    ),
]
Count = Annotated[int, typer.Option(metavar="N", min=1, max=COUNT_MAX, help="How many serials to issue.")]
Until = Annotated[
    str | None,
    typer.Option(
        metavar="DATE",
        help="The last day on which it is valid, like 2027-12-31, to its end in UTC.",
        show_default="no end",
    ),
]
TrialDays = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=serial.TRIAL_DAYS_MAX,
        help="Make it a trial of so many days from its first import.",
        show_default="no trial",
    ),
]
Lock = Annotated[
    str | None,
    typer.Option(
        metavar="KEY",
        help="Let it count on one server alone: its public key (Z85, hexadecimal) or its server.key file.",
        show_default="any server",
    ),
]
Key = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        envvar="ALS_VENDOR_KEY",
        help=f"Your private key. If it is locked, {PASSPHRASE_VARIABLE} opens it, or you are asked.",
        show_default="the only one in DIR",
    ),
]
Catalogs = Annotated[
    list[Path] | None,
    typer.Option(
        "--catalog",
        metavar="FILE|DIR",
        envvar="ALS_VENDOR_CATALOG",
        help="Catalog files, or folders of them, with products of your own; may be repeated.",
        show_default="NAME.toml beside NAME.pub in DIR; the built-in ones are there, too",
    ),
]
OutputFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="FILE",
        envvar="ALS_VENDOR_ISSUE_OUTPUT",
        help="Write to a new file that you alone can read.",
        show_default="standard output",
    ),
]
Text = Annotated[list[str], typer.Argument(metavar="SERIAL", help="The serial, with or without hyphens or blanks.")]
PublicKeys = Annotated[
    list[Path] | None,
    typer.Option(
        "--pub",
        "--vendor-key",
        metavar="FILE",
        envvar="ALS_VENDOR_PUB",
        help="Vendors' public keys to check the signature with; may be repeated.",
        show_default="all in DIR",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
Plain = Annotated[bool, typer.Option("--plain", help="Tab-separated lines without headings.")]
