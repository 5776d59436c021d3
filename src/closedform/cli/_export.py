"""``closedform export``: a rule as source for people and other systems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from closedform._files import write_text
from closedform.cli._app import app
from closedform.cli._rules import RuleName
from closedform.export import EXPORTERS, export

_TARGETS = "; ".join(f"{row.name}: {row.summary} (needs {row.needs})" for row in EXPORTERS.values())


@app.command("export")
def export_rule(
    rule: RuleName,
    to: Annotated[str, typer.Option("--to", help=f"What to write. {_TARGETS}.")] = "python",
    out: Annotated[Path | None, typer.Option("--out", help="File to write; standard output if left out.")] = None,
) -> None:
    """Write a rule as a torch optimizer, LaTeX, an optax transformation or a numpy reference."""
    text = export(rule, to)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        typer.echo(f"wrote {out}")
