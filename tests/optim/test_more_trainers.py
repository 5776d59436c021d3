"""transformers, PEFT and Keras train with rules: as they do with torch's optimizers, and on from a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import closedform as cf

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def gpt() -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=40, n_positions=8, n_embd=8, n_layer=1, n_head=2)
    )


def texts() -> list[dict[str, torch.Tensor]]:
    rows = [torch.randint(40, (8,), generator=torch.Generator().manual_seed(k)) for k in range(32)]
    return [{"input_ids": row, "labels": row} for row in rows]


def fit(out: Path, optimizer: tuple[Any, dict[str, Any]], resume: Path | None = None, **options: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    transformers.set_seed(0)
    settings = {"max_steps": 8, "per_device_train_batch_size": 4, "use_cpu": True, "report_to": [], "save_steps": 4}
    settings |= {"learning_rate": 1e-2, "weight_decay": 0.1, "disable_tqdm": True, "logging_steps": 100, **options}
    arguments = transformers.TrainingArguments(str(out), **settings)
    trainer = transformers.Trainer(gpt(), arguments, train_dataset=texts(), optimizer_cls_and_kwargs=optimizer)
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer


@pytest.mark.usefixtures("offline")
def test_transformers_trains_with_a_rule_as_with_adamw(tmp_path: Path) -> None:
    mine = fit(tmp_path / "a", (cf.RuleOptimizer, {"rule": "adam", "lr": 1e-2}), lr_scheduler_type="cosine")
    theirs = fit(tmp_path / "b", (torch.optim.AdamW, {"lr": 1e-2}), lr_scheduler_type="cosine")
    groups = mine.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert groups[0]["lr"] == theirs.optimizer.param_groups[0]["lr"] < 1e-2
    for ours, reference in zip(mine.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.allclose(ours, reference, atol=2e-4)


@pytest.mark.usefixtures("offline")
def test_transformers_goes_on_with_cf1_from_a_checkpoint(tmp_path: Path) -> None:
    rule = (cf.RuleOptimizer, {"rule": "cf1", "lr": 1.0, "total_steps": 8})
    whole = fit(tmp_path / "a", rule, lr_scheduler_type="constant")
    again = fit(tmp_path / "b", rule, resume=tmp_path / "a/checkpoint-4", lr_scheduler_type="constant")
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("given", ["adapters", "everything"])
def test_peft_keeps_state_of_the_adapters_alone(given: str) -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(gpt(), peft.LoraConfig(r=2, target_modules=["c_attn"], task_type="CAUSAL_LM"))
    adapters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    frozen = {name: value.clone() for name, value in model.named_parameters() if not value.requires_grad}
    parameters = adapters if given == "adapters" else list(model.parameters())
    optimizer = cf.RuleOptimizer(parameters, "cf1", total_steps=30)
    ids = torch.stack([row["input_ids"] for row in texts()[:8]])
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.01
    assert set(optimizer.state) == set(adapters)
    assert all(torch.equal(value, dict(model.named_parameters())[name]) for name, value in frozen.items())


def test_keras_on_torch_is_a_torch_module() -> None:
    os.environ["KERAS_BACKEND"] = "torch"
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip("keras was imported with another back end")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([layers.Input((4,)), layers.Dense(8, activation="tanh"), layers.Dense(2)])
    twin = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    with torch.no_grad():
        for ours, theirs in ((twin[0], model.layers[0]), (twin[2], model.layers[1])):
            ours.weight.copy_(theirs.kernel.value.T)
            ours.bias.copy_(theirs.bias.value)
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    y = (x.sum(1) > 0).long()
    for network in (model, twin):
        optimizer = cf.RuleOptimizer(network.parameters(), "momentum", lr=0.1)
        for _ in range(10):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
    assert torch.allclose(model(x), twin(x), atol=1e-5)
