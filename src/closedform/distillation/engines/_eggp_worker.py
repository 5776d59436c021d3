"""eggp at work, in a process of its own: ``python _eggp_worker.py FOLDER``.

Reads ``settings.json`` and ``data.npz`` in the folder; after every round the front so far is in
``run/hall_of_fame.csv``. What eggp returns is text, which is passed on and not looked into here.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

FIRST_ROUND = 5
"""Generations of the first round."""
CONSTANT_STEPS, CONSTANT_STARTS = 10, 1
"""What eggp spends on an equation's constants."""


def main(folder: Path) -> None:
    """Search in rounds, and write what they find."""
    import numpy as np
    from eggp import eggp_run_data

    settings: dict[str, Any] = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    with np.load(folder / "data.npz", allow_pickle=False) as data:
        columns, target = data["columns"], data["target"]
    rng = np.random.default_rng(settings["seed"])
    names = np.array([f"x{index}" for index in range(columns.shape[1])])
    front: dict[int, tuple[float, str]] = {}
    left, size = settings["generations"], FIRST_ROUND
    while left > 0:
        order = rng.permutation(columns.shape[1])
        rows = np.column_stack([columns[:, order], target])[rng.permutation(len(target))]
        out = eggp_run_data(
            np.ascontiguousarray(rows),
            [len(rows)],
            ",".join([*names[order], "y"]),
            "",
            gen=min(size, left),
            nPop=settings["population"],
            maxSize=settings["size"],
            nTournament=3,
            pc=0.9,
            pm=0.3,
            nonterminals=settings["nonterminals"],
            loss="MSE",
            optIter=CONSTANT_STEPS,
            optRepeat=CONSTANT_STARTS,
            nParams=-1,
            split=1,
            max_time=-1,
            simplify=0,
            trace=0,
            generational=0,
            dumpTo="",
            loadFrom="",
            varnames=",".join(names[order]),
            useFracBayes=0,
        )
        for row in csv.DictReader(out.strip().splitlines()):
            found = float(row["loss_train"]), row["Expression"]
            nodes = int(row["size"])
            front[nodes] = min(found, front.get(nodes, found))
        _write(folder / "run", front)
        left, size = left - size, 2 * size


def _write(folder: Path, front: dict[int, tuple[float, str]]) -> None:
    folder.mkdir(exist_ok=True)
    partial = folder / "partial"
    with partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["Complexity", "Loss", "Equation"])
        table.writerows([nodes, *front[nodes]] for nodes in sorted(front))
    partial.replace(folder / "hall_of_fame.csv")


if __name__ == "__main__":
    del sys.path[0]  # the package's folder is no place to import from
    main(Path(sys.argv[1]))
