"""Distillation that keeps to the teacher's symmetries, beside distillation that does not.

    python benchmarks/symmetric_distillation.py [--seeds 2] [--networks dm,rp,celo] [--runs runs/symmetric_distillation]

Records each network at work on digits, distils the recording with ``symmetries="none"`` and ``"auto"`` and otherwise
the same options (celo with ``"both"`` too), and trains with the chosen equation of each hall: R^2 on held-out episodes,
nodes, and the loss of fresh episodes, on the half of the data that was not recorded, over the network's from the same
starts and batches. Searches are bounded by generations, so that the numbers do not depend on the machine's speed;
finished ones in ``--runs`` are used again. Writes benchmarks/results/symmetric_distillation.md and .json after every
seed.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch

from closedform import tasks
from closedform._files import write_text
from closedform.distillation import DistillConfig, HallOfFame, distill
from closedform.lang import Parity, parities
from closedform.learned_optimizers import LearnedOptimizer, SymbolicOptimizer, load_learned_optimizer
from closedform.meta_training import Problem, begin, run
from closedform.reproduce._base import markdown_table, measured_on
from closedform.tasks import Task
from closedform.trajectories import RecordConfig, record

RESULTS = Path(__file__).resolve().parent / "results"
NETWORKS = ("dm", "rp", "celo")
TASK, STEPS, EPISODES = "mlp-digits", 100, 3
"""The task, steps of its episodes, and fresh episodes that rules train."""
RECORDED = RecordConfig(steps=STEPS, episodes=5, coordinates=32, samples=3000)
SEARCH = DistillConfig(
    time_limit=math.inf, generations=8, population=200, rows=600, max_complexity=30, max_state_cost=4, threads=1
)
CHOICES = {"none": "without", "auto": "as measured", "both": "odd and scale-free, asked for"}
ASKED = ("celo",)
"""Networks that are distilled with ``"both"`` too: celo is odd and scale-free by its form, but through whole tensors,
of which a recording of single parameters tells little."""
MOST = 1e6
"""A loss over the network's that counts as having diverged."""


@dataclass(frozen=True)
class Row:
    """One distillation.

    Attributes:
        network, seed, choice: What was distilled, and how.
        kept: The symmetries that were kept, in words.
        even_share, scale_share: What was measured; None without.
        r2, nodes, buffers, equation: Of the chosen equation.
        best_r2, best_nodes: Of the most faithful one.
        odd: Share of the hall that is odd.
        loss: Mean final loss of fresh episodes with the chosen equation over the network's; None: not finite.
    """

    network: str
    seed: int
    choice: str
    kept: str
    even_share: float | None
    scale_share: float | None
    r2: float
    nodes: int
    buffers: int
    equation: str
    best_r2: float
    best_nodes: int
    odd: float
    loss: float | None

    @property
    def key(self) -> tuple[str, int, str]:
        """Which distillation it is."""
        return self.network, self.seed, self.choice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--runs", type=Path, default=Path("runs/symmetric_distillation"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    store = given.runs / "rows.jsonl"
    given.runs.mkdir(parents=True, exist_ok=True)
    done = {row.key: row for row in map(parsed, store.read_text().splitlines())} if store.exists() else {}
    rows: list[Row] = []
    for seed in range(given.seeds):
        for name in given.networks.split(","):
            for choice in CHOICES if name in ASKED else ("none", "auto"):
                row = done.get((name, seed, choice)) or distilled(name, seed, choice)
                if row.key not in done:
                    with store.open("a") as file:
                        file.write(json.dumps(asdict(row)) + "\n")
                rows.append(row)
                print(row, flush=True)
        write_text(RESULTS / "symmetric_distillation.md", report(rows))
        write_text(RESULTS / "symmetric_distillation.json", json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def parsed(line: str) -> Row:
    return Row(**json.loads(line))


def distilled(name: str, seed: int, choice: str) -> Row:
    """Record, distil, and train with the chosen equation."""
    network, task = load_learned_optimizer(name), tasks.get(TASK)
    features = dict.fromkeys((*network.features, "progress"))
    recording = record(network, task, RECORDED, features=tuple(features), seed=seed)
    hall = distill(recording, config=SEARCH, symmetries=choice, seed=seed)
    entry, measured = hall.choose(), hall.provenance["symmetries"]
    loss = final_loss(SymbolicOptimizer(entry.rule), task, seed) / final_loss(network, task, seed)
    return Row(
        name,
        seed,
        choice,
        " and ".join(filter(None, ("odd" * measured["odd"], "scale-free" * measured["scale_free"]))) or "none",
        measured["even_share"],
        measured["scale_share"],
        entry.r2,
        entry.complexity,
        entry.state_cost,
        entry.equation,
        hall.best.r2,
        hall.best.complexity,
        share_odd(hall),
        loss if math.isfinite(loss) and loss < MOST else None,
    )


def share_odd(hall: HallOfFame) -> float:
    """Share of the hall's rules that are proved to be odd in the gradient and the parameter."""
    known = [parities(entry.rule.program, odd=("g", "w"))["update"] for entry in hall.entries]
    return sum(one is Parity.ODD for one in known) / len(known)


def final_loss(optimizer: LearnedOptimizer, task: Task, seed: int) -> float:
    """Mean loss of the last tenth of fresh episodes."""
    problem, losses = Problem(task, "eval"), []
    for episode in range(EPISODES):
        generator = torch.Generator().manual_seed(1000 * (seed + 1) + episode)
        found, _ = run(optimizer, problem, begin(optimizer, problem, generator, STEPS), STEPS)
        losses.append(float(found[-STEPS // 10 :].mean()))
    return sum(losses) / len(losses)


def report(rows: list[Row]) -> str:
    """The page."""
    seeds = 1 + max(row.seed for row in rows)
    sections = [
        "# Distillation with and without the teacher's symmetries",
        f"`python benchmarks/symmetric_distillation.py`; {measured_on()}.",
        markdown_table(
            ("network", "symmetries", "kept", "R^2", "nodes", "buffers", "best R^2", "its nodes", "odd rules", "loss"),
            [line(rows, *pair) for pair in dict.fromkeys((row.network, row.choice) for row in rows)],
        ),
        f"Medians over {seeds} recordings; in the column of losses all of them. R^2, nodes and buffers are of the "
        "equation that the hall of fame chooses, then of the most faithful one, on held-out episodes. Odd rules: "
        f"share of the hall. Loss: of {EPISODES} fresh episodes of {STEPS} steps with the chosen equation, over the "
        f"network's, on the half of {TASK} that was not recorded.",
        "## What was measured, and the equations\n\n"
        + markdown_table(
            ("network", "recording", "symmetries", "even share", "scale share", "equation"),
            [
                [r.network, str(r.seed), r.choice, share(r.even_share), share(r.scale_share), f"`{r.equation}`"]
                for r in rows
            ],
        ),
    ]
    return "\n\n".join(sections) + "\n"


def line(rows: list[Row], name: str, choice: str) -> list[str]:
    here = [row for row in rows if (row.network, row.choice) == (name, choice)]
    losses = ["diverged" if row.loss is None else f"{row.loss:.3f}" for row in here]
    return [
        name,
        CHOICES[choice],
        "; ".join(dict.fromkeys(row.kept for row in here)),
        f"{median(row.r2 for row in here):.4f}",
        f"{median(row.nodes for row in here):g}",
        f"{median(row.buffers for row in here):g}",
        f"{median(row.best_r2 for row in here):.4f}",
        f"{median(row.best_nodes for row in here):g}",
        f"{sum(row.odd for row in here) / len(here):.0%}",
        ", ".join(losses),
    ]


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    main()
