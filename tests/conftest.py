"""What several test modules share for a whole run: compiled code, the order of the files, and one member of etcd.

The member is started when the first test asks for it.
"""

import compileall
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

import etcd_nodes
from long_files import long_first

_NUMBERS = count()
_CODE = ("als", "agents/als_agents", "tools/als_tools", "bench/als_bench")


def pytest_configure(config: pytest.Config) -> None:
    """Compile what hundreds of processes will load, and keep our order of the files on several cores.

    Where PYTHONDONTWRITEBYTECODE is set, each start would compile anew, a quarter of its time. And xdist would begin
    the files with few tests last, which are the longest.
    """
    if hasattr(config, "workerinput"):
        return
    for folder in _CODE:
        compileall.compile_dir(Path(__file__).parent.parent / folder, quiet=2)
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    items.sort(key=lambda item: long_first(item.path))


@pytest.fixture(scope="session")
def etcd_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of an etcd of one member; tests stay apart by their key prefix."""
    if etcd_nodes.MISSING:
        pytest.skip(etcd_nodes.MISSING)
    with etcd_nodes.Cluster(tmp_path_factory.mktemp("etcd")) as cluster:
        yield cluster.endpoints[0]


@pytest.fixture
def etcd_prefix() -> bytes:
    """Give a prefix of keys that no other test uses."""
    return b"test/%d/" % next(_NUMBERS)
