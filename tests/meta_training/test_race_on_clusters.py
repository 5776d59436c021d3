"""Races on clusters of two workers, begun here: the same as on processes; a worker that dies costs its candidate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_race import QUICK, SGD, dying, quadratic

from closedform.meta_training import race, read_race

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("clusters")]


@pytest.fixture(scope="module")
def dask() -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address.replace("tcp", "dask")


@pytest.fixture
def ray() -> str:
    pytest.importorskip("ray")
    return "ray"


@pytest.mark.parametrize("cluster", ["dask", "ray"])
def test_it_is_the_race_on_processes(cluster: str, request: pytest.FixtureRequest) -> None:
    workers = request.getfixturevalue(cluster)
    assert race(SGD, quadratic(), config=replace(QUICK, workers=workers)) == race(SGD, quadratic(), config=QUICK)


@pytest.mark.parametrize(("cluster", "lost"), [("dask", 0), ("ray", 1)])
def test_a_worker_dies(cluster: str, lost: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Dask hands the job of a dead worker to another; on Ray it is lost, and nothing else."""
    workers = request.getfixturevalue(cluster)
    with dying(tmp_path / "died") as task:
        race(SGD, task, config=replace(QUICK, workers=workers), out=tmp_path / "run")
    ended = read_race(tmp_path / "run" / "candidates.jsonl")
    assert (tmp_path / "died").exists()
    assert [one.state for one in ended].count("lost") == lost
    assert len(ended) == 2 * (6 + 2) + 3 * 2
