from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from closedform import errors
from closedform.evaluation import BASELINES, Baseline, Entry, Evaluation, EvaluationOptions, evaluate, log_grid
from closedform.evaluation._episode import REPORT, TUNE, curve_steps, seeded
from closedform.rules import Rule, load_rule

SERIAL = EvaluationOptions(workers=1, tuning_seeds=2, tail=3, resamples=99)
SGD = load_rule("sgd")


def at(lr: float) -> Rule:
    return dataclasses.replace(SGD, lr=lr)


def run(optimizers: dict[str, Any], task: Any, options: EvaluationOptions = SERIAL, **more: Any) -> Evaluation:
    return evaluate(optimizers, [task], seeds=more.pop("seeds", 3), baselines=(), options=options, **more)


def only(evaluation: Evaluation) -> Entry:
    (entry,) = evaluation.entries
    return entry


def untimed(evaluation: Evaluation) -> Evaluation:
    entries = tuple(dataclasses.replace(entry, step_seconds=None) for entry in evaluation.entries)
    return dataclasses.replace(evaluation, entries=entries, seconds=0.0)


# ------------------------------------------------------------------------------------------------------ what is run


def test_final_loss_is_the_mean_of_the_last_minibatch_losses(bowl: Any) -> None:
    entry = only(run({"rule": at(0.1)}, bowl, steps=8))
    for seed, found in enumerate(entry.final_loss.values):
        start = bowl.init(seeded(REPORT, seed))
        first = float(bowl.loss(start, (torch.zeros(()),)))
        assert found == pytest.approx(sum(first * 0.9 ** (2 * t) for t in (5, 6, 7)) / 3, rel=1e-5)
    assert entry.full_loss.values[0] == pytest.approx(
        float(bowl.loss(bowl.init(seeded(REPORT, 0)), (torch.zeros(()),))) * 0.9**16, rel=1e-5
    )
    assert entry.test["accuracy"].mean == 0.5
    assert (entry.kind, entry.lr, entry.complexity, entry.state_cost, entry.steps) == ("rule", 0.1, 2, 0, 8)
    assert entry.step_seconds is not None


def test_a_learned_optimizer_runs_through_its_pure_interface_and_does_the_same(
    noisy_bowl: Any, learned_sgd: Any
) -> None:
    rule, network = run({"rule": at(0.1), "network": learned_sgd}, noisy_bowl).entries
    assert network.kind == "learned"
    assert network.complexity is None
    assert network.final_loss.values == pytest.approx(rule.final_loss.values, rel=1e-5)


def test_all_optimizers_see_the_same_start_and_batches_at_a_seed(noisy_bowl: Any, learned_sgd: Any) -> None:
    run({"slow": at(0.01), "fast": at(0.5), "network": learned_sgd}, noisy_bowl, seeds=2)
    per_run = torch.tensor(noisy_bowl.seen).view(3, 2, noisy_bowl.horizon)
    assert torch.equal(per_run[0], per_run[1])
    assert torch.equal(per_run[0], per_run[2])
    assert not torch.equal(per_run[0, 0], per_run[0, 1])


def test_tuning_seeds_are_not_the_reporting_ones() -> None:
    drawn = [float(torch.rand((), generator=seeded(stream, 0))) for stream in (REPORT, TUNE)]
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(("steps", "points", "expected"), [(3, 10, (1, 2, 3)), (10, 3, (3, 7, 10)), (4, 2, (2, 4))])
def test_curves_are_binned_over_all_steps(steps: int, points: int, expected: tuple[int, ...]) -> None:
    assert curve_steps(steps, points) == expected


# --------------------------------------------------------------------------------------------------------- tuning


def test_tuning_finds_the_best_learning_rate_of_a_quadratic(noisy_bowl: Any, bowl: Any) -> None:
    entry = only(run({"sgd": Baseline(SGD, "SGD", log_grid(-3, 1))}, bowl))
    assert entry.lr == 1.0
    assert entry.kind == "baseline"
    assert entry.tuning is not None
    assert entry.tuning.runs == 13 * 2
    assert not entry.tuning.at_edge
    assert entry.final_loss.mean == 0.0


def test_a_grid_is_extended_past_its_edge_on_either_side(bowl: Any) -> None:
    for grid in ((0.01, 0.02, 0.04), (4.0, 8.0, 16.0)):
        entry = only(run({"sgd": Baseline(SGD, "SGD", grid)}, bowl))
        assert entry.tuning is not None
        assert entry.lr == pytest.approx(1.0, rel=0.35)
        assert len(entry.tuning.lrs) > len(grid) == entry.tuning.grid
        assert min(entry.tuning.lrs) < entry.lr < max(entry.tuning.lrs)


def test_extension_stops_at_its_limit_and_says_so(bowl: Any) -> None:
    options = dataclasses.replace(SERIAL, extensions=1)
    entry = only(run({"sgd": Baseline(SGD, "SGD", (1e-6, 1e-5))}, bowl, options))
    assert entry.tuning is not None
    assert entry.tuning.at_edge
    assert entry.lr == 0.01


def test_every_baseline_is_a_library_rule_with_thirteen_learning_rates() -> None:
    for name, baseline in BASELINES.items():
        assert baseline.rule == load_rule(name)
        assert len(baseline.lrs) == 13
        assert baseline.lrs[0] < baseline.rule.lr <= baseline.lrs[-1]


def test_each_entry_is_compared_with_the_best_baseline(noisy_bowl: Any) -> None:
    found = evaluate({"mine": at(0.3)}, [noisy_bowl], seeds=4, baselines=("sgd", "adam"), options=SERIAL)
    best = found.best_baseline("noisy-bowl")
    assert best is not None
    assert best.difference is None
    mine = found.get("noisy-bowl", "mine")
    assert mine.difference is not None
    assert mine.difference.baseline == best.name
    assert mine.final_loss.mean is not None
    assert best.final_loss.mean is not None
    assert mine.difference.loss.mean == pytest.approx(mine.final_loss.mean - best.final_loss.mean)
    assert mine.difference.relative == pytest.approx(mine.final_loss.mean / best.final_loss.mean - 1)


# ------------------------------------------------------------------------------------------------------ divergence


def test_divergence_is_counted_not_hidden(bowl: Any) -> None:
    entry = only(run({"wild": at(1e30)}, bowl))
    assert entry.final_loss.diverged == 3
    assert entry.final_loss.mean is None
    assert entry.full_loss.values == (None, None, None)
    assert entry.curve.mean[-1] is None


def test_a_last_step_that_leaves_nan_parameters_counts_as_divergence(bowl: Any) -> None:
    nan_at_the_end = Rule.parse("late", "-g*where(greater(t, 5), log(0 - 1), 0.1)")
    entry = only(run({"late": nan_at_the_end}, bowl, steps=6))
    assert entry.final_loss.diverged == 3


# ------------------------------------------------------------------------------- files, resuming, several processes


def test_json_round_trip(noisy_bowl: Any, tmp_path: Path) -> None:
    found = evaluate({"wild": at(1e30)}, [noisy_bowl], seeds=2, baselines=("sgd",), options=SERIAL, out=tmp_path)
    assert Evaluation.from_json(found.to_json()) == found
    assert Evaluation.load(tmp_path / "evaluation.json") == found
    assert "NaN" not in found.to_json()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "closedform.evaluation/1"}', "nul"])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(errors.CheckpointError):
        Evaluation.load(path)
    with pytest.raises(errors.CheckpointError):
        Evaluation.from_json(text)


def test_resuming_runs_only_what_is_missing(noisy_bowl: Any, tmp_path: Path) -> None:
    first = run({"slow": at(0.1)}, noisy_bowl, seeds=2, out=tmp_path)
    done = len(noisy_bowl.seen)
    assert run({"renamed": at(0.1)}, noisy_bowl, seeds=2, out=tmp_path).entries[0].final_loss == only(first).final_loss
    assert len(noisy_bowl.seen) == done
    run({"slow": at(0.1)}, noisy_bowl, seeds=3, out=tmp_path)
    assert len(noisy_bowl.seen) == done + noisy_bowl.horizon
    run({"slow": at(0.2)}, noisy_bowl, seeds=2, out=tmp_path)
    assert len(noisy_bowl.seen) == done + 3 * noisy_bowl.horizon


def test_an_interrupted_evaluation_goes_on_to_the_same_result(noisy_bowl: Any, tmp_path: Path) -> None:
    def stop(done: int, total: int, what: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    optimizers = {"slow": at(0.1), "fast": at(0.7)}
    with pytest.raises(KeyboardInterrupt):
        run(optimizers, noisy_bowl, out=tmp_path, progress=stop)
    runs = tmp_path / "runs.jsonl"
    assert len(runs.read_text().splitlines()) == 3
    runs.write_text(runs.read_text()[:-20])  # killed while it wrote
    done = len(noisy_bowl.seen)
    resumed = run(optimizers, noisy_bowl, out=tmp_path)
    assert len(noisy_bowl.seen) == done + 4 * noisy_bowl.horizon
    assert untimed(resumed) == untimed(run(optimizers, noisy_bowl))
    assert len(runs.read_text().splitlines()) == 6


def test_without_resume_everything_is_run_again(noisy_bowl: Any, tmp_path: Path) -> None:
    run({"slow": at(0.1)}, noisy_bowl, out=tmp_path)
    done = len(noisy_bowl.seen)
    run({"slow": at(0.1)}, noisy_bowl, dataclasses.replace(SERIAL, resume=False), out=tmp_path)
    assert len(noisy_bowl.seen) == 2 * done


def test_a_damaged_runs_file_is_refused(bowl: Any, tmp_path: Path) -> None:
    (tmp_path / "runs.jsonl").write_text('{"key": 1}\n{}\n')
    with pytest.raises(errors.CheckpointError, match="line 1 is damaged"):
        run({"slow": at(0.1)}, bowl, out=tmp_path)


def test_the_number_of_processes_does_not_change_the_result(tmp_path: Path) -> None:
    def found(workers: int) -> Evaluation:
        options = EvaluationOptions(workers=workers, tuning_seeds=1, resamples=99)
        return evaluate({"a": at(0.05)}, ["quadratic"], steps=20, seeds=3, baselines=("momentum",), options=options)

    assert untimed(found(1)) == untimed(found(2))


def test_progress_counts_up_to_the_total(bowl: Any) -> None:
    seen: list[tuple[int, int, str]] = []
    run({"mine": at(0.1)}, bowl, progress=lambda *event: seen.append(event))
    assert [done for done, _, _ in seen] == [1, 2, 3]
    assert seen[-1][:2] == (3, 3)
    assert seen[-1][2] == "mine on noisy-bowl"


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"optimizers": {"x": "adamm"}}, errors.UnknownNameError, "did you mean 'adam'"),
        ({"baselines": ("adm",)}, errors.UnknownNameError, "did you mean 'adam'"),
        ({"optimizers": {}}, errors.OptionError, "nothing to evaluate"),
        ({"tasks": []}, errors.OptionError, "at least one task"),
        ({"tasks": ["quadratik"]}, errors.UnknownNameError, "did you mean 'quadratic'"),
        ({"tasks": ["quadratic", "quadratic"]}, errors.OptionError, "same name"),
        ({"seeds": 0}, errors.OptionError, "seeds must be a whole number of at least 1"),
        ({"steps": 0}, errors.OptionError, "steps must be a whole number of at least 1"),
        ({"optimizers": {"adam": at(0.1)}, "baselines": ("adam",)}, errors.OptionError, "has the name of a baseline"),
    ],
)
def test_bad_input_is_refused_in_one_line(change: dict[str, Any], error: type[Exception], text: str) -> None:
    given = {"optimizers": {"mine": at(0.1)}, "tasks": ["quadratic"], "baselines": (), "options": SERIAL, **change}
    with pytest.raises(error, match=text) as caught:
        evaluate(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [{"tail": 0}, {"workers": 0}, {"confidence": 1.0}, {"first_seed": -1}])
def test_bad_options_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(errors.OptionError):
        EvaluationOptions(**bad)


def test_an_output_folder_that_cannot_be_written_is_named(bowl: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.OutputError, match="cannot write"):
        run({"mine": at(0.1)}, bowl, out=tmp_path / "file" / "out")


# ------------------------------------------------------------------------------------------------------------ table


def test_the_terminal_table_says_what_counts(noisy_bowl: Any) -> None:
    from rich.console import Console

    found = evaluate({"wild": at(1e30)}, [noisy_bowl], seeds=2, baselines=("sgd",), options=SERIAL)
    console = Console(width=160, file=io.StringIO())
    console.print(found)
    text = console.file.getvalue()
    assert "diverged 2/2" in text
    assert "SGD" in text
    assert "50.0\N{NO-BREAK SPACE}%" in text
