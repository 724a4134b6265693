"""The data folder's catalog: parsed when a file has changed, and not at every look."""

from pathlib import Path

from als.server.datadir import DataDir

PRODUCT = """
[products.NEW]
number = 77
name = "{name}"
counts = "servers"
period = "30d"
heartbeat = "1h"
reusable = true
[products.NEW.components.agent]
name = "Agent"
"""


def test_catalog_is_parsed_again_only_when_changed(tmp_path: Path) -> None:
    """The same files give the same catalog; a new, a changed and a removed file are seen at the next look."""
    data = DataDir(tmp_path)
    data.make()
    first = data.read_catalog(True)
    assert data.read_catalog(True) is first
    file = data.catalog / "new.toml"
    file.write_text(PRODUCT.format(name="Old"), encoding="utf-8")
    assert data.read_catalog(True).by_code["NEW"].name == "Old"
    file.write_text(PRODUCT.format(name="Newer"), encoding="utf-8")
    assert data.read_catalog(True).by_code["NEW"].name == "Newer"
    file.unlink()
    assert "NEW" not in data.read_catalog(True).by_code
