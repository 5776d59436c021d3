"""What every test shares: one thread, seeded generators, repeatable property tests, slow tests last."""

from __future__ import annotations

import os

# Set before torch and matplotlib load, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

from closedform.distillation.engines import BACKENDS
from closedform.features import FEATURES
from closedform.learned_optimizers import LEARNED_OPTIMIZERS, PRETRAINED
from closedform.tasks import TASKS

torch.set_num_threads(1)

settings.register_profile(
    "closedform", derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("closedform")


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator: what a test draws from it is the same in every run and in any order of tests."""
    return torch.Generator().manual_seed(0)


REGISTRIES = (FEATURES, LEARNED_OPTIMIZERS, PRETRAINED, TASKS, BACKENDS)


@pytest.fixture(autouse=True)
def registries_as_before() -> Iterator[None]:
    """Take back what a test adds to a registry of the package: in another order the next test would see it."""
    before = [dict(registry) for registry in REGISTRIES]
    yield
    for registry, entries in zip(REGISTRIES, before, strict=True):
        if list(registry) != list(entries):
            registry.clear()
            registry.update(entries)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Refuse sets as tables of cases: their order differs between processes, and with it the tests of each worker."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        cases = [*mark.args, *mark.kwargs.values()]
        if any(isinstance(case, (set, frozenset)) for case in cases):
            raise pytest.UsageError(f"{metafunc.definition.nodeid} is parametrized by a set: sort it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow tests last, so that a plain mistake shows at once."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
