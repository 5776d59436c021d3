"""Certificates: what is known for sure of a rule, and what was only looked at.

Each is proved over the rule's expressions where that is cheap (see `lang`'s parities and degrees, and `_bounds`), at
every step and for all gradients. Where the proof does not go through, the rule is run on made-up gradients: an example
against a property is proof enough, and the lack of one is only a check, and called so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from closedform.analysis._bounds import bound
from closedform.analysis._probe import TOTAL, histories, run
from closedform.analysis._stability import STEPS as QUADRATIC_STEPS
from closedform.analysis._stability import limit_by_runs, linear_limit
from closedform.lang import Expr, Parity, Program, degrees, parities, substitute
from closedform.rules import Rule, load_rule

PROOF, EXAMPLE, CHECK = "proof", "example", "check"
"""How a certificate is known: for all gradients; by one that shows it; by gradients that were tried."""
SHAPE, PROBED = (32, 32), (8, 6)
"""The tensor that bounds are stated for, and the one that is probed."""
STEPS, LONG, REST = 40, 250, 400
"""Steps of a probe, of one for the largest update, and without gradients, after which an update should have faded."""
MOST_DEGREE = 50
"""Degrees beyond are none: their powers overflow."""
TOLERANCE = 1e-6
"""Largest share by which checked updates may differ."""
FADED = 1e-3
"""Share of its size with gradients that an update may still have after ``REST`` steps without."""
STILL, ON, ANY = "stands still", "goes on as at progress = 1", "has no horizon"


@dataclass(frozen=True)
class Certificate:
    """One property.

    Attributes:
        claim: The property, in words.
        value: Whether it holds, or the number asked for; None: there is no such number.
        by: ``"proof"``, ``"example"`` (one that shows that it does not hold) or ``"check"`` (numerical).
        note: Reservations, and what the value is stated for.
    """

    claim: str
    value: bool | float | str | None
    by: str
    note: str = ""

    def __str__(self) -> str:
        how = f"{self.by}; {self.note}" if self.note else self.by
        return f"{self.claim}: {self.answer} ({how})"

    @property
    def answer(self) -> str:
        """The value as text: yes, no, none, unbounded, a number."""
        if isinstance(self.value, float):
            return "unbounded" if math.isinf(self.value) else f"{self.value:.4g}"
        return {True: "yes", False: "no", None: "none"}[self.value] if not isinstance(self.value, str) else self.value


@dataclass(frozen=True)
class Certificates:
    """What is known of a rule.

    Attributes:
        odd: u(-g) = -u(g).
        no_drift: Without any gradient the update is 0 for ever.
        fades: After gradients end, the update goes to 0.
        degree_g, degree_w: k where multiplying all gradients, or the parameters, by c > 0 multiplies updates by c**k.
        bound: The largest |update|.
        past_horizon: What happens past ``total_steps``.
        stable_lr: The largest learning rate that is stable on a quadratic of curvature 1.
    """

    odd: Certificate
    no_drift: Certificate
    fades: Certificate
    degree_g: Certificate
    degree_w: Certificate
    bound: Certificate
    past_horizon: Certificate
    stable_lr: Certificate

    def __iter__(self) -> Iterator[Certificate]:
        return (getattr(self, entry.name) for entry in fields(self))

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values; what is infinite is the text "unbounded"."""
        return {
            name: entry | {"value": "unbounded" if entry["value"] == math.inf else entry["value"]}
            for name, entry in asdict(self).items()
        }


def certify(rule: Rule | str | Path) -> Certificates:
    """Certify a rule, as it is with its constants.

    Numbers are in the units of its update, to be multiplied by ``lr``. A small constant that keeps a denominator off 0
    is let pass in a degree, and told: the degree holds up to it.

    Args:
        rule: A rule, a library name or a path.

    Raises:
        RuleError, UnknownNameError: the rule cannot be loaded.

    Example:
        >>> certify("lion").bound.value
        1.0
    """
    program = load_rule(rule).program.live
    degree_g = _degree(program, "g")
    return Certificates(
        _odd(program),
        _no_drift(program),
        _fades(program),
        degree_g,
        _degree(program, "w"),
        _bound(program, degree_g),
        _past_horizon(program),
        _stable_lr(program),
    )


def _odd(program: Program) -> Certificate:
    claim = "odd in g"
    if parities(program)["update"] in (Parity.ODD, Parity.ZERO):
        return Certificate(claim, True, PROOF)
    gradients, w = _tried(), _parameters()
    if _near(run(program, gradients, w), -run(program, -gradients, w)):
        return Certificate(claim, True, CHECK)
    together = parities(program, odd=("g", "w"))["update"] is Parity.ODD
    return Certificate(claim, False, EXAMPLE, "proved odd in g and w together" if together else "")


def _no_drift(program: Program) -> Certificate:
    claim = "no drift without gradients"
    if parities(program, odd=(), zero=("g",))["update"] is Parity.ZERO:
        return Certificate(claim, True, PROOF)
    if not run(program, torch.zeros((1, REST, *PROBED), dtype=torch.float64), _parameters()).any():
        return Certificate(claim, True, CHECK)
    decays = parities(program, odd=(), zero=("g", "w"))["update"] is Parity.ZERO
    return Certificate(claim, False, EXAMPLE, "by w alone, as weight decay does; proved 0 at w = 0" if decays else "")


def _fades(program: Program) -> Certificate:
    """Run: gradients, then none; w = 0, so that weight decay does not count."""
    gradients = _tried()[:1]
    nothing = torch.zeros((1, REST, *PROBED), dtype=torch.float64)
    updates = run(program, torch.cat([gradients, nothing], dim=1), nothing[0, 0], total=10 * REST).abs()
    before, after = float(updates[:, :STEPS].max()), float(updates[:, -10:].max())
    share = after / before if before else 0.0
    note = f"{share:.2g} of its size {REST} steps on"
    return Certificate("fades after gradients end", share <= FADED, CHECK if share <= FADED else EXAMPLE, note)


def _degree(program: Program, name: str) -> Certificate:
    claim = f"degree of scale in {name}"
    proved = degrees(program, {name: 1.0})["update"]
    if proved is not None:
        return Certificate(claim, proved.power or 0.0, PROOF, ", ".join(sorted(proved.but_for)))
    gradients, w = _tried(), _parameters()
    plain = run(program, gradients, w)
    powers = []
    for scale in (0.01, 100.0):
        scaled = run(program, scale * gradients if name == "g" else gradients, scale * w if name == "w" else w)
        power = _power(float(scaled.norm()), float(plain.norm()), scale)
        if power is None or not _near(scale**power * plain, scaled):
            return Certificate(claim, None, EXAMPLE)
        powers.append(power)
    alike = abs(powers[0] - powers[1]) <= TOLERANCE
    return Certificate(claim, powers[0] if alike else None, CHECK if alike else EXAMPLE)


def _power(scaled: float, plain: float, scale: float) -> float | None:
    """The k of scaled = scale**k * plain; None where it is too large, or a size is none."""
    if scaled == plain:
        return 0.0
    if not (0 < scaled < math.inf and 0 < plain < math.inf):
        return None
    power = round((math.log(scaled) - math.log(plain)) / math.log(scale), 6)
    return power if abs(power) < MOST_DEGREE else None


def _bound(program: Program, degree_g: Certificate) -> Certificate:
    claim, stated = "bound on |update|", _stated(program)
    proved = bound(program, SHAPE, TOTAL, 1.0)
    if math.isfinite(proved):
        return Certificate(claim, proved, PROOF, stated)
    power = degree_g.value
    if degree_g.by == PROOF and isinstance(power, float) and power > 0:
        return Certificate(claim, math.inf, PROOF, f"grows as |g|**{power:g}")
    seen = {scale: _largest(program, scale) for scale in ((1.0,) if power == 0 else (1.0, 1e3, 1e6))}
    if math.isinf(max(seen.values())):
        return Certificate(claim, math.inf, EXAMPLE, "not finite in a run")
    if power != 0 and seen[1e6] > 10 * max(seen[1.0], seen[1e3]):
        return Certificate(claim, math.inf, EXAMPLE, "grows with the gradient")
    note = "none proved, the largest seen"
    return Certificate(claim, max(seen.values()), CHECK, ", ".join(filter(None, (note, stated))))


def _stated(program: Program) -> str:
    parts = []
    if "w" in program.reads:
        parts.append("|w| <= 1")
    if program.needs_shapes or program.reduces:
        parts.append(f"a {SHAPE[0]} x {SHAPE[1]} matrix")
    if program.needs_total_steps:
        parts.append(f"T = {TOTAL}")
    return ", ".join(parts)


def _largest(program: Program, scale: float) -> float:
    gradients = torch.stack(list(histories(PROBED, LONG).values()))
    found = run(program, scale * gradients, _parameters().clamp(-1, 1))
    return float(found.abs().nan_to_num(nan=math.inf, posinf=math.inf).max())


def _past_horizon(program: Program) -> Certificate:
    claim = "past total_steps"
    if not program.needs_total_steps:
        return Certificate(claim, ANY, PROOF)
    end: dict[str, Expr | float] = {"progress": 1.0} if "progress" in program.reads else {}
    sections = (program.state, program.where, program.outputs, program.init)
    ended = Program(
        program.constants, *({key: substitute(expr, end) for key, expr in section.items()} for section in sections)
    )
    still = parities(ended, odd=())["update"] is Parity.ZERO
    return Certificate(claim, STILL if still else ON, PROOF)


def _stable_lr(program: Program) -> Certificate:
    claim = "largest stable lr at curvature 1"
    limit = linear_limit(program)
    if limit is not None:
        return Certificate(claim, limit, PROOF, "linear: by its eigenvalues")
    return Certificate(
        claim, limit_by_runs(program), CHECK, f"{QUADRATIC_STEPS} steps from |w| = 1 that never go further out"
    )


def _parameters() -> Tensor:
    return torch.randn(PROBED, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _tried() -> Tensor:
    every = histories(PROBED, STEPS)
    return torch.stack([every[name] for name in ("normal", "heavy-tailed", "sparse")])


def _near(x: Tensor, y: Tensor) -> bool:
    """Whether both are finite and alike; infinities would differ by no more than they are large."""
    size = float(x.abs().max())
    return math.isfinite(size) and float((x - y).abs().max()) <= TOLERANCE * size
