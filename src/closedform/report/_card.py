"""A rule's card: what a hub shows beside its file, made from the file alone; and sharing both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from closedform.analysis import certify
from closedform.rules import Address, Rule, publish

LICENCE = "apache-2.0"
_LONGEST = 4000


def rule_card(rule: Rule, address: str, *, licence: str = LICENCE) -> str:
    """A Markdown page on a rule: equation, constants, price, certificates, origin, measured results.

    Args:
        rule: The rule.
        address: ``user/name``, where it will be.
        licence: An identifier, as hubs know it.
    """
    head = ["license: " + json.dumps(licence), "library_name: closedform", "tags: [closedform, optimizer, symbolic]"]
    buffers = f"{rule.state_cost} buffer{'s' * (rule.state_cost != 1)}"
    constants = "".join(f"| `{name}` | {value:.6g} |\n" for name, value in rule.program.live.constants.items())
    certificates = "".join(
        f"| {entry.claim} | {entry.answer} | {entry.by} | {_cell(entry.note)} |\n" for entry in certify(rule)
    )
    parts = [
        "---\n" + "\n".join(head) + "\n---",
        f"# {rule.name}",
        f"An update rule for [closedform](https://pypi.org/project/closedform): {rule.complexity} nodes, {buffers} a "
        f"parameter, default learning rate {rule.lr:g}. It is a file of text; nothing of it is run as code.",
        "```python\nimport closedform as cf\n\n"
        f'optimizer = cf.RuleOptimizer(model.parameters(), cf.load_rule("hub:{address}"))\n```',
        f"## Equation\n\n$$\n{rule.latex()}\n$$",
        f"| constant | value |\n|---|--:|\n{constants}" if constants else "It has no constants.",
        f"## What is certain\n\n| claim | answer | known by | note |\n|---|---|---|---|\n{certificates}",
        f"## Where it comes from\n\n{_listed(rule.provenance) or 'The file does not say.'}",
        f"## Measured\n\n{_listed(rule.results) or 'Nothing is recorded in the file.'}",
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def share_rule(
    rule: Rule, address: str, *, hub: str | Path | None = None, licence: str = LICENCE, replace: bool = False
) -> str:
    """Write a rule and its card to a hub.

    Args:
        rule: The rule.
        address: ``user/name``.
        hub: A folder or git repository; by default what ``CLOSEDFORM_HUB`` names, else Hugging Face.
        licence: An identifier, as hubs know it.
        replace: Whether another rule may be there.

    Returns:
        What `load_rule` takes: ``hub:user/name@revision``.

    Raises:
        RuleError: not a place in a hub, or Hugging Face's client is not installed.
        OptionError: another rule is there.
        OutputError: it cannot be written.
    """
    place = Address.parse(address)
    files = {"rule.json": rule.to_json(), "README.md": rule_card(rule, place.repository, licence=licence)}
    revision = publish(place, files, hub, replace=replace)
    return f"hub:{place.repository}@{revision}"


def _listed(content: Mapping[str, Any]) -> str:
    return "\n".join(f"- {_cell(name)}: {_cell(_value(value))}" for name, value in content.items())


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _cell(text: str) -> str:
    """Text in one line, which starts no table cell, tag or link of its own."""
    plain = " ".join(str(text).split())
    return plain.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
