"""The pages for people who train and who write rules run as they are written."""

import re
import runpy
from pathlib import Path

import pytest

from closedform import Rule

DOCS = Path(__file__).parents[2] / "docs"


def run(page: str, folder: Path) -> int:
    """Run a page's Python blocks in order; how many there are."""
    found = re.findall(r"(<!-- not run -->\n)?```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)
    blocks = [text for skipped, text in found if not skipped]
    script = folder / "page.py"
    script.write_text("\n".join(blocks))
    runpy.run_path(str(script))
    return len(blocks)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_training(tmp_path: Path) -> None:
    assert run("training.md", tmp_path) >= 6
    assert (tmp_path / "optimizer.pt").exists()
    assert (tmp_path / "evolved" / "rule.json").exists()


@pytest.mark.parametrize(("page", "blocks"), [("language.md", 5), ("export.md", 3)])
def test_the_language_and_exports(page: str, blocks: int, tmp_path: Path) -> None:
    assert run(page, tmp_path) >= blocks


@pytest.mark.parametrize("page", ["language.md", "concepts.md"])
def test_rule_files_on_a_page_are_valid(page: str) -> None:
    files = re.findall(r"```json\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)
    rules = [Rule.from_json(text) for text in files]
    assert rules
    for text, rule in zip(files, rules, strict=True):
        assert f'"format": "{rule.format}"' in text
