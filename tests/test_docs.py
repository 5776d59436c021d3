"""The documentation says what the code says: generated tables are current, snippets run, links lead somewhere."""

import doctest
import importlib
import pkgutil
import re
import runpy
import shlex
from functools import partial
from pathlib import Path

import command_pages
import paper_tables
import pytest
from hooks import MAKERS

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
    """To a file, or to a page that is made when the site is built."""
    made = {f"{Path(first).parent}/{name}.md" for first, maker in MAKERS.items() for name in maker.names().values()}
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        there = (page.parent / target).exists() or (page.parent == ROOT / "docs" and target in made | set(MAKERS))
        assert target.startswith("http") or there, target


def test_docstring_examples() -> None:
    for module in pkgutil.walk_packages(cf.__path__, "closedform."):
        if module.name.startswith(("closedform.lang", "closedform.rules", "closedform.optim", "closedform.features")):
            assert doctest.testmod(importlib.import_module(module.name)).failed == 0


def blocks_of(page: str) -> list[str]:
    """A page's Python, without what says that it is not run."""
    found = re.findall(r"(<!-- not run -->\n)?```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    return [text for skipped, text in found if not skipped]


SNIPPETS = {page.name: len(blocks) for page in PAGES[1:] if (blocks := blocks_of(f"docs/{page.name}"))}


def test_pages_with_snippets_are_known() -> None:
    """What is counted here is run below, so a page that loses its Python is noticed."""
    assert (
        SNIPPETS.items()
        >= {"analysis.md": 6, "export.md": 3, "index.md": 3, "extending.md": 4, "sharing.md": 1}.items()
    )
    assert SNIPPETS["training.md"] >= 12
    assert SNIPPETS["language.md"] >= 5


@pytest.mark.parametrize("page", SNIPPETS)
def test_snippets_of_a_page_run_in_order(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.py").write_text("\n".join(blocks_of(f"docs/{page}")))
    runpy.run_path(str(tmp_path / "page.py"))


COMMAND_LINES = [
    line
    for page in PAGES
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", page.read_text(), re.DOTALL)
    for line in block.splitlines()
    if line.startswith("closedform ")
]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_lines_have_commands_and_options_that_exist(line: str) -> None:
    _, *words = shlex.split(line, comments=True)
    command = command_pages.application().commands[words.pop(0)]
    if hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {option for one in command.params for option in [*one.opts, *one.secondary_opts]}
    assert {word.split("=")[0] for word in words if word.startswith("-")} <= known | {"--help"}


def test_rule_files_on_pages_are_valid() -> None:
    found = [text for page in PAGES for text in re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL)]
    assert len(found) >= 4
    for text in found:
        assert f'"format": "{cf.Rule.from_json(text).format}"' in text


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


def test_the_snippet_on_distilling_says_what_it_finds(capsys) -> None:
    for block in blocks_of("docs/distilling.md"):
        exec(compile(block, "docs/distilling.md", "exec"), {})  # noqa: S102  (our own page)
        told = re.findall(r"^print\(.*equation.*\) +# (.*)$", block, re.MULTILINE)
        assert capsys.readouterr().out.splitlines()[: len(told)] == told


def test_tests_that_pages_name_are_there() -> None:
    pages = (page.read_text("utf-8") for page in (ROOT / "docs").glob("*.md"))
    named = {path for page in pages for path in re.findall(r"`(tests/[\w/]+\.py)`", page)}
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(generated(path.read_text()))
