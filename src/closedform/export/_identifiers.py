"""Names and texts of a rule made fit for source code.

A rule is untrusted: its name and provenance may hold quotes, line breaks, backslashes or invisible characters, and its
constants may be called ``self`` or ``lambda``. What comes out of here is safe to stand in source.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable

from closedform.lang import FUNCTIONS

PYTHON_NAMES = frozenset({*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *FUNCTIONS})
"""Names that mean something in every exported Python file, the helper functions' included."""
_LONGEST = 60


def clean(text: str, limit: int = 400) -> str:
    """One line of printable characters: white space becomes a space, other invisible characters a question mark."""
    words = " ".join(text[: 2 * limit].split())
    shown = "".join(char if char.isprintable() else "?" for char in words)
    return shown if len(text) <= 2 * limit and len(shown) <= limit else shown[: limit - 3] + "..."


def docstring_text(line: str) -> str:
    """A whole cleaned line as it stands inside a triple-quoted string, which it can neither end nor escape."""
    return line.replace("\\", "\\\\").replace('""', '\\"\\"')


def identifiers(names: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """A Python name for each name of a rule: its own, or ``rule_...`` where that one is taken.

    Args:
        names: ASCII identifiers, all different.
        taken: Names that the file uses itself.
    """
    names, reserved = list(names), {*taken, *PYTHON_NAMES}
    free = [name for name in names if name not in reserved and not name.startswith("__")]
    chosen = {name: name for name in free}
    used = reserved | set(free)
    for name in names:
        if name not in chosen:
            chosen[name] = f"rule_{name}"
            while chosen[name] in used:
                chosen[name] += "_"
            used.add(chosen[name])
    return chosen


def unused_stem(stem: str, used: Iterable[str]) -> str:
    """The stem, with underscores added until no name starts with it."""
    used = list(used)
    while any(name.startswith(stem) for name in used):
        stem += "_"
    return stem


def class_name(rule_name: str) -> str:
    """``rp-si distilled`` -> ``RpSiDistilled``; ``LearnedRule`` if nothing is left of the name."""
    joined = "".join(part[0].upper() + part[1:] for part in _words(rule_name))[:_LONGEST]
    name = joined or "LearnedRule"
    name = f"Rule{name}" if name[0].isdigit() else name
    return f"{name}Rule" if name in PYTHON_NAMES else name


def function_name(rule_name: str, taken: Iterable[str]) -> str:
    """``rp-si distilled`` -> ``rp_si_distilled``; ``learned_rule`` if nothing is left of the name."""
    joined = "_".join(part.lower() for part in _words(rule_name))[:_LONGEST].strip("_")
    name = joined or "learned_rule"
    name = f"rule_{name}" if name[0].isdigit() else name
    return f"{name}_rule" if name in {*taken, *PYTHON_NAMES} else name


def _words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z0-9]+", text)
