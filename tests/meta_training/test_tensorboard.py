"""What TensorBoard itself reads from what meta-training wrote for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from closedform.errors import OptionError, OutputError
from closedform.learned_optimizers import SymbolicOptimizer
from closedform.meta_training import MetaTrainConfig, MetaTrainResult, meta_train, tensorboard_writer
from closedform.rules import load_rule
from closedform.tasks import get

CONFIG = MetaTrainConfig(steps=4, horizon=20, validate_every=2, validation_episodes=1, checkpoint_every=2)


class Stop(Exception):
    pass


def _train(folder: Path, stop: int | None = None, resume: bool = False) -> MetaTrainResult:
    with tensorboard_writer(folder / "board") as write:

        def progress(record: dict) -> None:
            write(record)
            if record["step"] == stop:
                raise Stop

        optimizer = SymbolicOptimizer(load_rule("momentum"))
        return meta_train(optimizer, [get("quadratic")], config=CONFIG, out=folder, resume=resume, on_record=progress)


def test_scalars_are_the_metrics_also_after_a_stop(tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    with pytest.raises(Stop):
        _train(tmp_path, stop=3)
    history = _train(tmp_path, resume=True).history
    events = reading.EventAccumulator(str(tmp_path / "board")).Reload()
    assert {"meta_loss", "loss", "gradient_norm", "lr", "validation"} <= set(events.Tags()["scalars"])
    for name in events.Tags()["scalars"]:
        expected = [(record["step"], record[name]) for record in history[1:] if record.get(name) is not None]
        assert [(event.step, event.value) for event in events.Scalars(name)] == [
            (step, pytest.approx(value)) for step, value in expected
        ]


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(OptionError, match=r"pip install 'closedform\[tensorboard\]'"), tensorboard_writer(tmp_path):
        pass


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    (tmp_path / "file").write_text("")
    with tensorboard_writer(tmp_path / "file") as write, pytest.raises(OutputError, match="cannot write"):
        write({"step": 1, "loss": 1.0})
