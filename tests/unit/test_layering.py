"""Imports go downward only: the layers of the architecture, read from the sources.

An `import` counts wherever it stands, under TYPE_CHECKING too; so do the cimports of Cython files. A layer may use
every layer below it; the packages of one layer never use each other. hv.errors is for everybody.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from guest_kit import ROOT

import hv

LAYERS = (
    ("cli",),  # the commands show what debug and testing do
    ("bench",),  # it measures what testing compares
    ("debug", "testing"),
    ("machine",),
    ("hypercalls", "backends", "builder", "trace"),
    ("engine", "core"),
    ("fastpath",),
    ("abi",),
)
HEIGHT = {package: -height for height, packages in enumerate(LAYERS) for package in packages}
CIMPORT = re.compile(r"^\s*(?:from\s+(hv[\w.]*)\s+(?:c?import)|c?import\s+(hv[\w.]*))", re.MULTILINE)


def sources() -> list[str]:
    return sorted(
        str(path.relative_to(ROOT))
        for kind in ("py", "pyx", "pxd")
        for path in (ROOT / "hv").rglob(f"*.{kind}")
        if len(path.relative_to(ROOT).parts) > 2
    )


def imported(source: str) -> Iterator[str]:
    """The hv modules that a file names in imports."""
    text = (ROOT / source).read_text(encoding="utf-8")
    if not source.endswith(".py"):
        yield from (a or b for a, b in CIMPORT.findall(text))
        return
    package = source.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: -node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def packages_used(source: str) -> set[str]:
    parts = (name.split(".") for name in imported(source))
    return {names[1] for names in parts if names[0] == "hv" and len(names) > 1}


@pytest.mark.parametrize("source", sources())
def test_imports_go_downward(source: str) -> None:
    own = source.split("/")[1]
    for used in packages_used(source) & HEIGHT.keys() - {own}:
        assert HEIGHT[used] < HEIGHT[own], f"{source} imports hv.{used}"


@pytest.mark.parametrize("source", [source for source in sources() if source.split("/")[1] in HEIGHT])
def test_nobody_imports_the_public_surface(source: str) -> None:
    """What hv re-exports lives in the layers above: only its users take it from there."""
    surface = {f"hv.{name}" for name in hv.__all__ if not name.startswith("_")}
    assert not surface & set(imported(source)), source


def test_every_package_has_its_layer() -> None:
    packages = {source.split("/")[1] for source in sources()}
    assert packages <= HEIGHT.keys() | {"guests", "firmware"}


def test_unicorn_stays_in_the_engine() -> None:
    for source in sources():
        text = (ROOT / source).read_text(encoding="utf-8")
        if not source.startswith("hv/engine/"):
            assert not re.search(r"\b(uc_\w+\(|cimport unicorn|import unicorn)", text), source


def test_the_table_can_find_a_violation() -> None:
    """The reader of imports sees relative ones, those under TYPE_CHECKING, and cimports."""
    assert "machine" in packages_used("hv/cli/run.py")
    assert "engine" in packages_used("hv/machine/domain.py")
    assert "fastpath" in packages_used("hv/engine/machine.pyx")
    assert any("hv.engine.unicorn" in name for name in imported("hv/engine/cpu.pyx"))
