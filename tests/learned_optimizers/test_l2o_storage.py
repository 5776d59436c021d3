"""Saving and loading learned optimizers; what a damaged or foreign file says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from closedform.errors import CheckpointError, OutputError, RuleError
from closedform.learned_optimizers import (
    LEARNED_OPTIMIZERS,
    SymbolicOptimizer,
    get,
    load_learned_optimizer,
    save_learned_optimizer,
)
from closedform.rules import load_rule


@pytest.mark.parametrize("name", LEARNED_OPTIMIZERS)
def test_network_round_trip(name: str, tmp_path: Path) -> None:
    l2o = get(name)
    path = save_learned_optimizer(l2o, tmp_path / "folder" / "model.safetensors")
    loaded = load_learned_optimizer(path)
    assert loaded.describe() == l2o.describe()
    assert all(torch.equal(value, loaded.state_dict()[key]) for key, value in l2o.state_dict().items())
    assert [entry.name for entry in path.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("name", "options"), [("rp-si", {"clock": "progress"}), ("dm", {"clock": "progress"}), ("mlp", {"width": 3})]
)
def test_a_member_comes_back_with_its_options(name: str, options: dict, tmp_path: Path) -> None:
    l2o = get(name, **options)
    found = load_learned_optimizer(save_learned_optimizer(l2o, tmp_path / "model.safetensors"))
    assert found.describe() == l2o.describe()
    assert found.features == l2o.features


def test_scale_is_kept(tmp_path: Path) -> None:
    path = save_learned_optimizer(get("rp-si", scale=0.5), tmp_path / "model.safetensors")
    assert load_learned_optimizer(path).scale == 0.5


def test_a_symbolic_optimizer_is_saved_as_its_rule(tmp_path: Path) -> None:
    l2o = SymbolicOptimizer(load_rule("adam"))
    with torch.no_grad():
        l2o.coordinates += 0.1
    path = save_learned_optimizer(l2o, tmp_path / "rule.json")
    assert load_rule(path) == l2o.rule()
    loaded = load_learned_optimizer(path)
    assert isinstance(loaded, SymbolicOptimizer)
    assert loaded.rule() == l2o.rule()


def _saved(tmp_path: Path) -> Path:
    return save_learned_optimizer(get("rp-s"), tmp_path / "model.safetensors")


def test_truncated(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    data = path.read_bytes()
    for length in (0, 5, 100, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            load_learned_optimizer(path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot read"):
        load_learned_optimizer(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_learned_optimizer(tmp_path)


def test_another_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a learned optimizer"):
        load_learned_optimizer(path)
    path.write_text(json.dumps({"format": "something"}))
    with pytest.raises(RuleError):
        load_learned_optimizer(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("input_bias"), "another model"),
        (lambda tensors: tensors.update(input_bias=torch.zeros(3, 1)), r"input_bias is .*\[3, 1\]"),
        (lambda tensors: tensors.update(input_bias=torch.full((6, 1), torch.nan)), "not finite"),
    ],
)
def test_weights_that_do_not_fit(change: object, message: str, tmp_path: Path) -> None:
    tensors = dict(get("rp-s").state_dict())
    change(tensors)
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, {"format": "closedform.learned_optimizer/1", "description": '{"name": "rp-s"}'})
    with pytest.raises(CheckpointError, match=message):
        load_learned_optimizer(path)


@pytest.mark.parametrize(
    "description", ["", "[]", "{}", '{"name": "rp-s", "colour": 1}', '{"name": "rp-s", "scale": -1}']
)
def test_bad_description(description: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({}, path, {"format": "closedform.learned_optimizer/1", "description": description})
    with pytest.raises(CheckpointError, match="does not say"):
        load_learned_optimizer(path)


def test_unknown_member(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({}, path, {"format": "closedform.learned_optimizer/1", "description": '{"name": "rp-xl"}'})
    with pytest.raises(CheckpointError, match="rp-xl"):
        load_learned_optimizer(path)


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        save_learned_optimizer(get("rp-s"), tmp_path / "file" / "model.safetensors")
