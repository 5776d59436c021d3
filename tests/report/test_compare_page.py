"""The page of a comparison holds what was found, in pictures that are told in words too, and loads nothing."""

import re

import pytest

from closedform.analysis import compare
from closedform.analysis.comparison import Map
from closedform.report import comparison_figures, comparison_html, write_comparison
from closedform.report._compare_plots import described
from closedform.rules import Rule


@pytest.fixture(scope="module")
def page() -> str:
    sly = Rule.parse("<script>", "-g")
    return comparison_html(compare(["sgd", "adam", "lion", "rp-s", sly], steps=20))


def test_it_has_a_section_for_each_question(page: str) -> None:
    for name in ("overview", "map", "equations", "memory", "answers", "certificates", "words"):
        assert f'<section id="{name}">' in page
    assert page.count("<math") > 10


def test_it_loads_nothing_and_runs_nothing(page: str) -> None:
    assert re.findall(r'(?:src|href)="(?!#)', page) == []
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert len(page) < 2**20


def test_every_picture_is_told_in_words(page: str) -> None:
    pictures = re.findall(r"<svg[^>]*>", page)
    assert len(pictures) == 3
    assert all('role="img"' in picture and len(picture) > 100 for picture in pictures)
    assert "sgd is nearest to" in page


def test_the_map_in_words() -> None:
    found = Map(("a", "b", "c"), ((0, 1, 0.5), (1, 0, 2), (0.5, 2, 0)), (0, 1, 2), (0, 0, 0), 1.0)
    assert described(found) == (
        "Map of optimizers. a is nearest to c, at 0.50; b is nearest to a, at 1.00; c is nearest to a, at 0.50."
    )


def test_one_alone_has_no_map(tmp_path) -> None:
    path = write_comparison(tmp_path / "page.html", compare(["sgd"], steps=10))
    assert '<section id="map">' not in path.read_text(encoding="utf-8")


def test_plots_for_another_page() -> None:
    alone = comparison_figures(compare(["adam"], steps=20))
    assert set(alone) == {"memory", "answers"}
    several = comparison_figures(compare(["adam", "sgd"], steps=20))
    assert set(several) == {"memory", "answers", "map"}
    for svg, caption in several.values():
        assert svg.startswith("<svg")
        assert "var(--ink)" in svg
        assert caption.endswith(".")
