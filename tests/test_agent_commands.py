"""`als-agent` as scripts use it, against a real server."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from server_process import Product, Site

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
        self.environment = {**os.environ, "ALS_CLIENT_DIR": str(folder), "ALS_DATA_DIR": str(folder / "none")}

    def arguments(self, *arguments: str, server: bool = True) -> list[str]:
        """Write a command line with the server in it."""
        where = ["--server", f"127.0.0.1:{self._site.server.port}"] if server else []
        where += ["--server-key", (self._site.server.data_dir / "server.key").as_posix()] if server else []
        return [str(PROGRAM), arguments[0], *where, *arguments[1:]]

    def run(self, *arguments: str, server: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        line = self.arguments(*arguments, server=server)
        return subprocess.run(line, env=self.environment, capture_output=True, text=True, timeout=60, check=False)


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
    assert free == "2\t1\t1\tTrue\n"
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
    line = agent.arguments("run", *of(product, 1), "--release-at-stop")
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


@pytest.mark.parametrize(
    "arguments", [["acquire"], ["run"], ["no-such-command"], ["check", "--product", "A", "--mac", "x"]]
)
def test_wrong_usage(agent: Agent, arguments: list[str]) -> None:
    """What cannot be meant ends with 2 and a sentence."""
    done = agent.run(*arguments, server=False)
    assert done.returncode == 2 and done.stderr
