"""als-vendor: keys are made once and kept safe, serials say what was asked for; the program and its help."""

import json
import os
import re
import select
import stat
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import als
from als import keyfile, serial
from vendor_run import CATALOG, Run, issue, public_of, refused, runner


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run als-vendor, its keys in tmp_path/keys."""
    return runner(tmp_path, monkeypatch, capsys)


# init.


def test_init_makes_a_key_pair(run: Run, tmp_path: Path) -> None:
    """The private half is PKCS#8 PEM for its owner alone; the public half is one line, the base64 of 32 bytes."""
    result = run("init")
    keys = tmp_path / "keys"
    assert result.code == 0
    assert str(keys / "vendor.pub") in result.out
    assert sorted(path.name for path in keys.iterdir()) == ["vendor.pem", "vendor.pub"]
    assert stat.S_IMODE((keys / "vendor.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    pem = (keys / "vendor.pem").read_bytes()
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    private_key = serialization.load_pem_private_key(pem, None)
    assert isinstance(private_key, Ed25519PrivateKey)
    assert private_key.public_key().public_bytes_raw() == public_of(keys)
    assert (keys / "vendor.pub").read_bytes().count(b"\n") == 1


@pytest.mark.parametrize("kept", ["vendor.pem", "vendor.pub"])
def test_init_never_writes_over_a_key(run: Run, tmp_path: Path, kept: str) -> None:
    """A second init, or one beside a single half of a pair, is refused and changes nothing."""
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / kept).write_text("mine")
    refused(run("init"), 1, f"{keys / kept} exists and is kept")
    assert [path.name for path in keys.iterdir()] == [kept]
    assert (keys / kept).read_text() == "mine"


def test_init_takes_names_folders_and_files(run: Run, tmp_path: Path) -> None:
    """NAME, --dir and --key say where the pair goes."""
    assert run("init", "acme").code == 0
    assert run("init", "acme", "--dir", tmp_path / "b" / "c").code == 0
    assert run("init", "--key", tmp_path / "d" / "firm.pem").code == 0
    for path in ("keys/acme", "b/c/acme", "d/firm"):
        assert (tmp_path / f"{path}.pem").exists()
        assert (tmp_path / f"{path}.pub").exists()
    for name in ("a/b", "..", "", "a b", "x" * 65):
        refused(run("init", name), 2, "is no name")
    refused(run("init", "--key", tmp_path / "my key.pem"), 1, "a vendor's key file is called NAME.pub")


def test_init_that_cannot_write_leaves_nothing(run: Run, tmp_path: Path) -> None:
    """A place that cannot be written to is named in one line."""
    (tmp_path / "file").write_text("")
    refused(run("init", "--dir", tmp_path / "file"), 1, str(tmp_path / "file"))
    refused(run("init", "--dir", tmp_path / "file" / "below"), 1, "choose another place")


def test_init_for_programs(run: Run, tmp_path: Path) -> None:
    """--json and --plain give name, files and public key."""
    keys = tmp_path / "keys"
    document = json.loads(run("init", "--json").out)
    assert document == {
        "name": "vendor",
        "key": str(keys / "vendor.pem"),
        "pub": str(keys / "vendor.pub"),
        "public_key": public_of(keys).hex(),
    }
    plain = run("init", "two", "--plain").out
    assert plain == f"two\t{keys / 'two.pem'}\t{keys / 'two.pub'}\t{public_of(keys, 'two').hex()}\n"
    refused(run("init", "three", "--plain", "--json"), 2, "exclude each other")


def test_passphrase_from_the_environment(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALS_VENDOR_PASSPHRASE locks the new key and opens it; without it, or with another, the key stays shut."""
    monkeypatch.setenv("ALS_VENDOR_PASSPHRASE", "correct horse")
    assert run("init").code == 0
    pem = (tmp_path / "keys" / "vendor.pem").read_bytes()
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert len(issue(run)) == 1
    monkeypatch.setenv("ALS_VENDOR_PASSPHRASE", "wrong")
    result = run("issue", "--product", "ATIES", "--seats", 5)
    refused(result, 1, "the passphrase is wrong")
    assert "wrong horse" not in result.err
    monkeypatch.delenv("ALS_VENDOR_PASSPHRASE")
    monkeypatch.setattr(sys, "stdin", Path(os.devnull).open())  # noqa: SIM115 - closed by the next line's run
    with sys.stdin:
        refused(run("issue", "--product", "ATIES", "--seats", 5), 1, "set ALS_VENDOR_PASSPHRASE")


def test_passphrase_for_an_open_key_is_ignored(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase in the environment does not keep a key without one from being used."""
    assert run("init").code == 0
    monkeypatch.setenv("ALS_VENDOR_PASSPHRASE", "of another key")
    assert len(issue(run)) == 1


def test_passphrase_that_is_too_long_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the format cannot hold is refused in one line, and nothing is written."""
    monkeypatch.setenv("ALS_VENDOR_PASSPHRASE", "x" * 5_000)
    refused(run("init"), 1, "passphrase")
    assert not (tmp_path / "keys").exists()


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_passphrase_on_a_terminal(tmp_path: Path) -> None:
    """Asked for on a terminal, twice when it is new, and never shown."""
    answered = on_terminal(["init", "--dir", str(tmp_path), "--passphrase"], b"open sesame\n" * 2)
    assert answered.count("open sesame") == 0
    assert (tmp_path / "vendor.pem").read_bytes().startswith(b"-----BEGIN ENCRYPTED")
    arguments = ["issue", "--dir", str(tmp_path), "--product", "ATIES", "--seats", "5"]
    assert "040000" in on_terminal(arguments, b"open sesame\n")
    assert "the passphrase is wrong" in on_terminal(arguments, b"open barley\n")


def on_terminal(arguments: list[str], typed: bytes) -> str:
    """Run als-vendor in a pseudo-terminal, type what it asks for, and give all that it showed."""
    import pty

    control, terminal = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ALS_")}
    program = [sys.executable, "-c", "from als_tools.vendor import main; main()", *arguments]
    process = subprocess.Popen(
        program, stdin=terminal, stdout=terminal, stderr=terminal, env=environment, start_new_session=True
    )
    os.close(terminal)
    shown = b""
    answers = typed.splitlines(keepends=True)
    while select.select([control], [], [], 30)[0]:
        try:
            piece = os.read(control, 4096)
        except OSError:  # the terminal's other side is closed: the program has ended
            break
        if not piece:
            break
        shown += piece
        if answers and shown.endswith(b": "):  # the blank comes when the echo is off
            os.write(control, answers.pop(0))
    os.close(control)
    process.wait(30)
    return shown.decode()


# issue.


def test_issued_serial_says_what_was_asked_for(run: Run, tmp_path: Path) -> None:
    """Product, seats and issuer are in it, no end, no trial and no lock; the signature holds."""
    run("init")
    (text,) = issue(run)
    raw = serial.read(text)
    content = serial.decode(raw)
    public = public_of(tmp_path / "keys")
    assert serial.verify(raw, public)
    assert content == serial.Serial(1, 5, content.serial_id, issuer=serial.issuer_of(public))
    assert text == serial.write(raw)


def test_issued_serial_with_everything(run: Run, tmp_path: Path) -> None:
    """--until is the last day, --trial-days makes a trial, --lock names the server."""
    run("init")
    pair = keyfile.generate()
    keyfile.write(tmp_path, "server", pair)
    for key in (keyfile.to_z85(pair.public), pair.public.hex(), tmp_path / "server.key"):
        (text,) = issue(run, "--until", "2027-12-31", "--trial-days", 30, "--lock", key)
        content = serial.decode(serial.read(text))
        assert content.last_day == (date(2027, 12, 31) - date(2000, 1, 1)).days
        assert (content.trial, content.trial_days) == (True, 30)
        assert content.lock == serial.lock_of(pair.public)


def test_serials_have_random_ids(run: Run) -> None:
    """--count gives so many serials, and no two that were ever issued have the same id."""
    run("init")
    texts = issue(run, "--count", 50) + issue(run, "--count", 50)
    assert len({serial.decode(serial.read(text)).serial_id for text in texts}) == 100


@pytest.mark.parametrize(
    "arguments",
    [
        ("--seats", 0),
        ("--seats", 1_000_001),
        ("--seats", "many"),
        ("--count", 0),
        ("--trial-days", 0),
        ("--trial-days", 65_536),
        ("--until", "soon"),
        ("--until", "2000-01-01"),
        ("--until", "2179-06-07"),
        ("--until", "2027-02-29"),
        ("--lock", "no key"),
        ("--product", "NOPE"),
        ("--colour", "red"),
    ],
)
def test_wrong_usage(run: Run, arguments: tuple[object, ...]) -> None:
    """What is out of bounds or unknown is exit code 2 and one line."""
    run("init")
    refused(run("issue", "--product", "ATIES", "--seats", 5, *arguments), 2, "")


@pytest.mark.parametrize("until", ["2000-01-02", "2179-06-06"])
def test_bounds_of_the_last_day(run: Run, until: str) -> None:
    """The first and the last day that fit into a serial can be asked for."""
    run("init")
    (text,) = issue(run, "--until", until)
    assert serial.decode(serial.read(text)).last_day in (1, 65_535)


def test_day_that_is_over_is_noted(run: Run) -> None:
    """A serial that has ended can be issued, with a word about it on stderr."""
    run("init")
    result = run("issue", "--product", "ATIES", "--seats", 5, "--until", "2020-01-01")
    assert result.code == 0
    assert "2020-01-01 is over" in result.err


def test_products_of_ones_own(run: Run, tmp_path: Path) -> None:
    """--catalog takes files and folders; the code may be typed in any case; another vendor's product is noted."""
    run("init")
    (tmp_path / "catalog.d").mkdir()
    file = tmp_path / "catalog.d" / "acme.toml"
    file.write_text(CATALOG)
    for place in (file, tmp_path / "catalog.d"):
        result = run("issue", "--product", "paint", "--seats", 2, "--catalog", place)
        assert serial.decode(serial.read(result.out)).product_number == 700
        assert "counts only serials of the vendor acme" in result.err
    refused(run("issue", "--product", "PAINT", "--seats", 2), 2, "ATIES, ATIW, ASD, APEC")
    file.write_text(CATALOG.replace("700", "0"))
    refused(run("issue", "--product", "PAINT", "--seats", 2, "--catalog", file), 1, "acme.toml:2: ")
    refused(run("issue", "--product", "PAINT", "--seats", 2, "--catalog", tmp_path / "none"), 1, "cannot be read")


def test_a_number_that_every_server_knows_is_noted(run: Run, tmp_path: Path) -> None:
    """The vendor learns it before he sells, and not from the customer whose server refuses the catalog."""
    run("init", "acme")
    file = tmp_path / "acme-products.toml"
    for number, is_noted in ((1, True), (41_234, False)):
        file.write_text(CATALOG.replace("700", str(number)))
        result = run("issue", "--product", "PAINT", "--seats", 2, "--catalog", file)
        assert result.code == 0
        assert ("note: the number 1 is ATIES's" in result.err) is is_noted


def test_catalog_beside_the_key_needs_no_naming(run: Run, tmp_path: Path) -> None:
    """Where als-server add-vendor looks for NAME.toml, issue and show look too, unless another catalog is named."""
    assert run("init", "acme").code == 0
    refused(run("issue", "--product", "paint", "--seats", 2), 2, "there is no product")
    (tmp_path / "keys" / "acme.toml").write_text(CATALOG)
    (tmp_path / "other.toml").write_text(CATALOG.replace("PAINT", "BRUSH"))
    result = run("issue", "--product", "paint", "--seats", 2)
    assert result.code == 0
    assert "PAINT" in run("show", result.out.strip()).out
    refused(run("issue", "--product", "paint", "--seats", 2, "--catalog", tmp_path / "other.toml"), 2, "is no product")
    assert run("issue", "--product", "paint", "--seats", 2, "--key", tmp_path / "keys" / "acme.pem").code == 0


def test_issued_serials_for_programs(run: Run, tmp_path: Path) -> None:
    """--json gives one document with all fields, --plain the serial and the other fields with tabs."""
    run("init")
    arguments = ("issue", "--product", "APEC", "--seats", 7, "--until", "2027-12-31", "--count", 2)
    rows = json.loads(run(*arguments, "--json").out)["rows"]
    assert len(rows) == 2
    content = serial.decode(serial.read(rows[0]["serial"]))
    assert rows[0] == {
        "serial_id": serial.short_id("APEC", content.serial_id),
        "product": "APEC",
        "product_name": "Acronis Privacy Expert Corporate",
        "product_number": 4,
        "seats": 7,
        "last_day": "2027-12-31",
        "expires_at": 1_830_297_600,
        "trial": False,
        "trial_days": None,
        "lock": None,
        "issuer": serial.issuer_of(public_of(tmp_path / "keys")).hex(),
        "serial": serial.write(serial.read(rows[0]["serial"])),
    }
    lines = run(*arguments, "--plain").out.splitlines()
    assert len(lines) == 2
    text, short_id, *_ = lines[0].split("\t")
    assert serial.parse_short_id(short_id) == ("APEC", serial.decode(serial.read(text)).serial_id)


def test_output_file_is_new_and_private(run: Run, tmp_path: Path) -> None:
    """--output writes what stdout would show, for its owner alone, and never over a file that is there."""
    run("init")
    file = tmp_path / "serials.txt"
    arguments = ("issue", "--product", "ATIES", "--seats", 5, "--count", 3, "--output", file)
    result = run(*arguments)
    assert (result.code, result.out) == (0, "")
    assert "3 serials of Acronis True Image Enterprise Server, 5 licenses each" in result.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_text()
    assert [len(line) for line in before.splitlines()] == [179] * 3
    refused(run(*arguments), 1, "exists and is kept")
    assert file.read_text() == before
    refused(run(*arguments[:-1], tmp_path / "none" / "serials.txt"), 1, "cannot be written")


def test_key_that_cannot_be_used(run: Run, tmp_path: Path) -> None:
    """No key, several keys, a damaged one, one of another kind, one that others can read: each is named."""
    arguments = ("issue", "--product", "ATIES", "--seats", 5)
    keys = tmp_path / "keys"
    refused(run(*arguments), 1, "als-vendor init")
    run("init", "one")
    run("init", "two")
    refused(run(*arguments), 2, "one.pem, two.pem")
    assert run(*arguments, "--key", keys / "two.pem").code == 0
    refused(run(*arguments, "--key", keys / "three.pem"), 1, "cannot be read")
    damaged = keys / "damaged.pem"
    damaged.write_bytes((keys / "one.pem").read_bytes()[:60])
    damaged.chmod(0o600)
    refused(run(*arguments, "--key", damaged), 1, "damaged.pem cannot be opened")
    damaged.write_bytes(
        generate_private_key(SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    refused(run(*arguments, "--key", damaged), 1, "another kind than Ed25519")
    (keys / "one.pem").chmod(0o644)
    refused(run(*arguments, "--key", keys / "one.pem"), 1, "chmod 600")


# The program.


def test_version_and_help(run: Run) -> None:
    """--version names the version; help shows every option with its environment variable and its default."""
    assert run("--version").out == f"als-vendor {als.__version__}\n"
    assert run().code == 0
    text = " ".join(run("issue", "--help").out.replace("│", " ").split())
    for words in ("ALS_VENDOR_KEY", "ALS_VENDOR_DIR", "ALS_VENDOR_CATALOG", "[default: 1]", "(no end)", "(any server)"):
        assert words in text
    refused(run("isue"), 2, "isue")


def test_help_of_the_program_has_no_variables(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks the program about itself is asked by words alone: no environment variable stands for --version."""
    assert "env var" not in run("--help").out
    monkeypatch.setenv("ALS_VENDOR_VERSION", "1")
    assert "Usage: als-vendor" in run("--help").out
    assert run("init").code == 0


@pytest.mark.parametrize("command", ["init", "issue", "show"])
def test_variables_are_called_like_their_options(run: Run, command: str) -> None:
    """An option's environment variable is ALS_VENDOR_OPTION or ALS_VENDOR_COMMAND_OPTION."""
    text = " ".join(run(command, "--help").out.replace("│", " ").split())
    for option in re.split(r" (?=--[a-z])", text)[1:]:
        name = re.split(r"[ ,]", option.removeprefix("--"))[0].replace("-", "_").upper()
        found = re.findall(r"\[env var: (\w+)\]", option)
        assert set(found) <= {f"ALS_VENDOR_{name}", f"ALS_VENDOR_{command.upper()}_{name}"}, option


def test_installed_program(tmp_path: Path) -> None:
    """The script als-vendor beside this Python makes a key and issues a serial that show calls valid."""
    program = str(Path(sys.executable).with_name("als-vendor"))
    environment = {**os.environ, "ALS_VENDOR_DIR": str(tmp_path)}

    def output(*arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments], env=environment, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        return done.stdout

    output("init")
    text = output("issue", "--product", "ATIES", "--seats", "5").strip()
    assert "valid, of the vendor vendor" in output("show", text)
