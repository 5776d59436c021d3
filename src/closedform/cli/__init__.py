"""The command line. Commands hold no logic: each calls one public function and prints what it returns."""

from closedform.cli._app import app


def main() -> None:
    """Entry point of the ``closedform`` command."""
    app()


__all__ = ["app", "main"]
