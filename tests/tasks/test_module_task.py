"""Tasks of torch modules: layers that draw or keep averages work side by side, and the rest is refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

import closedform
from closedform import tasks
from closedform.errors import OptionError
from closedform.learned_optimizers import SymbolicOptimizer
from closedform.meta_training import PES, MetaTrainConfig, Problem, ProblemBatch, TruncatedBPTT, meta_train
from closedform.rules import load_rule
from closedform.tasks import ModuleTask, Task

MODULES: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2)),
    "dropout": lambda: nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 2)),
    "batch norm": lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)),
    "instance norm": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten(), nn.Linear(4, 2)
    ),
}


def data(rows: int = 40) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(rows, 4, generator=generator)
    return {split: (inputs, (inputs.sum(1) > 0).long()) for split in tasks.SPLITS}


def generators() -> tuple[torch.Generator, ...]:
    return tuple(torch.Generator().manual_seed(seed) for seed in range(3))


@pytest.mark.parametrize("name", [name for name in MODULES if name != "dropout"])
def test_each_is_what_it_would_be_alone(name: str) -> None:
    task = ModuleTask(name, MODULES[name], data()).to(dtype=torch.float64)
    batch = ProblemBatch(task)
    losses, gradients = batch.loss_and_grad(batch.start(start := generators()), start)
    for row, generator in enumerate(generators()):
        module = MODULES[name]().double()
        module.load_state_dict(task.init(generator), strict=False)
        inputs, targets = task.batch("train", generator)
        loss = nn.functional.cross_entropy(module(inputs), targets)
        expected = torch.autograd.grad(loss, list(module.parameters()))
        torch.testing.assert_close(losses[row], loss.detach())
        torch.testing.assert_close(gradients[row], torch.cat([part.reshape(-1) for part in expected]))


def test_dropout_draws_for_each_and_measuring_leaves_it_out() -> None:
    task = ModuleTask("dropout", MODULES["dropout"], data(), batch_size=20)
    same = tuple(torch.Generator().manual_seed(0) for _ in range(3))
    batch = ProblemBatch(task)
    w, drawn = batch.start(same), batch.draw(same)
    losses, _ = batch.evaluate(w, drawn)
    assert len(set(losses.tolist())) == 3
    torch.manual_seed(5)
    first, _ = batch.evaluate(w, drawn)
    torch.manual_seed(5)
    again, _ = batch.evaluate(w, drawn)
    assert torch.equal(first, again)
    params = task.init(torch.Generator().manual_seed(0))
    assert task.metrics(params, task.full("test")) == task.metrics(params, task.full("test"))


@pytest.mark.parametrize("estimator", [TruncatedBPTT(3), PES(3)], ids=lambda estimator: estimator.name)
@pytest.mark.parametrize("name", MODULES)
def test_a_learned_optimizer_is_trained_on_it(name: str, estimator: TruncatedBPTT | PES) -> None:
    config = MetaTrainConfig(steps=2, horizon=6, side_by_side=2, validate_every=1, validation_episodes=2)
    optimizer, task = SymbolicOptimizer(load_rule("momentum")), ModuleTask(name, MODULES[name], data())
    result = meta_train(optimizer, [task], estimator=estimator, config=config)
    assert result.best_validation is not None
    assert result.diverged == 0


def test_starting_points_are_the_modules_own_and_the_generators() -> None:
    task = ModuleTask("plain", MODULES["plain"], data())
    one, same, other = (task.init(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])
    assert one["0.weight"].abs().max() <= 0.5  # U(-1/sqrt(4), 1/sqrt(4)), as torch draws them
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    task.init(torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.random.get_rng_state())


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"make": Recurrent}, "task 'mine': its module fails under torch.func.vmap"),
        ({"loss": lambda y, _: y}, "its loss must be one number"),
        ({"batch_size": 1.5}, "batch_size must be a whole number"),
        ({"data": {**data(), "eval": (torch.zeros(3, 4), torch.zeros(2))}}, "of 'eval'"),
        ({"data": {}}, "of 'train'"),
    ],
)
def test_what_cannot_work_is_refused_when_the_task_is_made(change: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        ModuleTask("mine", **{"make": MODULES["plain"], "data": data(), **change})  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 1


class Own(Task):
    """A task as people write one, around a module."""

    name, horizon, source = "own", 5, "test"

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(value.shape) for name, value in self.module.named_parameters()}

    def init(self, generator: torch.Generator) -> dict[str, Tensor]:
        return {name: self._normal(shape, generator) for name, shape in self.shapes.items()}

    def loss(self, params: dict[str, Tensor], batch: tuple[Tensor, ...]) -> Tensor:
        return functional_call(self.module, params, (torch.ones(3, 4),)).square().mean()


def test_running_averages_in_a_task_of_ones_own_are_refused_by_name() -> None:
    message = r"task 'own': .* in place \(1\): make them with track_running_stats=False"
    for use in (Problem, ProblemBatch, lambda task: closedform.evaluate({}, [task], baselines=["sgd"])):
        with pytest.raises(OptionError, match=message):
            use(Own(MODULES["batch norm"]()))
    Problem(Own(MODULES["batch norm"]().eval()))
    dropped = ProblemBatch(Own(MODULES["dropout"]()))
    assert dropped.evaluate(dropped.start(generators()), ())[0].isfinite().all()
