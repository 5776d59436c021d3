"""The application object, and how errors reach the user: one line, exit code 2, no traceback."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from closedform._files import finite
from closedform._version import __version__
from closedform.errors import ClosedFormError

STDERR = Console(stderr=True)
STDOUT = Console()

JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder that holds the data files (or a sub-folder per data set).")]
Out = Annotated[Path, typer.Option("--out", help="Folder for results, checkpoints and metrics.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run in --out.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, ...")]


class _Group(typer.core.TyperGroup):
    """Turns errors into one line and an exit code: 2 for bad input, 130 for an interruption, 1 for a fault of ours."""

    def invoke(self, ctx: Any) -> Any:
        try:
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
    """Print a result: as JSON on standard output, or rendered for people."""
    if as_json:
        typer.echo(json.dumps(finite(value), indent=2))
    else:
        render()


def _say(kind: str, message: str) -> None:
    typer.echo(f"{kind}: {' '.join(message.split())}", err=True)
