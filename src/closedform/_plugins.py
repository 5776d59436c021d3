"""Members of families that other packages bring: found through entry points, loaded when they are asked for.

A package names them in its own ``pyproject.toml``, and whoever installs it has them by name:

    [project.entry-points."closedform.tasks"]
    protein-mlp = "my_package.tasks:protein_mlp"
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from closedform._document import shown
from closedform._names import lookup, unknown_name_message
from closedform.errors import OptionError, UnknownNameError

T = TypeVar("T")
GROUPS: dict[str, str] = {
    "closedform.tasks": "a function of data_dir and options that makes a Task",
    "closedform.learned_optimizers": "a function of generator and options that makes a LearnedOptimizer",
    "closedform.engines": "a symbolic regression engine, or a function that makes one",
}
"""Group of entry points -> what a member of it is."""


@dataclass(frozen=True)
class Plugin:
    """One member that a package brings.

    Attributes:
        name: Its name.
        package: The package, with its version.
        entry: Where it is.
    """

    name: str
    package: str
    entry: EntryPoint

    def load(self) -> Any:
        """Import it.

        Raises:
            OptionError: that fails; the message names the package.
        """
        try:
            return self.entry.load()
        except Exception as error:  # whatever somebody's module raises
            said = (str(error).strip().splitlines() or [""])[0]
            raise OptionError(
                f"plug-in {shown(self.name)} of {self.package} ({self.entry.value}) cannot be imported: "
                f"{type(error).__name__}: {said}"[:400]
            ) from error


def plugins(group: str, taken: Mapping[str, Any]) -> dict[str, Plugin]:
    """Plug-ins of a group by name, none of them imported.

    One whose name is taken, by ours or by another package's, is left out with a warning.

    Args:
        group: A key of ``GROUPS``.
        taken: Members that there are already.
    """
    found: dict[str, Plugin] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)):
        package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown package"
        if entry.name in taken or (entry.name in found and found[entry.name].entry.value != entry.value):
            owner = found[entry.name].package if entry.name in found else "closedform"
            warnings.warn(f"plug-in {shown(entry.name)} of {package} is left out: {owner} has that name", stacklevel=2)
            continue
        found[entry.name] = Plugin(entry.name, package, entry)
    return found


def member(family: str, group: str, name: str, members: Mapping[str, T]) -> T:
    """One of ours, or a plug-in of that name, imported.

    Args:
        family: What a member is called, for messages.
        group: The plug-ins' group.
        name: The name asked for.
        members: Ours.

    Raises:
        UnknownNameError: there is neither; suggests the nearest.
        OptionError: the plug-in cannot be imported.
    """
    if name in members:
        return lookup(family, name, members)
    others = plugins(group, members)
    if name in others:
        loaded: T = others[name].load()
        return loaded
    raise UnknownNameError(unknown_name_message(family, name, {**members, **others}))
