"""The gallery's scripts run, are short, and tell what their text says they tell."""

from __future__ import annotations

import re
from pathlib import Path

import gallery_pages
import pytest
from gallery_pages import SCRIPTS, outcome, slug
from run_gallery import cells

pytestmark = pytest.mark.xdist_group("site")  # what they print is kept, and goes into the site


@pytest.mark.parametrize("script", SCRIPTS, ids=slug)
def test_scripts_are_short_notebooks(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 80
    (heading, _), *others = [(body, code) for code, body in cells(text)]
    assert heading.startswith("# ")
    assert any(code for _, code in others)
    assert any(not code for _, code in others)


def test_cells_are_told_apart() -> None:
    text = "# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\nx = 1\n\n\n# %%\nprint(x)\n"
    assert cells(text) == [(False, "# Title\n\nText."), (True, "x = 1"), (True, "print(x)")]


def printed(name: str) -> str:
    (script,) = [one for one in SCRIPTS if slug(one) == name]
    return "".join(one["printed"] for one in outcome(script)["cells"])


def losses(text: str) -> dict[str, float]:
    """What is printed of each entrant, by name."""
    found = re.findall(r"^(.+?) +(?:lr \S+ +)?(?:final |last 20 )?loss(?:es)? ([\d.]+)", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=slug)
def test_scripts_run_and_draw(script: Path) -> None:
    found = outcome(script)
    assert sum(len(one["pictures"]) for one in found["cells"]) >= 1
    assert any(one["printed"] for one in found["cells"])
    assert gallery_pages.page(script).count("<svg") >= 1


@pytest.mark.slow
def test_a_rule_is_what_it_was_and_cf1_needs_no_rate() -> None:
    found = losses(printed("switch-to-a-rule"))
    assert found["torch.optim.Adam"] == pytest.approx(found["rule adam"], rel=1e-2)
    assert found["rule cf1"] < found["rule adam"]


@pytest.mark.slow
def test_an_optimizer_is_recognised() -> None:
    text = printed("discover-an-optimizer")
    assert text.startswith("exact: adamw with lr 0.003, beta1 0.8")
    assert "\nunlike any known optimizer that was tried: the nearest, signum" in text


@pytest.mark.slow
def test_an_equation_stands_in_for_its_network() -> None:
    text = printed("distil-a-network")
    found = losses(text)
    assert max(float(value) for value in re.findall(r"R² ([\d.]+)", text)) > 0.95
    assert found["rule"] < found["SGD"]


@pytest.mark.slow
def test_what_is_learned_or_tuned_is_better_than_what_it_was() -> None:
    own = losses(printed("your-own-task-and-network"))
    assert own["tiny"] < 0.5 * own["untrained"]
    tuned = losses(printed("tune-a-rule-online"))
    assert max(tuned["meta-tuned"], tuned["evolved"]) < 0.1 * tuned["as it was"]


@pytest.mark.slow
def test_the_law_is_found() -> None:
    text = printed("regress-a-table")
    assert "sqrt(" in text
    assert float(re.search(r"test rows: ([\d.]+)", text)[1]) > 0.999
