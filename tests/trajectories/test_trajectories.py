from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from closedform.errors import CheckpointError, DataError, OptionError, OutputError
from closedform.trajectories import Column, Trajectories, load_trajectories, record, save_trajectories
from closedform.trajectories._sampling import draw_cells, draw_coordinates, even_shares

TENSORS = [entry.name for entry in dataclasses.fields(Trajectories) if entry.type == "Tensor"]


@pytest.fixture(scope="module")
def found() -> Trajectories:
    return record("adam", ["quadratic", "rosenbrock"], steps=20, episodes=4, coordinates=2, samples=200, window=1)


def header_of(path: Path) -> dict[str, str]:
    raw = path.read_bytes()
    return json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])["__metadata__"]


def test_saved_and_loaded_again_is_equal(found: Trajectories, tmp_path: Path) -> None:
    again = load_trajectories(save_trajectories(found, tmp_path / "sub" / "t.safetensors"))
    assert again.columns == found.columns
    assert again.source == found.source
    assert again.provenance == found.provenance
    for name in TENSORS:
        torch.testing.assert_close(getattr(again, name), getattr(found, name), rtol=0, atol=0, equal_nan=True)


def test_damaged_files_are_refused_in_one_line(found: Trajectories, tmp_path: Path) -> None:
    good = save_trajectories(found, tmp_path / "good.safetensors")
    raw = good.read_bytes()
    damaged = {
        "empty": b"",
        "truncated": raw[: len(raw) // 2],
        "no_header": raw[:100],
        "huge_header": struct.pack("<Q", 2**40) + raw[8:],
        "text": b'{"format": "closedform.trajectories/1"}' * 9,
    }
    for name, content in damaged.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(CheckpointError) as raised:
            load_trajectories(path)
        assert "\n" not in str(raised.value)
    with pytest.raises(CheckpointError, match="cannot read"):
        load_trajectories(tmp_path / "absent")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"format": "closedform.trajectories/9"}, "not a recording in the format"),
        ({"columns": '[["m_tilde", -1]]'}, "columns|looks back|not computed"),
        ({"columns": "[[1, 2, 3]]"}, "damaged"),
        ({"source": '{"constants": {}, "state": {}, "where": {}, "outputs": {"g": "__import__"}}'}, "unknown name"),
        ({"source": "[]"}, "damaged"),
        ({"provenance": "7"}, "damaged"),
    ],
)
def test_malformed_headers_are_refused(found: Trajectories, tmp_path: Path, change: dict[str, str], match: str) -> None:
    good = save_trajectories(found, tmp_path / "good.safetensors")
    save_file(load_file(good), tmp_path / "bad.safetensors", metadata={**header_of(good), **change})
    with pytest.raises(CheckpointError, match=match):
        load_trajectories(tmp_path / "bad.safetensors")


def test_tensors_that_do_not_fit_are_refused(found: Trajectories, tmp_path: Path) -> None:
    good = save_trajectories(found, tmp_path / "good.safetensors")
    for change in ({"updates": found.updates[:-1]}, {"step": found.step + 1000}, {"layer": found.layer.float()}):
        save_file({**load_file(good), **change}, tmp_path / "bad.safetensors", metadata=header_of(good))
        with pytest.raises(CheckpointError, match="must"):
            load_trajectories(tmp_path / "bad.safetensors")
    tensors = load_file(good)
    del tensors["weights"]
    save_file(tensors, tmp_path / "bad.safetensors", metadata=header_of(good))
    with pytest.raises(CheckpointError, match="lacks weights"):
        load_trajectories(tmp_path / "bad.safetensors")


def test_an_unwritable_place_is_said(found: Trajectories, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        save_trajectories(found, tmp_path / "file" / "t.safetensors")


def test_a_split_keeps_episodes_whole_and_takes_some_of_every_task(found: Trajectories) -> None:
    train, test = found.split(0.25, seed=1)
    assert not set(train.episode.tolist()) & set(test.episode.tolist())
    assert len(train) + len(test) == len(found)
    tasks = {entry["number"]: entry["task"] for entry in found.provenance["episodes"]}
    assert {tasks[number] for number in test.episodes.tolist()} == {"quadratic", "rosenbrock"}
    for part in (train, test):
        first, now, third = part.positions()
        assert torch.equal(part.updates, part.episode_updates[first, now, third])


def test_explicit_test_episodes(found: Trajectories) -> None:
    train, test = found.split(test_episodes=[2, 5])
    assert test.episodes.tolist() == [2, 5]
    assert train.episodes.tolist() == [0, 1, 3, 4, 6, 7]
    with pytest.raises(OptionError, match="some but not all"):
        found.split(test_episodes=[99])
    with pytest.raises(OptionError, match="at least two episodes"):
        found.select_episodes([0]).split()


def test_rows_of_unknown_coordinates_have_no_position(found: Trajectories) -> None:
    moved = dataclasses.replace(found, coordinate=found.coordinate + 10**6)
    with pytest.raises(DataError, match="record again"):
        moved.positions()


def test_column_names() -> None:
    assert [Column("m_tilde").name, Column("m_tilde", 3).name] == ["m_tilde", "m_tilde_3"]


def test_shares_are_even_as_far_as_bins_allow() -> None:
    assert even_shares(10, [2, 100, 100]) == [2, 4, 4]
    assert even_shares(7, [100, 100]) == [4, 3]
    assert even_shares(100, [2, 3]) == [2, 3]


def test_coordinates_come_from_all_tensors(generator: torch.Generator) -> None:
    chosen, layers = draw_coordinates([1000, 5, 50], 30, generator)
    assert torch.bincount(layers).tolist() == [13, 5, 12]
    assert len(set(chosen.tolist())) == 30
    bounds = torch.tensor([0, 1000, 1005, 1055])
    assert bool(((chosen >= bounds[layers]) & (chosen < bounds[layers + 1])).all())


def test_only_finite_cells_are_drawn(generator: torch.Generator) -> None:
    finite = torch.ones(2, 10, 3, dtype=torch.bool)
    finite[0, 5:] = False
    cells = draw_cells(finite, torch.zeros(2, 3, dtype=torch.int64), 30, generator)
    assert len(set(map(tuple, cells.tolist()))) == 30
    assert bool(finite[tuple(cells.unbind(dim=1))].all())
