"""How servers join a cluster: numbers, the sealed identity, settings, and the one line when it cannot be."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import etcd_nodes
from cluster_site import ClusterSite, cluster_options
from contract_client import query, read_beacon, udp_socket
from etcd_certificates import Authority
from server_process import ServerProcess, run_to_end, start_failure

if not etcd_nodes.MISSING:
    from als import keyfile
    from als.records import pack_value
    from als.server.cluster import identity, numbers
    from als.server.cluster.identity import Identity
    from als.server.cluster.peers import Card, card_key
    from als.store.etcd.client import EtcdClient
    from als.store.etcd.fence import claim, read_servers
    from als.store.etcd.keys import Keys
    from als.store.etcd.ops import delete, put
    from als.store.transaction import StoreError, Table

pytestmark = pytest.mark.skipif(bool(etcd_nodes.MISSING), reason=etcd_nodes.MISSING)

NOW_S = 1_800_000_000.0
SECRET = b"a secret of servers"


@pytest.fixture
def client(etcd_endpoint: str) -> Iterator["EtcdClient"]:
    """A client of the etcd that all tests share."""
    client = EtcdClient([etcd_endpoint])
    yield client
    client.close()


def no_pause(seconds: float) -> None:
    """Let no time pass."""


def write_card(client: "EtcdClient", keys: "Keys", number: int, wall_s: float, *, stopped: bool = False) -> None:
    """Have a server's card say when it was alive."""
    card = Card("pc", "pc:9876", "1.0", "", int(wall_s), int(wall_s), wall_s, stopped=stopped)
    client.txn((), [put(keys.name(Table.META, card_key(number)), card.pack())])


# Numbers.


def test_numbers_are_the_lowest_free_ones(client: "EtcdClient", etcd_prefix: bytes, tmp_path: Path) -> None:
    """Servers that start one after the other get 0, 1, 2; the number of one that stopped in order is free again."""
    keys = Keys(etcd_prefix)
    for number in range(3):
        assert numbers.take(client, keys, tmp_path / f"{number}", NOW_S, no_pause).number == number
        write_card(client, keys, number, NOW_S)
    write_card(client, keys, 1, NOW_S, stopped=True)
    assert numbers.take(client, keys, tmp_path / "next", NOW_S, no_pause).number == 1


def test_a_data_folder_keeps_its_number(client: "EtcdClient", etcd_prefix: bytes, tmp_path: Path) -> None:
    """A server that was killed gets its number back at once, though its row looks alive."""
    keys = Keys(etcd_prefix)
    for name in ("one", "two"):
        number = numbers.take(client, keys, tmp_path / name, NOW_S, no_pause).number
        write_card(client, keys, number, NOW_S)
    assert numbers.take(client, keys, tmp_path / "two", NOW_S, no_pause).number == 1
    assert numbers.take(client, keys, tmp_path / "one", NOW_S, no_pause).number == 0


def test_a_copied_folder_gets_a_number_of_its_own(client: "EtcdClient", etcd_prefix: bytes, tmp_path: Path) -> None:
    """What a copy of a data folder remembers is another's number, which may be at work."""
    keys = Keys(etcd_prefix)
    (tmp_path / "copy").mkdir()
    numbers.take(client, keys, tmp_path / "one", NOW_S, no_pause)
    write_card(client, keys, 0, NOW_S)
    (tmp_path / "copy" / "one").write_bytes((tmp_path / "one").read_bytes())
    assert numbers.take(client, keys, tmp_path / "copy" / "one", NOW_S, no_pause).number == 1


def test_a_silent_server_loses_its_number(client: "EtcdClient", etcd_prefix: bytes, tmp_path: Path) -> None:
    """The number of a server that is silent for a minute, and stays so while we watch, is free."""
    keys = Keys(etcd_prefix)
    numbers.take(client, keys, tmp_path / "old", NOW_S, no_pause)
    write_card(client, keys, 0, NOW_S - 59)
    assert numbers.take(client, keys, tmp_path / "second", NOW_S, no_pause).number == 1
    write_card(client, keys, 1, NOW_S)
    write_card(client, keys, 0, NOW_S - 61)
    assert numbers.take(client, keys, tmp_path / "third", NOW_S, no_pause).number == 0


def test_a_server_that_only_looks_silent_keeps_its_number(
    client: "EtcdClient", etcd_prefix: bytes, tmp_path: Path
) -> None:
    """A clock that is wrong by minutes takes no number from a server that writes its row."""
    keys = Keys(etcd_prefix)
    numbers.take(client, keys, tmp_path / "old", NOW_S, no_pause)
    write_card(client, keys, 0, NOW_S)

    def other_writes(seconds: float) -> None:
        row = read_servers(client, keys)[0]
        claim(client, keys, 0, bytes(16), over=row.value)
        write_card(client, keys, 0, NOW_S + 1_000 + seconds)

    assert numbers.take(client, keys, tmp_path / "new", NOW_S + 1_000, other_writes).number == 1


def test_numbers_end(client: "EtcdClient", etcd_prefix: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that finds every number in use says so."""
    keys = Keys(etcd_prefix)
    monkeypatch.setattr(numbers, "SERVERS_MAX", 2)
    for number in range(2):
        numbers.take(client, keys, tmp_path / f"{number}", NOW_S, no_pause)
        write_card(client, keys, number, NOW_S)
    with pytest.raises(StoreError, match="all 2 server numbers"):
        numbers.take(client, keys, tmp_path / "third", NOW_S, no_pause)


# Identity.


def test_a_sealed_identity_needs_the_secret() -> None:
    """What is sealed is read with the same secret alone, and its keys are not to be seen in it."""
    who = Identity("id", "office", keyfile.generate())
    sealed = identity.seal(who, SECRET)
    assert identity.unseal(sealed, SECRET) == who
    assert who.keys.secret not in sealed
    with pytest.raises(StoreError, match="secret is another"):
        identity.unseal(sealed, SECRET + b"!")


def test_a_damaged_identity_is_refused() -> None:
    """A changed byte, garbage, or work that would never end are refused, each in a line."""
    sealed = bytearray(identity.seal(Identity("id", "office", keyfile.generate()), SECRET))
    sealed[-1] ^= 1
    endless = pack_value([b"salt", [1 << 40, 8, 1], bytes(12), b"sealed"])
    for raw in (bytes(sealed), b"\x94", b"garbage", endless):
        with pytest.raises(StoreError):
            identity.unseal(raw, SECRET)


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [("short", 0o600, "must have"), ("x" * 40, 0o644, "can be read by other users"), (None, 0, "cannot be read")],
)
def test_a_bad_secret_file(content: str | None, mode: int, said: str, tmp_path: Path) -> None:
    """A secret that is short, open to others or missing is refused with its path."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)
    with pytest.raises(StoreError, match=said) as caught:
        identity.read_secret(path)
    assert str(path) in str(caught.value)


# Starts of real servers.


def test_starts_that_fail(etcd_endpoint: str, etcd_prefix: bytes, tmp_path: Path) -> None:
    """Another secret, an etcd that is not there and settings that miss each other are one line each."""
    options = cluster_options(tmp_path / "first", [etcd_endpoint], etcd_prefix)
    with ServerProcess(tmp_path / "data", *options) as server:
        server.stop()
    other = cluster_options(tmp_path / "other", [etcd_endpoint], etcd_prefix)
    data = tmp_path / "data2"
    assert "secret is another" in start_failure(data, "--port", "0", *other)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
    assert "cannot be reached" in start_failure(data, "--port", "0", *options, "--store", f"etcd://{nobody}")
    assert "cluster_secret" in start_failure(data, "--port", "0", "--store", f"etcd://{etcd_endpoint}")
    assert "store" in start_failure(data, "--port", "0", *options, "--store", "etc://x")
    assert "etcd_cert" in start_failure(data, "--port", "0", *options, "--etcd-cert", str(tmp_path / "x"))


def test_a_wrong_authority(tmp_path: Path) -> None:
    """A cluster over TLS starts with the right files; with another authority's the line names the certificate."""
    right, wrong = Authority(tmp_path / "right"), Authority(tmp_path / "wrong")
    with etcd_nodes.Cluster(tmp_path / "etcd", tls=right.member()) as etcd:
        options = cluster_options(tmp_path / "first", etcd.endpoints, b"als/1/")
        for authority in (wrong, right):
            files = authority.client()
            flags = [*options, "--etcd-ca", str(files.authority), "--etcd-cert", str(files.certificate)]
            flags += ["--etcd-key", str(files.key)]
            if authority is wrong:
                assert "certificate" in start_failure(tmp_path / "data", "--port", "0", *flags)
            else:
                with ServerProcess(tmp_path / "data", *flags) as server:
                    assert server.stop() == 0


def test_a_cluster_begins_not_beside_licenses(etcd_endpoint: str, etcd_prefix: bytes, tmp_path: Path) -> None:
    """A folder with a store of its own is not left for an empty cluster without a word."""
    with ServerProcess(tmp_path / "data") as server:
        server.stop()
    options = cluster_options(tmp_path, [etcd_endpoint], etcd_prefix)
    assert "als-server migrate" in start_failure(tmp_path / "data", "--port", "0", *options)


def test_settings_file_names_the_cluster(etcd_endpoint: str, etcd_prefix: bytes, tmp_path: Path) -> None:
    """What the flags say can stand in als.toml, paths from its folder; check-config finds what is wrong there."""
    data = tmp_path / "data"
    data.mkdir()
    cluster_options(data, [etcd_endpoint], etcd_prefix)
    lines = [
        f'store = "etcd://{etcd_endpoint}"',
        'cluster_secret = "cluster-secret"',
        f'etcd_prefix = "{etcd_prefix.decode()}"',
        "etcd_compact = false",
    ]
    (data / "als.toml").write_text("\n".join(lines))
    assert run_to_end("check-config", "--data-dir", str(data)).returncode == 0
    with ServerProcess(data) as server:
        assert server.stop() == 0
    for wrong, said in {
        'store = "etcd://a b:99"': "store",
        'store = "etcd://a"': "cluster_secret",
        'store = "etcd://a"\ncluster_secret = "none"': "none: No such file",
    }.items():
        (data / "als.toml").write_text(wrong)
        done = run_to_end("check-config", "--data-dir", str(data))
        assert (done.returncode, said in done.stderr) == (1, True), done
    (data / "als.toml").write_text('store = "etcd://a"')
    secret = str(data / "cluster-secret")
    assert run_to_end("check-config", "--data-dir", str(data), ALS_CLUSTER_SECRET=secret).returncode == 0


def test_commands_for_a_folder_with_a_store(tmp_path: Path) -> None:
    """What works on a folder's own store says what to do instead for a cluster, and makes no store there."""
    (tmp_path / "cluster-instance").write_bytes(bytes(16))
    for command, said in {
        ("check",): "migrate --copy",
        ("accept-clock",): "start a server",
        ("reset-admin",): "admin.key_secret",
        ("backup", str(tmp_path / "x.tar")): "etcdctl snapshot save",
    }.items():
        done = run_to_end(*command, "--data-dir", str(tmp_path))
        assert (done.returncode, said in done.stderr) == (1, True), done
    assert not (tmp_path / "store").exists()


def test_a_server_whose_number_is_taken_ends(
    client: "EtcdClient", etcd_endpoint: str, etcd_prefix: bytes, tmp_path: Path
) -> None:
    """A server that finds its row written by another stops by itself with one line, and acknowledges nothing more."""
    options = cluster_options(tmp_path, [etcd_endpoint], etcd_prefix)
    keys = Keys(etcd_prefix)
    with ServerProcess(tmp_path / "data", *options) as server:
        client.txn((), [delete(keys.name(Table.META, b"server/0"))])
        assert server.wait() == 6
        (line,) = [line for line in server.stderr().splitlines() if line.startswith("als-server:")]
        assert "another server has taken this server's number" in line


def test_each_server_answers_searches_with_its_own_address(
    etcd_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Discovery finds one id, name and key at every server's own port."""
    arguments = ("--name", "the office")
    folder = tmp_path_factory.mktemp("found")
    with ClusterSite(folder, [etcd_endpoint], b"found/", arguments=arguments) as site, udp_socket() as udp:
        answers = []
        for server in site.servers:
            udp.sendto(query(bytes(16)), ("127.0.0.1", server.port))
            answers.append(read_beacon(udp.recv(2_048)).content)
        assert [answer.pop("port") for answer in answers] == [server.port for server in site.servers]
        assert answers[0] == answers[1]
        assert answers[0]["name"] == site.servers[1].name == "the office"
