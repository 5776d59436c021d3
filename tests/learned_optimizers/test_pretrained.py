"""Weights that ship with the package: found by name, and honest about their recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from closedform.errors import CheckpointError, OptionError, UnknownNameError
from closedform.learned_optimizers import (
    LEARNED_OPTIMIZERS,
    PRETRAINED,
    RNNprop,
    get,
    load_learned_optimizer,
    load_optimizer,
    recipe,
    save_learned_optimizer,
)
from closedform.learned_optimizers._storage import write_tensors
from closedform.rules import Rule, library_names

RECIPE = {"tasks": ["mlp-digits"], "seconds": 12.5, "measured": {"loss": 0.1}}


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RNNprop:
    """rp-s as if it had shipped, with weights and a scale of its own."""
    l2o = get("rp-s", generator=torch.Generator().manual_seed(1), scale=0.05)
    with torch.no_grad():
        l2o.output_bias.fill_(1)
    path = save_learned_optimizer(l2o, tmp_path / "rp-s.safetensors", RECIPE)
    for name in list(PRETRAINED):
        monkeypatch.delitem(PRETRAINED, name)
    monkeypatch.setitem(PRETRAINED, "rp-s", path)
    return l2o


def test_found_by_name(shipped: RNNprop) -> None:
    for found in (get("rp-s", pretrained=True), load_learned_optimizer("rp-s"), load_optimizer("rp-s")):
        assert found.describe() == shipped.describe()
        assert all(torch.equal(value, found.state_dict()[key]) for key, value in shipped.state_dict().items())


def test_recipe_is_in_the_file(shipped: RNNprop, tmp_path: Path) -> None:
    assert recipe("rp-s") == recipe(PRETRAINED["rp-s"]) == RECIPE
    assert recipe(save_learned_optimizer(shipped, tmp_path / "bare.safetensors")) == {}


def test_a_recipe_that_is_no_object(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    write_tensors(path, {}, {"format": "closedform.learned_optimizer/1", "recipe": "[1]"})
    with pytest.raises(CheckpointError, match="recipe is not a JSON object"):
        recipe(path)


@pytest.mark.usefixtures("shipped")
def test_no_weights_ship() -> None:
    for call in (lambda: get("mlp", pretrained=True), lambda: load_learned_optimizer("mlp"), lambda: recipe("mlp")):
        with pytest.raises(OptionError, match="no weights ship for learned optimizer 'mlp', only for rp-s; meta-train"):
            call()
    with pytest.raises(UnknownNameError, match="did you mean 'mlp'"):
        get("mpl", pretrained=True)


@pytest.mark.usefixtures("shipped")
def test_options_come_with_the_weights() -> None:
    with pytest.raises(OptionError, match="leave out scale"):
        get("rp-s", pretrained=True, scale=0.1)


def test_rules_and_networks_by_one_function(shipped: RNNprop) -> None:
    assert isinstance(load_optimizer("adam"), Rule)
    assert isinstance(load_optimizer(PRETRAINED["rp-s"]), RNNprop)
    for wrong, right in (("adamm", "adam"), ("rp-ss", "rp-s")):
        with pytest.raises(UnknownNameError, match=f"unknown rule or network '{wrong}': did you mean '{right}'"):
            load_optimizer(wrong)


def test_no_network_has_the_name_of_a_rule() -> None:
    assert not set(library_names()) & {*LEARNED_OPTIMIZERS, *PRETRAINED}


@pytest.mark.parametrize("name", PRETRAINED)
def test_what_ships_loads_and_says_how_it_was_made(name: str) -> None:
    l2o = load_learned_optimizer(name)
    assert any(parameter.abs().sum() > 0 for parameter in l2o.parameters())
    assert recipe(name)
