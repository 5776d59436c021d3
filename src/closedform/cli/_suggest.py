"""``closedform suggest-lr``: which learning rate to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from closedform import tasks
from closedform._files import write_text
from closedform.cli._app import STDOUT, DataDir, JsonFlag, Seed, app, check_suffix, show
from closedform.cli._given import optimizer_options
from closedform.cli._progress import bar
from closedform.cli._sparkline import sparkline
from closedform.errors import OptionError
from closedform.evaluation import suggest_lr
from closedform.learned_optimizers import BlackBox, LearnedOptimizer, load_optimizer
from closedform.optim import RangeTest
from closedform.report import range_test_plot, standalone


@app.command("suggest-lr")
def suggest(
    optimizer: Annotated[str, typer.Argument(help="A library rule, a rule file, or module:Class of an optimizer.")],
    task: Annotated[str, typer.Option("--task", help="What is trained (closedform tasks).")] = "mlp-digits",
    opt: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE for an optimizer that is imported; repeat it for several.")
    ] = None,
    low: Annotated[float, typer.Option(help="The first rate.")] = 1e-6,
    high: Annotated[float, typer.Option(help="The last rate.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Steps of a test.")] = 150,
    starts: Annotated[int, typer.Option(help="Starting points, over which losses are averaged.")] = 3,
    out: Annotated[Path, typer.Option("--out", help="The picture, SVG.")] = Path("runs/suggest-lr.svg"),
    seed: Seed = 0,
    data_dir: DataDir = None,
    json: JsonFlag = False,
) -> None:
    """Suggest a learning rate by a range test, with a picture."""
    check_suffix(out, ".svg", "the picture")
    loaded = load_optimizer(optimizer, optimizer_options(opt or []))
    if isinstance(loaded, LearnedOptimizer) and not isinstance(loaded, BlackBox):
        raise OptionError(f"{optimizer} is a network, which has no learning rate: name a rule or a torch optimizer")
    with bar("range test") as progress:
        found = suggest_lr(
            loaded.factory if isinstance(loaded, BlackBox) else loaded,
            tasks.get(task, data_dir=data_dir),
            low=low,
            high=high,
            steps=steps,
            starts=starts,
            seed=seed,
            progress=progress,
        )
    write_text(out, standalone(range_test_plot(found, "range-test")))
    result = {
        "suggestion": found.suggestion,
        "steepest": found.steepest,
        "least_loss_at": found.lrs[found.least],
        "diverged": found.diverged,
        "open_ended": found.open_ended,
        "picture": str(out),
    }
    show(result, json, lambda: _print(found, out))


def _print(found: RangeTest, out: Path) -> None:
    lines = [
        f"suggested learning rate: {found.suggestion:.3g}",
        f"the loss falls fastest at {found.steepest:.3g}, and is least at {found.lrs[found.least]:.3g}",
        f"{sparkline(found.smooth, 48)}  lr {found.lrs[0]:.3g} .. {found.lrs[-1]:.3g}",
        f"picture: {out}",
    ]
    if found.open_ended:
        lines.insert(
            2, "the loss still falls at the range's end: try a larger --high; a rule that hardly minds its rate,"
        )
        lines.insert(3, "such as cf1, is best left at its own")
    STDOUT.print("\n".join(lines), markup=False, highlight=False)
