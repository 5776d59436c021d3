"""celo, the rule distilled from it, and that rule with its constants tuned: one table, beside tuned AdamW-cosine.

    python benchmarks/celo.py [--data-dir DIR] [--seeds 5] [--runs runs/celo] [--workers 1]

Each runs as it is, with nothing tuned, on tasks that none of them has seen: five of ``closedform reproduce unseen``.
AdamW has warm-up and a cosine, and the best of 13 learning rates for each task, found on another seed. The rules are
those that ``benchmarks/recipes/celo_rule.py`` made. Finished runs in ``--runs`` are used again. Writes
benchmarks/results/celo.md and celo.json. Times are the processor's, of a step on the largest of the tasks, without the
gradient, all contenders taking turns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch

from closedform import tasks
from closedform._files import write_text
from closedform.evaluation import (
    Aggregate,
    Baseline,
    Evaluation,
    EvaluationOptions,
    aggregate,
    evaluate,
    log_grid,
)
from closedform.learned_optimizers import LearnedOptimizer, load_learned_optimizer
from closedform.optim import RuleOptimizer
from closedform.reproduce._base import markdown_table, measured_on
from closedform.rules import Rule, load_rule

RESULTS = Path(__file__).resolve().parent / "results"
TASKS = ("fine-tuning-fashion-mnist", "implicit-image", "burgers", "factorisation", "deep-linear")
NETWORK, DISTILLED, TUNED, REFERENCE = "celo", "distilled", "tuned", "adamw-cosine"
LABELS = {
    REFERENCE: "AdamW-cosine, best of 13 rates for each task",
    NETWORK: "celo, the network",
    DISTILLED: "rule distilled from it",
    TUNED: "that rule, tuned",
}
CLOSE = 1.05
"""A distilled rule's loss over the network's that still counts as the same."""
TIMED, STEPS, ROUNDS = "fine-tuning-fashion-mnist", 20, 15
"""The task whose parameters are stepped on, steps of a contender before the next one's turn, and such turns."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/celo"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    found = compared(given.data_dir, given.seeds, given.workers, given.runs)
    text = report(found, times(given.data_dir))
    print(text)
    write_text(RESULTS / "celo.md", text)
    write_text(RESULTS / "celo.json", found.to_json())


def rules() -> dict[str, Rule]:
    """What ``benchmarks/recipes/celo_rule.py`` made."""
    return {name: load_rule(RESULTS / f"celo_{name}.json") for name in (DISTILLED, TUNED)}


def compared(data_dir: Path | None, seeds: int, workers: int, out: Path) -> Evaluation:
    """All four on all tasks."""
    adamw = Baseline(load_rule("adamw"), LABELS[REFERENCE], log_grid(-4, 0), schedules=("cosine",), extensions=0)
    return evaluate(
        {REFERENCE: adamw, NETWORK: load_learned_optimizer("celo"), **rules()},
        [tasks.get(name, data_dir=data_dir) for name in TASKS],
        seeds=seeds,
        baselines=(),
        config=EvaluationOptions(tuning_seeds=1, tail=50, workers=workers),
        out=out,
        progress=lambda done, known, what: print(f"{done}/{known} {what}", flush=True),
    )


def times(data_dir: Path | None) -> dict[str, float]:
    """Median processor time of a step, in seconds."""
    torch.set_num_threads(1)
    params = list(tasks.get(TIMED, data_dir=data_dir).init(torch.Generator().manual_seed(0)).values())
    takes = {name: rule_step(rule, params) for name, rule in {REFERENCE: load_rule("adamw"), **rules()}.items()}
    takes[NETWORK] = network_step(load_learned_optimizer("celo"), params)
    seconds: dict[str, list[float]] = {name: [] for name in takes}
    for _ in range(ROUNDS):
        for name, take in takes.items():
            begin = time.process_time()
            for _ in range(STEPS):
                take()
            seconds[name].append((time.process_time() - begin) / STEPS)
    return {name: median(found[1:]) for name, found in seconds.items()}  # the first turn creates the state


def rule_step(rule: Rule, params: list[torch.Tensor]) -> Callable[[], object]:
    own = [torch.nn.Parameter(param.clone()) for param in params]
    for param in own:
        param.grad = 0.01 * torch.randn_like(param)
    return RuleOptimizer(own, rule, total_steps=100_000).step


def network_step(network: LearnedOptimizer, params: list[torch.Tensor]) -> Callable[[], object]:
    w = torch.cat([param.flatten() for param in params])
    g, update = 0.01 * torch.randn_like(w), network.bind()
    state = network.init_state(w, [tuple(param.shape) for param in params], 100_000)

    def take() -> None:
        nonlocal state
        with torch.no_grad():
            _, state = update(g, w, state)

    return take


def report(found: Evaluation, seconds: Mapping[str, float]) -> str:
    """The page."""
    networks = against(found, NETWORK)
    ratio = networks[DISTILLED].over_seeds
    says = "so it holds" if ratio.value <= CLOSE else "so it does not hold"
    better = sum(network_better(found, task) for task in found.tasks)
    total = f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
    sections = [
        "# celo, the rule distilled from it, and that rule tuned",
        f"`python benchmarks/celo.py`; {measured_on()}.",
        f"Asked: the distilled rule's loss within {CLOSE - 1:.0%} of the network's. Its loss over the network's, "
        f"geometric mean over {len(found.tasks)} tasks: {total}, {says}. Task by task, the network is better by more "
        f"than {CLOSE - 1:.0%} on {better} of them.",
        "## Final losses\n\n" + markdown_table(("task", "steps", *LABELS.values()), losses(found)),
        "## Over all tasks\n\n" + markdown_table(_TOTALS, totals(found, networks, seconds)),
        _HOW.format(seeds=found.protocol.seeds, tail=found.protocol.tail),
    ]
    return "\n\n".join(sections) + "\n"


_TOTALS = ("", "loss over the network's", "over AdamW-cosine's", "nodes", "buffers", "processor time of a step")
_HOW = """## How it was measured

Loss: mean minibatch training loss of an episode's last {tail} steps, on the half of the data that meta-training does
not see; mean over {seeds} seeds with its bootstrap 95 % interval. All start from the same parameters and see the same
batches at a seed. Network and rules run as they are; AdamW's rate is the best of 13 for each task, on another seed.
Ratios: geometric means over tasks, the interval over seeds. Buffers are those of a vector; the network and the rules
keep some of a matrix's as rows and columns. A step: on {timed}, without the gradient, one thread.
""".replace("{timed}", TIMED)


def against(found: Evaluation, reference: str) -> dict[str, Aggregate]:
    """Losses over those of one contender."""
    values = {name: [found.get(task, name).final_loss.values for task in found.tasks] for name in LABELS}
    return {name: aggregate(values[name], values[reference]) for name in LABELS}


def network_better(found: Evaluation, task: str) -> bool:
    """Whether the network is better than the distilled rule by more than what counts as the same."""
    network, rule = (found.get(task, name).final_loss.mean for name in (NETWORK, DISTILLED))
    return network is not None and (rule is None or rule > CLOSE * network)


def losses(found: Evaluation) -> list[list[str]]:
    rows = []
    for task in found.tasks:
        entries = [found.get(task, name) for name in LABELS]
        best = min(entries, key=lambda entry: entry.final_loss.rank)
        cells = []
        for entry in entries:
            loss = entry.final_loss
            lost = f", {loss.diverged} of {loss.count} diverged" if loss.diverged else ""
            text = "diverged" if loss.mean is None else f"{loss.mean:.4g} [{loss.low:.4g}, {loss.high:.4g}]"
            cells.append(f"**{text}**{lost}" if entry is best else text + lost)
        rows.append([task, str(entries[0].steps), *cells])
    return rows


def totals(found: Evaluation, networks: Mapping[str, Aggregate], seconds: Mapping[str, float]) -> list[list[str]]:
    rows, references = [], against(found, REFERENCE)
    for name, label in LABELS.items():
        entry = found.get(TASKS[0], name)
        ratios = [
            f"{r.value:.3f} [{r.low:.3f}, {r.high:.3f}]"
            for r in (networks[name].over_seeds, references[name].over_seeds)
        ]
        nodes = "a network" if entry.complexity is None else str(entry.complexity)
        rows.append([label, *ratios, nodes, f"{entry.state_cost:g}", f"{seconds[name] * 1e3:.2f} ms"])
    return rows


if __name__ == "__main__":
    main()
