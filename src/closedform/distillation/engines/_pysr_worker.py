"""PySR at work, in a process of its own: ``python _pysr_worker.py FOLDER``.

Reads ``settings.json`` and ``data.npz`` in the folder; PySR keeps its front in ``run/hall_of_fame.csv`` there, which
the other side reads. Nothing else of this package is imported: Julia and torch do not get on in one process.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: Path) -> None:
    """Search; PySR writes what it finds."""
    import numpy as np
    import sympy
    from pysr import PySRRegressor

    settings: dict[str, Any] = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    own: dict[str, Any] = {  # PySR wants SymPy's view of operators that are not its own; nobody reads it here
        "spow": lambda x, y: sympy.sign(x) * sympy.Abs(x) ** y,
        "ssqrt": lambda x: sympy.sqrt(sympy.Abs(x)),
        "slog": lambda x: sympy.log(sympy.Abs(x) + 1e-8),
    }
    with np.load(folder / "data.npz", allow_pickle=False) as data:
        PySRRegressor(**settings, extra_sympy_mappings=own, output_directory=str(folder), run_id="run").fit(
            data["columns"], data["target"]
        )


if __name__ == "__main__":
    del sys.path[0]  # the package's folder is no place to import from
    main(Path(sys.argv[1]))
