"""Find and read rules: the library that ships with the package, files, and the hub."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path

from closedform._names import lookup
from closedform.errors import RuleError
from closedform.rules._document import parse_document
from closedform.rules._hub import PREFIX, Address, fetch
from closedform.rules._rule import Rule


@cache
def _library_texts() -> dict[str, str]:
    folder = resources.files("closedform.rules") / "library"
    texts = {Path(entry.name).stem: entry for entry in folder.iterdir() if entry.name.endswith(".json")}
    return {name: texts[name].read_text(encoding="utf-8") for name in sorted(texts)}


def library_names() -> tuple[str, ...]:
    """Names of the rules that ship with the package."""
    return tuple(_library_texts())


def load_rule(source: str | Path | Rule, *, hub: str | Path | None = None) -> Rule:
    """Load a rule.

    Args:
        source: A library name ("adam"), a path to a rule file, ``hub:user/name`` or ``hub:user/name@revision``, or a
            `Rule`, which is returned as it is. A rule from a hub says the revision that it was read at in
            ``provenance["hub"]``: ``hub:user/name@revision`` is that rule for ever.
        hub: A folder or git repository that is the hub; by default what the environment variable ``CLOSEDFORM_HUB``
            names, else Hugging Face, which needs the extra ``hub``.

    Raises:
        RuleError: the file is missing, too large or malformed, or the hub cannot be read.
        UnknownNameError: not a path, and no library rule of that name; suggests the nearest.
    """
    if isinstance(source, Rule):
        return source
    text = str(source)
    if text.startswith(PREFIX):
        return _from_hub(Address.parse(text), hub)
    looks_like_path = isinstance(source, Path) or text.endswith(".json") or "/" in text
    if looks_like_path:
        return Rule.load(source)
    return Rule.from_json(lookup("rule", text, _library_texts()))


def _from_hub(address: Address, hub: str | Path | None) -> Rule:
    found = fetch(address, hub)
    try:
        rule = Rule.from_dict(parse_document(found.text))
    except RuleError as error:
        raise RuleError(f"{address}: {error}") from None
    pinned = str(replace(address, revision=found.revision))
    return replace(rule, provenance={**rule.provenance, "hub": pinned})


def save_rule(rule: Rule, path: str | Path) -> Path:
    """`Rule.save`."""
    return rule.save(path)
