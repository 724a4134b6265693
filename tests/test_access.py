"""Who gets at what: the modes of files, a man in the middle, and secrets, which no program ever shows."""

import base64
import contextlib
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from msgpack import packb
from zmq.utils import z85

from als import keyfile
from als.server import access
from contract_client import Client, new_keys, read_keys
from server_process import ServerProcess, Site, environment

COMMAND_S_MAX = 60.0
PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A server of its own that logs as much as it can."""
    with Site(tmp_path, settings='log_level = "debug"\n') as site:
        yield site


def command(program: str, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run one of the programs to its end, with clients' files in a folder of the test's."""
    path = str(Path(sys.executable).with_name(program))
    return subprocess.run(
        [path, *arguments],
        capture_output=True,
        text=True,
        env=environment(**variables),
        timeout=COMMAND_S_MAX,
        stdin=subprocess.DEVNULL,
        check=False,
    )


# Frames


def test_a_message_of_nobody_knows_where_has_no_address() -> None:
    """A peer that was gone before libzmq asked for its address is no reason to stop."""
    assert access.peer_of(zmq.Frame(b"")) == ""
    assert access.peer_of({b"Peer-Address": "192.0.2.1"}) == "192.0.2.1"


def test_frames_are_received_lean(monkeypatch: pytest.MonkeyPatch) -> None:
    """pyzmq still looks up the class of the frames that it receives, so that those of the server have no dictionary."""
    monkeypatch.setattr(zmq, "Frame", zmq.Frame)  # taken back at the end
    access.use_lean_frames()
    with zmq.Context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as other:
        one.bind("inproc://frames")
        other.connect("inproc://frames")
        other.send(b"x")
        assert not hasattr(one.recv(copy=False), "__dict__")


# Files


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_nobody_else_reads_the_data_folder(tmp_path: Path) -> None:
    """With whatever mask a server is started, its folders, store and secrets are for its owner alone."""
    before = os.umask(0)
    try:
        with ServerProcess(tmp_path / "data") as server:
            assert server.stop() == 0
    finally:
        os.umask(before)
    public = {"server.key", "admin.key"}
    for path in [tmp_path / "data", *(tmp_path / "data").rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.name in public:
            assert mode == 0o644, path
        elif path.is_dir() or "secret" in path.name or "store" in path.parts:
            assert mode & 0o077 == 0, f"{path} has mode {mode:o}"


# A man in the middle


class Relay:
    """Stands between a client and a server, and hears every byte."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self.heard = bytearray()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for source, sink in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._pass_on, args=(source, sink))
                    self._threads.append(thread)
                    thread.start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self.heard += data
                sink.sendall(data)

    def close(self) -> None:
        """Hang up on both."""
        for opened in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for opened in (self._listener, *self._open):
            opened.close()


def test_who_listens_learns_nothing(site: Site) -> None:
    """On the wire there is neither a serial nor a name, and the keys of nobody but the two public ones."""
    product = site.product(1)
    relay = Relay(site.server.port)
    try:
        with Client(relay.port, site.server.server_key, site.admin.keys) as client:
            computer = site.computer(host="a-host-with-a-name")
            client.ask("acquire", product=product.code, component="agent", computer=computer)
            assert client.rows("licenses", product=product.code)[0]["serial"] == product.serials[0]
    finally:
        relay.close()
    heard = bytes(relay.heard)
    assert len(heard) > 1_000
    for text in (product.serials[0], product.serials[0].replace("-", ""), "a-host-with-a-name"):
        assert text.encode() not in heard
    assert packb("product") + packb(product.code) not in heard  # two letters alone may well come by chance
    for name in ("server", "admin"):
        assert z85.decode(read_keys(site.server.data_dir / f"{name}.key_secret").secret) not in heard


def test_an_impostor_is_refused(site: Site, tmp_path: Path) -> None:
    """Another server in the place of a known one gets no request: exit code 4, and both fingerprints are named."""
    address = f"127.0.0.1:{site.server.port}"
    variables = {"ALS_CLIENT_DIR": str(tmp_path / "client"), "ALS_TIMEOUT": "0.5"}
    assert command("als", "trust", address, **variables).returncode == 0
    site.server.stop()
    impostor = ServerProcess(tmp_path / "impostor", "--name", site.server.name)
    impostor.port = site.server.port
    with impostor:
        for arguments in (("status", address), ("import", address, site.vendor.issue(1))):
            refused = command("als", *arguments, **variables)
            assert refused.returncode == 4, refused
            assert refused.stderr.count("SHA256:") >= 2
        with Client(impostor.port, site.server.server_key, new_keys()) as client:
            client.send("hello")
            assert not client.socket.poll(300)
        with Client(impostor.port, impostor.server_key, impostor.admin_keys) as admin:
            assert {event["kind"] for event in admin.rows("events")} == {"admin_added", "started"}
        impostor.stop()


# Secrets


def forms(secret: bytes) -> set[str]:
    """The ways in which 32 bytes could be shown."""
    plain = base64.b64encode(secret).decode()
    return {
        *(secret.hex(), secret.hex().upper(), secret.hex(":"), plain, plain.rstrip("=")),
        *(base64.urlsafe_b64encode(secret).decode().rstrip("="), z85.encode(secret).decode(), repr(secret)[2:-1]),
    }


def curve_secrets(*folders: Path) -> set[str]:
    """Every form of the secret halves of all key files in some folders."""
    paths = [path for folder in folders for path in folder.rglob("*.key_secret")]
    assert len(paths) >= 3
    return {form for path in paths for form in forms(z85.decode(read_keys(path).secret))}


def vendor_secrets(path: Path) -> set[str]:
    """Every form of a vendor's private key."""
    key = load_pem_private_key(path.read_bytes(), PASSPHRASE.encode())
    return {PASSPHRASE, *forms(key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption()))}


def test_no_program_shows_a_secret(site: Site, tmp_path: Path) -> None:
    """In all that the programs print and log, with and without --json, in success and failure, there is no secret."""
    data, client, vendor = site.server.data_dir, tmp_path / "client", tmp_path / "vendor"
    variables = {
        **{"ALS_CLIENT_DIR": str(client), "ALS_DATA_DIR": str(data), "ALS_VENDOR_DIR": str(vendor)},
        "ALS_VENDOR_PASSPHRASE": PASSPHRASE,
    }
    server = f"127.0.0.1:{site.server.port}"
    printed: list[str] = []

    def run(line: str, *more: str, code: int = 0) -> str:
        program, *arguments = line.replace("SERVER", server).split()
        done = command(program, *arguments, *more, **variables)
        assert done.returncode == code, (line, done)
        printed.append(done.stdout + done.stderr)
        return done.stdout

    run("als-vendor init shop --passphrase --json")
    serial = run("als-vendor issue --product ATIES --seats 3 --plain").split()[0]
    run("als-vendor issue --help")
    run("als-server add-vendor", str(vendor / "shop.pub"))
    run("als trust SERVER")
    run("als import SERVER --json", serial)
    run("als keygen --json --out", str(client / "own"))
    run("als keygen --out", str(client / "own"), code=1)
    run("als-agent acquire --product ATIES --component agent --server SERVER --json")
    for listing in ("status", "admins", "events"):
        run(f"als {listing} SERVER --json")
    run("als-agent acquire --product NONE --component agent --server SERVER", code=1)
    run("als status SERVER --identity", str(data / "server.key"), code=2)
    site.client().refused("status")
    run("als-server backup", str(tmp_path / "als.tar"))
    site.server.stop()
    run("als-server restore", str(tmp_path / "als.tar"))
    run("als-server restore --new-identity", str(tmp_path / "als.tar"))
    run("als-server reset-admin")
    secrets = curve_secrets(tmp_path) | vendor_secrets(vendor / "shop.pem")
    for name in ("admin", "server"):  # damaged, but with its secret still in it
        path = data / f"{name}.key_secret"
        path.write_text(path.read_text(encoding="ascii").replace("public-key", "publik-key"), encoding="ascii")
        run("als-server run --port 0 --discovery-port 0", code=5)
    everything = "\n".join([*printed, site.server.stderr()])
    assert "ATIES" in everything and "granted" in everything
    assert [secret for secret in secrets if secret in everything] == []


def test_vanished_peers_are_found_by_the_system() -> None:
    """The ROUTER has TCP keepalive on, which costs many connections nothing, and no heartbeats of its own."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router, _ = access.open_router(context, keyfile.generate(), "127.0.0.1", 0)
    found = [router.getsockopt(option) for option in (zmq.TCP_KEEPALIVE, zmq.TCP_KEEPALIVE_IDLE, zmq.HEARTBEAT_IVL)]
    router.close(0)
    context.term()
    assert found == [1, access.KEEPALIVE_IDLE_S, 0]
