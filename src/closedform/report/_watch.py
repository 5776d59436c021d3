"""The page of a rule at work: what each term contributes, with a slider over the steps."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from markupsafe import Markup

from closedform._files import write_text
from closedform.analysis import Watch
from closedform.report._compare_plots import Line, View, overlaid
from closedform.report._equations import rule_mathml
from closedform.report._page import (
    Block,
    Code,
    Equations,
    Figure,
    Heading,
    Live,
    Row,
    Section,
    Table,
    TableColumn,
    Text,
    page_html,
)
from closedform.rules import Rule

_SLIDER = Markup(
    '<div class="live" hidden>\n<label for="at">Step</label>\n'
    '<input id="at" type="range" min="0" max="{last}" value="0">\n<output for="at" aria-live="polite"></output>\n'
    '<div class="scroll"><table><thead><tr><th scope="col">tensor</th>'
    '<th scope="col" class="number">update / parameter</th>{heads}</tr></thead><tbody></tbody></table></div>\n'
    '<script type="application/json">{data}</script>\n<script>{script}</script>\n</div>'
)
MOST_STEPS, MOST_CELLS = 200, 40_000
"""Steps on the slider, and numbers that the page carries for it."""


def write_watch(path: str | Path, watch: Watch, rule: Rule) -> Path:
    """Write the page, atomically; it loads nothing from anywhere.

    Args:
        path: The HTML file.
        watch: What was seen.
        rule: The rule that was watched.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_text(Path(path), watch_html(watch, rule))
    return Path(path)


def watch_html(watch: Watch, rule: Rule) -> str:
    """The page's text."""
    lead = f"{watch.rule} trains {watch.task} for {len(watch.loss)} steps"
    lead += f", and then diverges, at step {watch.diverged_at}." if watch.diverged_at else "."
    sections = [Section("equation", "The equation and its terms", _equation(watch, rule))]
    if watch.loss:
        sections.append(Section("steps", "Step by step", [_slider(watch)]))
        sections.append(Section("course", "Over the whole run", _course(watch)))
    return page_html(f"{watch.rule} at work", [Text(lead)], sections)


def _equation(watch: Watch, rule: Rule) -> list[Block]:
    count = len(watch.terms)
    told = "The update is one term." if count == 1 else f"The update is the sum of {count} terms:"
    terms: list[Block] = [Code(f"{_label(k)}: {term}") for k, term in enumerate(watch.terms)]
    return [Equations(rule_mathml(rule)), Text(told), *terms]


def _label(k: int) -> str:
    return f"term {k + 1}"


def _chosen(watch: Watch) -> list[int]:
    """Steps on the slider: all, or some that are spread evenly."""
    each = max(len(watch.layers) * (len(watch.terms) + 1), 1)
    most = max(min(MOST_STEPS, MOST_CELLS // each), 2)
    count = len(watch.loss)
    return sorted({round(k * (count - 1) / (most - 1)) for k in range(most)}) if count > most else list(range(count))


def _slider(watch: Watch) -> Live:
    chosen = _chosen(watch)
    data = {
        "steps": [k + 1 for k in chosen],
        "loss": [_short(watch.loss[k]) for k in chosen],
        "layers": list(watch.layers),
        "ratio": [[_ratio(*pair) for pair in zip(watch.updates[k], watch.weights[k], strict=True)] for k in chosen],
        "shares": [[[_short(s) for s in row] for row in watch.shares[k]] for k in chosen],
    }
    heads = (Markup('<th scope="col">{}</th>').format(f"share of {_label(k)}") for k in range(len(watch.terms)))
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    script = resources.files("closedform.report").joinpath("watch.js").read_text(encoding="utf-8")
    return Live(
        _SLIDER.format(last=len(chosen) - 1, heads=Markup("").join(heads), data=Markup(text), script=Markup(script))
    )


def _ratio(update: float, weight: float) -> float | None:
    return _short(update / weight) if weight else None


def _short(value: float) -> float | None:
    return float(f"{value:.3g}") if math.isfinite(value) else None


def _course(watch: Watch) -> list[Block]:
    steps = range(1, len(watch.loss) + 1)
    whole = watch.whole()
    shares = [Line(_label(k), k, steps, [row[k] for row in whole]) for k in range(len(watch.terms))]
    figure = overlaid(
        [
            View("Share of the update, all tensors together", "step", shares),
            View("Loss", "step", [Line("loss", 7, steps, watch.loss)], log_y=min(watch.loss) > 0),
        ],
        "shares",
        "; ".join(f"{line.label} {_mean(line.y):.1%} of the update on average" for line in shares),
    )
    caption = (
        "A share is the mean of term times update over that of the update squared: shares sum to 1, and one below 0 "
        "works against the others."
    )
    return [Figure(figure, caption), Heading("By tensor, on average over the run"), _by_tensor(watch)]


def _mean(values: Sequence[float]) -> float:
    good = [value for value in values if math.isfinite(value)]
    return sum(good) / len(good) if good else math.nan


def _by_tensor(watch: Watch) -> Table:
    heads = ("tensor", "elements", "gradient", "update", *(_label(k) for k in range(len(watch.terms))))
    rows: list[Row] = []
    for layer, name in enumerate(watch.layers):
        sizes = [_mean([row[layer] for row in values]) for values in (watch.gradients, watch.updates)]
        shares = [_mean([row[layer][k] for row in watch.shares]) for k in range(len(watch.terms))]
        rows.append(
            ("", [name, str(watch.sizes[layer]), *(f"{size:.3g}" for size in sizes), *(f"{s:.1%}" for s in shares)])
        )
    columns = [TableColumn(head, "" if k == 0 else "number") for k, head in enumerate(heads)]
    return Table(columns, rows, "Gradient and update: root mean squares.")
