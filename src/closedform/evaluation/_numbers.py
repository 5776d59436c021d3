"""Numbers as people read them, the same in the terminal and in the report."""

from __future__ import annotations

from closedform.evaluation._statistics import Summary

MINUS = "\N{MINUS SIGN}"
ABSENT = "–"
SPACE = "\N{NO-BREAK SPACE}"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 3) -> str:
    """A number with ``digits`` significant digits, in plain notation where that is short: 0.0312, 1.20·10⁻⁵."""
    if value is None:
        return ABSENT
    text = f"{value:.0f}" if 10**digits <= abs(value) < 1e6 else f"{value:#.{digits}g}"
    return _powers(text)


def rate(value: float | None, digits: int = 3) -> str:
    """A learning rate or constant: ``digits`` digits at most, no trailing zeros."""
    return ABSENT if value is None else _powers(f"{value:.{digits}g}")


def _powers(text: str) -> str:
    """Python's ``-1.50e-08`` as −1.50·10⁻⁸."""
    mantissa, _, exponent = text.partition("e")
    mantissa = mantissa.removesuffix(".").replace("-", MINUS)
    if not exponent:
        return mantissa
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    return mantissa.removesuffix("1") + power if mantissa in ("1", f"{MINUS}1") else f"{mantissa}·{power}"


def interval(summary: Summary, digits: int = 3) -> str:
    """``0.0312 [0.0290, 0.0331]``, with the seeds that diverged, if any."""
    diverged = f"diverged {summary.diverged}/{summary.count}" if summary.diverged else ""
    if summary.mean is None:
        return diverged
    bounds = "" if summary.low is None else f" [{number(summary.low, digits)}, {number(summary.high, digits)}]"
    return f"{number(summary.mean, digits)}{bounds}" + (f" ({diverged})" if diverged else "")


def percent(share: float | None, digits: int = 1) -> str:
    """``97.1 %`` of a share."""
    return ABSENT if share is None else f"{100 * share:.{digits}f}{SPACE}%".replace("-", MINUS)


def percent_interval(summary: Summary) -> str:
    """``97.1 % [96.8, 97.4]`` of shares."""
    if summary.mean is None or summary.low is None or summary.high is None:
        return percent(summary.mean)
    return f"{percent(summary.mean)} [{100 * summary.low:.1f}, {100 * summary.high:.1f}]"


def duration(seconds: float | None) -> str:
    """``38 µs``, ``1.20 ms``, ``4.1 s``, ``2 min 5 s``."""
    if seconds is None:
        return ABSENT
    if seconds >= 60:
        return f"{round(seconds) // 60}{SPACE}min {round(seconds) % 60}{SPACE}s"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale or unit == "µs":
            return f"{seconds / scale:.3g}{SPACE}{unit}"
    raise AssertionError("unreachable")


def count(value: float | None) -> str:
    """A count, whole if it is."""
    return ABSENT if value is None else f"{value:g}"
