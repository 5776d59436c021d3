"""How faithful short rules are to the networks that ship: with the stage that fits an envelope first, and without it.

    python benchmarks/fidelity.py [--seeds 2]

Each network is recorded on mlp-digits (8 episodes of 300 steps) and distilled, 30 seconds at most. Of the hall the best
rule of at most 13, 20, 30 and 40 nodes is run from step 1 over a fresh recording, of other starts and batches, and
nothing is clipped: R^2, medians over seeds of the search. Writes benchmarks/results/fidelity.md.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch

import closedform as cf
from closedform._files import write_text
from closedform.distillation.stages import _quick
from closedform.errors import DistillationError
from closedform.reproduce._base import markdown_table, measured_on
from closedform.reproduce._replay import rule_updates
from closedform.trajectories import Trajectories

RESULTS = Path(__file__).resolve().parent / "results" / "fidelity.md"
NETWORKS = ("rp", "rp-s", "rp-si", "dm")
SIZES, FRESH, LIMIT = (13, 20, 30, 40), 900_000, 30.0


def faithful(rule: cf.Rule, fresh: Trajectories) -> float:
    truth = fresh.episode_updates.double()
    found = rule_updates(rule, fresh.gradients.double(), fresh.weights.double())
    return 1 - float((found - truth).square().sum() / (truth - truth.mean()).square().sum())


def distilled(recording: Trajectories, fresh: Trajectories, seed: int) -> tuple[list[float], list[str], float]:
    begin = time.monotonic()
    hall = cf.distill(recording, time_limit=LIMIT, seed=seed)
    seconds = time.monotonic() - begin
    values, equations = [], []
    for size in SIZES:
        try:
            entry = hall.choose(max_complexity=size, tolerance=0)
        except DistillationError:
            values.append(float("nan"))
            equations.append("")
            continue
        values.append(faithful(entry.rule, fresh))
        equations.append(entry.equation)
    return values, equations, seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    before = {name: stage for name, stage in _quick.STAGES.items() if name != "enveloped"}
    rows, told = [], []
    for name in NETWORKS:
        recording = cf.record(name, "mlp-digits")
        fresh = cf.record(name, "mlp-digits", episodes=4, seed=FRESH)
        for label, stages in (("without", before), ("with", dict(_quick.STAGES))):
            with patch.dict(_quick.STAGES, stages, clear=True):
                runs = [distilled(recording, fresh, seed) for seed in range(options.seeds)]
            medians = [median(run[0][k] for run in runs) for k in range(len(SIZES))]
            rows.append([name, label, *(f"{value:.4f}" for value in medians), f"{median(r[2] for r in runs):.0f}"])
            print(*rows[-1], flush=True)
        told.append(f"- {name}: `{runs[0][1][2]}`")
    header = ("network", "envelopes", *(f"at most {size} nodes" for size in SIZES), "seconds")
    text = (__doc__ or "").split(" Writes benchmarks")[0].strip()
    title, text = text.split("\n", 1)
    text = text.replace("    python benchmarks/fidelity.py [--seeds 2]", "`python benchmarks/fidelity.py`")
    equations = "Of at most 30 nodes, with envelopes, first seed:\n\n" + "\n".join(told)
    table = markdown_table(header, rows)
    write_text(RESULTS, f"# {title}\n{text}\n\n{measured_on()}.\n\n{table}\n\n{equations}\n")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
