"""Import rules of the architecture: no cycles, and only downward imports (docs/design.md, section 2)."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "sfumato"
LAYERS = {
    "architectures": 0,
    "core": 0,
    "images": 0,
    "networks": 0,
    "data": 1,
    "metrics": 1,
    "models": 1,
    "examples": 2,
    "inversion": 2,
    "geometry": 2,
    "shifts": 2,
    "style": 2,
    "retrieval": 3,
    "editing": 3,
    "options": 3,
    "methods": 4,
    "api": 5,
    "train": 5,
    "bench": 6,
    "testing": 6,
    "cli": 7,
}
"""A subpackage imports only subpackages whose number is not larger than its own."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports(tree: ast.Module, name: str, package: bool) -> set[str]:
    """The modules of sfumato that a file imports, also in functions and for type checkers only.

    For the `__init__.py` of a package only what is imported when it is loaded: the others are names of its own modules,
    which are imported at their first use.
    """
    found: set[str] = set()
    for node in tree.body if package else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= members & set(MODULES) or {node.module}
    return {each for each in found if each in MODULES and each != name}


@cache
def graph() -> dict[str, set[str]]:
    """The imports of every module."""
    return {
        name: imports(ast.parse(path.read_text()), name, path.name == "__init__.py") for name, path in MODULES.items()
    }


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A cycle of imports, or an empty list."""
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for other in sorted(graph[name]):
            if found := visit(other, [*trail, name]):
                return found
        done.add(name)
        return []

    return next((found for name in graph if (found := visit(name, []))), [])


def test_there_are_no_import_cycles():
    assert circle(graph()) == []


def test_import_cycle_is_detected():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    "code",
    [
        "from sfumato.cli import main",
        "import sfumato.cli",
        "def late():\n    from sfumato import cli",
        "if TYPE_CHECKING:\n    from sfumato.cli.parser import Parser",
    ],
)
def test_nested_imports_are_found(code):
    """Imports inside functions and under TYPE_CHECKING are found too."""
    assert any(name.startswith("sfumato.cli") for name in imports(ast.parse(code), "sfumato.api.model", False))


def test_every_subpackage_has_a_layer():
    assert LAYERS.keys() == {name.split(".")[1] for name, path in MODULES.items() if path.parent != ROOT}


@pytest.mark.parametrize("name", [name for name, path in MODULES.items() if path.parent != ROOT])
def test_imports_point_downwards(name):
    own = LAYERS[name.split(".")[1]]
    upward = [each for each in graph()[name] if each.count(".") and LAYERS.get(each.split(".")[1], 0) > own]
    assert upward == []


def test_modules_of_api_import_only_those_before_them_in_the_design():
    """docs/design.md lists every module of `sfumato.api`, in an order in which none imports a later one."""
    text = (ROOT.parent / "docs" / "design.md").read_text()
    listed = re.search(r"each of which imports only earlier ones: ([\w,;\s]+?)\n {6}images/", text)[1]
    order = [f"sfumato.api.{name}" for name in re.findall(r"\w+", listed)]
    assert sorted(order) == sorted(name for name in MODULES if name.startswith("sfumato.api."))
    for n, name in enumerate(order):
        assert not graph()[name] & set(order[n:]), name
