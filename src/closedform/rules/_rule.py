"""A rule: an optimizer's update as a program, with its name, default learning rate and provenance.

    w <- w + lr * update

``lr`` belongs to the optimizer's parameter group, so that schedulers work on it; the rule carries a default.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from closedform._document import Malformed, Name, read, shown
from closedform._files import finite, write_text
from closedform.errors import ExpressionError, RuleError
from closedform.lang import (
    LATE_NAMES,
    Expr,
    Program,
    equation_latex,
    equations,
    latex,
    nonfinite_constant,
    number_latex,
    parse,
    symbol_latex,
    to_text,
)
from closedform.rules._document import FORMAT, FORMATS, LATE_FORMAT, checked, parse_document

MAX_BYTES = 2**19
"""Largest rule file that is read; the ones people write are a few hundred bytes."""


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
        init: Mapping[str, str] | None = None,
        lr: float = 1.0,
        provenance: Mapping[str, Any] | None = None,
        results: Mapping[str, Any] | None = None,
    ) -> Rule:
        """Build a rule from expressions as text.

        ``init`` gives states' old values at step 1, over the inputs and constants; they are 0 otherwise.

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
                {key: _parse_at(f'init "{key}"', text) for key, text in (init or {}).items()},
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
    def init(self) -> dict[str, Expr]:
        """States' old values at step 1, where they are not 0."""
        return dict(self.program.init)

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
        """Buffers a parameter that the rule keeps: shared states count once, unused ones not at all.

        Neither do scalars, and rows and columns of numbers, which are less than a buffer: see `factored_states`.
        """
        return self.program.state_cost

    @property
    def factored_states(self) -> int:
        """Rows and columns of numbers, one a row or column of the parameter as a matrix, that the rule keeps."""
        return self.program.merged.factored

    @property
    def needs_total_steps(self) -> bool:
        """Whether the rule reads ``T`` or ``progress``, so that the number of steps must be known before the first."""
        return self.program.live.needs_total_steps

    @property
    def format(self) -> str:
        """The format of its file: the oldest that has all that the rule uses."""
        return FORMATS[self.program.level - 1]

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
        program = self.program.live
        parts = equations(program)
        rows = [equation_latex(line, digits) for name in ("init", "state", "where") for line in parts[name]]
        (update,) = parts["outputs"]
        change = latex(update.expr, update.times, digits)
        rows.append(rf"w_{{t}} &= w_{{t-1}} + \eta \, \Delta w_{{t}}, \quad \Delta w_{{t}} = {change}")
        if program.constants:
            values = (
                f"{symbol_latex(name)} = {number_latex(value, digits)}" for name, value in program.constants.items()
            )
            rows.append("& " + r",\; ".join(values))
        return "\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}"

    def to_dict(self) -> dict[str, Any]:
        """The rule file's content, plain JSON values; `from_dict` of it gives an equal rule."""
        document: dict[str, Any] = {
            "format": self.format,
            "name": self.name,
            "lr": self.lr,
            "constants": self.constants,
            "init": _texts(self.program.init),
            "state": _texts(self.program.state),
            "where": _texts(self.program.where),
            "update": to_text(self.update),
            "provenance": finite(self.provenance),
        }
        if not self.program.init:
            del document["init"]
        if self.results:
            document["results"] = finite(self.results)
        return document

    def to_json(self) -> str:
        """The rule file's text; `from_json` of it gives an equal rule, and `to_json` of that the same bytes."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Rule:
        """Read a rule file's text.

        Raises:
            RuleError: not JSON, another format version, or malformed; names the rule, the place and the cause.
        """
        return cls._from_checked(checked(parse_document(text)))

    @classmethod
    def from_dict(cls, document: Any) -> Rule:
        """Read a rule that somebody sent: a file's content, parsed as JSON, or a part of another document.

        Raises:
            RuleError: as `from_json`; or a part of it is made of numbers alone and not finite, as in ``9**9**9**9*g``.
        """
        rule = cls._from_checked(checked(document))
        _check_finite(rule.program, f'rule "{rule.name}"')
        return rule

    def save(self, path: str | Path) -> Path:
        """Write the rule file, atomically.

        Raises:
            OutputError: the folder cannot be written.
        """
        write_text(Path(path), self.to_json())
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Rule:
        """Read a rule file; `load_rule` takes a name in the library as well.

        Raises:
            RuleError: the file is missing, too large or malformed.
        """
        path = Path(path)
        try:
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise RuleError(f"rule file {path} has {size} bytes; the limit is {MAX_BYTES}")
            text = path.read_bytes()[: MAX_BYTES + 1].decode("utf-8")
        except UnicodeDecodeError:
            raise RuleError(f"rule file {path} is not UTF-8 text") from None
        except OSError as error:
            raise RuleError(f"cannot read rule file {path}: {error.strerror or error}") from None
        try:
            return cls.from_dict(parse_document(text))
        except RuleError as error:
            raise RuleError(f"{path}: {error}") from None

    from_document = from_dict
    """Its former name."""

    @classmethod
    def _from_checked(cls, found: Mapping[str, Any]) -> Rule:
        rule = cls.parse(
            found["name"],
            found["update"],
            state=found["state"],
            where=found["where"],
            constants=found["constants"],
            init=found["init"],
            lr=found.get("lr", 1.0),
            provenance=found.get("provenance", {}),
            results=found.get("results", {}),
        )
        _check_format(found["format"], rule.program, f'rule "{rule.name}"')
        return rule


def _texts(section: Mapping[str, Expr]) -> dict[str, str]:
    return {name: to_text(expr) for name, expr in section.items()}


def _check_format(found: str, program: Program, place: str) -> None:
    """A file of format 1 uses nothing newer; one of format 2 gives the newer names no meaning of its own."""
    if found == FORMAT and program.level > 1:
        newer = sorted({*program.reads, *program.operators} & LATE_NAMES) or ["init"]
        raise RuleError(f'{place}: {found!r} has no "{newer[0]}"; say "format": "{LATE_FORMAT}"')
    if found == LATE_FORMAT:
        for section in ("constants", "state", "where"):
            for name in getattr(program, section):
                if name in LATE_NAMES:
                    raise RuleError(f'{place}, {section} "{name}": this name is reserved in {LATE_FORMAT}')


def _check_finite(program: Program, place: str) -> None:
    for section in ("init", "state", "where", "outputs"):
        for name, expr in getattr(program, section).items():
            if (part := nonfinite_constant(expr)) is not None:
                where = name if section == "outputs" else f'{section} "{name}"'
                raise RuleError(f"{place}, {where}: {shown(to_text(part))} is not finite")


def _parse_at(place: str, text: str) -> Expr:
    try:
        return parse(text)
    except ExpressionError as error:
        raise ExpressionError(f"{place}: {error}") from None
