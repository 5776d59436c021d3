"""Lightning and Accelerate run a rule as they run torch's optimizers (on the same gradients), and resume it."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tape import Tape, assert_as_close_as_rounding
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import LinearLR
from torch.utils.data import DataLoader, TensorDataset

from closedform import RuleOptimizer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
REASON = "{} is not installed: pip install -c constraints.txt {}"
Make = Callable[..., torch.optim.Optimizer]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def rule(params: object) -> torch.optim.Optimizer:
    return RuleOptimizer(params, "adam", lr=0.05, weight_decay=0.1)


def adamw(params: object) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=0.05, weight_decay=0.1)


def network(tape: Tape | None) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    return model if tape is None else tape.watch(model)


def loader() -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 5, generator=generator)
    return DataLoader(TensorDataset(x, torch.stack([x.sum(1), x.prod(1), x[:, 0] ** 2], dim=1)), batch_size=4)


def compare(fit: Callable[..., nn.Module], half: Path, epochs_after_loading: int) -> None:
    """As AdamW does on the same gradients; and stopped halfway and resumed, bit for bit as without."""
    tape = Tape()
    expected = fit(adamw, 4, tape=tape)
    tape.rewind()
    assert_as_close_as_rounding(fit(rule, 4, tape=tape), expected, lr=0.05, steps=16)
    assert tape.played()
    fit(rule, 2, to=half)
    resumed, whole = fit(rule, epochs_after_loading, saved=half), fit(rule, 4)
    assert all(map(torch.equal, resumed.parameters(), whole.parameters()))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_lightning(precision: str, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning", reason=REASON.format("Lightning", "lightning"))

    class Module(lightning.LightningModule):
        def __init__(self, make: Make, tape: Tape | None) -> None:
            super().__init__()
            self.net, self.make = network(tape), make

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            return mse_loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> dict[str, object]:
            optimizer = self.make(self.parameters())
            return {"optimizer": optimizer, "lr_scheduler": LinearLR(optimizer, 0.5, total_iters=3)}

    def fit(
        make: Make, epochs: int, saved: Path | None = None, to: Path | None = None, tape: Tape | None = None
    ) -> nn.Module:
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            precision=precision,
            gradient_clip_val=0.5,
            accumulate_grad_batches=2,
            enable_checkpointing=False,
            default_root_dir=tmp_path,
            **quiet,
        )
        module = Module(make, tape)
        trainer.fit(module, loader(), ckpt_path=saved)
        if to is not None:
            trainer.save_checkpoint(to, weights_only=False)
        return module.net

    compare(fit, tmp_path / "half.ckpt", epochs_after_loading=4)


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_accelerate(precision: str, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason=REASON.format("Accelerate", "accelerate"))

    def fit(
        make: Make, epochs: int, saved: Path | None = None, to: Path | None = None, tape: Tape | None = None
    ) -> nn.Module:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2, mixed_precision=precision)
        model = network(tape)
        optimizer = make(model.parameters())
        scheduler = LinearLR(optimizer, 0.5, total_iters=3)
        model, optimizer, data, scheduler = accelerator.prepare(model, optimizer, loader(), scheduler)
        if saved is not None:
            accelerator.load_state(saved)
        for _ in range(epochs):
            for x, y in data:
                with accelerator.accumulate(model):
                    accelerator.backward(mse_loss(model(x), y))
                    accelerator.clip_grad_norm_(model.parameters(), 0.5)
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()
        if to is not None:
            accelerator.save_state(to)
        return accelerator.unwrap_model(model)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compare(fit, tmp_path / "half", epochs_after_loading=2)
