"""The documentation says what the code says: generated tables are current, snippets run, links lead somewhere."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import closedform
from closedform.features import FEATURES
from closedform.lang import OPERATORS
from closedform.rules import library_names, load_rule

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def operator_table() -> str:
    rows = [
        f"| `{f'x {row.symbol} y' if row.symbol and row.arity == 2 else row.symbol or row.name}` "
        f"| {row.meaning.replace('|', chr(92) + '|')} | {row.domain.replace('|', chr(92) + '|')} |"
        for row in OPERATORS.values()
    ]
    return "\n".join(["| operator | meaning | domain |", "|---|---|---|", *rows])


def feature_table() -> str:
    rows = [f"| `{f.name}` | {f.meaning.replace('|', chr(92) + '|')} | {f.source} |" for f in FEATURES.values()]
    return "\n".join(["| feature | definition | source |", "|---|---|---|", *rows])


def rule_table() -> str:
    rules = [load_rule(name) for name in library_names()]
    rows = [f"| `{r.name}` | {r.state_cost} | {r.complexity} | {r.provenance['source']} |" for r in rules]
    return "\n".join(["| rule | state cost | complexity | source |", "|---|---|---|---|", *rows])


TABLES = {"operators": operator_table, "features": feature_table, "rules": rule_table}


def generated(text: str) -> str:
    for name, table in TABLES.items():
        pattern = re.compile(rf"(<!-- {name}:.*?-->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda match, table=table: f"{match[1]}{table()}\n{match[2]}", text)
    return text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_tables_are_current(page: Path) -> None:
    """To rewrite them: python tests/test_docs.py."""
    text = page.read_text()
    assert generated(text) == text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert target.startswith("http") or (page.parent / target).exists(), target


def test_docstring_examples() -> None:
    for module in pkgutil.walk_packages(closedform.__path__, "closedform."):
        if module.name.startswith(("closedform.lang", "closedform.rules", "closedform.optim", "closedform.features")):
            assert doctest.testmod(importlib.import_module(module.name)).failed == 0


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(generated(path.read_text()))
