"""Designs of optimizers: a few choices, each of several kinds, that make a program with constants to be fitted.

    update = sum over terms of c * form(above / below)

Above stands the gradient or an average of it, below the root of a second moment; averages are taken before or after the
division. What published optimizers add to that are choices, too: where eps stands, corrections for the start,
schedules in t, masks, bounds, averages of the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace

from closedform.lang import Expr, Lag, Program, Symbol, lags, names, parse, transform

CHOICES: dict[str, tuple[str, ...]] = {
    "x": ("g", "fast", "fast from g", "decayed"),
    "above": ("m", "x", "m+x", "m+m", "m+d", "pair"),
    "inside": ("", "divided", "clipped", "clipped t", "weighted"),
    "below": (
        *(
            "",
            "mean",
            "spread",
            "top",
            "sum",
            "abs",
            "peak",
            "yogi",
            "signed",
            "ahead",
            "deltas",
            "conditional",
            "conditioned",
        ),
        *("smooth", "sums"),
    ),
    "late": ("", "late"),
    "hat_m": ("", "own", "other"),
    "hat_v": ("", "own"),
    "floor": ("outside", "inside", "early", "both", "max"),
    "root": ("", "free"),
    "form": ("", "signs", "size", "agreeing", "sign", "friction", "bounded", "moderated", "trusted"),
    "schedule": ("", "rectified", "held", "nadam", "power", "averaged", "dual", "inverse", "resilient"),
    "w": ("", "w", "centre"),
}
"""Each choice's kinds; the first is the plain one.

x: what is averaged: the gradient; with a slow average of it added (Grokfast), which starts at 0 or at the gradient;
    with a multiple of the parameter (coupled weight decay).
above: it, its average m, both (Nesterov), two averages (AdEMAMix), m and an average of differences (Adan), two averages
    of every second step (positive-negative momentum).
inside: averaged before the division, after it (LaProp), after it and clipped by a power of t - 1 or t (ADOPT), after it
    is weighted with an average of a power of the second moment (AdamG).
below: nothing; averages of x^2 (Adam), of (x - m)^2 (AdaBelief), the largest so far (AMSGrad), the sum (Adagrad), of
    |x|, its decaying peak (Adamax), Yogi's and Ano's second moments, of (x + k (x - last x))^2 (Adan), Adadelta's, that
    of BCOS without a state, over the last m or the new one, AdaSmooth's, whose decay follows the parameter's way,
    Kate's sums.
late: whether the last step's second moment is read (ADOPT).
hat_m, hat_v: corrected for the start at 0, by the own decay or by that of v.
floor: eps beside the root, under it, beside the uncorrected root, there and under it, or the least that the root is.
root: the square root, or a power that is fitted (Padam).
form: as it is; its sign (signed momentum, Lion); its size with the gradient's sign (Grams); where it agrees with the
    gradient (cautious); the gradient's size with its sign (Ano); times 1/(1 + exp(-|change of g|)) (diffGrad); rates
    bounded ever closer (AdaBound); rates no larger than their average (AdaMod); trusted as much as the variance lets
    (M-SVAG).
schedule: none, RAdam's, with plain steps at first or none, Nadam's, a power of t, averaged parameters (schedule-free),
    dual averaging (MADGRAD), from multiplication to division (DualAdam), steps that grow until the sign turns (Rprop).
w: added: nothing, a multiple of the parameter (decoupled weight decay), its sign about its own average (FOCUS).
"""
_STARTS = {
    "d_m": 0.9,
    "d_v": 0.99,
    "d_b": 0.99,
    "d_s": 0.98,
    "d_d": 0.9,
    "d_e": 0.99,
    "d_r": 0.999,
    "d_w": 0.999,
    "d_f": 0.5,
    "eps": 1e-8,
    "eps_v": 1e-15,
    "k_s": 1.0,
    "k_w": 1e-3,
    "k_a": 0.9,
    "k_r": 0.01,
    "k_t": 1e-3,
    "k_mu": 0.004,
    "k_i": 0.01,
    "k_g": 0.1,
    "k_up": 1.2,
    "k_down": 0.5,
    "k_low": 1e-4,
    "k_high": 5e3,
    "v_0": 1e-6,
    "p": 0.5,
    "p_t": -0.5,
    "p_c": 0.25,
    "p_q": 0.25,
    "p_r": 1.0,
}
"""Where constants begin. Names tell what they are: d decays, p powers, others are positive."""
_ROOTLESS = ("abs", "peak")
_WHOLE = ("deltas", "sums")
"""Second moments that come with their own form."""


@dataclass(frozen=True)
class Design:
    """A choice of each kind, see ``CHOICES``."""

    x: str = "g"
    above: str = "m"
    inside: str = ""
    below: str = ""
    late: str = ""
    hat_m: str = ""
    hat_v: str = ""
    floor: str = "outside"
    root: str = ""
    form: str = ""
    schedule: str = ""
    w: str = ""

    def neighbours(self) -> Iterator[Design]:
        """Designs in which one choice is another, or some that go together."""
        for name, kinds in CHOICES.items():
            for kind in kinds:
                yield replace(self, **{name: kind})
        for change in _TOGETHER:
            yield replace(self, **change)

    @property
    def sensible(self) -> bool:
        """Whether every choice makes a difference, and can be written down."""
        return all(rule(self) for rule in _SENSIBLE)

    @property
    def reads_parameter(self) -> bool:
        """Whether the parameter counts."""
        return bool(self.w) or self.x == "decayed" or self.below == "smooth" or self.schedule == "dual"

    @property
    def jumps(self) -> bool:
        """Whether signs of the update turn with its constants; a second moment with a sign inside bends, no more."""
        return self.form in ("signs", "sign") or self.schedule == "resilient" or self.w == "centre"

    def program(self) -> Program:
        """The program: its outputs are the terms whose weights are to be found."""
        writer = _Writer(self)
        return writer.program(writer.terms())

    @property
    def changed(self) -> dict[str, str]:
        """Choices that are not the plain ones."""
        every = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: kind for name, kind in every.items() if kind != CHOICES[name][0]}

    def plainer(self) -> Iterator[Design]:
        """Designs in which one choice is the plain one."""
        for name in self.changed:
            yield replace(self, **{name: CHOICES[name][0]})
        if self.above != "x":
            yield replace(self, above="x", hat_m="")


_HATS = {"hat_m": "own", "hat_v": "own"}
_EARLY = {**_HATS, "floor": "early"}
_TOGETHER: tuple[dict[str, str], ...] = (
    _HATS,
    _EARLY,
    {**_HATS, "floor": "both"},
    {"above": "m", "inside": "divided", **_HATS},
    {"above": "m", "inside": "divided", **_EARLY},
    {"above": "m", "below": "spread"},
    {"above": "m", **_EARLY, "form": "bounded"},
    {"above": "m", **_EARLY, "form": "moderated"},
    {"above": "m", **_EARLY, "form": "size"},
    {"above": "m", **_EARLY, "form": "friction"},
    {"above": "m", "hat_m": "", "hat_v": "own", "schedule": "nadam"},
)
"""Changes that go together."""
KINDS: tuple[Design, ...] = (
    Design(inside="clipped", below="mean", late="late", floor="max"),
    Design(inside="clipped t", below="mean", late="late", floor="max"),
    Design(inside="divided", below="mean", **_HATS),
    Design(inside="weighted", below="mean", **_HATS, schedule="power"),
    Design(above="m+d", below="ahead", **_HATS),
    Design(above="pair"),
    Design(above="pair", below="mean", **_EARLY),
    Design(above="x", below="deltas"),
    Design(above="x", below="sums"),
    Design(above="x", below="smooth", floor="inside"),
    Design(above="x", below="mean", late="late"),
    Design(below="conditional"),
    Design(below="conditioned"),
    Design(below="signed", hat_v="own", form="sign"),
    Design(below="mean", **_EARLY, root="free"),
    Design(below="mean", **_HATS, schedule="rectified"),
    Design(below="mean", **_EARLY, schedule="held"),
    Design(below="mean", **_HATS, schedule="inverse"),
    Design(below="mean", hat_v="own", schedule="nadam"),
    Design(hat_m="own", form="trusted"),
    *(Design(below="mean", **_EARLY, form=form) for form in ("bounded", "moderated", "size", "friction")),
    Design(above="x", schedule="averaged"),
    Design(above="x", below="mean", hat_v="own", schedule="averaged"),
    Design(above="x", schedule="dual"),
    Design(above="x", schedule="resilient"),
    *(Design(above=above, form="signs", w=w) for above in ("m", "m+x") for w in ("", "w", "centre")),
)
"""Designs that no single change of an Adam leads to."""
_SENSIBLE: tuple[Callable[[Design], bool], ...] = (
    lambda d: bool(d.below) or (not (d.inside or d.late or d.hat_v or d.root) and d.floor == "outside"),
    lambda d: d.above != "x" or not (d.inside or d.hat_m or d.form in ("sign", "bounded", "moderated", "trusted")),
    lambda d: not d.inside or (d.above == "m" and (d.inside == "weighted" or d.below not in _WHOLE)),
    lambda d: d.inside != "weighted" or (d.below in ("mean", "top") and not d.late),
    lambda d: d.below != "spread" or (d.above in ("m", "m+x") and not d.inside),
    lambda d: not d.hat_v or d.below not in ("sum", "peak", "conditional", "conditioned", "smooth", *_WHOLE),
    lambda d: d.below not in _WHOLE or (d.floor == "outside" and not (d.late or d.root or d.form or d.schedule)),
    lambda d: d.below != "sums" or d.above == "x",
    lambda d: not d.below.startswith("condition") or (d.above == "m" and not d.inside),
    lambda d: d.floor not in ("early", "both") or bool(d.hat_v),
    lambda d: d.floor not in ("inside", "both") or d.below not in _ROOTLESS,
    lambda d: d.floor != "both" or not d.root,
    lambda d: not d.root or d.below not in _ROOTLESS,
    lambda d: not d.late or (d.x == "g" and d.below in ("mean", "abs") and not d.hat_v),
    lambda d: not d.inside.startswith("clipped") or bool(d.late),
    lambda d: d.form != "sign" or d.above == "m",
    lambda d: d.form != "signs" or (d.above in ("x", "m", "m+x") and not (d.below or d.hat_m or d.schedule)),
    lambda d: d.form not in ("bounded", "moderated") or (d.above == "m" and bool(d.below) and not d.inside),
    lambda d: d.form != "trusted" or (d.above == "m" and not (d.below or d.inside) and d.hat_m == "own"),
    lambda d: d.below != "ahead" or d.x == "g",
    lambda d: d.above != "m+d" or d.x == "g",
    lambda d: d.hat_m != "other" or (bool(d.hat_v) and d.above in ("m", "m+x")),
    lambda d: (
        d.schedule not in ("rectified", "held", "inverse")
        or (d.below == "mean" and bool(d.hat_v and d.hat_m) and not (d.form or d.inside))
    ),
    lambda d: d.schedule != "nadam" or (d.above == "m" and bool(d.below) and not (d.inside or d.form or d.hat_m)),
    lambda d: d.schedule not in ("averaged", "dual", "resilient") or d.above == "x",
    lambda d: d.schedule not in ("dual", "resilient") or not (d.below or d.form or d.w or d.x != "g"),
    lambda d: d.x != "decayed" or not d.w,
    lambda d: d.w != "centre" or d.form == "signs",
)


@dataclass
class _Writer:
    """Writes a design's program, value by value."""

    design: Design
    constants: dict[str, float] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    init: dict[str, str] = field(default_factory=dict)

    def terms(self) -> list[str]:
        """The terms, in text."""
        d = self.design
        self.input()
        if d.schedule == "dual":
            return self.dual()
        if d.schedule == "resilient":
            return self.resilient()
        if d.above != "x" and not d.inside:
            self.averages()
        if d.below:
            self.second_moment()
        if d.inside:
            self.averaged_ratio()
        ratios = [self.ratio(name) for name in self.above()]
        terms = [self.formed(ratio) for ratio in ratios]
        if d.form == "signs":
            terms = [self.sign_of(terms)]
        if d.schedule == "averaged":
            terms = [self.averaged(terms[0])]
        if d.w == "centre":
            self.mean("c", "d_w", "w")
            return [*terms, "sign(w - c/(1 - d_w**t))"]
        return [*terms, *(["w"] if d.w else [])]

    def program(self, terms: list[str]) -> Program:
        """Values that read inputs, and the past, alone become states."""
        values = {name: parse(text) for name, text in self.values.items()}
        state = {name: _now(expr, values) for name, expr in values.items() if _is_state(expr, name, values)}
        where = {name: expr for name, expr in values.items() if name not in state}
        outputs = {f"u{k}": parse(term) for k, term in enumerate(terms)}
        constants = {name: _STARTS[name] for name in self.constants}
        init = {name: parse(text) for name, text in self.init.items() if name in state}
        return Program(constants, state, where, outputs, init)

    def need(self, *constants: str) -> None:
        self.constants.update(dict.fromkeys(constants, 0.0))

    def mean(self, name: str, decay: str, of: str) -> None:
        self.need(decay)
        self.values[name] = f"{decay}*prev({name}) + (1 - {decay})*{of}"

    def input(self) -> None:
        kind = self.design.x
        if kind.startswith("fast"):
            self.mean("s", "d_s", "g")
            if kind == "fast from g":
                self.init["s"] = "g"
            self.need("k_s")
            self.values["x"] = "g + k_s*s"
        elif kind == "decayed":
            self.need("k_w")
            self.values["x"] = "g + k_w*w"

    @property
    def x(self) -> str:
        return "x" if "x" in self.values else "g"

    def averages(self) -> None:
        above = self.design.above
        if above == "pair":
            self.need("d_m")
            self.values["m"] = f"square(d_m)*lag(m, 2) + (1 - square(d_m))*{self.x}"
            return
        self.mean("m", "d_m", self.x)
        if above == "m+m":
            self.mean("b", "d_b", self.x)
        if above == "m+d":
            self.mean("d", "d_d", "(g - where(greater(t, 1), prev(g), g))")

    def second_moment(self) -> None:
        below, x = self.design.below, self.x
        square = f"square({x})"
        if below == "sum":
            self.values["v"] = f"prev(v) + {square}"
        elif below == "peak":
            self.need("d_v")
            self.values["v"] = f"max(d_v*prev(v), abs({x}))"
        elif below == "top":
            self.mean("v_now", "d_v", square)
            self.values["v"] = "max(prev(v), v_now)"
        elif below in ("yogi", "signed"):
            self.need("d_v")
            share = "" if below == "yogi" else "d_v*"
            self.values["v"] = f"{share}prev(v) + (1 - d_v)*(sign({square} - prev(v))*{square})"
            if below == "yogi" and x == "g":
                self.need("v_0")
                self.init["v"] = "v_0"
        elif below == "ahead":
            self.need("k_a")
            self.values["ahead"] = "g + k_a*(g - where(greater(t, 1), prev(g), g))"
            self.mean("v", "d_v", "square(ahead)")
        elif below in ("conditional", "conditioned"):
            self.init["m"] = x
            old = "prev(m)" if below == "conditional" else "m"
            self.values["v"] = (
                f"(3*square(d_m) - 2*cube(d_m))*square({old}) + square(1 - d_m)*{square}"
                f" + 2*d_m*square(1 - d_m)*({old}*{x})"
            )
        elif below == "smooth":
            self.need("d_v", "d_f", "eps")
            self.values["moved"] = "w - where(greater(t, 1), prev(w), w)"
            self.values["way"] = "prev(way) + moved"
            self.values["n"] = "prev(n) + abs(moved)"
            self.values["c_v"] = "square(1 - d_v + (d_v - d_f)*(abs(way)/(n + eps)))"
            self.values["v"] = f"(1 - c_v)*prev(v) + c_v*{square}"
        elif below == "sums":
            self.need("eps")
            self.values["v"] = f"prev(v) + {square} + eps"
            self.values["e"] = f"prev(e) + {square}/v"
        elif below == "deltas":
            self.mean("v", "d_v", square)
            self.need("eps")
            self.values["a"] = f"{x}*(sqrt(prev(e) + eps)/sqrt(v + eps))"
            self.values["e"] = f"d_v*prev(e) + (1 - d_v)*({square}*((prev(e) + eps)/(v + eps)))"
        else:
            self.mean("v", "d_v", {"abs": f"abs({x})", "spread": f"square({x} - m)"}.get(below, square))
        if self.design.late:
            self.init["v"] = square if below == "mean" else f"abs({x})"

    def root(self, inner: str) -> str:
        if self.design.below in _ROOTLESS:
            return inner
        if self.design.root:
            self.need("p")
            return f"({inner})**p"
        return f"sqrt({inner})"

    def below(self) -> str:
        """What is divided by."""
        d = self.design
        v = "prev(v)" if d.late else "v"
        if d.hat_v:
            self.need("d_v")
            self.values["v_hat"] = "v/(1 - d_v**t)"
            v = "v_hat"
        self.need("eps")
        if d.floor == "inside":
            return self.root(f"{v} + eps")
        if d.floor == "max":
            return f"max({self.root(v)}, eps)"
        if d.floor == "early" and d.root:
            self.need("p_r")
            return "(sqrt(v) + eps)**p_r/sqrt(1 - d_v**t)"
        if d.floor == "early":
            return f"{self.root(v)} + eps/sqrt(1 - d_v**t)"
        if d.floor == "both":
            self.need("eps_v")
            return "(sqrt(v + eps_v) + eps)/sqrt(1 - d_v**t)"
        return f"{self.root(v)} + eps"

    def averaged_ratio(self) -> None:
        self.need("d_m")
        if self.design.inside == "weighted":
            self.need("p_q")
            self.mean("e", "d_e", "v**p_q")
            self.mean("m", "d_m", f"(e*{self.x})")
            return
        if self.design.inside == "divided":
            self.values["y"] = f"{self.x}/({self.below()})"
            self.mean("m", "d_m", "y")
            return
        self.need("p_c")
        self.values["most"] = "(t - 1)**p_c" if self.design.inside == "clipped" else "t**p_c"
        self.values["y"] = f"clip({self.x}/({self.below()}), -most, most)"
        self.values["m"] = "where(greater(t, 1), d_m*prev(m) + (1 - d_m)*y, 0)"

    def above(self) -> list[str]:
        """What stands above, corrected."""
        d = self.design
        parts = {"x": [self.x], "m+x": ["m", self.x], "m+m": ["m", "b"], "m+d": ["m", "d"], "pair": ["m", "prev(m)"]}
        found = parts.get(d.above, ["m"])
        if not d.hat_m or d.form in ("bounded", "moderated") or d.schedule == "nadam":
            return found
        decays = {"m": "d_m", "prev(m)": "d_m", "b": "d_b", "d": "d_d"}
        if d.hat_m == "other":
            decays = dict.fromkeys(decays, "d_v")
        corrected = []
        for name in found:
            if name not in decays:
                corrected.append(name)
                continue
            short = "m_last" if name == "prev(m)" else f"{name}_hat"
            self.values[short] = f"{name}/(1 - {decays[name]}**t)"
            corrected.append(short)
        return corrected

    def ratio(self, above: str) -> str:
        d = self.design
        if d.form == "trusted":
            return self.trusted(above)
        if not d.below or d.inside in ("divided", "clipped", "clipped t"):
            return above
        if d.below == "sums":
            return f"{above}*sqrt(e)/v"
        if d.below == "deltas":
            return "a" if above in ("g", "x") else f"{above}*(sqrt(prev(e) + eps)/sqrt(v + eps))"
        if d.form in ("bounded", "moderated"):
            return self.rated(above)
        if d.schedule == "nadam":
            return self.nadam()
        if "r" not in self.values:
            self.values["r"] = self.below()
        return f"{above}/r"

    def rated(self, above: str) -> str:
        d = self.design
        rate = f"1/({self.below()})"
        if d.hat_m:
            rate = f"{rate}/(1 - {'d_v' if d.hat_m == 'other' else 'd_m'}**t)"
        self.values["rate"] = rate
        if d.form == "bounded":
            self.need("k_r", "k_t")
            return f"{above}*clip(k_r*rate, 1 - 1/(k_t*t + 1), 1 + 1/(k_t*t))"
        self.mean("e", "d_r", "rate")
        return f"{above}*min(rate, e)"

    def trusted(self, mean: str) -> str:
        """Balles & Hennig 2018: m times m^2 over m^2 and its variance."""
        self.mean("v", "d_m", f"square({self.x})")
        self.values["share"] = "(1 + d_m**t)*(1 - d_m)/((1 - d_m**t)*(1 + d_m))"
        self.values["rho"] = "min(share, 0.9999)"
        self.values["spread"] = f"(v/(1 - d_m**t) - square({mean}))/(1 - rho)"
        return f"{mean}*clip(square({mean})/(rho*spread + square({mean}) + 1e-300), 0, 1)"

    def dual(self) -> list[str]:
        """Defazio & Jelassi 2021: from where it began, along a sum of gradients."""
        self.need("eps")
        self.values["w_0"] = "prev(w_0)"
        self.init["w_0"] = "w"
        self.values["z"] = f"prev(z) + sqrt(t)*{self.x}"
        self.values["v"] = f"prev(v) + sqrt(t)*square({self.x})"
        return ["w_0 - w", "z/(v**(1/3) + eps)"]

    def resilient(self) -> list[str]:
        """Riedmiller & Braun 1993; a step whose gradient's sign has just turned is left out."""
        self.need("k_up", "k_down", "k_low", "k_high")
        turned = "where(greater(0, g*prev(last)), {}, {})"
        growth = f"where(greater(g*prev(last), 0), k_up, {turned.format('k_down', '1')})"
        self.values["size"] = f"clip(prev(size)*{growth}, k_low, k_high)"
        self.values["last"] = turned.format("0", "g")
        self.init["size"] = "1"
        return ["sign(last)*size"]

    def nadam(self) -> str:
        self.need("k_mu", "d_m")
        self.values["mu"] = "d_m*(1 - 0.5*0.96**(t*k_mu))"
        self.values["mu_next"] = "d_m*(1 - 0.5*0.96**((t + 1)*k_mu))"
        self.values["q"] = "1 - (1 - prev(q))*mu"
        self.values["r"] = self.below()
        return f"(mu_next*m/(1 - (1 - q)*mu_next) + (1 - mu)*{self.x}/q)/r"

    def formed(self, ratio: str) -> str:
        d = self.design
        if d.form == "signs":
            return ratio
        if d.form == "size":
            ratio = f"sign(g)*abs({ratio})"
        elif d.form == "agreeing":
            ratio = f"({ratio})*greater(({ratio})*g, 0)"
        elif d.form == "sign":
            ratio = f"abs(g)*sign(m){'/r' if d.below and not d.inside else ''}"
        elif d.form == "friction":
            ratio = f"({ratio})/(1 + exp(-abs(g - prev(g))))"
        if d.schedule == "power":
            self.need("p_t")
            ratio = f"({ratio})*t**p_t"
        elif d.schedule in ("rectified", "held"):
            ratio = self.rectified(ratio)
        elif d.schedule == "inverse":
            self.need("k_i")
            self.values["share"] = "max(1 - k_i*t, 0)"
            mean = ratio.removesuffix("/r")
            ratio = f"{mean}*where(greater(k_i, share), 1/r, (1 - share)/r + share*r)"
        return ratio

    def sign_of(self, ratios: list[str]) -> str:
        if len(ratios) == 1:
            return f"sign({ratios[0]})"
        self.need("k_g")
        return f"sign({ratios[0]} + k_g*{ratios[1]})"

    def rectified(self, ratio: str) -> str:
        self.values["rho_inf"] = "2/(1 - d_v) - 1"
        self.values["rho"] = "rho_inf - 2*t*d_v**t/(1 - d_v**t)"
        self.values["rect"] = "ssqrt((rho - 4)*(rho - 2)*rho_inf/((rho_inf - 4)*(rho_inf - 2)*rho))"
        plain = ratio.removesuffix("/r") if self.design.schedule == "rectified" else "0"
        return f"where(greater(rho, 5), rect*({ratio}), {plain})"

    def averaged(self, term: str) -> str:
        self.need("d_m")
        self.values["u"] = term
        self.values["move"] = "prev(z)/t + (d_m*(1 - 1/t) - 1)*u"
        self.values["z"] = "prev(z) - u - move"
        return "-move"


def _is_state(expr: Expr, name: str, values: Mapping[str, Expr]) -> bool:
    """Whether a value is a recurrence over inputs and last values of such recurrences alone."""
    past = lags(expr)
    own = past.keys() & values.keys()
    alone = past.get(name) == 1 and not names(expr) & values.keys() and all(past[other] == 1 for other in own)
    return alone and all(_is_state(values[other], other, values) for other in own - {name})


def _now(expr: Expr, values: Mapping[str, Expr]) -> Expr:
    """A state's recurrence, which writes old values of states by their names."""
    return transform(expr, lambda node: Symbol(node.name) if isinstance(node, Lag) and node.name in values else node)
