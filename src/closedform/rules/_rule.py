"""A rule: an optimizer's update as a program, with its name, default learning rate and provenance.

    w <- w + lr * update

``lr`` belongs to the optimizer's parameter group, so that schedulers work on it; the rule carries a default.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from closedform._document import Malformed, Name, read, shown
from closedform._files import finite
from closedform.errors import ExpressionError, RuleError
from closedform.lang import Expr, Program, latex, nonfinite_constant, number_latex, parse, symbol_latex, to_text
from closedform.rules._document import FORMAT, checked, parse_document


@dataclass(frozen=True)
class Rule:
    """An update rule.

    Attributes:
        name: A short name.
        program: Recurrences, named values and the one output ``update``.
        lr: Default learning rate (units of parameter per unit of update).
        provenance: Where the rule comes from: a citation, or how it was learned. Any JSON object.
        results: Measured results. Any JSON object.
    """

    name: str
    program: Program
    lr: float = 1.0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            read(self.name, Name)
        except Malformed as error:
            raise RuleError(f"a rule's name {error}") from None
        if set(self.program.outputs) != {"update"}:
            raise RuleError(f'rule "{self.name}": a rule has exactly one output, "update"')
        if not isinstance(self.lr, (int, float)) or isinstance(self.lr, bool) or not math.isfinite(self.lr):
            raise RuleError(f'rule "{self.name}", lr: must be a finite number, got {self.lr!r}')

    @classmethod
    def parse(
        cls,
        name: str,
        update: str,
        *,
        state: Mapping[str, str] | None = None,
        where: Mapping[str, str] | None = None,
        constants: Mapping[str, float] | None = None,
        lr: float = 1.0,
        provenance: Mapping[str, Any] | None = None,
        results: Mapping[str, Any] | None = None,
    ) -> Rule:
        """Build a rule from expressions as text.

        Example:
            >>> Rule.parse("momentum", "-m", state={"m": "beta*m + g"}, constants={"beta": 0.9}, lr=0.01).state_cost
            1

        Raises:
            RuleError: something is malformed; the message names the rule, the place and the cause.
        """
        try:
            program = Program(
                dict(constants or {}),
                {key: _parse_at(f'state "{key}"', text) for key, text in (state or {}).items()},
                {key: _parse_at(f'where "{key}"', text) for key, text in (where or {}).items()},
                {"update": _parse_at("update", update)},
            )
        except ExpressionError as error:
            raise RuleError(f'rule "{name}", {error}') from None
        return cls(name, program, lr, dict(provenance or {}), dict(results or {}))

    @property
    def constants(self) -> dict[str, float]:
        """The named constants."""
        return dict(self.program.constants)

    @property
    def state(self) -> dict[str, Expr]:
        """State recurrences."""
        return dict(self.program.state)

    @property
    def where(self) -> dict[str, Expr]:
        """Named values."""
        return dict(self.program.where)

    @property
    def update(self) -> Expr:
        """The update expression."""
        return self.program.outputs["update"]

    @property
    def state_cost(self) -> int:
        """Buffers a parameter that the rule keeps: shared states count once, unused ones and scalars not at all."""
        return self.program.state_cost

    @property
    def complexity(self) -> int:
        """Number of nodes of the update and of every recurrence and named value that it uses."""
        return self.program.complexity

    def with_constants(self, **values: float) -> Rule:
        """The same rule with other constants.

        Raises:
            RuleError: a name is not a constant of this rule, or a value is not finite.
        """
        try:
            return replace(self, program=self.program.with_constants(values))
        except ExpressionError as error:
            raise RuleError(f'rule "{self.name}", {error}') from None

    def latex(self, digits: int = 6) -> str:
        """LaTeX of the whole rule: an ``aligned`` block, one line a recurrence, constants' values last."""
        return _RuleLatex(self, digits).block()

    def to_json(self) -> str:
        """The rule file's text; `from_json` of it gives an equal rule, and `to_json` of that the same bytes."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "lr": self.lr,
            "constants": self.constants,
            "state": {name: to_text(expr) for name, expr in self.program.state.items()},
            "where": {name: to_text(expr) for name, expr in self.program.where.items()},
            "update": to_text(self.update),
            "provenance": finite(self.provenance),
        }
        if self.results:
            document["results"] = finite(self.results)
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Rule:
        """Read a rule file's text.

        Raises:
            RuleError: not JSON, another format version, or malformed; names the rule, the place and the cause.
        """
        return cls.from_document(parse_document(text))

    @classmethod
    def from_document(cls, document: Any) -> Rule:
        """Read a rule file's content, parsed as JSON; it may stand in another document.

        Raises:
            RuleError: another format version, or malformed; names the rule, the place and the cause.
        """
        found = checked(document)
        return cls.parse(
            found["name"],
            found["update"],
            state=found["state"],
            where=found["where"],
            constants=found["constants"],
            lr=found.get("lr", 1.0),
            provenance=found.get("provenance", {}),
            results=found.get("results", {}),
        )


def _parse_at(place: str, text: str) -> Expr:
    try:
        expr = parse(text)
    except ExpressionError as error:
        raise ExpressionError(f"{place}: {error}") from None
    if (part := nonfinite_constant(expr)) is not None:
        raise ExpressionError(f"{place}: {shown(to_text(part))} is not finite")
    return expr


@dataclass
class _RuleLatex:
    rule: Rule
    digits: int

    def block(self) -> str:
        program = self.rule.program.live
        now = dict.fromkeys(["g", *program.state, *program.where], "t")
        before = now | dict.fromkeys(program.state, "t-1") | {"w": "t-1"}
        now["w"] = "t-1"
        lines = [self.line(name, expr, before) for name, expr in program.state.items()]
        lines += [self.line(name, expr, now) for name, expr in program.where.items()]
        update = latex(self.rule.update, now, self.digits)
        lines.append(rf"w_{{t}} &= w_{{t-1}} + \eta \, \Delta w_{{t}}, \quad \Delta w_{{t}} = {update}")
        if program.constants:
            lines.append("& " + r",\; ".join(self.constant(name, value) for name, value in program.constants.items()))
        return "\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}"

    def line(self, name: str, expr: Expr, times: Mapping[str, str]) -> str:
        return f"{symbol_latex(name, 't')} &= {latex(expr, times, self.digits)}"

    def constant(self, name: str, value: float) -> str:
        return f"{symbol_latex(name)} = {number_latex(value, self.digits)}"
