"""Optimizers side by side: the map is true to its distances, and every entrant gets what can be said of it."""

import math

import numpy as np
import pytest
import torch

import closedform as cf
from closedform.analysis import classical_scaling, compare
from closedform.analysis.comparison import distances
from closedform.errors import OptionError, UnknownNameError
from closedform.rules import Rule


def test_points_of_a_plane_are_found_again() -> None:
    points = np.random.default_rng(0).normal(size=(7, 2))
    found = np.linalg.norm(points[:, None] - points[None], axis=-1)
    placed, share = classical_scaling(found)
    assert np.allclose(np.linalg.norm(placed[:, None] - placed[None], axis=-1), found)
    assert share == pytest.approx(1)


def test_what_the_plane_holds() -> None:
    simplex = np.ones((4, 4)) - np.eye(4)  # three equal axes
    assert classical_scaling(simplex)[1] == pytest.approx(2 / 3)


def test_learning_rates_do_not_count_and_opposites_are_farthest() -> None:
    updates = torch.randn(5, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    other = torch.randn(5, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = distances({"a": updates, "a, faster": 3 * updates, "opposite": -updates, "other": other})
    assert found is not None
    rows = np.array(found.distances)
    assert rows[0, 1] == pytest.approx(0, abs=1e-7)
    assert rows[0, 2] == pytest.approx(2)
    assert rows[0, 3] == pytest.approx(math.sqrt(2), abs=0.25)
    assert np.array_equal(rows, rows.T)
    assert distances({"a": updates}) is None


@pytest.fixture(scope="module")
def found() -> cf.analysis.Comparison:
    nowhere = Rule.parse("nowhere", "-log(-1 - square(g))")
    return compare(["sgd", "adam", "adam", "lamb", "rp-s", nowhere], steps=30)


def test_every_entrant_has_its_row(found: cf.analysis.Comparison) -> None:
    assert [row.name for row in found.rows] == ["sgd", "adam", "adam (2)", "lamb", "rp-s", "nowhere"]
    sgd, adam, _, lamb, network, nowhere = found.rows
    assert (sgd.complexity, sgd.state_cost, sgd.kind) == (2, 0, "rule")
    assert sgd.perception is not None
    assert sgd.perception.gradient.tpf == 1
    assert (adam.certificates is not None, adam.nearest) == (True, None)
    assert lamb.portrait is not None
    assert (network.kind, network.complexity, network.certificates) == ("network", None, None)
    assert network.nearest is not None
    assert nowhere.perception is None
    assert "not finite" in nowhere.problem


def test_the_map_leaves_out_what_is_not_finite(found: cf.analysis.Comparison) -> None:
    assert found.map is not None
    assert found.map.names == ("sgd", "adam", "adam (2)", "lamb", "rp-s")
    assert found.map.distances[1][2] == 0
    assert found.map.distances[0][1] > 0.1


def test_it_is_plain_data(found: cf.analysis.Comparison) -> None:
    document = found.to_dict()
    assert document["rows"][0]["perception"]["curves"][0]["tpf"] == 1
    assert document["map"]["share"] > 0.3


def test_progress_is_told() -> None:
    told: list[tuple[int, int, str]] = []
    compare({"mine": "sgd"}, steps=10, progress=lambda *args: told.append(args))
    assert told == [(0, 1, "mine"), (1, 1, "")]


def test_bad_options() -> None:
    with pytest.raises(OptionError, match="1 to 30"):
        compare([])
    with pytest.raises(OptionError, match="1 to 30"):
        compare(["sgd"] * 31)
    with pytest.raises(UnknownNameError, match="adam"):
        compare(["adamm"])
