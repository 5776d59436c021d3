"""The report's sections about the comparison: headline, loss curves, tables, how learning rates were tuned."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from closedform.evaluation import (
    ABSENT,
    Entry,
    Evaluation,
    count,
    duration,
    headline,
    interval,
    number,
    percent,
    percent_interval,
    rate,
    schedule,
    trials,
)
from closedform.report._page import Block, Box, Cell, Figure, Heading, Table, TableColumn, Text
from closedform.report._plots import final_losses, loss_curves, tuning_curves


def headlines(evaluation: Evaluation, subject: str | None) -> list[Block]:
    """The result in a sentence a task."""
    found = headline(evaluation, subject)
    if not found:
        return []
    won = all(sentence.won for sentence in found)
    return [Box("headline won" if won else "headline", [Text(sentence.text) for sentence in found])]


def comparison(evaluation: Evaluation) -> list[Block]:
    """Loss curves and table of every task."""
    blocks: list[Block] = [Text(_how(evaluation))]
    for number_, task in enumerate(evaluation.tasks):
        entries = evaluation.on(task)
        if len(evaluation.tasks) > 1:
            blocks.append(Heading(task))
        curves = Figure(
            loss_curves(entries, f"curves{number_}"),
            "Minibatch training loss, mean over seeds with its interval, logarithmic. Solid: learned; dashed: "
            "hand-designed, with the tuned learning rate in brackets.",
        )
        dots = Figure(final_losses(entries, f"final{number_}"), f"Final losses on {task} with intervals, best first.")
        blocks += [curves, dots, _table(entries, evaluation)]
    return blocks


def learning_rates(evaluation: Evaluation) -> list[Block]:
    """What was tried for the baselines."""
    blocks: list[Block] = [Text(_budget(evaluation))]
    for number_, task in enumerate(evaluation.tasks):
        entries = [entry for entry in evaluation.on(task) if entry.tuning]
        if not entries:
            continue
        caption = f"Final loss on {task} against learning rate; the ring marks the value chosen."
        blocks += [Figure(tuning_curves(entries, f"tuning{number_}"), caption), _tuning_table(entries)]
    return blocks


def _how(evaluation: Evaluation) -> str:
    protocol = evaluation.protocol
    return (
        f"Final loss is the mean minibatch training loss of the last {protocol.tail} steps, over {protocol.seeds} "
        f"seeds; brackets are {percent(protocol.confidence, 0)} bootstrap intervals. At a seed all optimizers start "
        "from the same parameters and see the same batches, from the half of the data that meta-training has not seen. "
        "Networks and rules run at their own learning rate and are marked untuned; hand-designed optimizers have "
        "theirs tuned, and their schedule where several were tried."
    )


def _table(entries: Sequence[Entry], evaluation: Evaluation) -> Table:
    ranked = sorted(entries, key=lambda entry: entry.final_loss.rank)
    best = evaluation.best_baseline(ranked[0].task)
    metrics = dict.fromkeys(name for entry in ranked for name in entry.test if name != "loss")
    columns = [
        TableColumn("optimizer", ""),
        TableColumn("final loss"),
        TableColumn(f"difference from {best.label}" if best else "difference"),
        TableColumn("loss on all training data"),
        *(TableColumn(f"test {name}") for name in metrics),
        TableColumn("learning rate"),
        TableColumn("schedule", ""),
        TableColumn("trials"),
        TableColumn("buffers a parameter"),
        TableColumn("nodes"),
        TableColumn("time a step"),
    ]
    rows = [("best" if entry is ranked[0] else "", _cells(entry, list(metrics))) for entry in ranked]
    caption = (
        "Difference: final loss minus that of the best tuned baseline, seed by seed; negative is better. Buffers: "
        "numbers that the optimizer keeps for each parameter. Time: the optimizer's own part of a step, median, "
        "without the gradient, taken while runs shared the machine; rules run through RuleOptimizer. * tuned here, "
        "by that many trials, each a learning rate under a schedule."
    )
    return Table(columns, rows, caption, "wide")


def _cells(entry: Entry, metrics: Sequence[str]) -> list[Cell]:
    difference = entry.difference.loss if entry.difference else None
    tests = [entry.test.get(name) for name in metrics]
    return [
        entry.label,
        _stacked(interval(entry.final_loss)),
        _stacked(interval(difference, 2)) if difference else ABSENT,
        number(entry.full_loss.mean),
        *(_stacked(percent_interval(found)) if found else ABSENT for found in tests),
        rate(entry.lr) + "*" * (entry.tuning is not None),
        schedule(entry),
        trials(entry),
        count(entry.state_cost),
        count(entry.complexity),
        duration(entry.step_seconds),
    ]


def _stacked(text: str) -> Cell:
    """The interval under its mean, smaller."""
    mean, bracket, rest = text.partition(" [")
    if not bracket:
        return text
    return Markup("<span>{}</span><small>[{}</small>").format(mean, rest)


def _budget(evaluation: Evaluation) -> str:
    protocol = evaluation.protocol
    tuned = [entry for entry in evaluation.entries if entry.tuning]
    runs = sum(entry.tuning.runs for entry in tuned if entry.tuning)
    return (
        f"Every hand-designed optimizer was run at each learning rate of its grid with {protocol.tuning_seeds} tuning "
        "seeds, other ones than the reported, for the full length of an episode; the smallest mean final loss wins. "
        "Where the best value lay at an edge, the grid was extended by a decade. Every schedule has a grid of its own; "
        f"the best schedule's is shown. In all {runs} tuning runs for {len(tuned)} baselines."
    )


def _tuning_table(entries: Sequence[Entry]) -> Table:
    columns = [
        TableColumn("baseline", ""),
        TableColumn("learning rate"),
        TableColumn("schedule", ""),
        TableColumn("tried"),
        TableColumn("trials"),
        TableColumn("runs"),
        TableColumn("optimizer steps"),
        TableColumn("diverged"),
        TableColumn("remark", ""),
    ]
    return Table(columns, [("", _tuning_cells(entry)) for entry in entries])


def _tuning_cells(entry: Entry) -> list[Cell]:
    tuning = entry.tuning
    assert tuning is not None
    extended = len(tuning.lrs) - tuning.grid
    remark = "best value at an edge" if tuning.at_edge else f"extended by {extended}" if extended else ""
    return [
        entry.label,
        rate(tuning.best),
        tuning.schedule,
        f"{rate(tuning.lrs[0])} … {rate(tuning.lrs[-1])}",
        str(tuning.trials),
        str(tuning.runs),
        f"{tuning.runs * tuning.steps:,}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
        str(sum(tuning.diverged)),
        remark,
    ]
