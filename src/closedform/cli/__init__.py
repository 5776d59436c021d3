"""The command line. Commands hold no logic: each calls one public function and prints what it returns."""

import sys

from closedform.cli._app import app


def main() -> None:
    """Entry point of the ``closedform`` command; modules of the current folder can be named: ``my_file:Mine``."""
    sys.path.append("")  # the current folder; last, so that no file there takes the place of an installed module
    app()


__all__ = ["app", "main"]
