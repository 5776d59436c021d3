"""A rule without any tuning beside tuned AdamW on a ResNet-18 and a small GPT, on one GPU within a few minutes.

    python benchmarks/gpu_training.py [--rule PATH] [--minutes 7] [--workers 4] [--data-dir DIR] [--out DIR] [--quick]

Entrants: the rule at its own learning rate of 1, knowing the number of steps and nothing else; AdamW with warm-up and
cosine at five rates; Muon; the rule at half and at twice its rate. All see the same batches from the same start. First
the time of each optimizer's step is measured on an idle device; from it follows how long the runs can be, the same for
all. Then runs share the device, several at a time, the most important first; what would not finish is not begun.
``gpu_training.json`` and ``gpu_training.md`` are written anew after each. --quick: tiny sizes, for a test on the CPU.

Data: Fashion-MNIST's four IDX files (--data-dir), and the source of the Python that runs. torch alone is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gpu_optimizers import ENTRANTS, Step, agreement, first_steps, further_steps, interleaved
from gpu_report import page
from gpu_workloads import FULL, QUICK, Workload, workload

import closedform
from closedform.rules import library_names

WORKLOADS = ("resnet", "gpt")
RATES = (1e-3, 2e-3, 4e-3, 3e-4, 1e-2)
ENTRIES = [("rule", 1.0), *(("AdamW", rate) for rate in RATES), ("Muon", 0.02), ("rule", 0.5), ("rule", 2.0)]
PLANNED = 7  # entries that the length of runs is planned for; the others come if there is time
START = Path(__file__).resolve().parent / "recipes" / "cf1_start.json"
SPARE = 0.8  # share of the time that runs are planned to fill
FIRST_SECONDS, FURTHER_SECONDS = 150, 70  # for measuring before and after the runs, at most
TESTS = 20  # times that a run is tested


# ------------------------------------------------------------------------------------------------ in a child process


def run(work: Workload, given: argparse.Namespace) -> dict[str, Any]:
    """Train once; what there is if the deadline comes first or the loss is no number."""
    torch.manual_seed(given.seed)
    generator = torch.Generator(work.device).manual_seed(given.seed)
    model = work.model()
    entrant = ENTRANTS[given.entrant](dict(model.named_parameters()), work, given.lr, given.steps, given.rule)
    losses = torch.zeros(given.steps, device=work.device)
    every = max(1, given.steps // TESTS)
    tests: list[tuple[int, dict[str, float]]] = []
    begun, ended = time.time(), "finished"
    for step in range(given.steps):
        loss = work.loss(model, *work.batch(step, generator))
        loss.backward()
        entrant.step()
        entrant.zero_grad()
        losses[step] = loss.detach()
        if (step + 1) % every == 0 or step + 1 == given.steps:
            tests.append((step + 1, work.test(model)))
            if not bool(losses[: step + 1].isfinite().all()):
                ended = "diverged"
                break
            if time.time() > given.deadline:
                ended = "out of time" if step + 1 < given.steps else ended
                break
    made = tests[-1][0]
    return {
        "ended": ended,
        "steps": made,
        "seconds": time.time() - begun,
        "tests": tests,
        "train": losses.tolist()[:made],
    }


def timing(work: Workload, given: argparse.Namespace, found: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of a step; a contender that fails is named, and the others are measured."""
    found |= {"steps": {}, "failed": {}}
    if given.stage == "first":
        ready = {name: made for name, make in first_steps(work, given.rule) if (made := attempt(name, make, found))}
        return found | {"steps": interleaved(ready, work.device, given.rounds)}
    if work.name == "GPT":
        found["agreement"] = agreement(given.rule, work.device)
    for name, make in further_steps(work, given.rule):  # the riskiest come last; what there is by then is kept
        if made := attempt(name, make, found):
            found["steps"] |= interleaved({name: made}, work.device, given.rounds)
        given.out.write_text(json.dumps(found))
    return found


def attempt(name: str, make: Callable[[], Step], found: dict[str, Any]) -> Step | None:
    """A contender that has taken its first step, or None with a note of how it failed."""
    try:
        made = make()
        made()
    except Exception as error:
        found["failed"][name] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return None
    return made


def child(given: argparse.Namespace) -> None:
    torch.set_float32_matmul_precision("high")  # products in float32 (Newton-Schulz) may run as TF32, for all
    torch.set_num_threads(1 if given.quick else 2)
    work = workload(given.child, QUICK if given.quick else FULL, torch.device(given.device), given.data_dir)
    found = {"most_steps": work.most_steps, "unit_steps": work.unit_steps, "name": work.name}
    found = found | run(work, given) if given.stage == "run" else timing(work, given, found)
    given.out.write_text(json.dumps(found))


# ----------------------------------------------------------------------------------------------- in the main process


@dataclass
class Job:
    """One child process.

    Attributes:
        label: What it is, with everything that identifies it.
        process: The child.
        out, log: Its result's and its messages' files.
        begun: When it started.
    """

    label: dict[str, Any]
    process: subprocess.Popen[bytes]
    out: Path
    log: Path
    begun: float = field(default_factory=time.time)

    def result(self) -> dict[str, Any]:
        """What it found, or how it failed."""
        wall = {"wall_seconds": time.time() - self.begun}
        if self.out.exists():
            return {**self.label, **json.loads(self.out.read_text()), **wall}
        last = self.log.read_text(errors="replace").strip().splitlines()[-8:]
        return {**self.label, "ended": "failed", "code": self.process.returncode, "messages": last, **wall}


class Session:
    """Starts children and keeps the report.

    Args:
        given: The command line.
        folder: For children's files.
    """

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder, self.count = given, folder, 0
        self.deadline = time.time() + 60 * given.minutes
        self.report: dict[str, Any] = {"machine": machine(given), "rule": json.loads(given.rule.read_text())}
        self.report |= {"timing": {}, "horizons": {}, "runs": [], "left_out": []}

    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.time()

    def start(self, name: str, stage: str, label: dict[str, Any], *options: object) -> Job:
        self.count += 1
        out, log = self.folder / f"{self.count}.json", self.folder / f"{self.count}.log"
        command = [sys.executable, __file__, "--child", name, "--stage", stage, "--out", out, "--rule", self.given.rule]
        command += ["--data-dir", self.given.data_dir, "--device", self.given.device, *options]
        command += ["--seed", self.given.seed, "--deadline", self.deadline - self.reserve]
        command += ["--quick"] if self.given.quick else []
        with log.open("wb") as stream:
            process = subprocess.Popen([str(word) for word in command], stdout=stream, stderr=subprocess.STDOUT)
        return Job({"workload": name, **label}, process, out, log)

    @property
    def reserve(self) -> float:
        """Seconds kept for what comes after the runs."""
        return min(FURTHER_SECONDS, 20 * self.given.minutes)

    def write(self) -> None:
        self.given.out.mkdir(parents=True, exist_ok=True)
        (self.given.out / "gpu_training.json").write_text(json.dumps(self.report) + "\n")
        (self.given.out / "gpu_training.md").write_text(page(self.report))

    def measure(self, stage: str, seconds: float) -> None:
        """One workload after the other, so that nothing else uses the device."""
        end = time.time() + seconds
        for number, name in enumerate(WORKLOADS, 1):
            job = self.start(name, stage, {}, "--rounds", 1 if self.given.quick else 30)
            wait(job, (end - time.time()) * (0.6 if number == 1 else 1))
            found = job.result()
            self.report["timing"].setdefault(name, {})[stage] = found
            print(name, stage, json.dumps(found.get("steps", found)), json.dumps(found.get("failed", {})), flush=True)
            self.write()

    def plan(self) -> None:
        """The length of runs such that the planned ones fill the time."""
        first = {name: self.report["timing"][name]["first"] for name in WORKLOADS}
        usable = {name: found for name, found in first.items() if "steps" in found and "rule" in found["steps"]}
        entrants = [entrant for entrant, _ in ENTRIES[:PLANNED]]
        whole = sum(self.seconds(name, entry, usable[name]["most_steps"]) for name in usable for entry in entrants)
        share = min(1.0, SPARE * max(0.0, self.left() - self.reserve) / max(whole, 1e-9))
        for name, found in usable.items():
            units = max(1, round(share * found["most_steps"] / found["unit_steps"]))
            self.report["horizons"][name] = units * found["unit_steps"]
        self.report["planned"] = {"seconds_of_full_runs": whole, "share": share}
        print("planned", self.report["planned"], self.report["horizons"], flush=True)

    def seconds(self, name: str, entrant: str, steps: int) -> float:
        """That a run takes by itself, by the first measurements; tests and start-up take some more."""
        found = self.report["timing"][name]["first"]["steps"]
        own = found.get(entrant, found["rule"])["median_ms"]
        return 3.0 + steps * (found["forward and backward"]["median_ms"] + own) / 1000

    def train(self) -> None:
        """Run what there is time for, the most important first."""
        queue = [(name, *entry) for entry in ENTRIES for name in self.report["horizons"]]
        running: list[Job] = []
        while queue or running:
            while queue and len(running) < self.given.workers:
                name, entrant, lr = queue.pop(0)
                steps = self.report["horizons"][name]
                if self.expected(name, entrant, steps) > self.left() - self.reserve:
                    self.report["left_out"].append([name, entrant, lr])
                    continue
                label = {"entrant": entrant, "lr": lr, "horizon": steps}
                running.append(self.start(name, "run", label, "--entrant", entrant, "--lr", lr, "--steps", steps))
            time.sleep(0.2)
            for job in [job for job in running if job.process.poll() is not None or self.left() < self.reserve - 20]:
                running.remove(job)
                wait(job, 0)
                self.keep(job.result())

    def expected(self, name: str, entrant: str, steps: int) -> float:
        """Wall seconds of a run beside others: like those that finished, or by the plan if there is none."""
        finished = [run for run in self.report["runs"] if run["workload"] == name and run["ended"] == "finished"]
        alike = [run for run in finished if run["entrant"] == entrant] or finished
        return max((run["wall_seconds"] for run in alike[-3:]), default=self.seconds(name, entrant, steps))

    def keep(self, found: dict[str, Any]) -> None:
        self.report["runs"].append(found)
        last = found["tests"][-1] if found.get("tests") else found.get("messages")
        label = [str(found[key]) for key in ("workload", "entrant", "lr", "ended")]
        print(*label, f"{found['wall_seconds']:.1f} s", last, flush=True)
        self.write()


def wait(job: Job, seconds: float) -> None:
    """Until it ends; it is stopped when the time is over."""
    try:
        job.process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        job.process.kill()
        job.process.wait()


def machine(given: argparse.Namespace) -> dict[str, object]:
    device = torch.cuda.get_device_name() if given.device == "cuda" else platform.processor() or platform.machine()
    return {
        "device": device,
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "closedform": closedform.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "workers": given.workers,
        "seed": given.seed,
        "quick": given.quick,
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rule", type=Path, help="a rule file; cf1 if not given")
    parser.add_argument("--minutes", type=float, default=7.0, help="for everything")
    parser.add_argument("--workers", type=int, default=4, help="runs at a time")
    parser.add_argument("--data-dir", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent / "results")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    for option, kind in {"child": str, "stage": str, "entrant": str, "lr": float, "deadline": float}.items():
        parser.add_argument(f"--{option}", type=kind, help=argparse.SUPPRESS)
    for option in ("steps", "rounds"):
        parser.add_argument(f"--{option}", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rule is None:
        library = Path(closedform.__file__).parent / "rules" / "library" / "cf1.json"
        given.rule = library if "cf1" in library_names() else START
    return given


def main() -> None:
    given = parse()
    if given.child:
        return child(given)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(given, Path(folder))
        session.write()
        session.measure("first", FIRST_SECONDS)
        session.plan()
        session.train()
        session.measure("further", max(20.0, session.left()))
        session.write()
    print(page(session.report))


if __name__ == "__main__":
    main()
