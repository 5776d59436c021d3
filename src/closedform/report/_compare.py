"""The page of a comparison: optimizers side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import Markup, escape

from closedform._files import write_text
from closedform.analysis import Comparison, ComparisonRow, Portrait
from closedform.evaluation import Evaluation
from closedform.report._compare_plots import Line, View, map_plot, overlaid
from closedform.report._equations import rule_mathml
from closedform.report._page import Block, Equations, Figure, Heading, Row, Section, Table, TableColumn, Text, page_html
from closedform.report._plots import loss_curves

_NONE = "–"


def write_comparison(path: str | Path, comparison: Comparison, evaluation: Evaluation | None = None) -> Path:
    """Write the page, atomically: one HTML file with its plots inside, which loads nothing from anywhere.

    Args:
        path: The HTML file.
        comparison: From `closedform.analysis.compare`.
        evaluation: The same optimizers at work, whose loss curves are shown too.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(Path(path), comparison_html(comparison, evaluation))
    return Path(path)


def comparison_html(comparison: Comparison, evaluation: Evaluation | None = None) -> str:
    """The page's text."""
    names = [row.name for row in comparison.rows]
    lead = (
        f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    ) + f", side by side. Common gradients are those that Adam met in {comparison.steps} steps on {comparison.task}."
    sections = [
        Section("overview", "At a glance", _overview(comparison.rows)),
        *([Section("map", "A map", _map(comparison))] if comparison.map else []),
        Section("equations", "Equations", _equations(comparison.rows)),
        Section("memory", "How far back they look", _memory(comparison.rows)),
        Section("answers", "How they answer", _answers(comparison.rows)),
        *_losses(evaluation),
        Section("certificates", "What is certain", _certificates(comparison.rows)),
        Section("words", "In words", _words(comparison.rows)),
    ]
    return page_html("Optimizers, side by side", [Text(lead)], [section for section in sections if section.blocks])


def comparison_figures(comparison: Comparison) -> dict[str, tuple[str, str]]:
    """The page's plots for another page: section -> an ``<svg>`` element in the page's colours, and its caption.

    Args:
        comparison: From `closedform.analysis.compare`.
    """
    sections = {"memory": _memory(comparison.rows), "answers": _answers(comparison.rows)}
    if comparison.map:
        sections["map"] = _map(comparison)
    found = {name: block for name, blocks in sections.items() for block in blocks if isinstance(block, Figure)}
    return {name: (figure.svg, figure.caption) for name, figure in found.items()}


def _overview(rows: Sequence[ComparisonRow]) -> list[Block]:
    headings = (
        "optimizer",
        "kind",
        "nodes",
        "state cost",
        "looks back",
        "averages over",
        "step grows as",
        "saturates at",
    )
    columns = [TableColumn(heading, "" if k < 2 else "number") for k, heading in enumerate(headings)]
    cells: list[Row] = [("", _glance(row)) for row in rows]
    caption = (
        "Nodes: operators, constants and names of a rule. State cost: buffers a parameter. Looks back: "
        "temporal perception field of the gradient, in steps. Averages over: gradients, against white noise. "
        "Step goes as: power of the gradient's size, if it is one. Saturates at: deviations of the gradient from "
        "which the answer is less than half as steep."
    )
    return [Table(columns, cells, caption, "wide")]


def _glance(row: ComparisonRow) -> list[str | Markup]:
    name = Markup("{}<small>{}</small>").format(row.name, row.problem) if row.problem else escape(row.name)
    seen = row.portrait
    return [
        name,
        row.kind,
        _NONE if row.complexity is None else str(row.complexity),
        f"{row.state_cost:g}",
        _NONE if row.perception is None else row.perception.gradient.told,
        _NONE if seen is None or seen.spectrum is None else f"{seen.spectrum.averaging:.3g}",
        _NONE if seen is None or math.isnan(seen.answers.scale_power) else _power(seen.answers.scale_power),
        _NONE if seen is None or not math.isfinite(seen.answers.saturation) else f"{seen.answers.saturation:.2g}",
    ]


def _power(exponent: float) -> str:
    return f"|g|^{round(exponent, 2) + 0.0:g}"


def _map(comparison: Comparison) -> list[Block]:
    found = comparison.map
    assert found is not None
    ranks = [k for name in found.names for k, row in enumerate(comparison.rows) if row.name == name]
    caption = (
        "Near each other are optimizers that answer alike to the same gradients: the distance is sqrt(2 - 2c), c the "
        "mean cosine between their updates, whatever their learning rates; sqrt(2) is unrelated. Classical "
        f"multidimensional scaling; the plane holds {found.share:.0%} of the squared distances. The axes have no "
        "meaning of their own."
    )
    columns = [TableColumn("distance", ""), *(TableColumn(name) for name in found.names)]
    cells: list[Row] = [
        ("", [name, *(f"{value:.2f}" for value in line)])
        for name, line in zip(found.names, found.distances, strict=True)
    ]
    return [Figure(map_plot(found, ranks, "map"), caption), Table(columns, cells)]


def _equations(rows: Sequence[ComparisonRow]) -> list[Block]:
    blocks: list[Block] = []
    for row in rows:
        blocks.append(Heading(row.name))
        if row.rule is not None:
            blocks.append(Equations(rule_mathml(row.rule)))
            if row.rule.provenance.get("source"):
                blocks.append(Text(str(row.rule.provenance["source"]), "note"))
        elif row.kind == "network":
            features = ", ".join(getattr(row.optimizer, "features", ()))
            blocks.append(
                Text(f"A network with {row.state_cost:g} buffers a parameter, which reads {features}.", "note")
            )
        else:
            blocks.append(Text("Somebody else's optimizer, seen from outside.", "note"))
    return blocks


def _memory(rows: Sequence[ComparisonRow]) -> list[Block]:
    shown = [(k, row) for k, row in enumerate(rows) if row.perception is not None]
    lines = []
    for k, row in shown:
        assert row.perception is not None
        s = row.perception.gradient.sensitivity
        top = max(s)
        if top > 0:
            lines.append(Line(row.name, k, range(len(s)), [value / top for value in s]))
    spectra = [
        (k, row.name, row.portrait.spectrum) for k, row in shown if row.portrait and row.portrait.spectrum is not None
    ]
    gains = [Line(name, k, s.frequency, [g / max(s.gain) for g in s.gain]) for k, name, s in spectra]
    views = [
        View("Sensitivity to a past gradient, its largest being 1", "steps ago", lines, log_y=True),
        View("Gain, its largest being 1: slow drifts left, noise right", "cycles a step", gains),
    ]
    columns = [
        TableColumn(h, "" if k < 2 else "number")
        for k, h in enumerate(("optimizer", "input", "field, steps", "past the window"))
    ]
    cells: list[Row] = [
        ("", [row.name, curve.input, curve.told, f"{curve.tail:.0%}"])
        for _, row in shown
        for curve in (row.perception.curves if row.perception else ())
    ]
    told = "; ".join(f"{row.name} {row.perception.gradient.told}" for _, row in shown if row.perception)
    figure = overlaid([view for view in views if view.lines], "memory", f"Perception fields in steps: {told}.")
    caption = (
        "Left: the mean size of the derivative of an update by the gradient so many steps ago, over the common "
        "gradients. The temporal perception field is its mean age. Right: what each passes of slow and of fast "
        "gradients."
    )
    notes = [f"{row.name}: {note}" for _, row in shown for note in (row.perception.notes if row.perception else ())]
    return [Figure(figure, caption), Table(columns, cells), *(Text(note, "note") for note in notes)] if lines else []


def _answers(rows: Sequence[ComparisonRow]) -> list[Block]:
    views = [
        _view(
            rows,
            "To the present gradient, its largest being 1",
            "deviations",
            lambda p: (p.answers.gradient, _scaled(p.answers.update)),
        ),
        _view(
            rows,
            "Without gradients, after steady ones",
            "steps",
            lambda p: (range(1, 1 + len(p.answers.coasting)), p.answers.coasting),
        ),
        _view(
            rows,
            "Over an episode of noise, its largest step being 1",
            "step",
            lambda p: (range(1, 1 + len(p.answers.schedule)), p.answers.schedule),
        ),
        _view(rows, "Rate against the size of constant gradients", "|g|, deviations", _rates, log=True),
    ]
    views = [view for view in views if view.lines]
    if not views:
        return []
    drawn = [(row.name, row.portrait) for row in rows if row.portrait is not None]
    told = "; ".join(f"{name}: {_rate(portrait)}" for name, portrait in drawn)
    caption = (
        "Made-up gradients: normal noise, after which the present gradient is replaced (first), gradients end "
        "(second), or an episode of noise (third). Last: the slope of the update at rest under a constant gradient; "
        "flat without adaptation, falling as 1/|g| with full normalisation."
    )
    return [Figure(overlaid(views, "answers", f"Answers to made-up gradients. {told}."), caption)]


_Points = tuple[Sequence[float], Sequence[float]]


def _view(
    rows: Sequence[ComparisonRow], title: str, x_label: str, points: Callable[[Portrait], _Points], log: bool = False
) -> View:
    lines = []
    for rank, row in enumerate(rows):
        if row.portrait is not None:
            x, y = points(row.portrait)
            if len(x):
                lines.append(Line(row.name, rank, x, y))
    return View(title, x_label, lines, log, log)


def _rate(portrait: Portrait) -> str:
    rate = portrait.answers.rate
    return "jumps at 0" if math.isnan(rate) else f"rate {rate:.3g}"


def _scaled(values: Sequence[float]) -> list[float]:
    top = max(map(abs, values)) or 1.0
    return [value / top for value in values]


def _rates(portrait: Portrait) -> _Points:
    rest = portrait.settled
    if rest is None:
        return (), ()
    good = [(g, r) for g, r in zip(rest.gradients, rest.rates, strict=True) if r > 0 and math.isfinite(r)]
    middle = next((r for g, r in good if g >= rest.gradients[len(rest.gradients) // 2]), 1.0)
    return [g for g, _ in good], [r / middle for _, r in good]


def _losses(evaluation: Evaluation | None) -> list[Section]:
    if evaluation is None:
        return []
    blocks: list[Block] = []
    for index, task in enumerate(evaluation.tasks):
        entries = list(evaluation.on(task))
        caption = f"Minibatch training loss on {task}, mean over seeds with its 95 % interval; nothing is tuned here."
        blocks.append(Figure(loss_curves(entries, f"loss-{index}"), caption))
    return [Section("losses", "At work", blocks)]


def _certificates(rows: Sequence[ComparisonRow]) -> list[Block]:
    known = [row for row in rows if row.certificates is not None]
    if not known:
        return []
    claims = dict.fromkeys(entry.claim for row in known for entry in row.certificates or ())
    columns = [TableColumn("claim", ""), *(TableColumn(row.name) for row in known)]
    cells: list[Row] = []
    for claim in claims:
        answers = [next((entry for entry in row.certificates or () if entry.claim == claim), None) for row in known]
        cells.append(
            ("", [claim, *(Markup("{}<small>{}</small>").format(a.answer, a.by) if a else _NONE for a in answers)])
        )
    return [Table(columns, cells, "By proof from the equation alone, or by a check: said under each.", "wide")]


def _words(rows: Sequence[ComparisonRow]) -> list[Block]:
    blocks: list[Block] = []
    for row in rows:
        told = [*([row.nearest.sentence] if row.nearest else []), *(row.portrait.sentences() if row.portrait else [])]
        if told:
            blocks += [Heading(row.name), *(Text(f"{sentence[0].upper()}{sentence[1:]}.") for sentence in told)]
    return blocks
