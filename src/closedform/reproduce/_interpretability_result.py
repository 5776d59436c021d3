"""The table of interpretability as `closedform reproduce` prints and saves it."""

from __future__ import annotations

import json
import math
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from closedform._files import finite
from closedform.reproduce._base import markdown_table
from closedform.reproduce._interpretability_measures import GRADIENT, NEAR, Measured
from closedform.reproduce._interpretability_models import MODELS
from closedform.reproduce._interpretability_plan import Plan
from closedform.reproduce._interpretability_statements import Statement, statements

if TYPE_CHECKING:
    from rich.table import Table

HEADER = (
    *("model", "TPF by feature", f"last {NEAR} steps", "paper", "of the gradient", "MC", "paper", "state cost"),
    *("numerical", "paper", "distilled", "paper"),
)
STATEMENT_HEADER = ("finding", "said to be larger", "ratio", "95 % interval", "seeds", "paper's ratio", "verdict")
NETWORK_HEADER = (
    *("model", "seed", "validation: before, best", "TPF by feature", "tail", f"last {NEAR} steps"),
    *("MC", "its R²", "best R²", "its equation", "s"),
)
WIDTH = 120
"""Of the document's lines."""


@dataclass(frozen=True)
class InterpretabilityResult:
    """The table, and the statements about it.

    Attributes:
        networks: All that were measured.
        statements: The section's findings, tested.
        plan: How it was done, a JSON object.
        seeds: Networks of each model.
        seconds: Of all work that is in it, of interrupted runs too.
        measured: On what, in words.
    """

    networks: tuple[Measured, ...]
    statements: tuple[Statement, ...]
    plan: dict[str, Any]
    seeds: int
    seconds: float
    measured: str

    @classmethod
    def of(cls, networks: Sequence[Measured], plan: Plan, measured: str) -> InterpretabilityResult:
        """From what was measured."""
        seconds = sum(sum(network.seconds) for network in networks)
        found = statements(networks)
        return cls(tuple(networks), found, plan.describe(), plan.seeds, seconds, measured)

    def model(self, name: str) -> list[Measured]:
        """The networks of a model."""
        return [network for network in self.networks if network.model == name]

    def table(self) -> Table:
        """For printing with rich: the table, and under it the statements."""
        from rich.table import Table

        both = Table.grid()
        for header, rows in ((HEADER, self._rows()), (STATEMENT_HEADER, _statement_rows(self.statements))):
            part = Table(*header)
            for row in rows:
                part.add_row(*row)
            both.add_row(part)
        return both

    def to_markdown(self) -> str:
        """A document with how it was measured."""
        return _wrapped(_page(self))

    def to_json(self) -> str:
        """The numbers, for machines; what is not finite is null."""
        said = [{**asdict(one), "verdict": one.verdict} for one in self.statements]
        document = {**asdict(self), "statements": said}
        return json.dumps(finite(document), indent=2, ensure_ascii=False) + "\n"

    def _rows(self) -> list[list[str]]:
        return [_row(name, self.model(name)) for name in MODELS if self.model(name)]


def _row(name: str, networks: Sequence[Measured]) -> list[str]:
    """A model's medians over its networks, each beside the paper's number."""
    told, inputs = MODELS[name], [key for key in networks[0].fields if key != GRADIENT]
    tpf = ", ".join(f"{key} {_median([_steps(one, key) for one in networks])}" for key in inputs)
    near = ", ".join(_median([one.fields[key].near or 0.0 for one in networks]) for key in inputs)
    mc, cost = (statistics.median([getattr(one, key) for one in networks]) for key in ("mc", "mc_state_cost"))
    return [
        *(name, tpf, near, ", ".join(f"{value:g}" for value in told.tpf)),
        _median([_steps(one, GRADIENT) for one in networks]),
        *(f"{mc:g}", f"{told.mc:g}", f"{cost:g}"),
        *(_losses([one.numerical for one in networks]), _deviation(told.numerical)),
        *(_losses([one.distilled for one in networks]), _deviation(told.distilled)),
    ]


def _steps(one: Measured, key: str) -> float:
    """A network's perception field; infinite if its past never fades, 0 if nothing depends on the input."""
    field = one.fields[key]
    return field.tpf if field.tpf is not None else math.inf if field.tail >= 1 else 0.0


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g}"


def _losses(values: Sequence[Sequence[float | None]]) -> str:
    """Mean over networks and episodes, the deviation of networks' means, and how many episodes diverged."""
    known = [[value for value in own if value is not None] for own in values]
    means = [statistics.fmean(own) for own in known if own]
    lost = sum(value is None for own in values for value in own)
    told = f" ({lost} of {sum(map(len, values))} diverged)" if lost else ""
    if not means:
        return f"none{told}"
    return _deviation((statistics.fmean(means), statistics.stdev(means) if len(means) > 1 else 0.0)) + told


def _deviation(pair: tuple[float, float]) -> str:
    return f"{pair[0]:.3g} ± {pair[1]:.2g}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def _bounds(said: Statement) -> str:
    return "" if said.low is None or said.high is None else f"{said.low:.3g} to {said.high:.3g}"


def _statement_rows(found: Sequence[Statement]) -> list[list[str]]:
    return [
        [
            *(said.finding, f"{said.quantity}: {said.larger} > {said.smaller}", _number(said.mean), _bounds(said)),
            *(f"{said.agreeing} of {len(said.ratios)}", "" if said.paper is None else f"{said.paper:.3g}"),
            said.verdict,
        ]
        for said in found
    ]


def _network_row(one: Measured) -> list[str]:
    inputs = [key for key in one.fields if key != GRADIENT]
    return [
        *(one.model, str(one.seed), f"{_number(one.first_validation)}, {_number(one.validation)}"),
        ", ".join(f"{_steps(one, key):.3g}" for key in inputs),
        f"{max(one.fields[key].tail for key in inputs):.2f}",
        ", ".join(f"{one.fields[key].near or 0.0:.3g}" for key in inputs),
        *(str(one.mc), f"{one.mc_r2:.3f}", f"{one.best_r2:.3f}", f"`{one.mc_equation}`", f"{sum(one.seconds):.0f}"),
    ]


def _wrapped(page: str) -> str:
    """A page with its paragraphs broken into lines anew; headings and tables as they are."""
    parts = page.strip().split("\n\n")
    whole = [
        part if part.startswith(("#", "|")) else textwrap.fill(part, WIDTH, break_on_hyphens=False) for part in parts
    ]
    return "\n\n".join(whole) + "\n"


def _page(result: InterpretabilityResult) -> str:
    plan, training = result.plan, result.plan["training"]
    config, lags = training["config"], plan["lags"]
    holds = ", ".join(
        f"{sum(said.verdict == verdict for said in result.statements)} {verdict}"
        for verdict in dict.fromkeys(said.verdict for said in result.statements)
    )
    useless = [f"{one.model} (seed {one.seed})" for one in result.networks if one.rule is None]
    none = f"\nOf these networks no rule that was tried trains: {', '.join(useless)}.\n" if useless else ""
    grow = ", ".join(map(str, training["curriculum"]))
    return f"""# How far learned optimizers look back, and how complex they are

`closedform reproduce interpretability`; {result.measured}; {result.seconds / 60:.1f} minutes of work on one core.

{result.seeds} networks of each model, meta-trained here: {config["steps"]} meta-steps of {config["batch"]} windows of
{training["unroll"]} steps on {training["task"]} ({training["optimizee"]}), episodes of {training["horizon"]} steps.
With CL episodes of {grow} steps come first; with IL an Adam of learning rate {training["teacher_lr"]:g} teaches, its
share falling from all to nothing. All else is the same, and none is told how far an episode is.

TPF: over {lags} lags of an episode of the network itself, past them carried on as a geometric series; medians over the
networks. "last {NEAR} steps": the same as if nothing lay before them, since the paper's equations look back {NEAR}. MC:
nodes of the smallest equation within 0.01 of the best held-out R², of a search of
{plan["distillation"]["time_limit"]:g} seconds and at most {plan["distillation"]["max_complexity"]} nodes; state cost:
its buffers a parameter. A much slower machine finds less. Losses: mean minibatch training loss of the last 20 of
{plan["evaluated"]["horizon"]} steps on {plan["evaluated"]["task"]} as in training, on data that nothing was trained on,
over {plan["loss_seeds"]} starts; mean over networks ± standard deviation of the networks' means. "distilled": the rule
that trains best of the {plan["candidates"]} most faithful and the one that describes the recording in fewest bits.
The paper's optimizee is larger, and its
training and search are others: compare orders and signs, not sizes. The units of a network here start with
memories from 1 to 600 steps, which may be why fields over the whole past are as long as they are.

{markdown_table(HEADER, result._rows())}
{none}
## The section's findings, tested

Networks of one seed start alike where they can, and see the same episodes. Of their ratios: geometric mean, its
Student interval over {result.seeds} seeds, and how many are above 1. A statement holds if the whole interval is above
1, it does not if it is below, otherwise it is undecided: {holds}. "TPF of the features" is the geometric mean over the
inputs that both read, or over each one's own where they share none. Nothing is
corrected for the number of statements: with no difference anywhere, one in forty would hold by chance. The field of the
last {NEAR} steps was added to the table after fields over the whole past had been seen to be mostly extrapolated.

{markdown_table(STATEMENT_HEADER, _statement_rows(result.statements))}

## Networks

"tail" is the share of the numerator of TPF that lies past the last lag, by extrapolation: the largest of a network's.

{markdown_table(NETWORK_HEADER, map(_network_row, result.networks))}
"""
