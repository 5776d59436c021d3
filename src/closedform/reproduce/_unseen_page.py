"""The table of unseen tasks as a page in Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from closedform.evaluation import CAP, StepsToTarget, Summary
from closedform.reproduce._base import markdown_table
from closedform.reproduce._entrants import REFERENCE, RULE, SINGLE, THREE
from closedform.reproduce._unseen_numbers import Against, UnseenNumbers

Cells = tuple[list[str], list[list[str]]]


def loss_table(result: UnseenNumbers) -> Cells:
    """Mean final losses, a task a row and an entrant a column; * marks the best."""
    rows = []
    for task in result.tasks:
        here = [row for row in result.rows if row.task == task]
        best = min(here, key=lambda row: row.loss.rank)
        cells = [_loss(row.loss) + "*" * (row is best) for row in here]
        rows.append([task, str(here[0].steps), *cells])
    return ["task", "steps", *result.entrants.values()], rows


def page(result: UnseenNumbers) -> str:
    """The whole document."""
    reached = sum(verdict.reached for verdict in result.verdicts)
    asked = [[v.asked, v.found, "yes" if v.reached else "no"] for v in result.verdicts]
    sections = [
        "# Rules on unseen tasks, against annealed and tuned AdamW",
        f"`closedform reproduce unseen`; {result.measured}; {result.seconds / 60:.1f} minutes.",
        _winner(result),
    ]
    if asked:
        sections.append(f"Of what is asked of the rules here, {reached} of {len(asked)} are reached.")
        sections.append("## Asked, and found\n\n" + markdown_table(["asked", "found", "reached"], asked))
    for reference, title in ((REFERENCE, "tuned for each task"), (SINGLE, "at its best single rate")):
        found = [[result.entrants[name], *_against(total)] for name, total in result.against(reference).items()]
        sections.append(f"## Against AdamW-cosine {title}\n\n" + markdown_table(_TOTALS, found))
    sections += [
        "## Final losses\n\n" + markdown_table(*loss_table(result)),
        "![performance profile](reproduce_unseen_profile.svg)",
        "## Every entrant on every task\n\n" + markdown_table(_DETAILS, _details(result)),
        "## Horizons\n\n" + markdown_table(_HORIZONS, _horizons(result)),
        _how(result),
    ]
    return "\n\n".join(sections) + "\n"


_TOTALS = (
    *("entrant", "better on", "clearly better, worse", "loss, geometric mean", "over tasks", "interquartile mean"),
    *("worst", "steps to target, times fewer", "reached"),
)
_DETAILS = (
    *("task", "entrant", "loss", "95 % interval", "diverged", "test loss", "test accuracy", "lr", "schedule", "trials"),
    *("reaches the target on its curve", "by horizons, tuned", "by horizons, single"),
)
_HORIZONS = ("task", "steps", "entrant", "loss", "95 % interval", "diverged", "lr", "trials")


def _winner(result: UnseenNumbers) -> str:
    """Who is best on how many tasks, in a sentence."""
    wins = dict.fromkeys(result.entrants, 0)
    for task in result.tasks:
        wins[min((row for row in result.rows if row.task == task), key=lambda row: row.loss.rank).entrant] += 1
    ordered = sorted(wins.items(), key=lambda pair: -pair[1])
    told = ", ".join(f"{result.entrants[name]} on {count}" for name, count in ordered if count)
    return f"Smallest mean loss on {len(result.tasks)} tasks: {told}."


def _against(found: Against) -> list[str]:
    seeds, over, middle = found.mean.over_seeds, found.mean.over_tasks, found.middle.over_seeds
    faster = found.faster
    return [
        f"{found.better} of {found.tasks}",
        f"{found.clearly_better}, {found.clearly_worse}",
        f"{seeds.value:.3f} [{seeds.low:.3f}, {seeds.high:.3f}]",
        f"[{over.low:.3f}, {over.high:.3f}]",
        f"{middle.value:.3f} [{middle.low:.3f}, {middle.high:.3f}]",
        f"{found.worst:.2f} ({found.worst_task})",
        "" if faster is None else f"{faster.value:.2f} [{faster.low:.2f}, {faster.high:.2f}]",
        "" if found.reached is None else f"{found.reached} of {found.tasks}",
    ]


def _details(result: UnseenNumbers) -> Iterable[list[str]]:
    for row in result.rows:
        loss, accuracy = row.test.get("loss"), row.test.get("accuracy")
        yield [
            *(row.task, row.label, _loss(row.loss), _interval(row.loss), f"{row.loss.diverged}/{row.loss.count}"),
            "" if loss is None or loss.mean is None else f"{loss.mean:.4g}",
            "" if accuracy is None or accuracy.mean is None else f"{accuracy.mean:.3f}",
            "" if row.lr is None else f"{row.lr:g}",
            row.schedule if row.kind not in (RULE, THREE) else "its own",
            _trials(row.trials, row.kind),
            "never" if row.on_curve is None else f"{row.on_curve:.2f}",
            *(_steps(row.to_targets.get(name)) for name in (REFERENCE, SINGLE)),
        ]


def _horizons(result: UnseenNumbers) -> Iterable[list[str]]:
    for row in result.horizons:
        lr, trials = "" if row.lr is None else f"{row.lr:g}", str(row.trials) if row.trials else "untuned"
        spread = f"{row.loss.diverged}/{row.loss.count}"
        yield [row.task, str(row.steps), row.label, _loss(row.loss), _interval(row.loss), spread, lr, trials]


def _trials(trials: int, kind: str) -> str:
    if trials:
        return str(trials)
    return "untuned" if kind == RULE else "shared"


def _steps(found: StepsToTarget | None) -> str:
    if found is None:
        return ""
    if not found.reached:
        return f"not reached, counts {found.ratio:.2f}"
    return f"{'at least ' * found.bounded}{found.ratio:.2f}"


def _loss(loss: Summary) -> str:
    return "diverged" if loss.mean is None else f"{loss.mean:.4g}"


def _interval(loss: Summary) -> str:
    return "" if loss.low is None or loss.high is None else f"{loss.low:.4g} to {loss.high:.4g}"


def _how(result: UnseenNumbers) -> str:
    return f"""## How it was measured

Loss: mean minibatch training loss of an episode's last steps, on the half of the data that meta-training does not see;
mean over {result.seeds} seeds with its bootstrap 95 % interval. Everyone starts from the same parameters and sees the
same batches at a seed. Learning rates were tuned for each task by the same loss on other seeds; "trials" is the number
of settings tried, "untuned" had none. AdamW-cosine's best single rate, {result.single_rate:g}, is the one of the
smallest geometric mean of tuning losses over the best ones. The grid of the tuned AdamW is extended past an edge, those
of the others are not.

"Clearly": the paired interval of the difference over seeds excludes 0. Geometric and interquartile mean: of the ratios
of mean losses, below 1 is better; the interval behind them is over seeds, and "over tasks" is that of the geometric
mean when the tasks are drawn anew. A diverged run counts as {CAP:g} times the reference's loss, and no ratio as more.

Steps to the target: T over the shortest horizon at whose end the mean loss is at or below the reference's after T
steps, above 1 is faster. Horizons T/2, T/1.5, T/1.3, T/1.1, T, 1.1 T ... 2 T are run anew, from T on in the direction
that is needed; the shortest counts as "at least". Not reached at the longest: T over it, times target over its loss
there. On its curve: the first step at which the smoothed loss of one run over T is at or below the target, for T over
it; an annealed run gets there near its end.
"""
