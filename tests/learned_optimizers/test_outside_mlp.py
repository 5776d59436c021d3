"""Other people's per-parameter MLPs do what torch's layers do with the same weights."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import closedform as cf
from closedform.errors import CheckpointError, OptionError, UnknownNameError
from closedform.features import feature_program
from closedform.lang import initial_memory, step
from closedform.learned_optimizers import load_outside_mlp

FEATURES = ("g", "mom9", "v999")


def layers(outputs: int = 2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, outputs))


def arrays(network: nn.Module, turned: bool) -> dict[str, np.ndarray]:
    found = {}
    for k, layer in enumerate(one for one in network.modules() if isinstance(one, nn.Linear)):
        weight = layer.weight.detach().numpy()
        found |= {f"w{k}": weight.T.copy() if turned else weight, f"b{k}": layer.bias.detach().numpy()}
    return found


@pytest.mark.parametrize("turned", [False, True], ids=["torch", "jax"])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("outputs", [1, 2])
def test_it_is_the_network(tmp_path, turned: bool, normalise: bool, outputs: int) -> None:
    network = layers(outputs)
    np.savez(tmp_path / "theirs.npz", **arrays(network, turned))
    mlp = load_outside_mlp(tmp_path / "theirs.npz", FEATURES, scale=0.5, normalise=normalise)
    assert mlp.name == "theirs"
    program = feature_program(FEATURES)
    w = torch.randn(7, generator=torch.Generator().manual_seed(1))
    state, memory = mlp.init_state(w, [4, 3]), initial_memory(program, w)
    for t in range(1, 5):
        g = torch.sin(w + t)
        found, state = mlp.update(g, w, state)
        columns, memory = step(program, {"g": g, "w": w, "t": torch.tensor(float(t), dtype=torch.float64)}, memory)
        x = torch.stack([columns[name].to(torch.float32) for name in FEATURES])
        if normalise:
            parts = [part * torch.rsqrt(part.square().mean(1, keepdim=True) + 1e-5) for part in x.split([4, 3], dim=1)]
            x = torch.cat(parts, dim=1)
        out = network(x.T).T.detach()
        expected = 0.5 * out[0] * (torch.exp(0.001 * out[1]) if outputs == 2 else 1)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
        w = w + found


def test_it_is_recorded_and_distilled(tmp_path) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 1)
    save_file({"a.weight": layer.weight.detach(), "a.bias": torch.zeros(1)}, tmp_path / "linear.safetensors")
    mlp = load_outside_mlp(tmp_path / "linear.safetensors", FEATURES, scale=0.01, normalise=False)
    recording = cf.record(mlp, "logistic-digits", steps=40, episodes=4, coordinates=24, samples=2000)
    assert [column.name for column in recording.columns] == list(FEATURES)
    hall = cf.distill(recording, time_limit=0, symmetries="none")
    assert min(entry.error for entry in hall.entries) < 1e-9


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ({"w0": np.zeros((4, 4)), "b0": np.zeros(4)}, "do not lead from 3 features"),
        ({"w0": np.zeros((2, 3))}, "a matrix and a vector for each layer"),
        ({"w0": np.full((2, 3), np.nan), "b0": np.zeros(2)}, "not finite"),
        ({"w0": np.zeros((5000, 3)), "b0": np.zeros(5000)}, "wider"),
        ({"w0": np.array(["a"])}, "cannot be read"),
    ],
)
def test_what_is_no_such_network_is_refused_in_one_line(tmp_path, kept: dict, told: str) -> None:
    np.savez(tmp_path / "x.npz", **kept)
    with pytest.raises(CheckpointError, match=told) as caught:
        load_outside_mlp(tmp_path / "x.npz", FEATURES)
    assert "\n" not in str(caught.value)


def test_other_mistakes(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load_outside_mlp(tmp_path / "none.npz", FEATURES)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_outside_mlp(tmp_path / "text.npz", FEATURES)
    with pytest.raises(CheckpointError, match=r"\.safetensors or \.npz"):
        load_outside_mlp(tmp_path / "weights.pkl", FEATURES)
    np.savez(tmp_path / "y.npz", w=np.zeros((2, 1)), b=np.zeros(2))
    with pytest.raises(UnknownNameError):
        load_outside_mlp(tmp_path / "y.npz", ["gg"])
    with pytest.raises(OptionError, match="features must be"):
        load_outside_mlp(tmp_path / "y.npz", "g")


def test_objects_are_never_unpickled(tmp_path) -> None:
    np.savez(tmp_path / "z.npz", w=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_outside_mlp(tmp_path / "z.npz", FEATURES)
