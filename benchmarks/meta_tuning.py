"""Tuning rules online, and by races: what they cost, how noisy they are, how far they get, what workers bring.

    python benchmarks/meta_tuning.py [--only memory time variance online race] [--data-dir DIR] [--quick] [--out DIR]

Memory: the peak of a training run in a fresh process, less what the process held before it built anything (Linux), with
`MetaTuner` over without. Time: blocks of steps with and without it in turn, in one process. Variance: the
hypergradients of windows of a recorded run, from subsets, against those from all coordinates. Online: six tasks, three
seeds, from the rule's default learning rate, against the same without the tuner and against a grid of learning rates.
Race: candidates a minute of `closedform.race` on one worker and on two, in turn, and what a killed worker costs.
All of it takes a quarter of an hour on two cores. Writes meta_tuning.json and meta_tuning.md; parts left out keep their
last results.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from optimizer_step import machine
from torch import Tensor, nn

import closedform as cf
from closedform import tasks
from closedform._files import write_text
from closedform.meta_training import TunerConfig
from closedform.reproduce._base import markdown_table

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "ResNet-18": ("resnet18-mnist", {"batch_size": 64}),
    "ResNet-50": ("resnet50-mnist", {"batch_size": 64}),
    "GPT": ("transformer-python", {"width": 768, "layers": 14, "heads": 12, "batch_size": 4, "window": 64}),
}
TEN = cf.Rule.parse(
    "ten constants",
    "-(a1*m + a2*n)/d - a3*tanh(c1*g/d) - a4*sign(m)*(1 - exp(-c2*abs(g)/d))",
    state={"m": "b1*m + (1 - b1)*g", "n": "b2*n + (1 - b2)*g", "v": "b3*v + (1 - b3)*square(g)"},
    where={"d": "sqrt(v/(1 - b3**t)) + eps"},
    constants={"a1": 0.5, "a2": 0.5, "a3": 0.1, "a4": 0.1, "c1": 1.5, "c2": 1.5}
    | {"b1": 0.9, "b2": 0.99, "b3": 0.999, "eps": 1e-8},
    lr=1e-3,
)
RULES: dict[str, cf.Rule | str] = {"adam": "adam", "ten constants": TEN}
WINDOWS = (1, 10, 100)
DRAWS = 20
SIZES = (300, 1000, 3000, 10000)
SIX = ("mlp-mnist", "conv-mnist", "autoencoder-mnist", "logistic-mnist", "mlp-mnist1d", "transformer-python")
SMALL: dict[str, dict[str, Any]] = {"transformer-python": {"width": 32, "batch_size": 8, "window": 32}}
SEEDS = (11, 12, 13)
GRID = tuple(1e-3 * 2**power for power in range(-1, 7))
PARTS = ("memory", "time", "variance", "online", "race")
MEMORY_ASKED, TIME_ASKED = 1.05, 1.15


class Training:
    """A task's parameters, its batches, and a rule."""

    def __init__(self, name: str, seed: int, rule: cf.Rule | str = "adam", lr: float | None = None, **options: Any):
        self.task = tasks.get(name, **options)
        self.generator = torch.Generator().manual_seed(seed)
        self.params = {key: nn.Parameter(value) for key, value in self.task.init(self.generator).items()}
        self.optimizer = cf.RuleOptimizer(self.params.values(), rule, lr=lr)

    def backward(self) -> float:
        self.optimizer.zero_grad()
        loss = self.task.loss(dict(self.params), self.task.batch("train", self.generator))
        loss.backward()
        return float(loss.detach())

    @property
    def trained(self) -> float:
        """The loss of all training data (or of the task's sample of them)."""
        values = {key: value.detach() for key, value in self.params.items()}
        return self.task.metrics(values, self.task.full("train"))["loss"]


# ----------------------------------------------------------------------------------------------------------- memory


def peak(model: str, rule: str, window: int) -> int:
    """Bytes at the peak of a training run, over those before it; ``window`` 0: without the tuner.

    Of long windows only the first two and the last two steps have a backward pass; the others reuse the gradients.
    """
    name, options = MODELS[model]
    held = resident()
    training = Training(name, 0, RULES[rule], **options)
    tuner = cf.MetaTuner(training.optimizer, every=window) if window else training.optimizer
    steps = max(2 * window, 6) if window < 20 else window + 2
    for step in range(steps):
        if step < 2 or step >= steps - 2 or window < 5:
            training.backward()
        tuner.step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - held


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def memory(quick: bool) -> Any:
    rows = []
    cases = [("ResNet-18", "ten constants", WINDOWS)]
    if not quick:
        every = TunerConfig().every
        cases += [("ResNet-18", "adam", (every,)), ("ResNet-50", "adam", (every,)), ("GPT", "adam", (every,))]
    for model, rule, windows in cases:
        plain = in_fresh_process(model, rule, 0)
        for window in windows:
            tuned = in_fresh_process(model, rule, window)
            rows.append({"model": model, "rule": rule, "T": window, "plain": plain, "tuned": tuned})
    return rows


def in_fresh_process(model: str, rule: str, window: int) -> int:
    """`peak` where freed blocks go back to the system at once, whatever their size."""
    command = [sys.executable, __file__, "--peak", model, rule, str(window)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


# ------------------------------------------------------------------------------------------------------------- time


def times(quick: bool) -> Any:
    """Seconds a step, medians over blocks of as many steps as the tuner has between two moves."""
    rows = []
    for model in list(MODELS)[: 1 if quick else None]:
        name, options = MODELS[model]
        training = Training(name, 0, **options)
        tuner = cf.MetaTuner(training.optimizer)
        first = {"plain": once(training, training.optimizer.step), "tuned": once(training, tuner.step)}
        for _ in range(tuner.config.every - 1):
            tuner.step()
        found: dict[str, list[float]] = {"plain": [], "tuned": []}
        for _ in range(4 if model == "ResNet-18" else 2):
            for contender, step in (("plain", training.optimizer.step), ("tuned", tuner.step)):
                found[contender] += [block(training, step, tuner.config.every)]
        row = {contender: statistics.median(values) for contender, values in found.items()}
        rows.append({"model": model, "parameters": training.task.size, "first": first, **row})
    return rows


def once(training: Training, step: Callable[[], object]) -> float:
    training.backward()
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def block(training: Training, step: Callable[[], object], steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        training.backward()
        step()
    return (time.perf_counter() - start) / steps


# --------------------------------------------------------------------------------------------------------- variance


def variance(quick: bool) -> Any:
    """Root mean square error of a window's hypergradients over their norm, steps 101 to 120 of mlp-mnist with adam."""
    rows = record("mlp-mnist", 120)
    order = torch.randperm(flat(rows[0][0]).numel(), generator=torch.Generator().manual_seed(0))
    shuffled = [([flat(start)[order]], [flat(gradient)[order]]) for start, gradient in rows]
    exact = hypergradients(rows, 10**9, "stratified", 0)
    found: dict[str, dict[str, float]] = {}
    for label, run, sampling in (
        ("at random", shuffled, "stratified"),
        ("stratified", rows, "stratified"),
        ("by slopes", rows, "slopes"),
    ):
        found[label] = {}
        for size in SIZES[: 2 if quick else None]:
            errors = [hypergradients(run, size, sampling, seed) - exact for seed in range(4 if quick else DRAWS)]
            found[label][str(size)] = float(torch.stack(errors).square().sum(1).mean().sqrt() / exact.norm())
    return found


Recorded = Sequence[tuple[list[Tensor], list[Tensor]]]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def record(name: str, steps: int) -> Recorded:
    """Parameters and gradients before each step."""
    training, rows = Training(name, 5), []
    for _ in range(steps):
        training.backward()
        params = list(training.params.values())
        rows.append(([p.detach().clone() for p in params], [p.grad.clone() for p in params]))  # type: ignore[union-attr]
        training.optimizer.step()
    return rows


def hypergradients(rows: Recorded, coordinates: int, sampling: str, seed: int) -> Tensor:
    """Of the last window, from a subset."""
    leaves = [nn.Parameter(start.clone()) for start in rows[0][0]]
    options: dict[str, Any] = {"rate": 0.0, "every": 20, "memory": None, "seed": seed}
    tuner = cf.MetaTuner(cf.RuleOptimizer(leaves, "adam"), coordinates=coordinates, sampling=sampling, **options)
    for _, gradients in rows:
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = gradient.clone()
        tuner.step()
    return torch.tensor(list(tuner.hypergradients.values()), dtype=torch.float64)


# ----------------------------------------------------------------------------------------------------------- online


def final_loss(case: tuple[str, int, float | str | None]) -> tuple[float, float]:
    """The loss after a whole run and the last learning rate; with a rate, the rule's own (None), or the tuner."""
    torch.set_num_threads(1)
    name, seed, rate = case
    tuned = rate == "tuner"
    training = Training(name, seed, lr=None if isinstance(rate, str) else rate, **SMALL.get(name, {}))
    stepper = cf.MetaTuner(training.optimizer) if tuned else training.optimizer
    for _ in range(training.task.horizon):
        if not math.isfinite(training.backward()):
            return math.inf, stepper.rule.lr
        stepper.step()
    return training.trained, stepper.rule.lr if tuned else training.optimizer.param_groups[0]["lr"]


def online(quick: bool) -> Any:
    names, seeds = SIX[-2:] if quick else SIX, SEEDS[: 1 if quick else None]
    rates: list[float | str | None] = [None, "tuner", *(rate for rate in GRID if rate != 1e-3)]
    cases = [(name, seed, rate) for name in names for rate in rates for seed in seeds]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = dict(zip(cases, pool.map(final_loss, cases, chunksize=1), strict=True))
    rows = []
    for name in names:
        means = {rate: statistics.geometric_mean(found[name, seed, rate][0] for seed in seeds) for rate in rates}
        grid = {1e-3 if rate is None else rate: mean for rate, mean in means.items() if rate != "tuner"}
        best = min(grid, key=grid.__getitem__)
        ends = [found[name, seed, "tuner"][1] for seed in seeds]
        losses = {"untuned": means[None], "tuned": grid[best], "online": means["tuner"]}
        rows.append({"task": name, "steps": tasks.get(name).horizon, **losses, "best lr": best, "last lr": ends})
    return rows


# ----------------------------------------------------------------------------------------------------------- output


def markdown(results: dict[str, Any]) -> str:
    lines = [
        "# Tuning a rule online, and by races",
        "",
        f"`cf.MetaTuner(optimizer)` with its defaults: {TunerConfig()}",
        "",
    ]
    writers = {"memory": memory_table, "time": time_table, "variance": variance_table}
    writers |= {"online": online_table, "race": race_table}
    for part, writer in writers.items():
        if part in results:
            about = ", ".join(f"{key} {value}" for key, value in results[part]["machine"].items())
            title, *rest = writer(results[part]["found"])
            lines += [f"## {title}", "", about, "", *rest, ""]
    return "\n".join(lines).rstrip() + "\n"


def memory_table(found: Any) -> Iterator[str]:
    yield "Peak memory of a training run, over the same without the tuner"
    rows = [
        [row["model"], row["rule"], str(row["T"]), *ratio(row["plain"] / 1e6, row["tuned"] / 1e6, ",.0f", MEMORY_ASKED)]
        for row in found
    ]
    yield markdown_table(["model", "rule", "T", "plain, MB", "with the tuner, MB", "ratio", "asked"], rows)
    yield ""
    yield "T: steps between two moves of the constants, of which the gradients at the subset are kept. Above 20 only"
    yield "the first and last two have a backward pass; others reuse theirs. ResNets: 64 images of 28x28; GPT: 4"
    yield "windows of 64 characters."


def ratio(plain: float, tuned: float, form: str, asked: float) -> list[str]:
    """The cells of both, of their ratio and of what is asked."""
    return [format(plain, form), format(tuned, form), f"{tuned / plain:.3f}", f"<= {asked}"]


def time_table(found: Any) -> Iterator[str]:
    yield "Seconds a step, forward and backward pass included"
    rows = [
        [
            row["model"],
            f"{row['parameters']:,}",
            *ratio(row["plain"], row["tuned"], ".3f", TIME_ASKED),
            f"{row['first']['tuned']:.2f}",
        ]
        for row in found
    ]
    header = ["model", "parameters", "plain", "with the tuner", "ratio", "asked", "first tuner.step()"]
    yield markdown_table(header, rows)


def variance_table(found: Any) -> Iterator[str]:
    yield "Noise of a window's hypergradients over their norm, mlp-mnist (40,480 parameters), adam, steps 101 to 120"
    sizes = list(found["at random"])
    rows = [[label, *(f"{row[size]:.2f}" for size in sizes)] for label, row in found.items()]
    ratios = [found["by slopes"][size] / found["at random"][size] for size in sizes]
    rows.append(["by slopes over at random", *(f"{ratio:.2f}" for ratio in ratios)])
    rows.append(["the same of variances", *(f"{ratio**2:.2f}" for ratio in ratios)])
    yield markdown_table(["coordinates drawn", *sizes], rows)
    yield ""
    yield f"Root mean squares over {DRAWS} draws. Asked: half of what drawing at random has."


def online_table(found: Any) -> Iterator[str]:
    yield "Final training loss: adam from its default rate 0.001, the best of a grid of rates, and the tuner from 0.001"
    rows = [
        [
            row["task"],
            str(row["steps"]),
            *(f"{row[key]:.4g}" for key in ("untuned", "tuned", "best lr", "online")),
            f"{statistics.geometric_mean(row['last lr']):.2g}",
            *(f"{row['online'] / row[key]:.2f}" for key in ("tuned", "untuned")),
        ]
        for row in found
    ]
    header = [
        "task",
        "steps",
        "untuned",
        "best of grid",
        "its lr",
        "tuner",
        "its last lr",
        "over tuned",
        "over untuned",
    ]
    yield markdown_table(header, rows)
    near = sum(row["online"] <= 1.05 * row["tuned"] for row in found)
    worst = max(row["online"] / row["untuned"] for row in found)
    yield ""
    yield f"Geometric means over {len(SEEDS)} seeds; grid: {', '.join(f'{rate:g}' for rate in GRID)}."
    yield f"Within 5 % of the tuned rate: {near} of {len(found)} (asked: 5 of 6)."
    yield f"Over the untuned rule at worst: {worst:.2f} (asked: <= 1.1)."


def races(quick: bool) -> list[dict[str, Any]]:
    """Candidates a minute on each kind of workers; then one race of which a worker is killed."""
    kinds: list[int | str] = [1, 2, *(["ray"] if importlib.util.find_spec("ray") else [])]
    found = [one_race(workers, quick) for _ in range(1 if quick else 3) for workers in kinds]
    return [*found, {"killed": True, **one_race(2, quick, kill=True)}]


def one_race(workers: int | str, quick: bool, *, kill: bool = False) -> dict[str, Any]:
    """A race, from the call to the result: workers are begun in it, and end with it."""
    task = tasks.get("mlp-mnist")
    config = cf.RaceConfig(generations=1 if quick else 2, steps=200 if quick else 9000, workers=workers)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        killed = False

        def told(done: int, total: int, text: str) -> None:
            nonlocal killed
            if kill and not killed and done >= total // 2:
                children = psutil.Process().children(recursive=True)
                busiest = max(children, key=lambda child: sum(child.cpu_times()[:2]))
                busiest.kill()
                killed = True

        rule = cf.race(cf.load_rule("adam"), task, trainable=["lr"], config=config, out=folder, progress=told)
        seconds = time.perf_counter() - start
        ended = cf.meta_training.read_race(Path(folder) / "candidates.jsonl")
    lost = sum(one.state == "lost" for one in ended)
    return {"workers": workers, "seconds": seconds, "candidates": len(ended), "lost": lost, "lr": rule.lr}


def race_table(found: Any) -> Iterator[str]:
    yield "Candidates a minute of a race on mlp-mnist, by workers"
    rates: dict[str, list[float]] = {}
    for row in found:
        if "killed" not in row:
            rates.setdefault(str(row["workers"]), []).append(60 * row["candidates"] / row["seconds"])
    alone = statistics.median(rates["1"])
    rows = [
        [
            name,
            f"{statistics.median(each):.1f}",
            f"{statistics.median(each) / alone:.2f}",
            "" if name == "1" else ">= 1.8",
        ]
        for name, each in rates.items()
    ]
    yield markdown_table(["workers", "candidates a minute", "over one worker", "asked"], rows)
    yield ""
    yield f"Medians of {len(rates['1'])} races of {found[0]['candidates']} runs, starting workers included; ray: a"
    yield "cluster of one machine, begun for the race. Learning rates found: " + same(
        [row["lr"] for row in found if "killed" not in row]
    )
    (killed,) = (row for row in found if "killed" in row)
    yield f"One of two workers killed in mid-race: {killed['lost']} of {killed['candidates']} candidates lost."


def same(values: Sequence[float]) -> str:
    return f"the same {len(values)} times." if len(set(values)) == 1 else ", ".join(f"{value:.6g}" for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure; default: all")
    parser.add_argument("--data-dir", type=Path, help="where MNIST is; default: where the package looks")
    parser.add_argument("--quick", action="store_true", help="fewer models, sizes, tasks and seeds")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.data_dir:
        os.environ["CLOSEDFORM_DATA_DIR"] = str(options.data_dir)
    if options.peak:
        model, rule, window = options.peak
        print(peak(model, rule, int(window)))
        return
    measure: dict[str, Callable[[bool], Any]] = {
        "memory": memory,
        "time": times,
        "variance": variance,
        "online": online,
        "race": races,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "meta_tuning.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for part in options.only:
        start = time.perf_counter()
        results[part] = {"machine": machine(1), "found": measure[part](options.quick)}
        results[part]["machine"]["minutes"] = round((time.perf_counter() - start) / 60, 1)
        write_text(kept, json.dumps(results, indent=2) + "\n")
        write_text(options.out / "meta_tuning.md", markdown(results))
    print(markdown(results))


if __name__ == "__main__":
    main()
