"""Parameter groups by rule: who goes where, against torch's Muon and AdamW side by side."""

import doctest

import pytest
import torch
from tape import Tape
from torch import nn

import closedform as cf
from closedform.errors import OptionError, RuleError, UnknownNameError
from closedform.lang import newton_schulz
from closedform.optim import _parameter_groups


class Small(nn.Module):
    """A network with one of everything."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 6)
        self.pos_embed = nn.Parameter(torch.randn(1, 5, 6) * 0.1)
        self.start_token = nn.Parameter(torch.zeros(1, 1, 6))
        self.conv = nn.Conv1d(6, 6, 3, padding=1)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.norm = nn.LayerNorm((5, 6))
        self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 6, bias=False)
        self.gain = nn.Parameter(torch.ones(()))
        self.frozen = nn.Linear(6, 6).requires_grad_(False)
        self.score = nn.Linear(6, 3)

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        x = self.tokens(index) + self.pos_embed + self.start_token
        x = x + self.conv(x.mT).mT
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        x = x + self.gain * self.down(torch.tanh(self.up(x)))
        return self.score(self.frozen(x).mean(1))


MATRICES = ["conv.weight", "attention.in_proj_weight", "attention.out_proj.weight", "up.weight", "down.weight"]
TABLES = ["pos_embed", "start_token", "tokens.weight", "score.weight"]
VECTORS = [
    *("gain", "conv.bias", "attention.in_proj_bias", "attention.out_proj.bias", "norm.weight", "norm.bias"),
    *("up.bias", "score.bias"),
]


def names(group: dict) -> list[str]:
    return [name for name, _ in group["params"]]


def test_who_goes_where() -> None:
    matrices, tables, vectors = cf.parameter_groups(Small(), "muon", vectors="adam")
    assert names(matrices) == MATRICES
    assert names(tables) == TABLES
    assert names(vectors) == VECTORS
    assert [group["rule"].name for group in (matrices, tables, vectors)] == ["muon", "adam", "adam"]
    optimizer = cf.RuleOptimizer([matrices, tables, vectors])
    assert [cf.Rule.from_json(group["rule"]).name for group in optimizer.param_groups] == ["muon", "adam", "adam"]
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.001, 0.001]


def test_rates_and_decay() -> None:
    groups = cf.parameter_groups(Small(), "muon", vectors="adamw", lr=0.3, vectors_lr=0.1, weight_decay=0.2)
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(0.3, 0.2), (0.1, 0.2), (0.1, 0.0)]
    assert [group["rule"].constants.get("weight_decay") for group in groups] == [None, 0.0, 0.0]


def test_without_options_the_optimizers_own_count_and_vectors_have_no_decay() -> None:
    optimizer = cf.RuleOptimizer(cf.parameter_groups(Small(), "adamw"), lr=0.5, weight_decay=0.25)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [
        *((0.5, 0.25), (0.5, 0.25), (0.5, 0.0))
    ]
    own = [cf.Rule.from_json(group["rule"]).constants["weight_decay"] for group in optimizer.param_groups]
    assert own == [0.01, 0.01, 0.0]


def test_one_rate_for_one_rule() -> None:
    assert {group["lr"] for group in cf.parameter_groups(Small(), "adam", lr=0.7)} == {0.7}
    assert "lr" not in cf.parameter_groups(Small(), "muon", vectors="adam", lr=0.7)[1]


@pytest.mark.parametrize("heads", ["down", ["down.weight"], ("down",)])
def test_heads_can_be_named(heads) -> None:
    matrices, tables, _ = cf.parameter_groups(Small(), "muon", heads=heads)
    assert "down.weight" in names(tables)
    assert "score.weight" in names(matrices)


def test_a_network_without_a_head_of_its_own() -> None:
    body = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    assert [names(group) for group in cf.parameter_groups(body, "muon", heads=())] == [["0.weight", "1.weight"]]


def test_a_head_tied_to_the_embedding_is_there_once() -> None:
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 7, bias=False))
    model[2].weight = model[0].weight
    assert [names(group) for group in cf.parameter_groups(model, "muon")] == [["1.weight"], ["0.weight"]]


def test_normalisation_layers_have_no_matrix() -> None:
    model = nn.ModuleList([nn.LayerNorm((3, 4)), nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.RMSNorm((2, 3))])
    [vectors] = cf.parameter_groups(model, "muon", weight_decay=0.1)
    assert vectors["weight_decay"] == 0.0
    assert len(vectors["params"]) == 7


def test_bad_input() -> None:
    with pytest.raises(OptionError, match="Linear has no parameter that requires a gradient"):
        cf.parameter_groups(nn.Linear(2, 2).requires_grad_(False), "muon")
    with pytest.raises(OptionError, match=r"no parameter or layer 'scores' to train; did you mean 'score\."):
        cf.parameter_groups(Small(), "muon", heads="scores")
    with pytest.raises(UnknownNameError, match="did you mean 'muon'"):
        cf.parameter_groups(Small(), "moun")
    with pytest.raises((RuleError, UnknownNameError)):
        cf.parameter_groups(Small(), "muon", vectors="no-such-rule")
    with pytest.raises(OptionError, match="a parameter group has no rule"):
        cf.RuleOptimizer([nn.Parameter(torch.ones(2))])
    with pytest.raises(OptionError, match=r'rule "ademamix" reads the horizon'):
        cf.RuleOptimizer(cf.parameter_groups(Small(), "muon", vectors="ademamix"))


def train(model: nn.Module, optimizers: list[torch.optim.Optimizer], steps: int = 30) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        index = torch.randint(11, (8, 5), generator=generator)
        model.zero_grad()
        nn.functional.cross_entropy(model(index), index.sum(1) % 3).backward()
        for optimizer in optimizers:
            optimizer.step()


def test_as_torchs_muon_and_adamw_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newton-Schulz is compared in test_lockstep_public.py; torch's works in bfloat16 whatever the type."""
    monkeypatch.setattr(torch.optim._muon, "_zeropower_via_newtonschulz", lambda grad, *_: newton_schulz(grad))
    tape = Tape()

    def network() -> nn.Module:
        torch.manual_seed(0)
        model = Small().double()
        model.conv.requires_grad_(False)  # torch's Muon takes matrices only
        return tape.watch(model)

    theirs = network()
    by_name = dict(theirs.named_parameters())
    train(
        theirs,
        [
            torch.optim.Muon([by_name[name] for name in MATRICES if "conv" not in name], lr=0.02, weight_decay=0.1),
            torch.optim.AdamW([by_name[name] for name in TABLES], lr=3e-3, weight_decay=0.1),
            torch.optim.AdamW([by_name[name] for name in VECTORS if "conv" not in name], lr=3e-3, weight_decay=0.0),
        ],
    )
    tape.rewind()
    ours = network()
    groups = cf.parameter_groups(ours, "muon", vectors="adamw", lr=0.02, vectors_lr=3e-3, weight_decay=0.1)
    train(ours, [cf.RuleOptimizer(groups)])
    for (name, found), expected in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert ((found - expected).abs() / expected.abs().clamp(min=1e-2)).max() < 1e-9, name


def test_docstring_example() -> None:
    found = doctest.testmod(_parameter_groups, extraglobs={"RuleOptimizer": cf.RuleOptimizer})
    assert found.attempted > 0
    assert found.failed == 0
