from __future__ import annotations

import dataclasses
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from closedform.analysis import Response, ResponseCurves
from closedform.errors import OutputError
from closedform.evaluation import Evaluation, EvaluationOptions, evaluate, headline
from closedform.report import ReportData, RunInfo, report_html, write_report
from closedform.rules import Rule, load_rule

BEFORE = Rule.parse("distilled", "-0.1*tanh(2.5*m)", state={"m": "b*m + (1 - b)*g"}, constants={"b": 0.9})
AFTER = Rule.parse(
    "tuned", "c1*tanh(c2*m)", state={"m": "b*m + (1 - b)*g"}, constants={"b": 0.95, "c1": -0.2, "c2": 2.5}, lr=1.5
)
SECTIONS = (
    "meta-training", "hall-of-fame", "meta-tuning", "evolution", "equation", "responses", "comparison",
    "learning-rates", "run",
)  # fmt: skip
VOID = {"meta", "link", "img", "br", "hr", "input", "mrow/"}


class Page(HTMLParser):
    """Checks nesting, and collects ids, links, sections and pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.sections: list[str] = []
        self.pictures: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.take(tag, dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.take(tag, dict(attrs))

    def take(self, tag: str, attrs: dict[str, str | None]) -> None:
        self.tags.append(tag)
        self.ids += [attrs["id"]] if attrs.get("id") else []
        self.references += [str(attrs[key]) for key in ("href", "src", "action", "data") if attrs.get(key)]
        if tag == "section":
            self.sections.append(str(attrs["id"]))
        if tag == "svg":
            self.pictures.append(attrs.get("aria-label") or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    options = EvaluationOptions(workers=1, tuning_seeds=1, tail=5, resamples=199)
    optimizers = {"tuned rule": load_rule("lion"), "wild": dataclasses.replace(load_rule("sgd"), lr=1e20)}
    return evaluate(optimizers, ["quadratic"], steps=25, seeds=4, baselines=("sgd", "adam"), options=options)


@pytest.fixture(scope="module")
def whole(evaluation: Evaluation) -> ReportData:
    hall = [
        SimpleNamespace(rule=BEFORE, error=0.05, complexity=12, state_cost=1),
        SimpleNamespace(rule=load_rule("sgd"), error=0.4, complexity=2, state_cost=0),
    ]
    records = [{"step": 0, "validation": 2.0}]
    records += [{"step": k, "meta_loss": 1.0 - k, "validation": 1 / k if k % 50 == 0 else None} for k in range(1, 101)]
    view = Response("m_tilde", (-1.0, 0.0, 1.0), (1.0, 0.0, -1.0), ((0.5, -0.5, -1.5), (1.5, 0.5, -0.5)), {}, {})
    lines = {"distilled": (0.9, 0.0, -0.9)}
    views = (
        dataclasses.replace(view, rules=lines, shapes=lines),
        dataclasses.replace(view, input="gradient", band=None),
    )
    return ReportData(
        title="Title <with> & marks",
        evaluation=evaluation,
        subject="tuned rule",
        meta_training=records,
        meta_tuning=records,
        evolution=[{"generation": k, "score": 1.0 - k, "validation": -k if k % 2 == 0 else None} for k in range(1, 6)],
        hall=hall,
        chosen=BEFORE,
        rule=AFTER,
        before=BEFORE,
        responses=ResponseCurves(views, {"distilled": 0.93}, 1234),
        run=RunInfo("closedform run <x>", {"steps": 3}, {"all": 0}, {"torch": "2"}, {"train": 75.0}, "a machine"),
    )


@pytest.fixture(scope="module")
def html(whole: ReportData) -> str:
    return report_html(whole)


def test_all_sections_are_there_in_order_and_well_formed(html: str) -> None:
    page = Page(html)
    assert tuple(page.sections) == SECTIONS
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert html.startswith("<!DOCTYPE html>")


def test_nothing_is_loaded_from_anywhere(html: str) -> None:
    page = Page(html)
    assert "http" not in html.replace("http-equiv", "")
    assert not {"link", "img", "iframe", "object", "image"} & set(page.tags)
    assert all(reference.startswith("#") for reference in page.references)
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert "@import" not in html
    assert "url(#" in html
    assert html.count("url(") == html.count("url(#")


def test_every_picture_says_what_it_shows(html: str) -> None:
    pictures = Page(html).pictures
    assert len(pictures) == 8
    assert all(len(text) > 40 for text in pictures)


def test_colours_follow_the_theme(html: str) -> None:
    assert "var(--own-1)" in html
    assert "prefers-color-scheme: dark" in html
    for stand_in in ("#a0000", "#b0000", "#01010", "#02020"):
        assert stand_in not in html


def test_what_was_found_is_told(html: str, evaluation: Evaluation) -> None:
    assert headline(evaluation, "tuned rule")[0].text.replace("&", "&amp;") in html
    assert "diverged 4/4" in html
    assert "Title &lt;with&gt; &amp; marks" in html
    assert "closedform run &lt;x&gt;" in html
    assert "1\N{NO-BREAK SPACE}min 15\N{NO-BREAK SPACE}s" in html
    assert "\\begin{aligned}" in html
    assert "R² = 0.930" in html
    for value in ("0.9", "0.95", "−0.1", "−0.2", "+50.0\N{NO-BREAK SPACE}%"):
        assert f">{value}<" in html


def test_a_part_that_is_none_has_no_section(whole: ReportData) -> None:
    assert Page(report_html(ReportData())).sections == []
    assert Page(report_html(ReportData(rule=BEFORE))).sections == ["equation"]
    without = ReportData(hall=whole.hall, run=whole.run)
    assert Page(report_html(without)).sections == ["hall-of-fame", "run"]


def test_records_without_validation_or_at_all(whole: ReportData) -> None:
    records = [{"step": 1, "meta_loss": 0.5}, {"step": 2, "meta_loss": None}]
    assert "2 meta-steps" in report_html(ReportData(meta_training=records))
    assert "Nothing was recorded" in report_html(ReportData(meta_training=[]))


def test_report_is_written(whole: ReportData, html: str, tmp_path: Path) -> None:
    path = write_report(tmp_path / "new" / "report.html", whole)
    assert path.read_text(encoding="utf-8") == html  # the same data give the same report, byte for byte
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_report(tmp_path / "file" / "report.html", ReportData(rule=BEFORE))


def test_several_tasks_are_put_together() -> None:
    options = EvaluationOptions(workers=1, tuning_seeds=1, tail=5, resamples=199)
    optimizers = {"mine": load_rule("lion"), "wild": dataclasses.replace(load_rule("sgd"), lr=1e20)}
    names = ["quadratic", "quadratic-10"]
    found = evaluate(optimizers, names, steps=25, seeds=2, baselines=("sgd",), options=options)
    page = Page(report_html(ReportData(evaluation=found)))
    assert page.sections == ["comparison", "all-tasks", "learning-rates"]
    assert any(text.startswith("Performance profile") and "SGD is best on 100%" in text for text in page.pictures)
    html = report_html(ReportData(evaluation=found))
    assert ">untuned<" in html
    assert ">100 (quadratic)<" in html
    assert ">1.00 [1.00, 1.00]<" in html
