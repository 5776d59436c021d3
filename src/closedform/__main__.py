"""``python -m closedform`` is the ``closedform`` command."""

from closedform.cli import main

if __name__ == "__main__":  # worker processes that are spawned import this module again
    main()
