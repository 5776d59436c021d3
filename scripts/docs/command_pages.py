"""A page that lists every command with its arguments and options, read from the application itself."""

from __future__ import annotations

import importlib
from pathlib import Path

import typer
from markup import cell, table

from closedform.cli import app


def names() -> dict[str, str]:
    """All commands are on the first page."""
    return {}


def application():
    """The application with all its commands, which it loads one by one otherwise."""
    for path in sorted(Path(importlib.import_module("closedform.cli").__file__).parent.glob("_[a-z]*.py")):
        importlib.import_module(f"closedform.cli.{path.stem}")
    return typer.main.get_group(app)


def pages(folder: str) -> dict[str, str]:
    """The page."""
    group = application()
    overview = [
        [f"[`{name}`](#{name})", cell((one.help or "").splitlines()[0])] for name, one in group.commands.items()
    ]
    text = [
        "# Commands",
        "`closedform COMMAND --help` prints the same. Names of optimizers are library rules, rule files, networks and, "
        "where something is only read, anything that can be imported as `module:Class`.",
        table(["command", "what it does"], overview),
        *(section(name, command, 2) for name, command in group.commands.items()),
    ]
    return {f"{folder}/index.md": "\n\n".join(text)}


def section(name: str, command, level: int) -> str:
    """One command, and those inside it."""
    inner = getattr(command, "commands", {})
    given = [one for one in command.params if not one.hidden and one.name != "help"]
    arguments = [one for one in given if not one.opts[0].startswith("-")]
    usage = " ".join(["closedform", name, *(_argument(one) for one in arguments), *(["[OPTIONS]"] if given else [])])
    rows = [[f"`{', '.join([*one.opts, *one.secondary_opts])}`", cell(one.help or ""), _default(one)] for one in given]
    parts = [
        f"{'#' * level} {name}",
        cell(command.help or "").replace("\n", " "),
        *([f"```sh\n{usage}\n```"] if not inner else []),
        *([table(["argument or option", "what it is", "default"], rows)] if rows else []),
        *(section(f"{name} {key}", one, level + 1) for key, one in inner.items()),
    ]
    return "\n\n".join(parts)


def _argument(one) -> str:
    shown = one.name.upper() + "..." * (one.nargs != 1)
    return shown if one.required else f"[{shown}]"


def _default(one) -> str:
    if one.required:
        return "required"
    value = one.default
    if value is None or value is False or value == [] or callable(value):
        return ""
    return f"`{' '.join(map(str, value)) if isinstance(value, (list, tuple)) else value}`"
