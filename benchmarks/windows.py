"""Tables whose rows are windows: what `closedform distill` finds in 20 lags of a gradient.

    python benchmarks/windows.py [--runs runs/windows]

Trains a small network on scikit-learn's digits with an optimizer of torch.optim, or with the learned optimizer rp on
the same task, and writes a table: 4,000 rows drawn among the steps of 60 parameters, in no order, each the gradient g
and its 19 last values g_1 ... g_19 in the middle of a run of 150 steps, and the update. *With t* the rows are of any
step, zeros before the first, and the number of the step is a column. A *matrix* is an ``.npy`` file of 29 columns: the
lags, the layer's index, six means over the layer, t, and the update; *rates by layer* are 1e-3 times 1, 2, 3 and 4.

Each table is given to the command, as it is and with ``--no-lags``, which takes the lags for columns of their own.
*Fresh* is R^2 on the rows of another run; *as a rule* that of the rule run over the other run's whole sequences of
gradients, from step 1 on; *itself* that of torch's optimizer begun anew at the oldest step of each fresh row's window,
times the best constant. Seconds are of processors' time, the command's start included; it uses up to two cores, and
its own limit is 60 seconds of the clock. Finished tables in ``--runs`` are used again. Writes
benchmarks/results/windows.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from closedform._files import write_text
from closedform.distillation import EquationHall
from closedform.reproduce._base import markdown_table, measured_on
from closedform.trajectories import RecordConfig, record, run_source

RESULTS = Path(__file__).resolve().parent / "results"
LAGS, STEPS, PARAMETERS, ROWS = 19, 150, 60, 4000
MEANS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean_g": lambda g, w: g,
    "mean_abs_g": lambda g, w: g.abs(),
    "mean_square_g": lambda g, w: g.square(),
    "mean_w": lambda g, w: w,
    "mean_abs_w": lambda g, w: w.abs(),
    "mean_square_w": lambda g, w: w.square(),
}
Make = Callable[[Iterable[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Run:
    """Some parameters of a training run: gradients, updates and means of their layers, [T, C]; their layers, [C]."""

    gradients: np.ndarray
    updates: np.ndarray
    layer: np.ndarray
    means: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A table: the optimizer, None for rp; the steps whose rows are taken; which further columns; rates by layer."""

    make: Make | None
    first: int = LAGS
    last: int = STEPS
    clock: bool = False
    matrix: bool = False
    by_layer: bool = False


def adam(beta2: float) -> Make:
    return lambda w: torch.optim.Adam(w, lr=1e-3, betas=(0.9, beta2))


def by_layer(w: Iterable[Tensor]) -> torch.optim.Optimizer:
    groups = [{"params": [one], "lr": 1e-3 * number} for number, one in enumerate(w, start=1)]
    return torch.optim.Adam(groups, betas=(0.9, 0.95))


def momentum(beta: float) -> Make:
    return lambda w: torch.optim.SGD(w, lr=0.1, momentum=beta)


CASES = {
    "Momentum(0.6)": Case(momentum(0.6)),
    "Momentum(0.9)": Case(momentum(0.9)),
    "Adam(0.9, 0.9)": Case(adam(0.9)),
    "Adam(0.9, 0.95)": Case(adam(0.95)),
    "Adam(0.9, 0.999)": Case(adam(0.999)),
    "Adam(0.9, 0.95), with t": Case(adam(0.95), first=0, clock=True),
    "Adam(0.9, 0.999), steps 1 to 20 with t": Case(adam(0.999), first=0, last=LAGS + 1, clock=True),
    "matrix, Adam(0.9, 0.95)": Case(adam(0.95), matrix=True),
    "matrix, Adam(0.9, 0.95), rates by layer": Case(by_layer, matrix=True, by_layer=True),
    "matrix, rp": Case(None, matrix=True),
}


def trained(make: Make, seed: int) -> Run:
    """A run on digits with an optimizer of torch."""
    torch.manual_seed(seed)
    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images / 16), torch.from_numpy(labels)
    net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10)).double()
    w, optimizer = list(net.parameters()), make(net.parameters())
    gradients, updates, means = [], [], {name: [] for name in MEANS}
    for _ in range(STEPS):
        batch = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
        before = [one.detach().clone() for one in w]
        for name, mean in MEANS.items():
            of_layers = [torch.full_like(b, float(mean(one.grad, b).mean())) for one, b in zip(w, before, strict=True)]
            means[name].append(flat(of_layers))
        optimizer.step()
        gradients.append(flat(one.grad.clone() for one in w))
        updates.append(flat(one.detach() - b for one, b in zip(w, before, strict=True)))
    layer = flat(torch.full_like(one, number) for number, one in enumerate(w))
    g = torch.stack(gradients)
    busy = g.any(dim=0).nonzero().squeeze(1)
    picked = busy[torch.randperm(len(busy))[:PARAMETERS]]
    each = {name: torch.stack(values)[:, picked].numpy() for name, values in means.items()}
    return Run(g[:, picked].numpy(), torch.stack(updates)[:, picked].numpy(), layer[picked].numpy(), each)


def flat(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([part.detach().flatten() for part in parts])


def learned(seed: int) -> Run:
    """A run of rp on mlp-digits; means over the parameters of a layer that were recorded."""
    config = RecordConfig(steps=STEPS, episodes=2, coordinates=PARAMETERS, samples=2000)
    found = record("rp", "mlp-digits", config, features=("g",), seed=seed)
    g, w, layer = found.gradients[0], found.weights[0], found.episode_layers[0]
    means = {}
    for name, mean in MEANS.items():
        values = mean(g, w).double()
        for number in layer.unique():
            own = layer == number
            values[:, own] = values[:, own].mean(dim=1, keepdim=True).expand(-1, int(own.sum()))
        means[name] = values.numpy()
    return Run(g.double().numpy(), found.episode_updates[0].double().numpy(), layer.double().numpy(), means)


def table_of(case: Case, run: Run) -> dict[str, np.ndarray]:
    """The table's columns, the target y last."""
    count = run.gradients.shape[1]
    before = np.concatenate([np.zeros((LAGS, count)), run.gradients])
    t, c = (part.ravel() for part in np.meshgrid(np.arange(case.first, case.last), np.arange(count), indexing="ij"))
    rows = np.random.default_rng(0).permutation(len(t))[:ROWS]
    t, c = t[rows], c[rows]
    columns = {f"g_{lag}" if lag else "g": before[t + LAGS - lag, c] for lag in range(LAGS + 1)}
    if case.matrix:
        columns |= {"layer": run.layer[c], **{name: mean[t, c] for name, mean in run.means.items()}}
    if case.matrix or case.clock:
        columns["t"] = t + 1.0
    return {**columns, "y": run.updates[t, c]}


def written(path: Path, columns: Mapping[str, np.ndarray], matrix: bool) -> list[str]:
    """The table as a file; and what the command is told."""
    values = np.column_stack(list(columns.values()))
    if matrix:
        np.save(path.with_suffix(".npy"), values)
        return [str(path.with_suffix(".npy")), "--columns", ",".join(columns), "--target", "y"]
    np.savetxt(path.with_suffix(".csv"), values, delimiter=",", header=",".join(columns), comments="", fmt="%.17g")
    return [str(path.with_suffix(".csv")), "--target", "y"]


def distilled(arguments: list[str], out: Path) -> tuple[EquationHall, float]:
    """What the command finds, and its seconds of processors' time."""
    start = _spent()
    command = [sys.executable, "-m", "closedform", "distill", *arguments, "--out", str(out), "--json"]
    subprocess.run(command, check=True, capture_output=True)
    return EquationHall.load(out / "equations.json"), _spent() - start


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def r2(y: np.ndarray, predicted: np.ndarray) -> float:
    return 1 - float(np.square(y - predicted).sum() / np.square(y - y.mean()).sum())


def itself(case: Case, columns: Mapping[str, np.ndarray]) -> float | None:
    """R^2 of torch's optimizer begun at each window's oldest step, times the best constant."""
    if case.make is None or case.by_layer:
        return None
    w = torch.zeros(len(columns["y"]), dtype=torch.float64, requires_grad=True)
    optimizer = case.make([w])
    for lag in range(LAGS, -1, -1):
        before, w.grad = w.detach().clone(), torch.from_numpy(columns[f"g_{lag}" if lag else "g"]).clone()
        optimizer.step()
    last, y = (w.detach() - before).numpy(), columns["y"]
    return r2(y, last * (last @ y) / (last @ last))


def measured(name: str, case: Case, folder: Path) -> list[str]:
    """A row of the table of results, and the equation."""
    make = learned if case.make is None else partial(trained, case.make)
    run, other = make(seed=0), make(seed=1)
    columns, fresh = table_of(case, run), table_of(case, other)
    told = written(folder / "".join(c if c.isalnum() else "_" for c in name), columns, case.matrix)
    hall, seconds = distilled(told, folder / "out")
    plain, plain_seconds = distilled([*told, "--no-lags"], folder / "plain")
    read = {"t_" if column == "t" else column: values for column, values in fresh.items()}
    chosen, old = hall.choose(), plain.choose()
    rule = None
    if chosen.rule is not None:
        g = torch.from_numpy(other.gradients)[None]
        rule = r2(other.updates, run_source(chosen.rule.program, g, torch.zeros_like(g))["update"][0].numpy())
    constants = chosen.written.constants if chosen.written else {}
    decays = [f"{key[2:]} {value:g}" for key, value in constants.items() if key.startswith("d_")]
    scores = (chosen.r2, r2(fresh["y"], chosen.predict(read)), rule, itself(case, fresh))
    sizes = [str(chosen.complexity), str(chosen.state_cost)]
    return [
        *(name, *map(shown, scores), *sizes, f"{seconds:.0f}", shown(old.r2), f"{plain_seconds:.0f}"),
        *(f"`{chosen.equation}`", ", ".join(decays)),
    ]


def shown(score: float | None) -> str:
    if score is None:
        return ""
    return f"{score:.4f}" if score < 0.9999 else f"1 - {max(1 - score, 1e-12):.0e}"


HEADER = "table,R^2 held out,fresh,as a rule,itself,nodes,buffers,seconds,R^2 without windows,seconds without".split(
    ","
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/windows"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.runs.mkdir(parents=True, exist_ok=True)
    store = given.runs / "rows.jsonl"
    done = {row[0]: row for row in map(json.loads, store.read_text().splitlines())} if store.exists() else {}
    rows = []
    for name, case in CASES.items():
        rows.append(done.get(name) or measured(name, case, given.runs))
        print(rows[-1], flush=True)
        if name not in done:
            with store.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    text = [
        "# Tables whose rows are windows",
        f"`python benchmarks/windows.py`; {measured_on()}.",
        markdown_table(HEADER, [row[: len(HEADER)] for row in rows]),
        (__doc__ or "").split("\n\n", 2)[2].strip(),
        "## What was chosen",
        markdown_table(["table", "equation", "decays"], [[row[0], *row[len(HEADER) :]] for row in rows]),
    ]
    write_text(RESULTS / "windows.md", "\n\n".join(text) + "\n")


if __name__ == "__main__":
    main()
