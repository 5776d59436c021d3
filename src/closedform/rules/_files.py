"""Find and read rules: the library that ships with the package, files, and the hub."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path

from closedform._names import lookup
from closedform.errors import RuleError
from closedform.rules._rule import Rule


@cache
def _library_texts() -> dict[str, str]:
    folder = resources.files("closedform.rules") / "library"
    texts = {Path(entry.name).stem: entry for entry in folder.iterdir() if entry.name.endswith(".json")}
    return {name: texts[name].read_text(encoding="utf-8") for name in sorted(texts)}


def library_names() -> tuple[str, ...]:
    """Names of the rules that ship with the package."""
    return tuple(_library_texts())


def load_rule(source: str | Path | Rule) -> Rule:
    """Load a rule.

    Args:
        source: A library name ("adam"), a path to a rule file, ``hub:user/name`` (a Hugging Face repository that holds
            ``rule.json``; needs the extra ``hub``), or a `Rule`, which is returned as it is.

    Raises:
        RuleError: the file is missing, too large or malformed.
        UnknownNameError: not a path, and no library rule of that name; suggests the nearest.
    """
    if isinstance(source, Rule):
        return source
    text = str(source)
    if text.startswith("hub:"):
        return Rule.load(_download(text.removeprefix("hub:")))
    looks_like_path = isinstance(source, Path) or text.endswith(".json") or "/" in text
    if looks_like_path:
        return Rule.load(source)
    return Rule.from_json(lookup("rule", text, _library_texts()))


def save_rule(rule: Rule, path: str | Path) -> Path:
    """`Rule.save`."""
    return rule.save(path)


def _download(repository: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise RuleError("hub: rules need huggingface_hub; install it with: pip install 'closedform[hub]'") from None
    try:
        return Path(hf_hub_download(repository, "rule.json"))
    except Exception as error:  # the client raises many kinds; all mean that the file could not be had
        raise RuleError(
            f"cannot fetch rule.json of {repository!r} from the hub: {json.dumps(str(error))[:200]}"
        ) from None
