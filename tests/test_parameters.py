"""What a client keeps of its servers and of the catalog between two runs."""

import stat
from pathlib import Path
from typing import Any

import pytest

from als_agents.parameters import ComponentFacts, Parameters, ParametersFile, StoredServer

KEY = bytes(range(32))
FIRST = StoredServer("alpha", 9876, KEY, "id-1", "main")
SECOND = StoredServer("::1", 7000, KEY[::-1])


def products(works_offline: bool = True) -> list[dict[str, Any]]:
    """What hello says of one product with two components."""
    components = [
        {"code": "agent", "name": "Agent", "licensed": True, "works_offline": False},
        {"code": "local-console", "name": "Console", "licensed": True, "works_offline": works_offline},
        {"code": "management-console", "name": "", "licensed": False, "works_offline": False},
    ]
    return [{"code": "ATIES", "name": "True Image", "components": components}]


def stored(tmp_path: Path) -> ParametersFile:
    return ParametersFile(tmp_path / "client" / "parameters.json")


def test_nothing_stored_is_empty(tmp_path: Path) -> None:
    """Without a file there are no servers, and no component is known to work offline."""
    parameters = stored(tmp_path).read()
    assert parameters == Parameters() and not parameters.works_offline("ATIES", "local-console")


def test_chosen_servers_are_kept_in_order(tmp_path: Path) -> None:
    """Servers come back as they were chosen; choosing again replaces them."""
    stored(tmp_path).choose_servers([SECOND, FIRST])
    assert stored(tmp_path).read().servers == (SECOND, FIRST)
    stored(tmp_path).choose_servers([FIRST])
    assert stored(tmp_path).read().servers == (FIRST,)


def test_file_is_the_users_alone(tmp_path: Path) -> None:
    """The file has mode 0600."""
    file = stored(tmp_path)
    file.choose_servers([FIRST])
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_catalog_facts_outlive_the_server(tmp_path: Path) -> None:
    """What a hello told of components is there at the next start, beside the chosen servers."""
    stored(tmp_path).choose_servers([FIRST])
    stored(tmp_path).remember_catalog(products())
    parameters = stored(tmp_path).read()
    assert parameters.works_offline("ATIES", "local-console")
    assert not parameters.works_offline("ATIES", "agent")
    assert parameters.components["ATIES", "management-console"] == ComponentFacts(False, False)
    assert parameters.servers == (FIRST,)


def test_catalog_facts_follow_the_catalog_and_keep_other_products(tmp_path: Path) -> None:
    """A later hello corrects what it speaks of and leaves the rest."""
    file = stored(tmp_path)
    file.remember_catalog(products())
    file.remember_catalog([{"code": "X", "components": [{"code": "y", "works_offline": True}]}])
    file.remember_catalog(products(works_offline=False))
    parameters = file.read()
    assert not parameters.works_offline("ATIES", "local-console") and parameters.works_offline("X", "y")


def test_catalog_that_is_known_writes_nothing(tmp_path: Path) -> None:
    """The same hello again leaves the file alone."""
    file = stored(tmp_path)
    file.remember_catalog(products())
    before = file.path.stat().st_ino
    file.remember_catalog(products())
    assert file.path.stat().st_ino == before


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"format": 1, "servers": [1], "components": []}',
        '{"format": 1, "servers": [], "components": [{"product": 1}]}',
        '{"format": 1, "servers": [{"host": "a", "port": 0, "key": "", "server_id": "", "name": ""}]}',
    ],
)
def test_damaged_file_is_set_aside(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged file is kept under another name with a warning, and is not fatal."""
    file = stored(tmp_path)
    file.path.parent.mkdir()
    file.path.write_text(content)
    assert file.read() == Parameters()
    assert "damaged" in caplog.text and len(list(file.path.parent.glob("*.damaged-*"))) == 1
