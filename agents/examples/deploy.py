"""Deploy to 100 pretended computers and print who got a license: a deployment server in fifty lines.

    python deploy.py [SERVER]        the server must know the product ASD and have seats of it

The key that it prints should have the role `deployer`: als admins SERVER add KEY NAME deployer
"""

# ruff: noqa: T201 - printing is what it is for

import sys
from collections import Counter

from als_agents import DeploymentServer
from als_agents.deployment import Target
from als_agents.errors import ClientError

TARGETS = [
    Target(mac=f"00:00:5e:00:53:{number:02x}", host=f"pc-{number:03}", address=f"192.0.2.{number}")
    for number in range(1, 101)
]


def main(server: str | None = None) -> int:
    """Check, deploy, and say how it went. Gives 1 when a computer got no license, 3 without a server."""
    try:
        with DeploymentServer("ASD", "deployment", server=server) as deployment_server:
            return deploy(deployment_server)
    except ClientError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def deploy(deployment_server: DeploymentServer) -> int:
    """Deploy to all targets; each that has no license is left out."""
    seats = deployment_server.check()  # takes none, and keeps the server for the next time
    print(f"{deployment_server.server}: {seats.free} of {seats.total} licenses free")
    print(f"this deployment server's key: {deployment_server.key}, role: {deployment_server.role().text}")
    results: Counter[str] = Counter()
    for deployment in deployment_server.deploy(TARGETS):
        target, lease = deployment.target, deployment.lease
        got = f"{deployment.result:<16} {lease['serial_id'] if lease else 'needs none'}"
        if not deployment.is_licensed:
            got = f"no license: {deployment.message}"
        print(f"{target.host}  {target.mac}  {got}")
        results[deployment.result] += 1
    print(", ".join(f"{count} {result}" for result, count in results.items()))
    return 0 if results.keys() <= {"granted", "already_held", "not_counted"} else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
