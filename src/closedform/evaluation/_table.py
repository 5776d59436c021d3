"""An evaluation as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from closedform.evaluation._entries import EvaluationEntry, Protocol
from closedform.evaluation._numbers import ABSENT, count, duration, interval, number, percent, rate

_HEADINGS = (
    "final loss",
    "against best baseline",
    "test accuracy",
    "lr",
    "schedule",
    "trials",
    "buffers",
    "nodes",
    "time a step",
)


def task_table(entries: Sequence[EvaluationEntry], protocol: Protocol) -> Table:
    """All optimizers on one task; the best final loss is bold."""
    ranked = sorted(entries, key=lambda entry: entry.final_loss.rank)
    table = Table(
        title=f"{ranked[0].task}: {ranked[0].steps} steps, {protocol.seeds} seeds",
        caption=f"final loss: mean minibatch training loss of the last {protocol.tail} steps, with its "
        f"{percent(protocol.confidence, 0)} interval; * = tuned here by that many trials, "
        f"{protocol.tuning_seeds} runs each",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("optimizer")
    for heading in _HEADINGS:
        table.add_column(heading, justify="right")
    for entry in ranked:
        table.add_row(*_cells(entry), style="bold" if entry is ranked[0] else "")
    return table


def _cells(entry: EvaluationEntry) -> list[str]:
    accuracy = entry.test.get("accuracy")
    return [
        entry.label,
        interval(entry.final_loss),
        _against(entry),
        percent(accuracy.mean) if accuracy else ABSENT,
        rate(entry.lr) + "*" * (entry.tuning is not None),
        schedule(entry),
        trials(entry),
        count(entry.state_cost),
        count(entry.complexity),
        duration(entry.step_seconds),
    ]


def _against(entry: EvaluationEntry) -> str:
    difference = entry.difference
    if difference is None or difference.loss.mean is None:
        return ABSENT
    loss = difference.loss
    bounds = "" if loss.low is None else f" [{number(loss.low, 2)}, {number(loss.high, 2)}]"
    return f"{number(loss.mean, 2)}{bounds}"


def schedule(entry: EvaluationEntry) -> str:
    """What multiplied the learning rate; nothing to say of a network."""
    return ABSENT if entry.lr is None else entry.schedule


def trials(entry: EvaluationEntry) -> str:
    """The number of settings tried, or that it was not tuned."""
    if entry.tuning:
        return str(entry.trials)
    return "as given" if entry.kind == "baseline" else "untuned"
