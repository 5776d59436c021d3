"""The documentation says what the code says: generated tables are current, snippets run, links lead somewhere."""

import doctest
import importlib
import pkgutil
import re
from functools import partial
from pathlib import Path

import paper_tables
import pytest

import closedform as cf
from closedform.features import FEATURES
from closedform.lang import OPERATORS
from closedform.learned_optimizers import LEARNED_OPTIMIZERS
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


def network_table() -> str:
    networks = [make() for make in LEARNED_OPTIMIZERS.values()]
    rows = [
        f"| `{n.name}` | {len(n.features)} | {sum(p.numel() for p in n.parameters())} | {n.state_cost} | {n.source} |"
        for n in networks
    ]
    return "\n".join(["| network | features | meta-parameters | state cost | source |", "|---|---|---|---|---|", *rows])


TABLES = {
    "operators": operator_table,
    "features": feature_table,
    "networks": network_table,
    "rules": rule_table,
    **paper_tables.TABLES,
}


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
    for module in pkgutil.walk_packages(cf.__path__, "closedform."):
        if module.name.startswith(("closedform.lang", "closedform.rules", "closedform.optim", "closedform.features")):
            assert doctest.testmod(importlib.import_module(module.name)).failed == 0


def blocks_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.slow
def test_readme_snippets_run(monkeypatch) -> None:
    """As they stand, one after the other; what takes minutes is given small options."""
    tiny = cf.MetaTrainConfig(steps=4, validate_every=2, validation_episodes=1, checkpoint_every=2)
    monkeypatch.setattr(cf, "meta_train", partial(cf.meta_train, config=tiny), raising=False)
    monkeypatch.setattr(cf, "meta_tune", partial(cf.meta_tune, config=tiny), raising=False)
    monkeypatch.setattr(cf, "record", partial(cf.record, steps=30, episodes=4, samples=400), raising=False)
    monkeypatch.setattr(cf, "distill", partial(cf.distill, generations=1, time_limit=2), raising=False)
    small = partial(cf.evaluate, steps=12, seeds=2, baselines=["sgd"])
    monkeypatch.setattr(cf, "evaluate", small, raising=False)
    names: dict[str, object] = {}
    blocks = blocks_of("README.md")
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)  # noqa: S102  (our own page)
    assert isinstance(names["rule"], cf.Rule)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(generated(path.read_text()))
