"""The package's interface: a page for each package, its public names from their docstrings (mkdocstrings)."""

from __future__ import annotations

import importlib
import inspect

from markup import cell, table

import closedform

PACKAGES = [
    *("optim", "rules", "tasks", "tasks.distribution", "learned_optimizers", "meta_training", "trajectories"),
    *("distillation", "analysis", "evaluation", "export", "report", "pipeline", "reproduce", "unroll", "features"),
    *("lang", "codegen", "errors"),
]
"""From what most people use to what few do."""


def names() -> dict[str, str]:
    """Packages in order."""
    return {name: name.replace(".", "-") for name in PACKAGES}


def pages(folder: str) -> dict[str, str]:
    """The overview and a page for each package."""
    made = {f"{folder}/{path}.md": package(name) for name, path in names().items()}
    return {f"{folder}/index.md": overview()} | made


def public(name: str) -> list[str]:
    """A package's public names."""
    module = importlib.import_module(f"closedform.{name}")
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        key for key, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module.__name__
    ]


def summary(name: str) -> str:
    """The first line of a package's docstring."""
    return (importlib.import_module(f"closedform.{name}").__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")


def overview() -> str:
    """What there is at the top, and the packages."""
    top = sorted(set(closedform.__all__) - set(closedform._SUBPACKAGES) - {"__version__"})
    home = {name: closedform._EXPORTS[name] for name in top}
    listed = [[f"[`cf.{name}`][closedform.{home[name]}.{name}]", _line(name)] for name in top]
    rows = [[f"[`{name}`]({name.replace('.', '-')}.md)", cell(summary(name))] for name in PACKAGES]
    return f"""# Interface

`import closedform as cf` offers what most people need; names are loaded when first used.

{table(["name", "what it is"], listed)}

## Packages

{table(["package", "what it holds"], rows)}
"""


def _line(name: str) -> str:
    return cell((getattr(closedform, name).__doc__ or "").strip().split("\n")[0])


def package(name: str) -> str:
    """One package's page."""
    doc = (importlib.import_module(f"closedform.{name}").__doc__ or "").strip()
    entries = "\n\n".join(f"::: closedform.{name}.{one}" for one in public(name))
    return f"# closedform.{name}\n\n{doc}\n\n{entries}\n"
