"""A page for every rule of the library, made from its file."""

from __future__ import annotations

from functools import cache

from markup import aside, cell, figure, table

from closedform import certify, load_rule
from closedform.analysis import compare
from closedform.lang import OPERATORS, Apply, walk
from closedform.report import comparison_figures, rule_mathml
from closedform.rules import library_names


def names() -> dict[str, str]:
    """Rules by name, as the navigation lists them."""
    return {name: name for name in library_names()}


def pages(folder: str) -> dict[str, str]:
    """The overview and a page for each rule."""
    return {f"{folder}/index.md": overview()} | {f"{folder}/{name}.md": page(name) for name in library_names()}


def overview() -> str:
    """The table of all rules."""
    rows = []
    for name in library_names():
        rule = load_rule(name)
        rows.append([f"[`{name}`]({name}.md)", rule.state_cost, rule.complexity, f"{rule.lr:g}", _source(rule)])
    return f"""# Library rules

Every rule is a small file; its page is made from that file alone: equation, price, what is certain, how it answers.
A name is all that it takes: `cf.RuleOptimizer(model.parameters(), "adam", lr=1e-3)`. State cost is in buffers a
parameter, complexity in nodes, and lr is the rule's own default.

{table(["rule", "state cost", "complexity", "lr", "source"], rows)}
"""


def equation(name: str) -> str:
    """A rule's equation, for any page."""
    return f'<div class="equation">{rule_mathml(load_rule(name))}</div>'


def page(name: str) -> str:
    """One rule's page."""
    rule = load_rule(name)
    comparison = compare([name])
    drawn = comparison.rows[0].portrait
    sentences = [f"- {text[0].upper()}{text[1:]}." for text in (drawn.sentences() if drawn else [])]
    constants = ", ".join(f"`{key}` {value:g}" for key, value in rule.program.live.constants.items())
    figures = comparison_figures(comparison)
    needs = ", total_steps=1000" if rule.program.reads & {"T", "progress"} else ""
    buffers = "no buffer" if not rule.state_cost else f"{rule.state_cost} buffer{'s' * (rule.state_cost > 1)}"
    return "\n\n".join(
        [
            f"# {name}",
            _source(rule) + ".",
            f'`cf.RuleOptimizer(model.parameters(), "{name}", lr={rule.lr:g}{needs})`',
            "## Equation",
            equation(name),
            f"It keeps **{buffers} a parameter** and has {rule.complexity} nodes; g is the gradient, w the parameter, "
            f"t the step, η the learning rate, {rule.lr:g} by default. {_notation(rule)}",
            f"Constants, and their defaults: {constants}." if constants else "It has no constants.",
            *(f"{key.capitalize()}: {cell(value)}." for key, value in rule.provenance.items() if key != "source"),
            aside("LaTeX", f"```latex\n{rule.latex()}\n```"),
            aside("Rule file", f"```json\n{rule.to_json().strip()}\n```"),
            "## What is certain",
            _certificates(name),
            "How each is known is told in [Certificates](../concepts.md#certificates).",
            "## How it behaves",
            "\n".join(sentences) if sentences else "Its updates to made-up gradients are not finite.",
            *(figure(*figures[key]) for key in ("answers", "memory") if key in figures),
            f"More: `closedform explain {name}`, `closedform watch {name}`; "
            f"[reading an optimizer](../analysis.md) defines the terms. As source: `closedform export {name}`.",
        ]
    )


def _source(rule) -> str:
    return cell(rule.provenance["source"]).replace("docs/experiments.md", "[the log](../experiments.md)")


@cache
def _certificates(name: str) -> str:
    rows = [[cell(entry.claim), entry.answer, entry.by, cell(entry.note or "")] for entry in certify(name)]
    return table(["claim", "answer", "known by", "note"], rows)


def _notation(rule) -> str:
    """What the operators mean that mathematics has no sign for."""
    used = {node.op for expr in rule.program.live.expressions() for node in walk(expr) if isinstance(node, Apply)}
    told = ("mean", "rms", "norm", "row_mean", "col_mean", "orthogonalise")
    return " ".join(f"`{op}` is the {OPERATORS[op].meaning}." for op in told if op in used)
