"""``closedform share``: a rule, and a card made from it, to a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from closedform.cli._app import STDOUT, JsonFlag, app, show
from closedform.report import share_rule
from closedform.rules import load_rule


@app.command("share")
def share(
    rule: Annotated[str, typer.Argument(help="A rule file, or a library rule.")],
    to: Annotated[str, typer.Option("--to", help="Where: user/name.")],
    hub: Annotated[
        Path | None,
        typer.Option(help="A folder or git repository that is the hub; by default CLOSEDFORM_HUB, else Hugging Face."),
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the rule, as hubs name it.")] = "apache-2.0",
    replace: Annotated[bool, typer.Option("--replace", help="Write over another rule of that name.")] = False,
    json: JsonFlag = False,
) -> None:
    """Share a rule on a hub, with a card made from its file: equation, certificates, origin, results."""
    address = share_rule(load_rule(rule), to, hub=hub, licence=licence, replace=replace)
    show({"rule": address}, json, lambda: STDOUT.print(f"shared: {address}", markup=False, highlight=False))
