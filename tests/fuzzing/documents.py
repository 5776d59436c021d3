"""Rules, halls, equations, evaluations, weights and recordings."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from rich.console import Console

from closedform import learned_optimizers, tasks
from closedform.distillation import EquationHall, HallOfFame, Table, distill, distill_table
from closedform.errors import ClosedFormError
from closedform.evaluation import Evaluation, EvaluationOptions, evaluate
from closedform.lang import initial_memory, step
from closedform.learned_optimizers import LearnedOptimizer, load_learned_optimizer, save_learned_optimizer
from closedform.report import ReportData, _plots, report_html
from closedform.rules import Rule, load_rule, save_rule
from closedform.tasks import Task
from closedform.trajectories import Trajectories, load_trajectories, record, save_trajectories
from fuzzing.harness import Kind, Nonsense
from fuzzing.mutations import spoil_json, spoil_safetensors

RULES = ("adam", "lion", "muon", "schedule-free-sgd", "ademamix")
SIGNALS = {name: torch.tensor([[0.5, -1.0], [2.0, 0.25]], dtype=torch.float64) for name in ("g", "w")}
SHAPE = {"numel": 4.0, "ndim": 2.0, "fan_in": 2.0, "fan_out": 2.0}


def sure(holds: bool, text: str) -> None:
    """Raise Nonsense unless it holds."""
    if not holds:
        raise Nonsense(text)


def printed(thing: object) -> str:
    """What rich prints of it."""
    console = Console(file=io.StringIO(), width=160)
    console.print(thing)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Plots are made, and not drawn, which takes seconds; `reports` draws them."""
    with mock.patch.object(_plots, "to_svg", return_value="<svg/>"):
        yield


def quadratic(horizon: int = 6, dim: int = 4) -> Task:
    """A task of few numbers."""
    return tasks.get("quadratic", dim=dim, horizon=horizon)


def network(name: str = "rp-s") -> LearnedOptimizer:
    """An untrained network."""
    return learned_optimizers.get(name, generator=torch.Generator().manual_seed(0))


def rules(folder: Path) -> Kind:
    def check(path: Path) -> None:
        check_rule(load_rule(path))

    known = [name for name in RULES if name in _library()]
    seeds = [(save_rule(load_rule(name), folder / f"{name}.json").read_bytes(), spoil_json) for name in known]
    return Kind(seeds, check, folder / "rule.json")


def _library() -> tuple[str, ...]:
    from closedform.rules import library_names

    return library_names()


def check_rule(rule: Rule) -> None:
    """A rule that was accepted can be read back, shown, and takes a step."""
    again = Rule.from_json(rule.to_json())
    sure(again == rule and again.to_json() == rule.to_json(), "a rule is another one when read back")
    sure(rule.state_cost >= 0 and rule.complexity >= 1 and bool(rule.latex()), "a rule that cannot be shown")
    inputs = {**SIGNALS, "t": torch.tensor(1.0, dtype=torch.float64), "T": torch.tensor(9.0, dtype=torch.float64)}
    inputs["progress"] = torch.tensor(1 / 9, dtype=torch.float64)
    inputs |= {name: torch.tensor(value, dtype=torch.float64) for name, value in SHAPE.items()}
    outputs, _ = step(rule.program, inputs, initial_memory(rule.program, inputs["w"]))
    sure(outputs["update"].numel() in (1, 4), "an update of another shape")


def _recording() -> Trajectories:
    return record("adam", [quadratic(20)], steps=20, episodes=3, samples=200, coordinates=4)


def hall(folder: Path) -> Kind:
    found = distill(_recording(), backend="sparse", max_complexity=10, time_limit=5.0)
    path = found.save(folder / "good.json")

    def check(path: Path) -> None:
        loaded = HallOfFame.load(path)
        sure(HallOfFame.from_json(loaded.to_json()) == loaded, "a hall is another one when read back")
        sure(all(0 <= entry.error < float("inf") for entry in loaded.entries), "an error below 0")
        printed(loaded.table())
        if loaded.entries:
            check_rule(loaded.select())
            sure(loaded.mapping_complexity >= 1, "a complexity below 1")

    return Kind([(path.read_bytes(), spoil_json)], check, folder / "hall.json")


def equations(folder: Path) -> Kind:
    rng = np.random.default_rng(0)
    columns = {"a": rng.uniform(1, 2, 60), "b": rng.uniform(1, 2, 60)}
    table = Table.from_columns({**columns, "y": columns["a"] / columns["b"] + 1}, "y")
    path = distill_table(table, "sparse", max_complexity=8, time_limit=5.0).save(folder / "good.json")

    def check(path: Path) -> None:
        loaded = EquationHall.load(path)
        sure(EquationHall.from_json(loaded.to_json()) == loaded, "a hall is another one when read back")
        printed(loaded.table())
        for entry in loaded.entries:
            sure(entry.error >= 0 and entry.r2 <= 1 and bool(entry.latex()), "an error below 0")
            try:
                entry.predict(columns)
            except ClosedFormError:  # other columns
                continue

    return Kind([(path.read_bytes(), spoil_json)], check, folder / "equations.json")


def evaluation(folder: Path) -> Kind:
    options = EvaluationOptions(
        tuning_seeds=2, tail=2, points=4, resamples=19, workers=1, schedules=("constant", "cosine")
    )
    found = evaluate({"mine": "momentum"}, [quadratic()], seeds=2, baselines=("sgd", "adam"), options=options)
    path = found.save(folder / "good.json")

    def check(path: Path) -> None:
        loaded = Evaluation.load(path)
        sure(Evaluation.from_json(loaded.to_json()) == loaded, "an evaluation is another one when read back")
        printed(loaded)
        with undrawn():
            report_html(ReportData(evaluation=loaded))

    return Kind([(path.read_bytes(), spoil_json)], check, folder / "evaluation.json")


def weights(folder: Path) -> Kind:
    paths = [
        save_learned_optimizer(network("rp-s"), folder / "a.safetensors", {"tasks": ["quadratic"], "steps": 3}),
        save_learned_optimizer(network("mlp"), folder / "b.safetensors", {}),
    ]

    def check(path: Path) -> None:
        loaded = load_learned_optimizer(path)
        learned_optimizers.recipe(path)
        sure(all(bool(value.isfinite().all()) for value in loaded.state_dict().values()), "weights that are not finite")
        w = torch.zeros(3)
        update, _ = loaded.bind()(torch.ones(3), w, loaded.init_state(w, [(3,)], 5))
        sure(bool(update.isfinite().all()), "an update that is not finite")

    return Kind([(path.read_bytes(), spoil_safetensors) for path in paths], check, folder / "model.safetensors")


def trajectories(folder: Path) -> Kind:
    path = save_trajectories(_recording(), folder / "good.safetensors")

    def check(path: Path) -> None:
        loaded = load_trajectories(path)
        sure(
            len(loaded.column_names) == loaded.features.shape[1] and loaded.nonfinite_rows >= 0, "columns and features"
        )
        loaded.split()
        loaded.positions()
        save_trajectories(loaded, path.with_name("again.safetensors"))

    return Kind([(path.read_bytes(), spoil_safetensors)], check, folder / "trajectories.safetensors")
