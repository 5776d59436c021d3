from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from closedform.errors import OptionError, UnknownNameError
from closedform.reproduce import REPRODUCTIONS, TARGETS, replayed, sanity
from closedform.rules import load_rule
from closedform.trajectories import record


def test_the_table_is_made_written_and_read(tmp_path: Path) -> None:
    parts: list[tuple[int, int, str]] = []
    names = ["Momentum(0.6)"]
    result = sanity(1, tmp_path, lambda *part: parts.append(part), targets=names, spaces=["states"])
    assert parts == [(0, 1, "Momentum(0.6), states")]
    (row,) = result.rows
    assert (row.equation, row.decays, row.state_cost, row.exact) == ("-0.025*m", {"d_m": 0.6}, 1, 1)
    text = (tmp_path / "reproduce_sanity.md").read_text()
    assert "| Momentum(0.6) | states | 1.000000 |" in text
    assert "first five lags" in text
    document = json.loads((tmp_path / "reproduce_sanity.json").read_text())
    assert [row["target"] for row in document["rows"]] == names
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(result.table())
    assert "-0.025*m" in console.export_text()


def test_the_window_is_searched_as_the_paper_does() -> None:
    name = "g[t]^2 + g[t-1] + 2 g[t-2] + exp(g[t-4])"
    (row,) = sanity(1, targets=[name], spaces=["window"]).rows
    assert (row.space, row.exact, row.complexity) == ("window", 1, 11)


def test_names_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean 'Momentum\(0.6\)'"):
        sanity(1, targets=["Momentum(0.7)"])
    with pytest.raises(UnknownNameError, match="search space"):
        sanity(1, spaces=["state"])
    with pytest.raises(OptionError, match="seeds"):
        sanity(0)
    assert set(REPRODUCTIONS) >= {"sanity"}


@pytest.mark.parametrize("name", ["adam", "lion", "nesterov"])
def test_a_replay_gives_the_updates_that_were_recorded(name: str) -> None:
    rule = load_rule(name)
    recording = record(rule, "mlp-digits", features=("g",), steps=20, episodes=2, samples=300)
    again = replayed(recording, rule, window=2)
    size = float(recording.episode_updates.abs().mean())
    torch.testing.assert_close(again.episode_updates.float(), recording.episode_updates, rtol=1e-3, atol=1e-3 * size)
    assert again.column_names == ("g", "g_1", "g_2")
    torch.testing.assert_close(again.features[:, 0].float(), recording.features[:, 0])


def test_standardised_gradients_are_of_one_size() -> None:
    recording = record("sgd", "mlp-digits", steps=50, episodes=1, samples=300)
    gradients = replayed(recording, TARGETS["-0.01 g"].rule, standardise=True).gradients
    sizes = gradients.square().mean(dim=1).sqrt()
    alive = recording.gradients.ne(0).any(dim=1)
    assert 0.3 < float(sizes[alive].min()) <= float(sizes[alive].max()) < 1.01
    assert not sizes[~alive].any()
