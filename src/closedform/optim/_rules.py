"""The rule of a group, which is kept as text so that a state_dict loads with weights_only: parsed once."""

from __future__ import annotations

from functools import lru_cache

from closedform.lang import Program, memory_kinds
from closedform.rules import Rule


@lru_cache(maxsize=64)
def rule_of(text: str) -> Rule:
    """The rule of a group, which is kept as text."""
    return Rule.from_json(text)


@lru_cache(maxsize=64)
def program_of(text: str) -> Program:
    """The program that a group's rule runs."""
    return rule_of(text).program.merged


@lru_cache(maxsize=64)
def memory_keys(text: str) -> tuple[str, ...]:
    """Names of the memory that a group's rule keeps for a parameter, sorted."""
    return tuple(sorted(memory_kinds(program_of(text))))
