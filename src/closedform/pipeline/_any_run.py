"""Folders that commands write to, finished or not: what is there, and a page on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from closedform._files import read_json
from closedform.distillation import EquationHall, HallOfFame
from closedform.errors import CheckpointError, DataError
from closedform.evaluation import Evaluation
from closedform.meta_training import read_evolution, read_metrics
from closedform.pipeline._folder import STAGES
from closedform.report import ReportData, RunInfo, write_report, write_runs
from closedform.rules import load_rule

HALLS: dict[str, type[HallOfFame] | type[EquationHall]] = {
    "hall_of_fame.json": HallOfFame,
    "equations.json": EquationHall,
}
"""Name of a hall's file -> what reads it."""


def read_equations(run: str | Path) -> tuple[Path, HallOfFame | EquationHall]:
    """The hall of fame of a run, and its file.

    Args:
        run: The folder of ``closedform run`` or ``closedform distill``, or the file.

    Raises:
        DataError: there is none.
        CheckpointError: it is damaged.
    """
    path = Path(run)
    if path.is_file():
        written = read_json(path, what=HallOfFame.what)
        form = written.get("format") if isinstance(written, dict) else None
        return path, (EquationHall if form == EquationHall.format else HallOfFame).load(path)
    for name, kind in HALLS.items():
        if (path / name).exists():
            return path / name, kind.load(path / name)
    raise DataError(
        f"{path} holds no {' or '.join(HALLS)}: name the folder that closedform distill or closedform run wrote to"
    )


def read_run(folder: str | Path) -> ReportData:
    """What a folder holds so far, as parts of a report; a training that is at work may go on writing meanwhile.

    Args:
        folder: What ``closedform run``, ``train``, ``tune``, ``evolve``, ``distill`` or ``evaluate`` writes to.

    Raises:
        DataError: it holds nothing of theirs.
        CheckpointError: a file is damaged.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"{path} is no folder: name one that closedform run, train, tune or distill wrote to")
    found: dict[str, Any] = {}
    metrics = _first(path, "meta_training/metrics.jsonl", "metrics.jsonl")
    if metrics is not None:
        found["meta_training"] = read_metrics(metrics, _whole_lines(metrics))
    evolution = _first(path, "tuning/chosen/evolution.json", "evolution.json")
    if evolution is not None:
        found["evolution"] = read_evolution(evolution)
    if any((path / name).exists() for name in HALLS):
        _, hall = read_equations(path)
        found |= {"hall": hall.entries, "chosen": _chosen(path, hall), "folder": str(path)}
    rule, evaluation = _first(path, "rule.json"), _first(path, "evaluation/evaluation.json", "evaluation.json")
    if rule is not None:
        found["rule"] = load_rule(rule)
    if evaluation is not None:
        found["evaluation"] = Evaluation.load(evaluation)
    if not found:
        raise DataError(f"{path} holds nothing to report yet: no metrics.jsonl, hall of fame, rule or evaluation")
    return ReportData(title=str(path), lead=_stands(path), run=_info(path), **found)


def write_runs_report(folders: Sequence[str | Path], out: str | Path) -> Path:
    """Write a page on one run, or one that shows several side by side.

    Args:
        folders: As for `read_run`.
        out: The HTML file.

    Raises:
        DataError, CheckpointError: as `read_run`.
        OutputError: it cannot be written.
    """
    found = {str(folder): read_run(folder) for folder in folders}
    if len(found) == 1:
        return write_report(out, next(iter(found.values())))
    return write_runs(out, found)


def _first(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _whole_lines(path: Path) -> int:
    """Bytes up to the last end of a line: a training that is at work may have written half of one."""
    try:
        return path.read_bytes().rfind(b"\n") + 1
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None


def _chosen(folder: Path, hall: HallOfFame | EquationHall) -> str | None:
    """The equation that the run chose, else the one that the hall chooses."""
    path = folder / "choice.json"
    if path.is_file():
        found = read_json(path, what="choice")
        if isinstance(found, dict) and isinstance(found.get("equation"), str):
            return str(found["equation"])
    return hall.choose().equation if hall.entries else None


def _stands(folder: Path) -> str:
    """How far a run of the whole pipeline is; nothing of others."""
    if not (folder / "stages.json").is_file():
        return ""
    done = _seconds(folder)
    left = [doing for stage, doing in STAGES.items() if stage not in done]
    return "All stages are finished." if not left else f"Not finished: {', '.join(left)} still to come."


def _seconds(folder: Path) -> dict[str, float]:
    found = read_json(folder / "stages.json", what="list of finished stages")
    rows = found.items() if isinstance(found, dict) else ()
    return {name: float(value) for name, value in rows if name in STAGES and isinstance(value, (int, float))}


def _info(folder: Path) -> RunInfo | None:
    config = _first(folder, "config.json")
    if config is None:
        return None
    stages = _seconds(folder) if (folder / "stages.json").is_file() else {}
    content = read_json(config, what="configuration")
    return RunInfo(
        config=content if isinstance(content, dict) else {},
        stages={STAGES[name]: seconds for name, seconds in stages.items()},
    )
