"""The rules that a document cannot keep: who imports whom, who reads the clock, how long a function may be."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("als", "agents/als_agents", "tools/als_tools", "bench/als_bench")
SOURCES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 450

SHARED = {  # the pure modules of als that clients use too
    "als",
    "als.beacon",
    "als.catalog",
    "als.clock",
    "als.crockford",
    "als.extras",
    "als.files",
    "als.folders",
    "als.keyfile",
    "als.protocol",
    "als.serial",
    "als.serialtext",
    "als.streams",
    "als.tomlplace",
    "als.vendorkeys",
}
PURE = {f"als.{name}" for name in ("protocol", "beacon", "guard", "records", "fields", "computer", "event")}
BASE_ONLY = {"zmq", "msgpack", "psutil", "platformdirs", "cryptography", "als", "als_agents"}


def name_of(path: Path) -> str:
    """Give a source's module name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    start = next(place for place, part in enumerate(parts) if part.startswith("als"))
    return ".".join(parts[start:]).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Give every module that a source imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{path}: relative imports hide the direction"
            for alias in node.names:
                inner = ROOT / node.module.replace(".", "/") / f"{alias.name}.py"
                yield f"{node.module}.{alias.name}" if node.module == "als" and inner.exists() else node.module


def allowed(module: str, imported: str) -> bool:
    """Say whether one module may import another."""
    top = imported.split(".")[0]
    if module.split(".")[0] == "als" and top.startswith("als_"):
        return False
    if module.startswith("als_agents"):
        if top == "als":
            return imported in SHARED
        return top not in ("als_tools", "als_bench") and (top in BASE_ONLY or top in sys.stdlib_module_names)
    if module.startswith("als_tools"):
        return top != "als_bench" and (top != "als" or imported in SHARED)
    return not (module.startswith("als_bench") and top == "als_tools")


def keeps_engine(module: str, imported: str) -> bool:
    """Say whether a library stays in the few modules that are its place."""
    top = imported.split(".")[0]
    if top == "lmdb":
        return module.startswith("als.store.lmdb.")
    if top in ("grpc", "google"):
        return module.startswith("als.store.etcd")
    if top in ("rich", "textual"):
        return module.startswith("als_tools")
    if top == "zmq":
        return module.startswith(("als.server", "als_agents", "als_bench")) or module == "als.keyfile"
    if module in PURE or module.startswith("als.ledger"):
        return top not in ("socket", "time", "logging", "random", "os", "threading", "secrets")
    return True


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_point_one_way(path: Path) -> None:
    """Each package imports only what lies below it, and each engine's library stays in its place."""
    module = name_of(path)
    for imported in imports(path):
        assert allowed(module, imported), f"{module} must not import {imported}"
        assert keeps_engine(module, imported), f"{module} is no place for {imported}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_sources_stay_small_and_explained(path: Path) -> None:
    """Every file says what it knows, none is too long to read, and no function is."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{path} has no docstring"
    assert text.count("\n") <= FILE_LINES_MAX, f"{path} hides a second noun"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{path}:{node.lineno} {node.name} has {length} lines"
