"""How als-server starts, refuses to start, and stops: one clear line and an exit code."""

import os
import signal
import socket
from pathlib import Path

import pytest
import zmq.auth

from contract_client import Client, discover, udp_socket
from server_process import ServerProcess, run_to_end, start_failure

BROKEN_CATALOG = """\
[products.NEW]
number = 77
name = "New"
period = "0d"
heartbeat = "1h"
[products.NEW.components.agent]
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder that does not exist yet."""
    return tmp_path / "data"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_start_and_stop(data_dir: Path, number: signal.Signals) -> None:
    """The first start makes the data folder and its keys; a signal stops the server with 0."""
    with ServerProcess(data_dir, "--name", "Cellar Server") as server:
        assert (server.name, server.address) == ("Cellar Server", "127.0.0.1")
        assert {"server.key", "server.key_secret", "admin.key", "admin.key_secret", "server.lock"} <= {
            path.name for path in data_dir.iterdir()
        }
        with Client(server.port, server.server_key, server.admin_keys) as admin:
            assert admin.ask("hello")["name"] == "Cellar Server"
            assert [row["role"] for row in admin.rows("admins")] == ["admin"]
        server.signal(number)
        assert server.wait() == 0
        assert "Traceback" not in server.stderr()


def test_key_files_are_private(data_dir: Path) -> None:
    """Secrets are written readable by their owner alone, and public keys carry no secret."""
    with ServerProcess(data_dir) as server:
        for name in ("server", "admin"):
            secret = data_dir / f"{name}.key_secret"
            assert secret.stat().st_mode & 0o777 == 0o600
            public_key, secret_key = zmq.auth.load_certificate(secret)
            assert secret_key is not None
            assert zmq.auth.load_certificate(data_dir / f"{name}.key") == (public_key, None)
        assert zmq.auth.load_certificate(data_dir / "server.key")[0] == server.server_key


def test_second_server_on_a_folder_is_refused(data_dir: Path) -> None:
    """A second server on a folder is refused, the first goes on, and after its death the folder is free."""
    with ServerProcess(data_dir) as server:
        assert str(data_dir) in start_failure(data_dir)
        with Client(server.port, server.server_key) as client:
            client.ask("hello")
        server.kill()
        server.start()


def test_port_in_use(data_dir: Path) -> None:
    """A port that another program listens on is named."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert port in start_failure(data_dir, "--port", port)


def test_address_of_another_machine(data_dir: Path) -> None:
    """An address that this machine does not have is named."""
    assert "192.0.2.1" in start_failure(data_dir, "--port", "0", "--bind", "192.0.2.1")


def test_file_in_place_of_folder(data_dir: Path) -> None:
    """A data folder that is a file is named."""
    data_dir.write_text("not a folder", encoding="utf-8")
    assert str(data_dir) in start_failure(data_dir)
    assert data_dir.read_text(encoding="utf-8") == "not a folder"


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_folder_without_rights(data_dir: Path, mode: int) -> None:
    """A data folder that cannot be written or read is named."""
    data_dir.mkdir()
    data_dir.chmod(mode)
    try:
        if os.access(data_dir, os.W_OK):
            pytest.skip("this user may write everywhere")
        assert str(data_dir) in start_failure(data_dir)
    finally:
        data_dir.chmod(0o700)


def test_broken_catalog(data_dir: Path) -> None:
    """A catalog file with an error is named with its line and key."""
    path = data_dir / "catalog.d" / "new.toml"
    path.parent.mkdir(parents=True)
    path.write_text(BROKEN_CATALOG, encoding="utf-8")
    message = start_failure(data_dir)
    assert f"{path}:4" in message
    assert "period" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("surely = not TOML", ": Invalid value (at line 3"),
        ("unknown_setting = 1\n", ":3: unknown_setting: unknown key; known are bind, port"),
        ('agents = "some"\n', ':3: agents: must be "open" or "listed"'),
        ("agents = 1", ':3: agents: must be a text, like "this"'),
        ('port = "9876"', ":3: port: must be a whole number"),
        ("builtin_products = 1", ":3: builtin_products: must be true or false"),
    ],
)
def test_broken_settings(data_dir: Path, text: str, said: str) -> None:
    """A settings file with an error is named, with line and key."""
    data_dir.mkdir()
    (data_dir / "als.toml").write_text(f'# ours\nname = "cellar"\n{text}', encoding="utf-8")
    assert f"als.toml{said}" in start_failure(data_dir)


def test_settings_that_a_link_promises(data_dir: Path) -> None:
    """A link that leads nowhere is not the same as no settings."""
    data_dir.mkdir()
    (data_dir / "als.toml").symlink_to(data_dir / "nowhere.toml")
    assert "als.toml: No such file" in start_failure(data_dir)


def test_broken_vendor_key(data_dir: Path) -> None:
    """A vendor key that is none is named."""
    (data_dir / "vendors").mkdir(parents=True)
    (data_dir / "vendors" / "acme.pub").write_text("bm90IGEga2V5\n", encoding="ascii")
    assert "acme.pub" in start_failure(data_dir)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
@pytest.mark.parametrize("name", ["server", "admin"])
def test_secret_that_others_can_read(data_dir: Path, name: str) -> None:
    """A secret key file that others can read is refused by name until its mode is mended."""
    with ServerProcess(data_dir) as server:
        assert server.stop() == 0
        path = data_dir / f"{name}.key_secret"
        path.chmod(0o644)
        assert str(path) in start_failure(data_dir)
        path.chmod(0o600)
        server.start()


def test_damaged_server_key(data_dir: Path) -> None:
    """A damaged key file is named, and never replaced by a new identity."""
    with ServerProcess(data_dir) as server:
        assert server.stop() == 0
    path = data_dir / "server.key_secret"
    path.write_text("damaged", encoding="ascii")
    path.chmod(0o600)
    assert "server.key_secret" in start_failure(data_dir)
    assert path.read_text(encoding="ascii") == "damaged"


@pytest.mark.parametrize("kept_bytes", [0, 4_096, 40_960])
def test_damaged_store(data_dir: Path, kept_bytes: int) -> None:
    """A store whose pages are garbage from some place on is called damaged, and left as it is."""
    with ServerProcess(data_dir) as server:
        assert server.stop() == 0
    (path,) = (path for path in (data_dir / "store").iterdir() if "lock" not in path.name)
    damaged = path.read_bytes()[:kept_bytes].ljust(path.stat().st_size, b"\xa5")
    path.write_bytes(damaged)
    message = start_failure(data_dir)
    assert "the store" in message
    assert "damaged" in message
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("arguments", [("--no-such-flag",), ("--port", "65536"), ("--port", "many")])
def test_wrong_usage(data_dir: Path, arguments: tuple[str, ...]) -> None:
    """A flag that does not exist and a port that cannot be are wrong usage, exit 2, and make nothing."""
    done = run_to_end("run", "--data-dir", str(data_dir), *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip()
    assert not data_dir.exists()


def test_environment_names_the_folder(data_dir: Path) -> None:
    """The data folder may come from the environment."""
    data_dir.write_text("not a folder", encoding="utf-8")
    done = run_to_end("run", "--port", "0", "--discovery-port", "0", ALS_DATA_DIR=str(data_dir))
    assert done.returncode == 5
    assert str(data_dir) in done.stderr


@pytest.mark.parametrize("name", ["run", "check-config"])
def test_a_folder_without_a_name_is_wrong_usage(name: str) -> None:
    """A shell's unset variable must not make a server in whatever folder one happens to be in."""
    done = run_to_end(name, "--data-dir", "")
    assert done.returncode == 2 and "it is empty" in done.stderr


def test_the_configuration_of_a_folder_that_is_not_there(data_dir: Path) -> None:
    """A mistyped folder has good settings, as a new server's has, so it is said that there is none."""
    assert "no such folder yet" in run_to_end("check-config", "--data-dir", str(data_dir / "none")).stdout
    data_dir.mkdir(exist_ok=True)
    assert "no such folder" not in run_to_end("check-config", "--data-dir", str(data_dir)).stdout


def test_version() -> None:
    """--version prints one line and ends with 0."""
    done = run_to_end("--version")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)


def test_broadcasts_are_answered(data_dir: Path) -> None:
    """A broadcast query at the discovery port is answered from the loopback alone, as is a unicast one."""
    with udp_socket() as taken:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]
    with ServerProcess(data_dir, "--discovery-port", str(port)) as server:
        for address in ("127.255.255.255", "127.0.0.1"):
            assert discover(address, port).content["port"] == server.port
        assert discover("127.0.0.1", server.port).content["port"] == server.port


def test_discovery_port_in_use_is_a_warning(data_dir: Path) -> None:
    """A discovery port that another program keeps to itself is a warning; requests are served even so."""
    with udp_socket() as other:
        other.bind(("0.0.0.0", 0))
        port = str(other.getsockname()[1])
        with ServerProcess(data_dir, "--discovery-port", port) as server:
            with Client(server.port, server.server_key) as client:
                client.ask("hello")
            assert port in server.stderr()
