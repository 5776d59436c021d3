"""Meta-training: inner steps a second, peak memory against unroll length, and optimizees side by side.

    python benchmarks/meta_training.py [--only speed memory side-by-side] [--data-dir DIR] [--quick] [--out DIR]

Speed is measured against ``unrolled_loop.py``, in one process on one thread, contenders in turn; the numbers are
medians over rounds. First it is checked that both sides compute the same meta-gradient. Memory is what a window takes
at its peak beyond what a plain step has taken (Linux). Writes meta_training.json, meta_training.md and the plots
meta_training_memory.svg, meta_training_side_by_side.svg; parts left out keep their last results.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from optimizer_step import machine
from unrolled_loop import OwnGradientLoop, ReleasedLoop

from closedform import Task, learned_optimizers, load_rule, tasks
from closedform.learned_optimizers import LearnedOptimizer, RNNprop, SymbolicOptimizer
from closedform.meta_training import (
    OBJECTIVES,
    PES,
    AntitheticES,
    AnyProblem,
    Estimator,
    ForwardAccumulation,
    Problem,
    ProblemBatch,
    TruncatedBPTT,
    begin,
    run,
)

UNROLL = 20
MEAN = OBJECTIVES["mean"]
RELEASED, OWN = "reference, as released", "reference, own gradients only"
LIMIT = 4e9  # bytes at which the longest unroll of a method is reached
TUNED = "rule adam"
MEMORY: dict[str, tuple[str, Callable[[int], Estimator]]] = {
    "truncated BPTT": ("rp-s", TruncatedBPTT),
    "truncated BPTT, 1000 coordinates": ("rp-s", lambda unroll: TruncatedBPTT(unroll, coordinates=1000)),
    "PES, 8 particles": ("rp-s", lambda unroll: PES(unroll, pairs=4)),
    "rule: truncated BPTT": (TUNED, TruncatedBPTT),
    "rule: forward accumulation": (TUNED, ForwardAccumulation),
    "rule: forward accumulation, 1000 coordinates": (TUNED, lambda unroll: ForwardAccumulation(unroll, 1000)),
}
PARTS = ("speed", "memory", "side-by-side")
LENGTHS, PARALLEL = (1, 2, 5, 10, 20, 50, 100, 200), (1, 2, 4, 8, 16)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def optimizer_of(name: str) -> LearnedOptimizer:
    """A network with a random output layer, so that no gradient is zero; or a rule."""
    if name == TUNED:
        return SymbolicOptimizer(load_rule("adam"))
    network = learned_optimizers.get(name, generator=seeded(0))
    with torch.no_grad():
        network.output_weight.normal_(std=0.1, generator=seeded(1))  # type: ignore[union-attr, operator]
    return network


# ------------------------------------------------------------------------------------------------------------ speed


class Ours:
    """Meta-training with an estimator: windows, each with a step of Adam."""

    def __init__(self, optimizer: LearnedOptimizer, problem: AnyProblem, estimator: Estimator, count: int = 1) -> None:
        self.optimizer, self.problem, self.estimator = optimizer, problem, estimator
        self.meta_optimizer = torch.optim.Adam(optimizer.parameters(), lr=1e-3)
        generator = seeded(0) if isinstance(problem, Problem) else tuple(map(seeded, range(count)))
        self.carry = estimator.start(optimizer, begin(optimizer, problem, generator))

    def window(self, unroll: int) -> None:
        found = self.estimator.estimate(self.optimizer, self.problem, self.carry, unroll, MEAN)
        for parameter, gradient in zip(self.optimizer.parameters(), found.gradients, strict=True):
            parameter.grad = gradient
        self.meta_optimizer.step()
        self.carry = found.carry


class Plain(Ours):
    """The optimizer at work, without meta-gradients."""

    def window(self, unroll: int) -> None:
        self.carry = run(self.optimizer, self.problem, self.carry, unroll)[1]


def medians(windows: dict[str, Callable[[], object]], rounds: int, seldom: Sequence[str] = ()) -> dict[str, float]:
    """Median seconds of a window; each once beforehand, and those that take long in every other round only."""
    samples: dict[str, list[float]] = {name: [] for name in windows}
    for name, window in windows.items():
        if name not in seldom:
            window()
    for number in range(rounds):
        for name, window in windows.items():
            if name not in seldom or number % 2:
                start = time.perf_counter()
                window()
                samples[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in samples.items()}


def difference_of_gradients(task: Task) -> float:
    """By how much the reference's meta-gradient of a first window differs from ours, relative to its norm.

    Raises:
        SystemExit: they are not the same to 1e-4: it would be no comparison.
    """
    rp, problem = optimizer_of("rp"), Problem(task)
    assert isinstance(rp, RNNprop)
    carry = begin(rp, problem, seeded(0))
    ours = flat(TruncatedBPTT(UNROLL).estimate(rp, problem, carry, UNROLL, MEAN).gradients)
    loop = OwnGradientLoop(rp, task, seed=0)
    loop.window(UNROLL)
    theirs = loop.network.gradient_like(rp)
    found = float((ours - theirs).norm() / theirs.norm())
    if not found < 1e-4:
        raise SystemExit(f"the reference's meta-gradient differs by {found:.1e}: it is another algorithm")
    return found


def flat(gradients: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient.reshape(-1) for gradient in gradients])


def speed(task: Task, quick: bool) -> dict[str, Any]:
    problem, rounds = Problem(task), 2 if quick else 5
    same = difference_of_gradients(task)
    rp = optimizer_of("rp")
    assert isinstance(rp, RNNprop)
    networks: dict[str, tuple[Any, int]] = {
        RELEASED: (ReleasedLoop(rp, task, 0), 1),
        OWN: (OwnGradientLoop(rp, task, 0), 1),
        "truncated BPTT": (Ours(optimizer_of("rp"), problem, TruncatedBPTT(UNROLL)), 1),
        "truncated BPTT, 1000 coordinates": (Ours(rp, problem, TruncatedBPTT(UNROLL, coordinates=1000)), 1),
        "PES, 8 particles": (Ours(optimizer_of("rp"), problem, PES(UNROLL, pairs=4)), 8),
        "antithetic ES, 8 particles": (Ours(optimizer_of("rp"), problem, AntitheticES(UNROLL, pairs=4)), 9),
        "the network alone, no meta-gradient": (Plain(optimizer_of("rp"), problem, TruncatedBPTT(UNROLL)), 1),
    }
    rules: dict[str, tuple[Any, int]] = {
        f"rule: {name}": (kind(optimizer_of(TUNED), problem, estimator), 1)
        for name, kind, estimator in (
            ("truncated BPTT", Ours, TruncatedBPTT(UNROLL)),
            ("forward accumulation", Ours, ForwardAccumulation(UNROLL)),
            ("forward accumulation, 1000 coordinates", Ours, ForwardAccumulation(UNROLL, coordinates=1000)),
            ("no meta-gradient", Plain, TruncatedBPTT(UNROLL)),
        )
    }
    contenders = networks | rules
    times = medians(
        {name: lambda one=one: one.window(UNROLL) for name, (one, _) in contenders.items()}, rounds, [RELEASED]
    )  # type: ignore[misc]
    rates = {name: UNROLL * contenders[name][1] / seconds for name, seconds in times.items()}
    return {"difference of gradients": same, "steps a second": rates, "noise": noise(problem, quick)}


def after_training(problem: Problem, episodes: int) -> Ours:
    """A network after a short meta-training, 100 steps into an episode."""
    network = learned_optimizers.get("rp", generator=seeded(0))
    ours = Ours(network, problem, TruncatedBPTT(UNROLL, coordinates=4000))
    for episode in range(episodes):
        ours.carry = begin(network, problem, seeded(episode))
        for _ in range(5):
            ours.window(UNROLL)
    return ours


def noise(problem: Problem, quick: bool) -> dict[str, float]:
    """Relative noise of a window's meta-gradient, root mean square over draws of batches and of coordinates."""
    ours = after_training(problem, 2 if quick else 12)
    full, numbers = [], (300, 1000, 3000, 10000)
    parts: dict[int, list[float]] = {number: [] for number in numbers}
    for seed in range(3 if quick else 8):
        found = {}
        for number in (None, *numbers):
            carry = replace(ours.carry, generator=seeded(seed))
            estimator = TruncatedBPTT(UNROLL, coordinates=number)
            found[number] = flat(estimator.estimate(ours.optimizer, problem, carry, UNROLL, MEAN).gradients)
        full.append(found[None])
        for number in numbers:
            parts[number].append(float((found[number] - full[-1]).norm() ** 2))
    mean = torch.stack(full).mean(0)
    spread = float((torch.stack(full) - mean).square().sum() / (len(full) - 1))
    norms = float(torch.stack(full).square().sum(1).mean())
    rows = {f"{number} of {problem.task.size} coordinates": statistics.mean(parts[number]) for number in numbers}
    found = {name: (square / norms) ** 0.5 for name, square in {"minibatches": spread, **rows}.items()}
    return {**found, "loss of the optimizee there": float(ours.carry.loss)}


# ----------------------------------------------------------------------------------------------------------- memory


def resident(key: str) -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1]) * 1024


def peak(method: str, unroll: int, task: Task) -> int:
    """Bytes that a window takes at its peak beyond what is resident after a plain step; for a process of its own."""
    name, estimator_of = MEMORY[method]
    problem, optimizer, estimator = Problem(task), optimizer_of(name), estimator_of(unroll)
    carry = begin(optimizer, problem, seeded(0))
    run(optimizer, problem, carry, 1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is resident now
    before = resident("VmRSS")
    estimator.estimate(optimizer, problem, estimator.start(optimizer, carry), unroll, MEAN)
    return resident("VmHWM") - before


def peaks(task: Task, quick: bool) -> dict[str, dict[int, int]]:
    """By method and unroll length; every window in a fresh process, forked from this one."""
    found: dict[str, dict[int, int]] = {method: {} for method in MEMORY}
    context = multiprocessing.get_context("fork")
    for method, row in found.items():
        for unroll in LENGTHS[: 4 if quick else None]:
            last = max(row.items(), default=(1, 0))
            if last[1] * unroll / last[0] > LIMIT:
                break
            with context.Pool(1) as pool:
                row[unroll] = pool.apply(peak, (method, unroll, task))
    return found


def memory(data_dir: Path | None, quick: bool) -> Any:
    """`peaks` in a process whose freed blocks go back to the system at once, whatever their size."""
    command = [sys.executable, __file__, "--peaks", *(["--quick"] if quick else [])]
    command += ["--data-dir", str(data_dir)] if data_dir else []
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


# ----------------------------------------------------------------------------------------------------- side by side


def side_by_side(data_dir: Path | None, quick: bool) -> dict[str, dict[int, float]]:
    """Milliseconds per optimizee and inner step, by the number of optimizees."""
    kinds = {
        "mlp-digits, truncated BPTT(5)": ("mlp-digits", Ours, TruncatedBPTT(5)),
        "mlp-digits, no meta-gradient": ("mlp-digits", Plain, TruncatedBPTT(5)),
        "mlp-mnist, truncated BPTT(5)": ("mlp-mnist", Ours, TruncatedBPTT(5)),
        "mlp-mnist, truncated BPTT(5), 1000 coordinates": ("mlp-mnist", Ours, TruncatedBPTT(5, coordinates=1000)),
        "mlp-mnist, no meta-gradient": ("mlp-mnist", Plain, TruncatedBPTT(5)),
    }
    of = {"mlp-digits": tasks.get("mlp-digits"), "mlp-mnist": paper_task(data_dir)}
    found: dict[str, dict[int, float]] = {}
    for name, (task, kind, estimator) in kinds.items():
        counts = PARALLEL[: 3 if quick else None]
        ours = {count: kind(optimizer_of("rp-si"), ProblemBatch(of[task]), estimator, count) for count in counts}
        windows = {str(count): lambda one=one: one.window(5) for count, one in ours.items()}  # type: ignore[misc]
        times = medians(windows, 2 if quick else 15 if task == "mlp-digits" else 5)
        found[name] = {int(count): seconds * 1e3 / 5 / int(count) for count, seconds in times.items()}
    return found


# ----------------------------------------------------------------------------------------------------------- output


def paper_task(data_dir: Path | None) -> Task:
    task = tasks.get("mlp-mnist", data_dir=data_dir)
    task.prepare()
    return task


def ratio_rows(found: dict[str, Any]) -> list[str]:
    rates = found["steps a second"]
    asked = {"truncated BPTT": ">= 15", "truncated BPTT, 1000 coordinates": ">= 15", "PES, 8 particles": ">= 30"}
    lines = ["| contender | inner steps/s | ms | over own gradients only | over as released | asked |"]
    lines.append("|---|--:|--:|--:|--:|--:|")
    for name, rate in rates.items():
        ratios = ["", ""] if name.startswith("rule") else [f"{rate / rates[base]:.1f}" for base in (OWN, RELEASED)]
        cells = [name, f"{rate:.3g}", f"{1e3 / rate:.3g}", *ratios, asked.get(name, "")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def grid(found: dict[str, dict[str, float]], unit: float, form: str) -> list[str]:
    columns = max(found.values(), key=len)
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
    for name, row in found.items():
        cells = [format(row[key] / unit, form) if key in row else "-" for key in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def markdown(results: dict[str, Any]) -> str:
    lines = ["# Meta-training", ""]

    def section(part: str, title: str) -> bool:
        if part in results:
            about = ", ".join(f"{key} {value}" for key, value in results[part]["machine"].items())
            lines.extend([f"## {title}", "", about, ""])
        return part in results

    if section("speed", f"Inner steps a second, mlp-mnist, rp (LSTM 2 x 20), unroll {UNROLL}; rules: adam"):
        found = results["speed"]["found"]
        lines += [*ratio_rows(found), "", "Steps of all particles count; ES has a ninth, which moves the episode on. "]
        lines[-1] += f"First window's meta-gradients: {found['difference of gradients']:.1e} apart (relative)."
        lines += [
            "",
            "Noise of a window's meta-gradient over its norm, steps 101 to 120, after 60 windows of training:",
            "",
            "| from | |",
            "|---|--:|",
        ]
        lines += [*(f"| {name} | {value:.2f} |" for name, value in found["noise"].items()), ""]
    if section("memory", "Peak memory in MB by unroll, mlp-mnist; networks: rp-s, rules: adam"):
        lines += [*grid(results["memory"]["found"], 1e6, ".1f"), ""]
    if section("side-by-side", "Milliseconds per optimizee and inner step by the number side by side, rp-si"):
        lines += [*grid(results["side-by-side"]["found"], 1, ".3g"), ""]
    return "\n".join(lines).rstrip() + "\n"


def plot(found: dict[str, dict[str, float]], unit: float, labels: tuple[str, str], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, panel = pyplot.subplots(figsize=(7.5, 4), constrained_layout=True)
    for name, row in found.items():
        panel.loglog([int(key) for key in row], [max(value / unit, 1e-2) for value in row.values()], "o-", label=name)
    panel.set(xlabel=labels[0], ylabel=labels[1])
    ticks = list(map(int, max(found.values(), key=len)))
    panel.set_xticks(ticks, list(map(str, ticks)))
    panel.minorticks_off()
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure; default: all")
    parser.add_argument("--data-dir", type=Path, help="where MNIST is; default: where the package looks")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, short unrolls, up to 4 side by side")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--peaks", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peaks:
        print(json.dumps(peaks(paper_task(options.data_dir), options.quick)))
        return
    measure: dict[str, Callable[[], Any]] = {
        "speed": lambda: speed(paper_task(options.data_dir), options.quick),
        "memory": lambda: memory(options.data_dir, options.quick),
        "side-by-side": lambda: side_by_side(options.data_dir, options.quick),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "meta_training.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for part in options.only:
        results[part] = {"machine": machine(1), "found": measure[part]()}
        kept.write_text(json.dumps(results, indent=2) + "\n")
        results = json.loads(kept.read_text())
    text = markdown(results)
    (options.out / "meta_training.md").write_text(text)
    for part, unit, labels in (
        ("memory", 1e6, ("unroll, steps", "peak memory, MB")),
        ("side-by-side", 1, ("optimizees side by side, K", "ms per optimizee and step")),
    ):
        if part in results:
            plot(results[part]["found"], unit, labels, options.out / f"meta_training_{part.replace('-', '_')}.svg")
    print(text)


if __name__ == "__main__":
    main()
