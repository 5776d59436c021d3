"""The plan of the house: what is private to a package is imported inside it alone, and the pages show the real tree;
no modules import each other in a circle."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
FILES = sorted(SOURCE.rglob("*.py"))
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def imported(text: str) -> Iterator[str]:
    """Dotted names of everything that a module imports from this project."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def trespasses(package: tuple[str, ...], text: str) -> list[str]:
    """What a module of a package imports though it is private to a package that does not hold it."""
    found = []
    for name in imported(text):
        parts = tuple(name.split("."))
        private = next((k for k, part in enumerate(parts) if part.startswith("_") and not part.startswith("__")), None)
        if parts[0] == "closedform" and private is not None and package[:private] != parts[:private]:
            found.append(name)
    return found


def test_a_trespass_is_seen() -> None:
    assert trespasses(("closedform", "optim"), "from closedform.lang._parser import parse") != []
    assert trespasses(("closedform", "optim"), "from closedform.lang import _parser") != []
    assert trespasses(("closedform", "optim"), "import closedform.lang._parser") != []
    assert trespasses(("closedform", "lang"), "from closedform.lang._parser import parse") == []
    assert trespasses(("closedform", "distillation", "fit"), "from closedform.distillation._tidy import tidy") == []
    assert trespasses(("closedform", "optim"), "from closedform._names import lookup") == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_nothing_private_is_imported_from_another_package(path: Path) -> None:
    assert trespasses(path.relative_to(SOURCE).parent.parts, path.read_text(encoding="utf-8")) == []


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def circle(texts: Mapping[str, str]) -> list[str]:
    """Modules that import each other in a circle, wherever in their text and for whatever; empty if there is none.

    Args:
        texts: Name of a module -> its source.
    """
    imports: dict[str, set[str]] = {}
    for module, text in texts.items():
        nearest = (name if name in texts else name.rpartition(".")[0] for name in imported(text))
        imports[module] = {name for name in nearest if name in texts}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_a_circle_is_seen() -> None:
    inside = "def f():\n    from a.c import x"
    assert set(circle({"a.b": inside, "a.c": "from a import d", "a.d": "import a.b"})) == {"a.b", "a.c", "a.d"}
    assert circle({"a.b": inside, "a.c": "if TYPE_CHECKING:\n    from a.b import T"}) != []
    assert circle({"a.b": inside, "a.c": "from a import d", "a.d": "import os"}) == []


def test_no_modules_import_each_other() -> None:
    assert circle({module_name(path): path.read_text(encoding="utf-8") for path in FILES}) == []


def rooms() -> set[str]:
    """Packages below closedform, as paths."""
    packages = (
        path.parent.relative_to(SOURCE / "closedform").as_posix() for path in FILES if path.name == "__init__.py"
    )
    return {name for name in packages if name != "."}


def test_the_architecture_prints_the_tree() -> None:
    """A line for every room, in the order of the layers, and for no other."""
    block = re.search(r"^```\nsrc/closedform/\n(.*?)^```$", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    assert block is not None
    printed: list[str] = []
    for indent, name, text in re.findall(r"^( *)(\w+)/ +(.*)$", block.group(1), re.MULTILINE):
        assert len(text) > 10
        printed.append(name if len(indent) == 2 else f"{printed[-1].split('/')[0]}/{name}")
    assert sorted(printed) == sorted(rooms())


def test_a_constant_of_distillation_has_a_name_of_its_own() -> None:
    """No number is called as another one elsewhere in the room."""
    places: dict[str, list[str]] = {}
    for path in (SOURCE / "closedform" / "distillation").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    for name in ast.walk(target):
                        if isinstance(name, ast.Name) and name.id.isupper() and not name.id.startswith("_"):
                            places.setdefault(name.id, []).append(path.stem)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
