"""What several test modules share for a whole run: compiled code, the order of the files, and one member of etcd.

The member is started when the first test asks for it.
"""

import compileall
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings

import etcd_nodes
from long_files import long_first

# Whatever else the machine does, a test fails for what is wrong and never for how long it took.
settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")

_NUMBERS = count()
_CODE = ("als", "agents/als_agents", "tools/als_tools", "bench/als_bench")


def pytest_configure(config: pytest.Config) -> None:
    """Compile what hundreds of processes will load, and keep our order of the files on several cores.

    Where PYTHONDONTWRITEBYTECODE is set, each start would compile anew, a quarter of its time. And xdist would begin
    the files with few tests last, which are the longest.
    """
    _heed_signals()
    if hasattr(config, "workerinput"):
        return
    for folder in _CODE:
        compileall.compile_dir(Path(__file__).parent.parent / folder, quiet=2)
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def _heed_signals() -> None:
    """Let ctrl-C and a hung-up terminal mean something again, for us and all that we start.

    What runs under nohup or in a script's background ignores them, and so would every program that a test interrupts.
    """
    usual = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL, "SIGQUIT": signal.SIG_DFL}
    for name, handler in usual.items():
        number = getattr(signal, name, None)  # Windows has only the first
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


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
