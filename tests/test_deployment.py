"""The deployment server of the manual: asks, takes nothing for itself, acquires for others."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from als.protocol import Role, parse_mac
from als_agents import DeploymentServer
from als_agents.deployment import Target
from als_agents.errors import ClientError
from als_agents.parameters import ParametersFile
from als_agents.testing import FakeServer
from server_process import Product, Site, environment

EXAMPLE = Path(__file__).parent.parent / "agents" / "examples" / "deploy.py"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One real server for this module."""
    with Site(tmp_path_factory.mktemp("site"), settings="new_seats_per_address_h = 3\n") as site:
        yield site


def deployer(site: Site, product: Product, folder: Path) -> DeploymentServer:
    """Make a deployment server whose key has the role `deployer`."""
    made = DeploymentServer(
        product.code,
        "agent",
        server=f"127.0.0.1:{site.server.port}",
        server_key=site.server.server_key.decode(),
        client_dir=folder,
    )
    site.admin.ask("admin_add", key=made._workplace.pair.public, name="deployments", role="deployer")
    return made


def targets(count: int) -> list[Target]:
    """Name computers to deploy to."""
    return [Target(f"02-00-00-00-01-{number:02x}", f"pc-{number}", f"192.0.2.{number}") for number in range(count)]


def test_check_takes_nothing(site: Site, tmp_path: Path) -> None:
    """check tells the seats, engages none, and keeps the server's parameters for later."""
    product = site.product(4, kind="KEEP")
    with deployer(site, product, tmp_path) as server:
        assert server.role() is Role.DEPLOYER
        assert server.check() == server.check() == (4, 0, 4)
        (stored,) = ParametersFile(tmp_path / "parameters.json").read().servers
        assert (stored.host, stored.port) == ("127.0.0.1", site.server.port)
        assert stored.key == server.server.key
    with DeploymentServer(product.code, "agent", client_dir=tmp_path) as later:
        assert later.check().free == 4


def test_a_deployment_acquires_for_its_targets(site: Site, tmp_path: Path) -> None:
    """Each target gets one license under its own address and name, as long as there are some, the others a reason."""
    product = site.product(5, kind="KEEP")
    with deployer(site, product, tmp_path) as server:
        done = list(server.deploy(targets(7)))
        assert [item.result for item in done] == ["granted"] * 5 + ["no_free_license"] * 2
        assert [item.is_licensed for item in done] == [True] * 5 + [False] * 2
        assert done[5].message
        assert server.check() == (5, 5, 0)
    rows = site.admin.rows("leases", product=product.code)
    assert {(row["mac"], row["host"]) for row in rows} == {
        (parse_mac(target.mac), target.host) for target in targets(5)
    }


def test_redeploying_costs_nothing(site: Site, tmp_path: Path) -> None:
    """A second deployment to the same computers takes no new license, though its product gives none back."""
    product = site.product(2, kind="KEEP")
    with deployer(site, product, tmp_path) as server:
        for result in ("granted", "already_held", "already_held"):
            assert {item.result for item in server.deploy(targets(2))} == {result}
        assert server.check() == (2, 2, 0)


def test_a_wrong_address_is_the_callers_mistake(site: Site, tmp_path: Path) -> None:
    """A MAC address that is none raises ValueError before anything is asked."""
    with (
        deployer(site, site.product(1), tmp_path) as server,
        pytest.raises(ValueError, match="12 hexadecimal digits"),
    ):
        server.acquire(Target("no address", "pc"))


def test_it_goes_on_after_the_server_restarted(tmp_path: Path) -> None:
    """A restart between two targets costs nothing; a server that stays away is an error."""
    with FakeServer({"ASD": 10}) as fake, DeploymentServer(server=fake.address, client_dir=tmp_path) as server:
        assert server.acquire(targets(1)[0]).result == "granted"
        fake.stop()
        fake.start()
        assert server.acquire(targets(2)[1]).result == "granted"
        fake.stop()
        with pytest.raises(ClientError) as error:
            server.check()
        assert error.value.exit_code == 3


def test_the_example_deploys_to_a_hundred(tmp_path: Path) -> None:
    """The example script prints every target with its license or the reason, and a sum."""
    with FakeServer({"ASD": 97}) as fake:
        variables = environment(ALS_CLIENT_DIR=str(tmp_path), ALS_DATA_DIR=os.devnull)
        command = [sys.executable, "-W", "error", str(EXAMPLE), fake.address]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (1, "")
        lines = done.stdout.splitlines()
        assert lines[0] == f"fake ({fake.address}): 97 of 97 licenses free"
        assert lines[2] == "pc-001  00:00:5e:00:53:01  granted          ASD-0000000000000"
        assert lines[-2].startswith("pc-100  00:00:5e:00:53:64  no license: All 97")
        assert lines[-1] == "97 granted, 3 no_free_license"
        fake.seats["ASD"] = 100
        again = subprocess.run(command[:-1], env=variables, capture_output=True, text=True, timeout=60, check=False)
        assert again.stdout.splitlines()[-1] == "97 already_held, 3 granted"
        assert again.returncode == 0
