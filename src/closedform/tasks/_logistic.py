"""Logistic regression on images, with a quadratic penalty: the convex relative of the MLPs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from closedform._options import check_number
from closedform.tasks._base import Batch, Params
from closedform.tasks._image_task import ImageOptions, image_members
from closedform.tasks._images import ImageSource
from closedform.tasks._mlp import MLPOptions, MLPTask


@dataclass(frozen=True)
class LogisticOptions(ImageOptions):
    """What can be chosen about logistic regression.

    Attributes:
        penalty: The factor of half the squared weights (not biases); 0 for none.
        init_std: Standard deviation of the initial weights; biases start at zero.
    """

    penalty: float = 1e-3
    init_std: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("penalty", self.penalty, least=0)
        check_number("init_std", self.init_std, least=0)


class LogisticTask(MLPTask):
    """Multinomial logistic regression: mean cross-entropy of softmax(W x + b) plus 0.5 penalty |W|^2.

    Strictly convex in W; on a whole split, its minimum is scikit-learn's ``LogisticRegression`` with C = 1/(N penalty).
    """

    options: LogisticOptions

    def __init__(self, name: str, images: ImageSource, options: LogisticOptions, source: str) -> None:
        super().__init__(name, images, MLPOptions(hidden=(), init_std=options.init_std), source)
        self.options = options
        self.horizon = options.horizon

    def loss(self, params: Params, batch: Batch) -> Tensor:
        return super().loss(params, batch) + self._penalty(params)

    @torch.no_grad()
    def loss_and_grad(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        loss, grads = super().loss_and_grad(params, batch)
        grads[_WEIGHT].add_(params[_WEIGHT], alpha=self.options.penalty)
        return loss + self._penalty(params), grads

    @torch.no_grad()
    def metrics(self, params: Params, batch: Batch) -> dict[str, float]:
        metrics = super().metrics(params, batch)
        return {**metrics, "loss": metrics["loss"] + float(self._penalty(params))}

    def _penalty(self, params: Params) -> Tensor:
        return 0.5 * self.options.penalty * params[_WEIGHT].square().sum()


_WEIGHT = "layer1.weight"
_SOURCE = "multinomial logistic regression (Cox 1966)"

LOGISTIC_REGRESSIONS = image_members(
    LogisticTask,
    {
        "logistic-digits": ("digits", LogisticOptions(horizon=200), _SOURCE),
        "logistic-mnist": ("mnist", LogisticOptions(), _SOURCE),
    },
)
