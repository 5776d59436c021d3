"""Networks whose weights ship with the package, so that recording and distilling work at once.

Each is a file ``pretrained/NAME.safetensors``, written by ``save_learned_optimizer`` with the recipe that made it:
tasks, settings, time, and what it was measured to do.
"""

from __future__ import annotations

from pathlib import Path

from closedform.errors import OptionError

PRETRAINED: dict[str, Path] = {
    path.stem: path for path in sorted((Path(__file__).parent / "pretrained").glob("*.safetensors"))
}
"""Name -> file of the weights."""


def pretrained_file(name: str) -> Path:
    """The file of a network's weights.

    Raises:
        OptionError: none ship for it; the message says for which they do.
    """
    if name not in PRETRAINED:
        known = f"only for {', '.join(PRETRAINED)}" if PRETRAINED else "for none"
        raise OptionError(f"no weights ship for learned optimizer {name!r}, {known}; meta-train it first")
    return PRETRAINED[name]
