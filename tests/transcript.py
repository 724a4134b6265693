"""Transcripts: text files that a person can read, which show what is typed and what is then on the screen.

    # A sentence says what happens.
    $ als import-file SERVER serials.txt
    2 serials added, 7 licenses.
    > anna runs ATIES agent
    granted
    $ als frobnicate
    als: No such command 'frobnicate'; see als --help
    [exit 2]

`$` lines are run as real processes beside a real server, `>` lines are done by a computer of that name over the wire.
What differs from run to run (ports, keys, times) is replaced by something fixed of the same width. To write the
files anew from what is on the screen, set ALS_WRITE_TRANSCRIPTS=1, and read what has changed before you keep it.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from als import clock
from contract_client import Client, Vendor, as_refused
from server_process import ServerProcess, environment, free_udp_port

FOLDER = Path(__file__).with_name("transcripts")
WRITE_VARIABLE = "ALS_WRITE_TRANSCRIPTS"
COMMAND_S_MAX = 60.0
LAST_DAY = 13_148  # 2035-12-31
SERVER_NAME = "cellar"

# Width for width, so that tables keep their shape.
_KEY = re.compile(r"SHA256:[0-9A-Za-z+/]{43}")
_SERVER_ID = re.compile(r"\b[0-9a-f]{32}\b")
_SERIAL = re.compile(r"\b([0-9A-Z]{8}-){19}[0-9A-Z]{8}\b")
_HEX_KEY = re.compile(r"\b[0-9a-f]{64}\b")
_TIME = re.compile(r"\b([0-9]{4}-[0-9]{2}-[0-9]{2})([ T][0-9]{2}:[0-9]{2}(:[0-9]{2})?)?")
_FOLDED_TIME = re.compile(r"(?<![:\w])[0-9]{2}:[0-9]{2}(?![:\w])")
_NEAR_DAYS = (*range(-1, 3), *range(29, 32))  # today, and the end of the products' periods
_NEAR_SECONDS = re.compile(r"\b1[789][0-9]{8}\b")
_UP = re.compile(r"\bup [0-9]+ (s|min)( [0-9]+ s)?")
_RATE = re.compile(r"\b[0-9]+\.[0-9]+ (requests|renewals)/s")


def steady(text: str, port: int) -> str:
    """Replace what differs from run to run."""
    text = text.replace(f"{port:05}", "54321")
    text = _KEY.sub("SHA256:" + "K" * 43, text)
    text = _SERIAL.sub("-".join(["SSSSSSSS"] * 20), text)
    text = _HEX_KEY.sub("7" * 64, text)
    text = _SERVER_ID.sub("5" * 32, text)
    today = datetime.fromtimestamp(clock.wall_s(), UTC).date()
    near = {(today + timedelta(days)).isoformat() for days in _NEAR_DAYS}
    text = _TIME.sub(lambda found: re.sub("[0-9]", "0", found[0]) if found[1] in near else found[0], text)
    text = "\n".join(line if _TIME.search(line) else _FOLDED_TIME.sub("00:00", line) for line in text.split("\n"))
    text = _NEAR_SECONDS.sub("1700000000", text)
    text = _UP.sub("up 0 s", text)
    return _RATE.sub(lambda found: f"0.0 {found[1]}/s", text)


@dataclass
class Step:
    """One command or deed: the prose and blank lines above it, the line itself, and what it should show."""

    prose: list[str]
    line: str
    expected: list[str] = field(default_factory=list)


def read(path: Path) -> tuple[list[Step], list[str]]:
    """Read a transcript's steps, and the lines after the last one."""
    steps: list[Step] = []
    prose: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(("$ ", "> ")):
            steps.append(Step(prose, line))
            prose = []
        elif line.startswith("#") or (not line and (prose or not steps)) or (prose and line):
            prose.append(line)
        elif steps:
            steps[-1].expected.append(line)
    for step in steps:
        trailing: list[str] = []
        while step.expected and not step.expected[-1]:
            trailing.append(step.expected.pop())
    return steps, prose


def write(path: Path, steps: list[Step], shown: list[list[str]]) -> None:
    """Write a transcript anew with what was really shown."""
    lines: list[str] = []
    for step, output in zip(steps, shown, strict=True):
        if step.prose and lines:
            lines.append("")
        lines += [line for line in step.prose if line] + [step.line, *output]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


class Scene:
    """A server with a vendor's serials, a folder that commands run in, and computers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.discovery_port = free_udp_port()
        self.vendor = Vendor()
        self.data_dir = folder / "data"
        (self.data_dir / "vendors").mkdir(parents=True)
        (self.data_dir / "vendors" / "example.pub").write_text(self.vendor.pub_line, encoding="utf-8")
        self._write_serials()
        arguments = ("--name", SERVER_NAME, "--discovery-port", str(self.discovery_port))
        self.server = ServerProcess(self.data_dir, *arguments)
        self._computers: dict[str, Client] = {}

    def _write_serials(self) -> None:
        two = self.vendor.issue(1, 2, serial_id=bytes([0x11] * 8), last_day=LAST_DAY)
        lines = [
            "# Order 4711",
            two,
            self.vendor.issue(2, 5, serial_id=bytes([0x22] * 8)),
        ]
        (self.folder / "serials.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (self.folder / "one.txt").write_text(two + "\n", encoding="utf-8")
        damaged = two[:-1] + ("0" if two[-1] != "0" else "1")
        stranger = Vendor().issue(1, 1000, serial_id=bytes([0x33] * 8))
        bad = ["Dear customer,", damaged, "", stranger, self.vendor.issue(4, 3, serial_id=bytes([0x44] * 8))]
        (self.folder / "bad.txt").write_text("\n".join(bad) + "\n", encoding="utf-8")
        (self.folder / "letter.txt").write_text("Dear customer,\nyour serials follow.\n", encoding="utf-8")

    def __enter__(self) -> "Scene":
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._computers.values():
            client.close()
        self.server.close()

    def do(self, line: str) -> list[str]:
        """Do what a line says; give the lines that it shows."""
        shown = self._run(line[2:]) if line.startswith("$ ") else self._act(line[2:])
        return [line.rstrip() for line in steady(shown, self.server.port).rstrip("\n").split("\n")] if shown else []

    def variables(self) -> dict[str, str]:
        """Give the environment of a command: the server's folder is known, and the screen is 120 wide."""
        variables = environment(
            ALS_DATA_DIR=str(self.data_dir),
            ALS_CLIENT_DIR=str(self.folder / "client"),
            ALS_DISCOVERY_PORT=str(self.discovery_port),
            COLUMNS="120",
            TZ="UTC",
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        )
        variables.pop("PYTHONUNBUFFERED", None)  # what stands on stderr always comes first
        return variables

    def _run(self, command: str) -> str:
        """Run a command line; SERVER in it is the server's address, NAME=VALUE in front of it the environment."""
        words = shlex.split(command.replace("SERVER", f"127.0.0.1:{self.server.port}"))
        variables = self.variables()
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            variables[name] = value
        stdin = None
        if "<" in words:
            stdin = (self.folder / words[-1]).read_bytes()
            words = words[: words.index("<")]
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=variables,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_S_MAX,
            check=False,
        )
        shown = done.stdout.decode("utf-8")
        return shown if done.returncode == 0 else f"{shown}[exit {done.returncode}]\n"

    def _act(self, deed: str) -> str:
        """Let a computer do something: "anna runs ATIES agent", "anna uninstalls ATIES agent"."""
        name, verb, product, component = deed.split()
        if name not in self._computers:
            self._computers[name] = Client(self.server.port, self.server.server_key)
        client = self._computers[name]
        number = list(self._computers).index(name) + 1
        computer = {
            "macs": [bytes([0x00, 0x1B, 0x21, 0, 0, number])],
            "host": f"{name}.example.com",
            "address": f"192.0.2.{number}",
            "kind": "workstation",
        }
        operation = {"runs": "renew", "installs": "acquire", "uninstalls": "release"}[verb]
        fields: dict[str, Any] = {"product": product, "component": component, "computer": computer}
        reply = client.reply_to(client.send(operation, **fields))
        if not reply["ok"]:
            refused = as_refused(reply)
            return f"{refused.code}: {refused.message}"
        return str(reply["result"])


def play(path: Path, scene: Scene) -> Iterator[tuple[Step, list[str]]]:
    """Do a transcript's steps one after the other; give each with what it really showed."""
    for step in read(path)[0]:
        yield step, scene.do(step.line)
