"""The kinds of files, each with good ones, how to damage them, and how they are opened and used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuzzing import documents, runs, tables
from fuzzing.harness import Kind

KINDS: dict[str, Callable[[Path], Kind]] = {
    "rules": documents.rules,
    "hall": documents.hall,
    "equations": documents.equations,
    "evaluation": documents.evaluation,
    "weights": documents.weights,
    "trajectories": documents.trajectories,
    "csv": tables.csv,
    "npy": tables.npy,
    "parquet": tables.parquet,
    "idx": tables.idx,
    "cifar": tables.cifar,
    "checkpoints": runs.checkpoints,
    "tuning": runs.tuning,
    "metrics": runs.metrics,
    "runs": runs.finished_runs,
    "unseen": runs.unseen,
    "evolution": runs.evolution,
    "folders": runs.folders,
    "reports": runs.reports,
}
"""Name -> function that prepares a kind in an empty folder."""
