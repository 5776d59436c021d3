"""The application object: commands loaded when called, and errors as one line, exit code 2, no traceback."""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console

from closedform._files import finite
from closedform._version import __version__
from closedform.errors import ClosedFormError, OptionError

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("_run", "Meta-train, record, distil, tune, choose, compare, report: everything, end to end."),
    "train": ("_train", "Meta-train a learned optimizer on tasks."),
    "record": ("_record", "Record an optimizer at work: its features and its updates."),
    "distill": ("_distill", "Distil a recording into rules, or a table of data into equations."),
    "tune": ("_train", "Meta-tune a rule's constants on tasks."),
    "evolve": ("_evolve", "Tune a rule's constants by CMA-ES, by where whole episodes end, on tasks of many kinds."),
    "race": (
        "_race",
        "Tune a rule's constants on one task by whole training runs, on processes or a cluster.",
    ),
    "evaluate": ("_evaluate", "Compare optimizers on tasks over seeds, with baselines of tuned learning rates."),
    "reproduce": ("_reproduce", "Print one of the paper's tables beside ours."),
    "explain": (
        "_rules",
        "Explain an optimizer: equation, price, certificates, how far back it looks, and how it answers to gradients.",
    ),
    "compare": (
        "_compare",
        "Put optimizers side by side on one page: equations, memories, answers, certificates, and a map.",
    ),
    "watch": ("_watch", "See a rule at work: what each term of its equation contributes to the update."),
    "pick": ("_pick", "Take an equation out of a hall of fame: the most faithful one of a size."),
    "report": (
        "_report",
        "Write a page on a run so far, or on several, side by side: learning curves, equations, comparison.",
    ),
    "suggest-lr": ("_suggest", "Suggest a learning rate by a range test, with a picture."),
    "identify": ("_identify", "Say which known optimizer a recording is of, or which it is nearest to."),
    "export": ("_rules", "Write a rule as a torch optimizer, LaTeX, an optax transformation or a numpy reference."),
    "share": (
        "_share",
        "Share a rule on a hub, with a card made from its file: equation, certificates, origin, results.",
    ),
    "rules": ("_rules", "List, show and check rules."),
    "plugins": (
        "_plugins",
        "List the tasks, learned optimizers and engines that other packages bring, and whether they can be imported.",
    ),
    "tasks": ("_tasks", "List the tasks, with their sizes, the data they need, and whether it is here."),
}
"""Command -> its module, and the line that the overview says about it. A module is imported when its command is called:
the overview and the version need none of what commands need."""
RANK = int(os.environ.get("RANK", "0"))
"""The process's number under torchrun; only the first one prints what is found."""
STDERR = Console(stderr=True, quiet=RANK > 0)
STDOUT = Console(quiet=RANK > 0)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]
TaskName = Annotated[list[str], typer.Option("--task", help="A task (closedform tasks); repeat it for several.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder that holds the data files (or a sub-folder per data set).")]
Out = Annotated[Path, typer.Option("--out", help="Folder for results, checkpoints and metrics.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in --out.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, ...")]
Trainable = Annotated[
    str | None,
    typer.Option(help="Constants to tune, comma-separated, lr among them if wanted; all but floors by default."),
]


def check_suffix(path: Path, suffix: str, what: str) -> None:
    """Refuse a file's name that says another kind of file than is written."""
    if path.suffix not in ("", suffix):
        raise OptionError(f"{what} is written as {suffix}, and {path} ends with {path.suffix}: name it so")


class _Group(typer.core.TyperGroup):
    """Loads a command when it is called; turns errors into one line and an exit code.

    The codes: 2 for bad input, 130 for an interruption, 1 for a fault of ours.
    """

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        loaded = dict(self.commands)
        stand_ins = {name: typer.core.TyperCommand(name, help=line) for name, (_, line) in COMMANDS.items()}
        self.commands = {**stand_ins, **loaded}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in COMMANDS:
            importlib.import_module(f"closedform.cli.{COMMANDS[args[0]][0]}")  # registers its commands with ``app``
            self.commands = typer.main.get_group(app).commands
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except ClosedFormError as error:
            _say("error", str(error))
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            _say("interrupted", "what was finished is kept; commands with --resume continue from there")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if type(error).__module__.startswith("typer._click") or os.environ.get("CLOSEDFORM_DEBUG"):
                raise
            _say("internal error", f"{type(error).__name__}: {error} (set CLOSEDFORM_DEBUG=1 for the traceback)")
            raise typer.Exit(1) from None


app = typer.Typer(
    name="closedform",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Learn an optimizer, write it down as an equation, train your network with the equation.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def show(value: Any, as_json: bool, render: Callable[[], None]) -> None:
    """Print a result: as JSON on standard output, or rendered for people. Of several processes the first one prints."""
    if RANK:
        return
    if as_json:
        typer.echo(json.dumps(finite(value), indent=2))
    else:
        render()


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Say what a user can do something about in one line; what is for developers stays out of the way."""
    if category is UserWarning:
        _say("warning", str(message))


def _say(kind: str, message: str) -> None:
    where = f"process {RANK}: " if RANK else ""
    typer.echo(f"{where}{kind}: {' '.join(message.split())}", err=True)
