"""Classify images with a multi-layer perceptron: the paper's optimizee, and kin of other depth, width and activation.

``mlp-mnist`` is the paper's: 784-50-20-10, ReLU, N(0, 0.01^2) weights, batch 128, 620 steps, pixels in [0, 1]
(``black=-0.5`` gives the [-0.5, 0.5] of the paper's released code, a harder problem). ``mlp-digits``, the default task
of this package, is the same made small. It has one hidden layer, since with two of them SGD does not leave the initial
plateau within the horizon at any learning rate, and a comparison with it would be a foregone conclusion.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from closedform._names import lookup
from closedform._options import check_number
from closedform.tasks._base import Batch, Params
from closedform.tasks._dense import ACTIVATIONS, Dense, check_hidden
from closedform.tasks._image_task import ClassifyTask, ImageOptions, image_members
from closedform.tasks._images import ImageSource


@dataclass(frozen=True)
class MLPOptions(ImageOptions):
    """What can be chosen about an MLP task.

    Attributes:
        hidden: Widths of the hidden layers.
        activation: A name in ``ACTIVATIONS``.
        init_std: Standard deviation of the initial weights; None scales it with a layer's inputs. Biases start at zero.
    """

    hidden: tuple[int, ...] = (50, 20)
    activation: str = "relu"
    init_std: float | None = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        check_hidden(self.hidden)
        lookup("activation", self.activation, ACTIVATIONS)
        if self.init_std is not None:
            check_number("init_std", self.init_std, least=0)


class MLPTask(ClassifyTask):
    """Tell a source's images apart with a multi-layer perceptron; the loss is the minibatch's mean cross-entropy."""

    _network: Dense

    def __init__(self, name: str, images: ImageSource, options: MLPOptions, source: str) -> None:
        widths = (images.pixels, *options.hidden, images.classes)
        network = Dense(widths, ACTIVATIONS[options.activation], options.init_std)
        super().__init__(name, images, network, options, source)
        self._one_hot = torch.eye(images.classes)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> MLPTask:
        moved = super().to(device, dtype)
        moved._one_hot = self._one_hot.to(moved.device, moved.dtype)
        return moved

    @torch.no_grad()
    def loss_and_grad(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """The loss and its gradient by hand-written backpropagation; works under ``vmap`` too."""
        pixels, labels = batch
        seen, logits = self._network.trace(params, pixels)
        log_probabilities = torch.log_softmax(logits, dim=-1)
        loss = functional.nll_loss(log_probabilities, labels)
        delta = log_probabilities.exp().sub_(self._one_hot.index_select(0, labels)).div_(len(labels))
        return loss, self._network.backward(params, seen, delta)


_ZHENG = "Zheng et al. 2022, section 4"
_DEEPER = "Zheng et al. 2022's deeper MLP"
_AFTER = "after Zheng et al. 2022's MLP"
_ANDRYCHOWICZ = "Andrychowicz et al. 2016, section 3.2"
_DEEP = (50, 20, 20, 12)

MLPS = image_members(
    MLPTask,
    {
        "mlp-digits": ("digits", MLPOptions(hidden=(20,), horizon=200), f"{_AFTER}, made small"),
        "mlp-mnist": ("mnist", MLPOptions(), _ZHENG),
        "mlp-fashion-mnist": ("fashion-mnist", MLPOptions(), _ZHENG),
        "mlp-small-mnist": ("mnist-14x14", MLPOptions(init_std=0.02), f"{_AFTER}, on smaller images"),
        "mlp-small-fashion-mnist": ("fashion-mnist-14x14", MLPOptions(init_std=0.02), f"{_AFTER}, on smaller images"),
        "mlp-mnist1d": ("mnist1d", MLPOptions(hidden=(50,), init_std=None), _AFTER),
        "mlp-deep-digits": ("digits", MLPOptions(hidden=(20, 20, 20), init_std=None, horizon=200), _AFTER),
        "mlp-deep-mnist": ("mnist", MLPOptions(hidden=_DEEP, init_std=None), _DEEPER),
        "mlp-deep-fashion-mnist": ("fashion-mnist", MLPOptions(hidden=_DEEP, init_std=None), _DEEPER),
        "mlp-long-mnist": (
            "mnist",
            MLPOptions(hidden=(128, 128, 128), init_std=None, batch_size=64, horizon=2500),
            _AFTER,
        ),
        "mlp-wide-digits": ("digits", MLPOptions(hidden=(128,), horizon=200), _AFTER),
        "mlp-wide-mnist": ("mnist", MLPOptions(hidden=(256, 128)), _AFTER),
        "mlp-wide-fashion-mnist": ("fashion-mnist", MLPOptions(hidden=(256, 128)), _AFTER),
        "mlp-sigmoid-digits": ("digits", MLPOptions(hidden=(20,), activation="sigmoid", horizon=200), _ANDRYCHOWICZ),
        "mlp-sigmoid-mnist": ("mnist", MLPOptions(hidden=(20,), activation="sigmoid"), _ANDRYCHOWICZ),
        "mlp-sigmoid-fashion-mnist": ("fashion-mnist", MLPOptions(hidden=(20,), activation="sigmoid"), _ANDRYCHOWICZ),
        "mlp-tanh-digits": ("digits", MLPOptions(hidden=(20,), activation="tanh", horizon=200), _AFTER),
        "mlp-tanh-mnist": ("mnist", MLPOptions(activation="tanh"), _AFTER),
        "mlp-tanh-fashion-mnist": ("fashion-mnist", MLPOptions(activation="tanh"), _AFTER),
    },
)
"""The paper's deeper MLP, 784-50-20-20-12-10, starts from N(0, 0.01^2) weights (``init_std=0.01``), whose gradients are
of the order 1e-7: a plateau that Adam leaves, but plain SGD does not. Here its weights are scaled instead. Andrychowicz
et al.'s MLP has 20 sigmoid units. On smaller images weights start larger, so that the first layer's outputs do not."""
