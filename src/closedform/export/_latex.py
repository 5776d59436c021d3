r"""The target ``latex``: a small document with the rule's equations and a table of its constants."""

from __future__ import annotations

from collections.abc import Mapping

from closedform.export._header import display_name, meanings, provenance_lines
from closedform.export._target import Exporter
from closedform.lang import equation_latex, equations, latex, number_latex, symbol_latex
from closedform.rules import Rule

DIGITS = 6
"""Significant digits of numbers in equations; the table of constants holds all."""
_SPECIAL = {char: f"\\{char}" for char in "{}$&#_%"} | {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    '"': r"\textquotedbl{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
_LETTERS = frozenset(map(chr, range(0x20, 0x180))) - frozenset("ĦħĸĿŀŉŦŧſ")
"""Letters that pdflatex has without further packages."""


def write_latex(rule: Rule) -> str:
    """A document that compiles as it is; its body can be copied into another that loads amsmath."""
    lines = [
        r"\documentclass[border=8pt,varwidth=\maxdimen]{standalone}",
        r"\usepackage[T1]{fontenc}",
        r"\usepackage{amsmath}",
        r"\begin{document}",
        rf"\textbf{{{text_latex(display_name(rule))}}}",
        r"\par\medskip",
        r"$\begin{aligned}",
        " \\\\\n".join(aligned(rule)),
        r"\end{aligned}$",
        r"\par\medskip",
        *table(rule),
        *(rf"\par {text_latex(line)}" for line in meanings(rule.program.merged)),
        *(rf"\par {text_latex(line)}" for line in provenance_lines(rule.provenance)),
        r"\end{document}",
    ]
    return "\n".join(lines) + "\n"


def text_latex(text: str) -> str:
    """Cleaned text, with every character that means something to TeX escaped."""
    shown = "".join(char if char in _LETTERS else "?" for char in text)
    return "".join(_SPECIAL.get(char, char) for char in shown)


def aligned(rule: Rule) -> list[str]:
    """One line a recurrence and named value, then the update."""
    lines = equations(rule.program.merged)
    (update,) = lines["outputs"]
    return [
        *(equation_latex(line, DIGITS) for section in ("init", "state", "where") for line in lines[section]),
        rf"\Delta w_{{t}} &= {latex(update.expr, update.times, DIGITS)}",
        rf"w_{{t}} &= w_{{t-1}} + {_rate(rule)} \, \Delta w_{{t}}",
    ]


def table(rule: Rule) -> list[str]:
    """Constants with their names in the rule file and their values; the learning rate first."""
    constants: Mapping[str, float] = rule.program.merged.constants
    rows = [(_rate(rule), "lr", rule.lr), *((symbol_latex(name), name, value) for name, value in constants.items())]
    return [
        r"\begin{tabular}{lll}",
        r"symbol & name & value \\ \hline",
        *(rf"${symbol}$ & \texttt{{{text_latex(name)}}} & ${_exact(value)}$ \\" for symbol, name, value in rows),
        r"\end{tabular}",
        r"\par\medskip",
    ]


def _rate(rule: Rule) -> str:
    """The learning rate's symbol."""
    program = rule.program
    return r"\mathrm{lr}" if "eta" in {*program.constants, *program.state, *program.where} else r"\eta"


def _exact(value: float) -> str:
    """A number with as few digits as read back as the same float."""
    digits = next(count for count in range(1, 18) if float(f"{value:.{count}g}") == value)
    return number_latex(value, digits)


LATEX = Exporter(
    "latex", ".tex", "pdflatex with amsmath and standalone", "the equations and a table of the constants", write_latex
)
