"""What the tests themselves must keep to, so that they hold on any machine and in any order."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parent
FILES = sorted(TESTS.rglob("*.py"))
CLOCKS = {"time", "monotonic", "perf_counter", "process_time", "thread_time"}


def reads_a_clock(node: ast.AST) -> bool:
    """Whether an assertion is about time.monotonic() or one of its kind, and not about what is called with it."""
    if isinstance(node, ast.Call):
        place = node.func
        return (
            isinstance(place, ast.Attribute)
            and place.attr.removesuffix("_ns") in CLOCKS
            and isinstance(place.value, ast.Name)
            and place.value.id == "time"
        )
    return any(map(reads_a_clock, ast.iter_child_nodes(node)))


def places(path: Path, kind: type[ast.AST]) -> list[tuple[str, ast.AST]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(f"{path.relative_to(TESTS)}:{node.lineno}", node) for node in ast.walk(tree) if isinstance(node, kind)]  # type: ignore[attr-defined]


def test_the_clock_is_seen() -> None:
    assert reads_a_clock(ast.parse("assert time.monotonic() - start < 20"))
    assert reads_a_clock(ast.parse("assert time.perf_counter_ns() < 3"))
    assert not reads_a_clock(ast.parse("assert entry.time() < 3"))
    assert not reads_a_clock(ast.parse("assert search(until=time.monotonic() + 60) == []"))


def test_no_test_asserts_how_long_something_takes() -> None:
    assert [place for path in FILES for place, node in places(path, ast.Assert) if reads_a_clock(node)] == []


def test_no_conftest_defines_a_class() -> None:
    """All are the module ``conftest``, one in place of another: what they define cannot be pickled."""
    assert [place for path in FILES if path.name == "conftest.py" for place, _ in places(path, ast.ClassDef)] == []


def test_names_of_files_are_unique() -> None:
    """Folders of tests are no packages, so that one file would hide another of its name."""
    counts = Counter(path.name for path in FILES if path.name != "conftest.py")
    assert [name for name, count in counts.items() if count > 1] == []
