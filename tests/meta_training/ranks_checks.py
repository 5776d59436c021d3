"""What test_ranks.py asks of two processes, started as torchrun starts them: each writes down what it got."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch

from closedform import tasks
from closedform.errors import ClosedFormError
from closedform.learned_optimizers import get
from closedform.meta_training import (
    PES,
    Estimator,
    ForwardAccumulation,
    Imitation,
    MetaTrainConfig,
    TruncatedBPTT,
    meta_train,
    meta_tune,
)
from closedform.rules import load_rule

ESTIMATORS: dict[str, Estimator] = {
    "bptt": TruncatedBPTT(5),
    "pes": PES(5, pairs=2),
    "forward": ForwardAccumulation(5, coordinates=3),
    "imitation": Imitation(TruncatedBPTT(5), load_rule("adam"), until=6),
}
CONFIG = MetaTrainConfig(
    steps=8,
    horizon=15,
    curriculum=(7,),
    curriculum_patience=1,
    lr=1e-2,
    warmup=2,
    batch=4,
    side_by_side=2,
    random_scaling=0.5,
    normalise="gradient-norm",
    validate_every=3,
    checkpoint_every=4,
)


def members() -> list[tasks.Task]:
    return [tasks.get("quadratic", dim=6).to(dtype=torch.float64), tasks.get("rosenbrock").to(dtype=torch.float64)]


def train(name: str, out: Path | None = None, **options: object) -> dict[str, object]:
    """A run's history and weights."""
    optimizer = get("rp-s", generator=torch.Generator().manual_seed(0)).double()
    config = options.pop("config", CONFIG)
    result = meta_train(optimizer, members(), estimator=ESTIMATORS[name], config=config, out=out, **options)
    weights = torch.cat([value.flatten() for value in result.optimizer.state_dict().values()])
    return {"history": result.history, "weights": weights.tolist(), "diverged": result.diverged}


def main(folder: Path) -> None:
    def keep_half(record: dict) -> None:
        if record["step"] == 4:
            shutil.copytree(folder / "two", folder / "half")

    found: dict[str, object] = {name: train(name) for name in ESTIMATORS}
    found["files"] = train("bptt", folder / "two", on_record=keep_half)
    found["resumed"] = train("bptt", folder / "one", resume=True)
    tuned = meta_tune(load_rule("momentum"), members(), config=CONFIG, out=folder / "tuned")
    found["tuned"] = [tuned.lr, *tuned.constants.values()]
    try:
        train("bptt", config=MetaTrainConfig(batch=3))
    except ClosedFormError as error:
        found["odd"] = str(error)
    rank = torch.distributed.get_rank()
    (folder / f"result-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
