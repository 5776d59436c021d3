"""Time of one optimizer step: rules against torch's own optimizers and against learned optimizers that are networks.

    python benchmarks/optimizer_step.py [--quick] [--threads 2] [--out benchmarks/results] [--plot FILE]

All contenders of a row run in one process, one step each in turn, so that whatever else the machine does hits all of
them; a row reports medians and minima over the rounds, and ratios of both. Writes optimizer_step.json and
optimizer_step.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from public_optimizers import MODELS, PAIRS, STEPS
from torch import nn

from closedform import Rule, RuleOptimizer

Step = Callable[[], object]
FEATURES = {"m": "b1*m + (1 - b1)*g", "v": "b2*v + (1 - b2)*square(g)"}
SCALED = {"d": "sqrt(v/(1 - b2**t)) + eps", "m_tilde": "m/(1 - b1**t)/d", "g_tilde": "g/d"}
CONSTANTS = {"b1": 0.95, "b2": 0.95, "eps": 1e-8, "c": 0.5, "k": 0.01}
ONE_TANH = Rule.parse("one tanh", "-k*tanh(m_tilde/c)", state=FEATURES, where=SCALED, constants=CONSTANTS)
TWO_TANH = Rule.parse(
    "two tanh", "-k*(tanh(m_tilde/c) + c*tanh(g_tilde/c))", state=FEATURES, where=SCALED, constants=CONSTANTS
)


@dataclass
class Row:
    """One measured contender.

    Attributes:
        work: What is done.
        contender: By what.
        median, minimum: Seconds a step.
        ratio: Median over the median of the row's standard.
        least_ratio: Minimum over the standard's minimum, which other work on the machine touches least.
        asked: What the ratio should be at most (a share or a speed-up: at least), if something is asked.
    """

    work: str
    contender: str
    median: float
    minimum: float
    ratio: float
    least_ratio: float
    asked: str = ""


@dataclass
class Report:
    machine: dict[str, object]
    rows: list[Row] = field(default_factory=list)
    other: dict[str, float] = field(default_factory=dict)


def measure(steps: dict[str, Step], rounds: int, repeat: int = 1) -> dict[str, tuple[float, float]]:
    """Median and least seconds a call; every round calls each contender ``repeat`` times."""
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step(), step()
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(repeat):
                step()
            samples[name].append((time.perf_counter() - start) / repeat)
    return {name: (statistics.median(found), min(found)) for name, found in samples.items()}


def parameters(sizes: list[int]) -> list[nn.Parameter]:
    params = [nn.Parameter(torch.randn(size)) for size in sizes]
    for param in params:
        param.grad = torch.randn_like(param)
    return params


def rows_of(work: str, standard: str, found: dict[str, tuple[float, float]], asked: dict[str, str]) -> list[Row]:
    median, least = found[standard]
    return [
        Row(work, name, *times, times[0] / median, times[1] / least, asked.get(name, ""))
        for name, times in found.items()
    ]


# ------------------------------------------------------------------------------------------ networks as optimizers


class RNNprop:
    """A network as the rule (Lv et al. 2017): m~, g~ -> linear 20, ELU -> two LSTM layers of 20 -> linear, tanh.

    Args:
        count: Parameters.
        block: Parameters that are taken at a time; all of them is how it is usually written, fewer stay in cache.
    """

    def __init__(self, count: int, block: int | None = None) -> None:
        self.w, self.g = (torch.randn(count).split(block or count) for _ in range(2))
        self.m, self.v = ([torch.zeros_like(w) for w in self.w] for _ in range(2))
        self.inward, self.outward = nn.Sequential(nn.Linear(2, 20), nn.ELU()), nn.Linear(20, 1)
        self.cells = [nn.LSTMCell(20, 20) for _ in range(2)]
        self.hidden = [[(torch.zeros(len(w), 20), torch.zeros(len(w), 20)) for _ in self.cells] for w in self.w]

    @torch.no_grad()
    def step(self) -> None:
        for w, g, m, v, hidden in zip(self.w, self.g, self.m, self.v, self.hidden, strict=True):
            m.lerp_(g, 0.05)
            v.mul_(0.95).addcmul_(g, g, value=0.05)
            scale = v.sqrt().add_(1e-8)
            x = self.inward(torch.stack([m / scale, g / scale], dim=1))
            for layer, cell in enumerate(self.cells):
                hidden[layer] = cell(x, hidden[layer])
                x = hidden[layer][0]
            w.add_(self.outward(x).squeeze(1).tanh_(), alpha=-0.01)


class MLPOptimizer:
    """A network as the rule (Metz et al. 2022, small_fc_lopt, the shape that PyLO ships): 39 inputs, two layers of 32.

    Inputs: parameter, gradient, three momenta, a second moment and its inverse root, momenta over it, the second
    moment factored in rows and columns with three decays, its inverse roots, gradient and momenta over those; each
    scaled to unit mean square over the tensor; and 11 functions of the step.

    Args:
        count: Parameters, in one matrix; a square.
        rows: Rows that are taken at a time; all of them is how it is usually written, fewer stay in cache.
    """

    def __init__(self, count: int, rows: int | None = None) -> None:
        side = round(count**0.5)
        self.w, self.g = (torch.randn(side, side).split(rows or side) for _ in range(2))
        self.m = [torch.zeros(*w.shape, 3) for w in self.w]
        self.v = [torch.zeros_like(w) for w in self.w]
        self.row, self.column = ([torch.zeros(len(w), 3) for w in self.w], [torch.zeros(side, 3) for w in self.w])
        self.decays, self.factored_decays = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.9, 0.99, 0.999])
        self.network = nn.Sequential(nn.Linear(39, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
        self.time = torch.tanh(100 / torch.logspace(0, 5, 11) - 1)

    @torch.no_grad()
    def step(self) -> None:
        for number, (w, g) in enumerate(zip(self.w, self.g, strict=True)):
            m, v, row, column = self.m[number], self.v[number], self.row[number], self.column[number]
            m.lerp_(g[..., None], 1 - self.decays)
            square = g.square()
            v.lerp_(square, 0.001)
            row.lerp_(square.mean(1, keepdim=True), 1 - self.factored_decays)
            column.lerp_(square.mean(0)[:, None], 1 - self.factored_decays)
            root, row_root, column_root = (torch.rsqrt(x + 1e-9) for x in (v[..., None], row, column))
            wide = (*w.shape, 3)
            factor = (row_root * torch.sqrt(row.mean(0) + 1e-9))[:, None] * column_root
            parts = [w[..., None], g[..., None], m, v[..., None], m * root, root, g[..., None] * factor, m * factor]
            parts += [x[:, None].expand(wide) for x in (row, row_root)] + [
                x.expand(wide) for x in (column, column_root)
            ]
            inputs = torch.cat(parts, dim=-1).view(-1, 28)
            inputs = inputs * torch.rsqrt(inputs.square().mean(0) + 1e-5)
            output = self.network(torch.cat([inputs, self.time.expand(len(inputs), 11)], dim=1))
            w.sub_((output[:, 0] * torch.exp(output[:, 1] * 0.001) * 0.001).view_as(w))


# ------------------------------------------------------------------------------------------------------------- rows


def against_adam(report: Report, work: str, sizes: list[int], asked: dict[str, str], rounds: int, repeat: int) -> None:
    params = parameters(sizes)
    rules: dict[str, Rule | str] = {"adam": "adam", "lion": "lion", "one tanh": ONE_TANH, "two tanh": TWO_TANH}
    steps: dict[str, Step] = {"torch Adam(fused)": torch.optim.Adam(params, fused=True).step}
    steps |= {f"rule {name}": RuleOptimizer(params, rule, lr=1e-3).step for name, rule in rules.items()}
    report.rows += rows_of(work, "torch Adam(fused)", measure(steps, rounds, repeat), asked)


def against_public(report: Report, rounds: int) -> None:
    """Library rules beside public implementations of the same optimizers, by ratio to these."""
    for title, make in MODELS.items():
        for pair in PAIRS:
            params = [p for p in make().parameters() if p.dim() > 1 or not pair.matrices]
            for param in params:
                param.grad = torch.randn_like(param)
            rule = f"rule {pair.rule}"
            steps: dict[str, Step] = {
                pair.public: pair.make(params).step,
                rule: RuleOptimizer(params, pair.rule, total_steps=STEPS).step,
            }
            work = f"{title}{', matrices' if pair.matrices else ''}"
            report.rows += rows_of(work, pair.public, measure(steps, rounds), {rule: "<= 1.00"})


def bandwidth(report: Report, count: int, rounds: int) -> None:
    """Adam reads gradient, parameter and two states and writes three: 28 bytes a parameter; a copy moves 8."""
    params = parameters([count])
    source, target = torch.randn(count), torch.empty(count)
    steps: dict[str, Step] = {
        "torch Adam(fused)": torch.optim.Adam(params, fused=True).step,
        "rule adam": RuleOptimizer(params, "adam").step,
        "copy": lambda: target.copy_(source),
    }
    work = f"{count:.0e} parameters in one tensor"
    found = measure(steps, rounds)
    report.rows += rows_of(work, "torch Adam(fused)", found, {})
    speed = {name: size * count / found[name][0] for name, size in (("rule adam", 28), ("copy", 8))}
    report.other["copy, GB/s"] = speed["copy"] / 1e9
    report.other["rule adam, GB/s"] = speed["rule adam"] / 1e9
    report.other["rule adam, share of the copy's bandwidth (asked: >= 0.85)"] = speed["rule adam"] / speed["copy"]


def against_networks(report: Report, count: int, rounds: int) -> None:
    steps: dict[str, Step] = {
        "rule two tanh": RuleOptimizer(parameters([count]), TWO_TANH).step,
        "RNNprop, LSTM 2 x 20": RNNprop(count).step,
        "the same LSTM, in blocks": RNNprop(count, 1 << 16).step,
        "MLP, 39 inputs, hidden 32": MLPOptimizer(count).step,
        "the same MLP, in blocks": MLPOptimizer(count, 16).step,
    }
    asked = {"RNNprop, LSTM 2 x 20": ">= 1000", "MLP, 39 inputs, hidden 32": ">= 300"}
    report.rows += rows_of(f"{count:.0e} parameters", "rule two tanh", measure(steps, rounds), asked)


def other_types(report: Report, sizes: list[int], rounds: int) -> None:
    """Other storage types, reductions, and the back ends without a compiler."""
    params = parameters(sizes)
    half = [nn.Parameter(param.detach().bfloat16()) for param in params]
    for param, like in zip(half, params, strict=True):
        param.grad = like.grad.bfloat16()
    steps: dict[str, Step] = {
        "torch Adam(fused)": torch.optim.Adam(params, fused=True).step,
        "rule adam, bfloat16 states": RuleOptimizer(params, "adam", state_dtype=torch.bfloat16).step,
        "rule adam, all bfloat16": RuleOptimizer(half, "adam").step,
        "torch Adam(fused), all bfloat16": torch.optim.Adam(half, fused=True).step,
        "rule lamb": RuleOptimizer(params, "lamb").step,
        "torch Adam(foreach)": torch.optim.Adam(params, foreach=True).step,
        "rule adam, eager": RuleOptimizer(params, "adam", backend="eager").step,
        "rule two tanh, eager": RuleOptimizer(params, TWO_TANH, backend="eager").step,
    }
    report.rows += rows_of(f"{sum(sizes):.0e} parameters, other ways", "torch Adam(fused)", measure(steps, rounds), {})


def first_step(report: Report) -> None:
    """Seconds of the first step and of the next, in fresh processes: with an empty cache, then with a filled one."""
    code = (
        "import time, torch\nfrom closedform import RuleOptimizer\n"
        "p = torch.nn.Parameter(torch.ones(10)); p.grad = torch.ones(10)\n"
        "o = RuleOptimizer([p], 'adam')\nt = time.perf_counter(); o.step(); print(time.perf_counter() - t)"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in ("empty", "filled"):
            found = subprocess.run(
                [sys.executable, "-c", code],
                env={**os.environ, "XDG_CACHE_HOME": folder},
                check=True,
                capture_output=True,
                text=True,
            )
            report.other[f"first step with an {name} cache, ms".replace("an f", "a f")] = float(found.stdout) * 1e3


def extra_memory(report: Report, count: int) -> None:
    """Peak resident memory of a step beyond what is resident before it, in MB; Linux only."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return

    def resident(key: str) -> float:
        [line] = [line for line in status.read_text().splitlines() if line.startswith(key)]
        return int(line.split()[1]) / 1000

    params = parameters([count])
    for name, optimizer in {
        "rule, compiled": RuleOptimizer(params, TWO_TANH),
        "rule, eager": RuleOptimizer(params, TWO_TANH, backend="eager"),
        "torch Adam(foreach)": torch.optim.Adam(params, foreach=True),
    }.items():
        optimizer.step()
        reset.write_text("5")  # the peak is what is resident now
        before = resident("VmRSS")
        optimizer.step()
        report.other[f"peak memory of a step beyond its own, {count:.0e} parameters, {name}, MB"] = (
            resident("VmHWM") - before
        )


# ------------------------------------------------------------------------------------------------------------ output


def machine(threads: int) -> dict[str, object]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": name,
        "cores": os.cpu_count(),
        "threads": threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load before": round(os.getloadavg()[0], 2),
    }


def markdown(report: Report) -> str:
    lines = ["# One optimizer step", "", ", ".join(f"{key} {value}" for key, value in report.machine.items()), ""]
    lines += ["| work | contender | median ms | least ms | ratio | of least | asked |"]
    lines += ["|---|---|--:|--:|--:|--:|--:|"]
    for row in report.rows:
        times = f"{row.median * 1e3:.3f} | {row.minimum * 1e3:.3f} | {row.ratio:.3g} | {row.least_ratio:.3g}"
        lines.append(f"| {row.work} | {row.contender} | {times} | {row.asked} |")
    lines += ["", "| what | |", "|---|--:|"]
    lines += [f"| {name} | {value:.3g} |" for name, value in report.other.items()]
    return "\n".join(lines) + "\n"


def plot(report: Report, path: Path) -> None:
    """Bars: each contender's time over torch's fused Adam, one panel a work."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    works = [row.work for row in report.rows if row.contender == "torch Adam(fused)"]
    figure, panels = pyplot.subplots(2, 2, figsize=(10, 5.2), constrained_layout=True)
    for panel, work in zip(panels.flat, works, strict=True):
        rows = [row for row in report.rows if row.work == work and row.ratio < 5][::-1]
        names = [row.contender for row in rows]
        colours = ["0.6" if name.startswith(("torch", "copy")) else "C0" for name in names]
        bars = panel.barh(names, [row.ratio for row in rows], color=colours)
        panel.bar_label(bars, [f"{row.ratio:.2f}" for row in rows], padding=2)
        panel.axvline(1, color="0.4", linewidth=0.8)
        panel.set_title(work, fontsize=10)
        panel.set(xlabel="time over torch Adam(fused)", xlim=(0, max(row.ratio for row in rows) * 1.2))
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes, three rounds")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--plot", type=Path, help="an image file to write as well")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    scale, rounds = (10, 3) if options.quick else (1, 15)
    report = Report(machine(options.threads))
    extra_memory(report, 10**7 // scale)  # first, while no freed memory is kept
    first_step(report)
    sizes = [10**7 // 60 // scale] * 60
    asked = {"rule adam": "<= 1.00", "rule lion": "<= 0.80", "rule one tanh": "<= 1.10", "rule two tanh": "<= 1.30"}
    against_adam(report, f"{sum(sizes):.0e} parameters in 60 tensors", sizes, asked, rounds, 1)
    small = dict.fromkeys(asked, "<= 0.40")
    against_adam(report, "1e+04 parameters in 100 tensors", [100] * 100, small, 3 * rounds, 20)
    bandwidth(report, 5 * 10**7 // scale, rounds)
    against_networks(report, 10**6 // scale, max(3, rounds * 3 // 5))
    other_types(report, sizes, max(3, rounds * 3 // 5))
    against_public(report, 3 * rounds)
    options.out.mkdir(parents=True, exist_ok=True)
    text = markdown(report)
    (options.out / "optimizer_step.json").write_text(json.dumps(asdict(report), indent=2) + "\n")
    (options.out / "optimizer_step.md").write_text(text)
    if options.plot:
        plot(report, options.plot)
    print(text)


if __name__ == "__main__":
    main()
