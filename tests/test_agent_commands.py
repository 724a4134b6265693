"""`als-agent` as scripts use it, against a real server."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from als import keyfile
from als_agents import configure, flags, main
from als_agents.errors import KeyChanged
from als_agents.parameters import ParametersFile
from als_agents.testing import FakeComponent, FakeServer
from server_process import Product, Site, environment

PROGRAM = Path(sys.executable).with_name("als-agent")
MAC = "00:11:22:33:44:%02x"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for this module."""
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site


class Agent:
    """One user's agent, with a folder of its own."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._site = site
        self.folder = folder
        self.environment = environment(ALS_CLIENT_DIR=str(folder), ALS_DATA_DIR=str(folder / "none"))

    def arguments(self, *arguments: str, server: bool = True) -> list[str]:
        """Write a command line with the server in it."""
        where = ["--server", f"127.0.0.1:{self._site.server.port}"] if server else []
        where += ["--server-key", (self._site.server.data_dir / "server.key").as_posix()] if server else []
        return [str(PROGRAM), arguments[0], *where, *arguments[1:]]

    def run(self, *arguments: str, server: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        line = self.arguments(*arguments, server=server)
        return subprocess.run(
            line,
            env=self.environment | variables,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
        )

    def start(self, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        """Start a command whose server is in `arguments`."""
        line = self.arguments(*arguments, server=False)
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": -1, "stderr": -1, "text": True}
        return subprocess.Popen(line, env=self.environment | variables, **streams)


@pytest.fixture
def agent(site: Site, tmp_path: Path) -> Agent:
    """An agent whose key the server has not seen."""
    return Agent(site, tmp_path / "client")


def of(product: Product, number: int) -> list[str]:
    """Name product, component and a pretended computer."""
    return ["--product", product.code, "--component", "agent", "--mac", MAC % number, "--host", f"pc-{number}"]


def test_life_of_a_license(site: Site, agent: Agent) -> None:
    """Acquire, acquire again, renew, check and release say in words what the server answered."""
    product = site.product(2)
    assert agent.run("acquire", *of(product, 1)).stdout.startswith("granted: ")
    assert agent.run("acquire", *of(product, 1)).stdout.startswith("already_held: ")
    reply = json.loads(agent.run("renew", *of(product, 1), "--json").stdout)
    assert reply["result"] == "renewed" and reply["lease"]["mac"] == MAC % 1
    free = agent.run("check", "--product", product.code, "--mac", MAC % 1, "--plain").stdout
    assert free == "2\t1\t1\ttrue\n"
    assert agent.run("release", *of(product, 1), "--plain").stdout == "freed\n"
    assert agent.run("release", *of(product, 1), "--plain").stdout == "not_held\n"


def test_a_refusal_is_an_invalid_license(site: Site, agent: Agent) -> None:
    """A refused computer ends with 1 and the manual's words on stderr."""
    product = site.product(1)
    agent.run("acquire", *of(product, 1))
    for command in ("acquire", "renew"):
        done = agent.run(command, *of(product, 2))
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("invalid license: ") and len(done.stderr.splitlines()) == 1


def test_no_server_is_an_invalid_license(agent: Agent) -> None:
    """A server that is not there ends with 3 and the same words."""
    done = agent.run(
        "acquire", "--server", "127.0.0.1:1", "--product", "P", "--component", "agent", "--mac", MAC % 1, server=False
    )
    assert done.returncode == 3 and done.stderr.startswith("invalid license: ")


def test_exec_passes_the_exit_code_on(site: Site, agent: Agent) -> None:
    """A licensed program runs, and its exit code is als-agent's; one that is not there is 127."""
    product = site.product(1)
    code = "import sys; print('ran'); sys.exit(7)"
    done = agent.run("exec", *of(product, 1), "--", sys.executable, "-c", code)
    assert (done.returncode, done.stdout) == (7, "ran\n")
    assert agent.run("exec", *of(product, 1), "--", "/no/such/program").returncode == 127


def test_exec_without_a_license_runs_nothing(site: Site, agent: Agent) -> None:
    """An unlicensed program is not started; als-agent ends with 125."""
    product = site.product(1)
    site.client().ask("acquire", product=product.code, component="agent", computer=site.computer())
    done = agent.run("exec", *of(product, 1), "--", sys.executable, "-c", "print('ran')")
    assert (done.returncode, done.stdout) == (125, "")
    assert "invalid license" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_run_keeps_licenses_until_sigterm(site: Site, agent: Agent) -> None:
    """The daemon says that it is ready, takes its licenses, ends at SIGTERM, and gives them back when told to."""
    product = site.product(1)
    line = agent.arguments("run", *of(product, 1), "--release-at-end")
    with subprocess.Popen(line, env=agent.environment, stdout=-1, stderr=-1, text=True) as daemon:
        assert daemon.stdout is not None and daemon.stderr is not None
        assert daemon.stdout.readline() == f"ready: keeping {product.code}/agent\n"
        assert "licensed by" in daemon.stderr.readline()
        (row,) = site.admin.rows("leases", product=product.code, state="active")
        assert row["host"] == "pc-1"
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
    assert site.admin.rows("leases", product=product.code, state="active") == []


def test_configure_stores_the_server(site: Site, agent: Agent) -> None:
    """After configure no command needs to be told the server."""
    product = site.product(1)
    assert agent.run("configure").returncode == 0
    assert agent.run("acquire", *of(product, 1), server=False).stdout.startswith("granted: ")


def test_identity_tells_what_is_sent(agent: Agent) -> None:
    """Everything that would be sent is shown, and why each adapter was kept or left out."""
    document = json.loads(agent.run("identity", "--json", server=False).stdout)
    assert document["macs"] and document["host"] and len(document["key"]) == 40
    assert {"adapter", "mac", "kept", "reason"} == set(document["adapters"][0])
    plain = dict(line.split("\t") for line in agent.run("identity", "--plain", server=False).stdout.splitlines())
    assert plain["macs"].split(",") == document["macs"] and plain["key"] == document["key"]
    text = agent.run("identity", server=False, ALS_MACS="02-00-00-00-00-07", ALS_HOST="box").stdout
    assert "macs        02:00:00:00:00:07\n" in text and "host        box\n" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["acquire"], "als-agent: --product is missing; ALS_PRODUCT and agent.toml may name it too"),
        (["run"], "als-agent: nothing to keep: give --product and --component"),
        (["run", "--license", "ATIES"], "als-agent: --license: 'ATIES' must be written as PRODUCT/COMPONENT"),
        (["check", "--product", "A", "--mac", "x"], "als-agent: --mac: a MAC address has 12"),
        (["check", "--product", "A", "--server", "host:99999"], "als-agent: the port 99999"),
        (["check", "--product", "A", "--identity", "/no/such.key_secret"], "als-agent: /no/such.key_secret"),
        (["exec", "--product", "A", "--component", "b"], "als-agent: name the program to run behind --"),
        (["exec", "--product", "A", "--component", "b", "--grace", "-1", "x"], "als-agent: --grace: must be"),
        (["run", "--config", "/no/such.toml"], "als-agent: /no/such.toml: No such file"),
        (["no-such-command"], "usage: als-agent"),
    ],
)
def test_wrong_usage(agent: Agent, arguments: list[str], reason: str) -> None:
    """What cannot be meant ends with 2 and a sentence that says what is wrong."""
    done = agent.run(*arguments, server=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(reason)


def test_every_command_takes_product_and_component(fake: FakeServer, agent: Agent) -> None:
    """A script may write the same two flags behind each command; help says where they are not needed."""
    both = ["--product", "ATIES", "--component", "agent"]
    assert agent.run("configure", "--server", fake.address, *both, server=False).returncode == 0
    done = agent.run("check", *both, "--plain", server=False)
    assert (done.returncode, done.stdout) == (0, "5\t0\t5\tfalse\n")
    assert agent.run("identity", *both, "--plain", server=False).returncode == 0
    for command, unneeded in (("check", 1), ("identity", 2), ("configure", 2)):
        text = " ".join(agent.run(command, "--help", server=False, COLUMNS="200").stdout.split())
        assert text.count("not needed here") == unneeded


def test_a_flag_that_is_not_needed_is_not_looked_at(agent: Agent) -> None:
    """Neither it nor its variable can stop a command that does nothing with it."""
    done = agent.run("identity", "--component", "no code", server=False, ALS_PRODUCT="no code either")
    assert (done.returncode, done.stderr) == (0, "")


def test_flag_beats_variable_beats_file(site: Site, agent: Agent) -> None:
    """A setting is taken from the flag, else from its variable, else from agent.toml."""
    first, second, third = (site.product(1).code for _ in range(3))
    agent.folder.mkdir()
    (agent.folder / "agent.toml").write_text(
        f'product = "{first}"\nserver = ["127.0.0.1:{site.server.port}"]\n'
        f'server_key = "{site.server.server_key.decode()}"\n'
    )
    shown = [
        agent.run("check", server=False).stdout,
        agent.run("check", server=False, ALS_PRODUCT=second).stdout,
        agent.run("check", "--product", third, server=False, ALS_PRODUCT=second).stdout,
    ]
    assert [line.split(":")[0] for line in shown] == [first, second, third]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sever = 'x'", "sever: unknown key; known are product"),
        ("product = 5", "product: must be a text"),
        ("release_at_end = 'maybe'", "release_at_end: must be true or false"),
        ("[[licenses]]\nproduct = 'A'", "licenses: must be a text"),
        ("[[licenses]]\nproduct = 'A'\ncolour = 'red'", "licenses: each of [[licenses]] has product, component"),
        ("= broken", "Invalid statement"),
    ],
)
def test_a_wrong_file_is_named(agent: Agent, text: str, reason: str) -> None:
    """A mistake in agent.toml is told with the file and its key."""
    agent.folder.mkdir()
    file = agent.folder / "agent.toml"
    file.write_text(text)
    done = agent.run("run", server=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"als-agent: {file}: ") and reason in done.stderr


def test_help_names_variable_and_default(agent: Agent) -> None:
    """Every flag of every command says its environment variable and default; --version says the version."""
    commands = ("acquire", "renew", "check", "release", "run", "exec", "identity", "configure")
    for command in commands:
        text = " ".join(agent.run(command, "--help", server=False, COLUMNS="200").stdout.split())
        assert "[ALS_SERVER; default: the stored one, else all that answer a search]" in text
        assert text.count("default:") >= 5
    assert agent.run("--version", server=False).stdout.startswith("als-agent ")
    assert all(command in agent.run("--help", server=False).stdout for command in commands)


@pytest.mark.parametrize(
    ("flag", "value", "reason"),
    [
        ("--product", "ATI ES", "must be 1 to 32 letters, digits and hyphens"),
        ("--component", "x" * 33, "must be 1 to 32 letters, digits and hyphens"),
        ("--host", "x" * 256, "must have at most 255 bytes"),
        ("--version-of-product", "\u00fc" * 33, "must have at most 64 bytes"),
    ],
)
def test_what_no_server_could_take_is_wrong_usage(agent: Agent, flag: str, value: str, reason: str) -> None:
    """It is told with its flag, and nobody is asked."""
    words = {"--product": "ATIES", "--component": "agent"} | {flag: value}
    done = agent.run("acquire", *(word for pair in words.items() for word in pair), server=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert flag in done.stderr and reason in done.stderr


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """A fake server with a heartbeat of a second."""
    with FakeServer({"ATIES": 5}, heartbeat_s=1) as server:
        yield server


def at(fake: FakeServer) -> list[str]:
    """Name the fake server and the agent of ATIES."""
    return ["--server", fake.address, "--product", "ATIES", "--component", "agent"]


def test_a_component_that_is_not_counted_takes_no_license(fake: FakeServer, agent: Agent) -> None:
    """acquire and renew of such a component succeed and say so."""
    fake.components["agent"] = FakeComponent(licensed=False)
    for command in ("acquire", "renew"):
        done = agent.run(command, *at(fake), server=False)
        assert (done.returncode, done.stdout) == (0, "not_counted: this component takes no license\n")


def test_a_changed_key_ends_with_4_until_a_person_believes_it(fake: FakeServer, agent: Agent) -> None:
    """Another key at the pinned address is exit 4 with both fingerprints; configure believes a key that is given."""
    assert agent.run("acquire", *at(fake), server=False).returncode == 0
    fake.change_key()
    done = agent.run("acquire", *at(fake), server=False)
    assert done.returncode == 4
    assert done.stderr.startswith("invalid license: ") and done.stderr.count("SHA256:") == 2
    done = agent.run("configure", "--server", fake.address, server=False)
    assert done.returncode == 4 and "--server-key" in done.stderr
    key_file = agent.folder / "seen.key"
    key_file.write_text(f'metadata\ncurve\n    public-key = "{keyfile.to_z85(fake.key)}"\n')
    done = agent.run("configure", "--server", fake.address, "--server-key", str(key_file), server=False)
    assert done.returncode == 0, done.stderr
    assert agent.run("acquire", *at(fake)[2:], server=False).returncode == 0


def test_configure_asks_as_the_installer_does(fake: FakeServer, tmp_path: Path) -> None:
    """At a terminal the server is asked for; a key that changed is believed only when the person says so."""
    asked: list[str] = []

    def answer(*answers: str) -> Callable[[str], str]:
        left = iter(answers)
        return lambda question: asked.append(question) or next(left)  # type: ignore[func-returns-value]

    settings = main.parser().parse_args(["configure", "--client-dir", str(tmp_path)])
    settings = flags.resolve(settings, {})
    assert configure.configure(settings, answer(fake.address), is_terminal=True) == 0
    (stored,) = ParametersFile(tmp_path / "parameters.json").read().servers
    assert (stored.port, stored.key) == (fake.port, fake.key)
    fake.change_key()
    with pytest.raises(KeyChanged):
        configure.configure(settings, answer(fake.address, "n"), is_terminal=True)
    assert configure.configure(settings, answer(fake.address, "y"), is_terminal=True) == 0
    assert keyfile.fingerprint(fake.key) in asked[-1]
    (stored,) = ParametersFile(tmp_path / "parameters.json").read().servers
    assert stored.key == fake.key


def test_configure_stores_nothing_that_does_not_answer(fake: FakeServer, agent: Agent) -> None:
    """A server that cannot be reached is an error, and the old choice stays."""
    assert agent.run("configure", "--server", fake.address, server=False).returncode == 0
    before = (agent.folder / "parameters.json").read_text()
    assert agent.run("configure", "--server", "127.0.0.1:1", server=False).returncode == 3
    assert (agent.folder / "parameters.json").read_text() == before


PROGRAM_THAT_WAITS = """
import signal, sys
def end(number, frame):
    print("ended by", number, flush=True)
    if {polite}:
        sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("running", flush=True)
while True:
    signal.pause()
"""


def waiting(*, polite: bool) -> list[str]:
    """Give a program that waits for signals, and ends at SIGTERM or does not."""
    return ["--", sys.executable, "-c", PROGRAM_THAT_WAITS.format(polite=polite)]


@pytest.mark.parametrize(
    ("options", "polite", "said", "code"),
    [
        ([], True, "ended by 15\n", 125),
        (["--on-lost", "term", "--grace", "0.3"], False, "ended by 15\n", 125),
        (["--on-lost", "kill"], True, "", 125),
    ],
)
def test_exec_ends_a_program_that_lost_its_license(
    fake: FakeServer, agent: Agent, options: list[str], polite: bool, said: str, code: int
) -> None:
    """When the license is lost the program is ended as was chosen, and exec says why and ends with 125."""
    with agent.start("exec", *at(fake), *options, *waiting(polite=polite)) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "running\n"
        fake.refuse("license_expired", "All serials have ended.")
        assert process.wait(30) == code
        assert process.stdout.read() == said
        assert process.stderr.readline() == "invalid license: All serials have ended.\n"


def test_exec_may_ignore_a_loss(fake: FakeServer, agent: Agent) -> None:
    """With --on-lost ignore the loss is only told; the program ends in its own way."""
    with agent.start("exec", *at(fake), *waiting(polite=True), ALS_ON_LOST="ignore") as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "running\n"
        fake.refuse("license_expired", "All serials have ended.")
        assert process.stderr.readline() == "invalid license: All serials have ended.\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "ended by 15\n"
        assert process.wait(30) == 0


def test_exec_passes_signals_on_and_tells_of_the_program_s_death(fake: FakeServer, agent: Agent) -> None:
    """A signal to exec reaches the program, and a program that dies by one is 128 and its number, as in the shell."""
    with agent.start("exec", *at(fake), *waiting(polite=True)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGUSR1)
        assert process.wait(30) == 128 + signal.SIGUSR1


def test_exec_takes_no_license_for_a_program_that_cannot_run(fake: FakeServer, agent: Agent, tmp_path: Path) -> None:
    """126 for a file that is no program, 127 for none, and no seat is engaged."""
    text = tmp_path / "text"
    text.write_text("no program")
    assert agent.run("exec", *at(fake), "--", str(text), server=False).returncode == 126
    assert agent.run("exec", *at(fake), "--", "no-such-program", server=False).returncode == 127
    assert fake.used("ATIES") == 0


def test_exec_works_offline_where_the_component_may(fake: FakeServer, agent: Agent) -> None:
    """Without a server a program runs only if its component works offline."""
    fake.stop()
    line = [*at(fake), "--", sys.executable, "-c", "print('ran')"]
    assert agent.run("exec", *line, server=False).returncode == 125
    done = agent.run("exec", "--works-offline", *line, server=False)
    assert (done.returncode, done.stdout) == (0, "ran\n")


def test_exec_gives_the_license_back_when_told_to(fake: FakeServer, agent: Agent) -> None:
    """--release-at-end frees the seat when the program has ended; without it the seat stays."""
    line = [*at(fake), "--", sys.executable, "-c", ""]
    assert agent.run("exec", *line, server=False).returncode == 0
    assert fake.used("ATIES") == 1
    assert agent.run("exec", "--release-at-end", *line, server=False).returncode == 0
    assert fake.used("ATIES") == 0


def test_run_tells_each_change_in_a_line(fake: FakeServer, agent: Agent) -> None:
    """Several licenses from agent.toml: what happens to them is on stderr, weighed for a journal, and nothing else."""
    agent.folder.mkdir()
    (agent.folder / "agent.toml").write_text(
        f'server = "{fake.address}"\n[[licenses]]\nproduct = "ATIES"\ncomponent = "agent"\nversion = "9"\n'
        '[[licenses]]\nproduct = "NONE"\ncomponent = "agent"\n'
    )
    with agent.start("run", JOURNAL_STREAM="8:1") as daemon:
        assert daemon.stdout is not None and daemon.stderr is not None
        assert daemon.stdout.readline() == "ready: keeping ATIES/agent, NONE/agent\n"
        assert {daemon.stderr.readline(), daemon.stderr.readline()} == {
            f"<6>ATIES/agent: licensed by fake ({fake.address}), serial ATIES-0000000000000\n",
            "<3>NONE/agent: invalid license: The fake server knows no such product.\n",
        }
        fake.stop()
        assert daemon.stderr.readline().startswith("<4>ATIES/agent: late: no license server answers at ")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
        assert (daemon.stdout.read(), daemon.stderr.read()) == ("", "")
    assert fake.used("ATIES") == 1


def test_run_learns_who_works_offline(fake: FakeServer, agent: Agent) -> None:
    """In its first run already: where the catalog lets a component work offline, its license's end is no loss."""
    fake.period_s = 2
    fake.components["agent"] = FakeComponent(works_offline=True)
    with agent.start("run", *at(fake)) as daemon:
        assert daemon.stderr is not None
        assert "licensed by" in daemon.stderr.readline()
        fake.await_requests("hello")
        fake.await_requests("renew", 2)
        fake.stop()
        assert daemon.stderr.readline().startswith("ATIES/agent: late: ")
        assert daemon.stderr.readline().startswith("ATIES/agent: offline: ")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
    assert ParametersFile(agent.folder / "parameters.json").read().works_offline("ATIES", "agent")


def test_run_ends_with_130_at_ctrl_c(fake: FakeServer, agent: Agent) -> None:
    """SIGINT stops it as cleanly as SIGTERM, with the exit code of ctrl-C."""
    with agent.start("run", *at(fake), "--license", "ATIES/local-console") as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "ready: keeping ATIES/agent, ATIES/local-console\n"
        fake.await_requests("renew", 2)
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(30) == 130


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="systemd is not there")
def test_run_tells_systemd_that_it_is_ready(fake: FakeServer, agent: Agent, tmp_path: Path) -> None:
    """Where NOTIFY_SOCKET is set, READY=1 and STOPPING=1 go there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(30)
        with agent.start("run", *at(fake), NOTIFY_SOCKET=str(tmp_path / "notify")) as daemon:
            assert notify.recv(100) == b"READY=1"
            daemon.send_signal(signal.SIGTERM)
            assert notify.recv(100) == b"STOPPING=1"
            assert daemon.wait(30) == 0
