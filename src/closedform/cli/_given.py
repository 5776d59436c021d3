"""Options of the command line that only some functions take."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from closedform.errors import OptionError


def options_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of a function's parameters."""
    return tuple(inspect.signature(function).parameters)


def given_to(function: Callable[..., Any], what: str, **options: Any) -> dict[str, Any]:
    """The options that were given, which the function must take; the others keep its own defaults.

    Args:
        function: The function.
        what: What it is, for the message: "the estimator pes".
        options: Name -> value; None and False were not given.

    Raises:
        OptionError: the function takes no such option.
    """
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    known = options_of(function)
    for name in given:
        if name not in known:
            flags = ", ".join(_flag(option) for option in known if option in options) or "none"
            raise OptionError(f"{what} has no option {_flag(name)}; its options: {flags}")
    return given


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def optimizer_options(given: Sequence[str]) -> dict[str, Any]:
    """What ``--opt`` says: ``lr=0.1``, ``betas=0.9,0.99``, ``nesterov=True``: values as Python writes them, or text."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise OptionError(f"--opt {text!r} must be NAME=VALUE, such as --opt lr=0.01")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found
