"""Real etcd members for tests: one or three on free loopback ports, started, killed, frozen and started again.

Import this before anything of als/store/etcd, and skip when `MISSING` says why.
"""

import contextlib
import importlib.util
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

START_TIMEOUT_S = 30.0  # an election included, on a machine that does much else
STOP_TIMEOUT_S = 30.0
PROGRAM = shutil.which("etcd")
_READY = re.compile(r"serving client traffic (in)?securely")
_PORTS = range(20_000, 30_000)  # below those that systems give to connections, so that a member can start again


def _missing() -> str:
    """Say why tests with etcd cannot run here, empty when they can."""
    if PROGRAM is None:
        return "there is no etcd on this machine (Debian: apt-get install etcd-server)"
    if importlib.util.find_spec("grpc") is None:
        return "there is no grpcio in this environment (pip install als-license-server[etcd])"
    return ""


MISSING = _missing()


class ServerTls(NamedTuple):
    """PEM files of a member; it refuses clients without a certificate of the authority."""

    authority: Path
    certificate: Path
    key: Path


def free_ports(count: int) -> list[int]:
    """Give ports that nobody listens on now."""
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        for port in random.sample(_PORTS, 500):
            probe = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
            if len(ports) == count:
                return ports
    raise AssertionError("no free ports")


class Node:
    """One member of a cluster; it keeps its ports and its folder when it is started again.

    `launcher` is a command that starts the one behind it somewhere else, where its address is `host`.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        ports: tuple[int, int],
        flags: tuple[str, ...],
        host: str = "127.0.0.1",
        launcher: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.folder = folder
        self.port, self.peer_port = ports
        self.endpoint = f"{host}:{self.port}"
        self.peer_url = f"http://{host}:{self.peer_port}"
        self._launcher = launcher
        self._flags = flags
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()
        self._log: deque[str] = deque(maxlen=200)

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process is not None
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Say whether it was started and not ended by us."""
        return self._process is not None

    def launch(self, initial_cluster: str, tls: ServerTls | None) -> None:
        """Start without waiting."""
        assert self._process is None
        scheme = "http" if tls is None else "https"
        client_url = f"{scheme}://{self.endpoint}"
        options = {
            "name": self.name,
            "data-dir": str(self.folder),
            "listen-client-urls": client_url,
            "advertise-client-urls": client_url,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            "initial-cluster": initial_cluster,
            "logger": "zap",
        }
        if tls is not None:
            options |= {"cert-file": str(tls.certificate), "key-file": str(tls.key)}
            options |= {"trusted-ca-file": str(tls.authority), "client-cert-auth": "true"}
        assert PROGRAM is not None
        self._ready.clear()
        self._process = subprocess.Popen(
            [*self._launcher, PROGRAM, *(f"--{name}={value}" for name, value in options.items()), *self._flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if not name.startswith("ETCD_")},
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        """Keep the last lines of the log until it ends."""
        assert process.stderr is not None
        for line in process.stderr:
            self._log.append(line)
            if _READY.search(line):
                self._ready.set()
        self._ready.set()

    def wait_ready(self) -> None:
        """Wait until it serves, which needs a leader. Fails with its log."""
        served = self._ready.wait(START_TIMEOUT_S)
        assert self._process is not None
        assert served and self._process.poll() is None, f"etcd does not serve; its log:\n{''.join(self._log)}"

    def kill(self) -> None:
        """End it without giving it a chance to do anything, and wait until it is gone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it as a service manager does: a leader hands over first."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Let it hang: connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None and self._reader is not None
        process, self._process = self._process, None
        process.send_signal(number)
        try:
            process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
            self._reader.join()
            assert process.stderr is not None
            process.stderr.close()


class Cluster:
    """Members that make one etcd; a context manager that starts all and kills what still runs."""

    def __init__(self, folder: Path, size: int = 1, *flags: str, tls: ServerTls | None = None) -> None:
        ports = free_ports(2 * size)
        self.nodes = [
            Node(f"n{place}", folder / f"n{place}", (ports[2 * place], ports[2 * place + 1]), flags)
            for place in range(size)
        ]
        self.tls = tls

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The addresses for clients, of members that run and that do not."""
        return tuple(node.endpoint for node in self.nodes)

    def launch(self, node: Node) -> None:
        """Start one member, without waiting."""
        node.launch(",".join(f"{node.name}={node.peer_url}" for node in self.nodes), self.tls)

    def start(self, node: Node) -> None:
        """Start one member again, and wait until it serves."""
        self.launch(node)
        node.wait_ready()

    def at(self, endpoint: str) -> Node:
        """Give the member with this address."""
        [found] = [node for node in self.nodes if node.endpoint == endpoint]
        return found

    def __enter__(self) -> Self:
        try:
            for node in self.nodes:
                self.launch(node)
            for node in self.nodes:
                node.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Kill all that still run."""
        for node in self.nodes:
            if node.runs:
                node.kill()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
