"""An etcd on loopback as a benchmark needs it: one member or several, started, killed, and started again."""

import importlib.util
import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from als_bench.processes import BenchError, Child

START_TRIES = 400
TRY_S = 0.05


class MissingError(Exception):
    """A program that cannot be measured with here; the message says what is missing."""


def find_program(program: str, hint: str) -> str:
    """Give a program's path. Raises MissingError."""
    found = shutil.which(program)
    if found is None:
        raise MissingError(f"{program} is not installed ({hint})")
    return found


def free_port() -> int:
    """Give a TCP port of loopback that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(child: Child, port: int) -> None:
    """Wait until a child's port answers. Raises BenchError."""
    for _ in range(START_TRIES):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if not child.is_running():
                break
            time.sleep(TRY_S)
    said = child.said()
    child.close()
    raise BenchError(f"{child.name} did not start: {said or 'it said nothing'}")


class Member(Child):
    """One member; it keeps its ports and its folder when it is started again."""

    def __init__(self, program: str, name: str, folder: Path, flags: Sequence[str]) -> None:
        self.port, self.peer_port = free_port(), free_port()
        self.endpoint = f"127.0.0.1:{self.port}"
        self.peer = f"{name}=http://127.0.0.1:{self.peer_port}"
        here, peer = f"http://{self.endpoint}", f"http://127.0.0.1:{self.peer_port}"
        options = ["--name", name, "--data-dir", str(folder)]
        options += ["--listen-client-urls", here, "--advertise-client-urls", here]
        options += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        self.options = [*options, "--log-level", "error", *flags]
        super().__init__([program, *self.options])

    def join(self, members: Sequence["Member"]) -> None:
        """Belong to these members from the first start on."""
        self.add_arguments("--initial-cluster", ",".join(member.peer for member in members))

    def start(self, *, wait_for_line: bool = False) -> str:
        """Start it; it says nothing."""
        return super().start(wait_for_line=wait_for_line)


class Members:
    """The members of one etcd; a context manager that starts all and ends all. `flags` are more flags of each."""

    def __init__(self, folder: Path, count: int, *flags: str) -> None:
        """Raises MissingError."""
        program = find_program("etcd", "apt install etcd-server")
        if importlib.util.find_spec("grpc") is None:
            raise MissingError("the Python package grpcio is not installed")
        self.all = [Member(program, f"n{number}", folder / f"n{number}", flags) for number in range(count)]
        for member in self.all:
            member.join(self.all)

    @property
    def endpoints(self) -> list[str]:
        """Their addresses."""
        return [member.endpoint for member in self.all]

    def start(self) -> None:
        """Start all, and wait until they answer. Raises BenchError."""
        try:
            for member in self.all:
                member.start()
            for member in self.all:
                wait_for_port(member, member.port)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all."""
        for member in self.all:
            member.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
