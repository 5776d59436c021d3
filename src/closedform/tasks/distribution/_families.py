"""``FAMILIES``: kinds of problems that a task distribution draws from.

A member draws a problem's sizes and makes its task. A new one is a function here and a line in the table, with what a
step costs beside its arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from closedform.tasks._autoencoder import AutoencoderOptions, AutoencoderTask
from closedform.tasks._base import Task
from closedform.tasks._dense import ACTIVATIONS
from closedform.tasks._gru import GRU
from closedform.tasks._image_task import BatchNormClassifyTask, ClassifyTask, ImageOptions
from closedform.tasks._images import ImageSource
from closedform.tasks._language import LanguageOptions, LanguageTask
from closedform.tasks._mlp import MLPOptions, MLPTask
from closedform.tasks._network import Network
from closedform.tasks._transformer import Transformer, TransformerOptions
from closedform.tasks.distribution._draws import Draws
from closedform.tasks.distribution._networks import NORMS, SMOOTH, Perceptron, SmallConvNet, SmallViT
from closedform.tasks.distribution._synthetic import (
    Diabetes,
    Factorisation,
    LeastSquares,
    RegressionOptions,
    TeacherStudent,
)
from closedform.tasks.distribution._wrappers import NoisyLabels

_SOURCE = "drawn from a task distribution"
_BLACK = -0.5
"""What a black pixel becomes where networks have no say in it."""
CLASSES = 10


@dataclass(frozen=True)
class Ranges:
    """What sizes are drawn from, log-uniformly, both ends included.

    Attributes:
        batch_size: Rows a minibatch.
        width: Units of a hidden layer.
        depth: Hidden layers or blocks.
        label_noise: Largest share of labels that are drawn at random, in half of the classification tasks.
        images: Sources of images, by name.
    """

    batch_size: tuple[int, int]
    width: tuple[int, int]
    depth: tuple[int, int]
    label_noise: float
    images: Mapping[str, ImageSource]

    def square(self) -> tuple[str, ...]:
        """Names of the sources whose images have two dimensions."""
        return tuple(name for name, source in self.images.items() if source.shape[1] > 1)


@dataclass(frozen=True)
class Family:
    """A kind of problems.

    Attributes:
        draw: Draws one.
        overhead: Milliseconds that a step takes on one core however small its sizes are.
        places: How often a step uses a weight for each row of a minibatch: characters, patches or pixels.
        needs: ``images``, ``square images``, or nothing.
    """

    draw: Callable[[Draws, Ranges], Task]
    overhead: float
    places: int = 1
    needs: str = ""

    def step_cost(self, task: Task, batch_size: int) -> float:
        """About what a step of one optimizee costs, in milliseconds of one core.

        Forward and backward pass take 6 operations for each weight, row and place; 10^10 of them a second.
        """
        return self.overhead + 6e-7 * task.size * batch_size * self.places


def _hidden(draws: Draws, ranges: Ranges) -> tuple[int, ...]:
    width, depth = draws.count("width", *ranges.width), draws.count("depth", *ranges.depth)
    return (width,) * depth


def _classes(draws: Draws, ranges: Ranges, task: Task) -> Task:
    """With noise in the labels, in half of the cases."""
    if not ranges.label_noise or draws.chance(0.5):
        return task
    return NoisyLabels(task, CLASSES, draws.number("label_noise", ranges.label_noise / 10, ranges.label_noise))


def _images(draws: Draws, ranges: Ranges, square: bool = False) -> ImageSource:
    return ranges.images[draws.one_of("data", ranges.square() if square else tuple(ranges.images))]


def _black(draws: Draws) -> float:
    return draws.one_of("black", (0.0, _BLACK))


def _mlp(draws: Draws, ranges: Ranges) -> Task:
    images, hidden = _images(draws, ranges), _hidden(draws, ranges)
    activation, norm = draws.one_of("activation", tuple(SMOOTH)), draws.one_of("norm", NORMS, (2, 1, 1))
    batch_size, black = draws.count("batch_size", *ranges.batch_size), _black(draws)
    if norm == "none" and activation in ACTIVATIONS:
        plain = MLPOptions(batch_size, black=black, hidden=hidden, activation=activation, init_std=None)
        return _classes(draws, ranges, MLPTask("mlp", images, plain, _SOURCE))
    network = Perceptron((images.pixels, *hidden, CLASSES), activation, norm)
    options = ImageOptions(batch_size, black=black)
    kind = BatchNormClassifyTask if norm == "batch" else ClassifyTask
    return _classes(draws, ranges, kind("mlp", images, network, options, _SOURCE))


def _convnet(draws: Draws, ranges: Ranges, normalised: bool = False) -> Task:
    images = _images(draws, ranges, square=True)
    width = draws.count("width", max(4, ranges.width[0] // 4), max(4, ranges.width[1] // 4))
    depth = draws.one_of("depth", (1, 2))
    channels = tuple(width * 2**layer for layer in range(depth))
    activation = draws.one_of("activation", tuple(SMOOTH))
    network: Network = SmallConvNet(images.shape, CLASSES, channels, activation, normalised)
    options = ImageOptions(draws.count("batch_size", *ranges.batch_size), black=_BLACK)
    kind = BatchNormClassifyTask if normalised else ClassifyTask
    return _classes(draws, ranges, kind("convnet", images, network, options, _SOURCE))


def _convnet_bn(draws: Draws, ranges: Ranges) -> Task:
    return _convnet(draws, ranges, normalised=True)


def _vit(draws: Draws, ranges: Ranges) -> Task:
    images = _images(draws, ranges, square=True)
    width = _even_width(draws, ranges)
    depth = draws.one_of("depth", (1, 2))
    network = SmallViT(images.shape, CLASSES, images.shape[1] // 2, width, depth)
    options = ImageOptions(draws.count("batch_size", *ranges.batch_size), black=_BLACK)
    return _classes(draws, ranges, ClassifyTask("vit", images, network, options, _SOURCE))


def _transformer(draws: Draws, ranges: Ranges) -> Task:
    width = _even_width(draws, ranges)
    options = TransformerOptions(_rows(draws, ranges), _window(draws), width=width, layers=1, heads=2)
    return LanguageTask("transformer", Transformer(options), options, _SOURCE)


def _gru(draws: Draws, ranges: Ranges) -> Task:
    width = draws.count("width", *ranges.width)
    options = LanguageOptions(_rows(draws, ranges), _window(draws), width=width)
    return LanguageTask("gru", GRU(options), options, _SOURCE)


def _even_width(draws: Draws, ranges: Ranges) -> int:
    """Units of a Transformer, for its two heads: half as many as other families have."""
    low, high = ranges.width
    return 2 * draws.count("half_width", max(2, low // 4), max(2, high // 4))


def _rows(draws: Draws, ranges: Ranges) -> int:
    """Windows of text a minibatch: a quarter of what other families have in rows."""
    low, high = ranges.batch_size
    return draws.count("batch_size", max(1, low // 4), max(1, high // 4))


def _window(draws: Draws) -> int:
    return draws.one_of("window", (4, 6, 8))


def _autoencoder(draws: Draws, ranges: Ranges) -> Task:
    images = _images(draws, ranges)
    width, code = draws.count("width", *ranges.width), draws.count("code", 2, 16)
    options = AutoencoderOptions(
        draws.count("batch_size", *ranges.batch_size),
        hidden=(width, code, width),
        activation=draws.one_of("activation", ("relu", "tanh")),
    )
    return AutoencoderTask("autoencoder", images, options, _SOURCE)


def _regression(draws: Draws, ranges: Ranges) -> Task:
    options = RegressionOptions(
        inputs=draws.count("inputs", 4, 32),
        outputs=draws.count("outputs", 1, 8),
        hidden=_hidden(draws, ranges),
        activation=draws.one_of("activation", ("relu", "tanh")),
        noise=draws.number("noise", 0.01, 1.0),
        batch_size=draws.count("batch_size", *ranges.batch_size),
        seed=draws.seed("teacher"),
    )
    return TeacherStudent(options)


def _diabetes(draws: Draws, ranges: Ranges) -> Task:
    options = RegressionOptions(
        inputs=10,
        outputs=1,
        hidden=_hidden(draws, ranges),
        activation=draws.one_of("activation", ("relu", "tanh")),
        batch_size=draws.count("batch_size", *ranges.batch_size),
    )
    return Diabetes(options)


def _factorisation(draws: Draws, ranges: Ranges) -> Task:
    rank = draws.count("rank", 1, 8)
    return Factorisation(
        rows=draws.count("rows", *ranges.width),
        columns=draws.count("columns", *ranges.width),
        rank=rank,
        width=draws.count("width", rank, 3 * rank),
        noise=draws.number("noise", 0.01, 0.3),
        seed=draws.seed("matrix"),
    )


def _quadratic(draws: Draws, ranges: Ranges) -> Task:
    """Eigenvalues from 1 down to 1/condition: evenly spread in the logarithm, or as a power of their number."""
    size, condition = draws.count("size", 4, 128), draws.number("condition", 1, 1e4)
    shape = draws.one_of("spectrum", ("log-spaced", "power law"))
    places = [(index / (size - 1)) for index in range(size)]
    if shape == "power law":
        places = [math.log(index + 1) / math.log(size) for index in range(size)]
    return LeastSquares(
        [condition**-place for place in places],
        noise=draws.number("noise", 0.001, 1.0),
        batch_size=draws.count("batch_size", *ranges.batch_size),
        seed=draws.seed("basis"),
    )


FAMILIES: dict[str, Family] = {
    "mlp": Family(_mlp, 0.3, needs="images"),
    "convnet": Family(_convnet, 0.5, places=16, needs="square images"),
    "convnet-bn": Family(_convnet_bn, 0.6, places=16, needs="square images"),
    "vit": Family(_vit, 0.9, places=4, needs="square images"),
    "transformer": Family(_transformer, 1.0, places=6),
    "gru": Family(_gru, 1.2, places=6),
    "autoencoder": Family(_autoencoder, 0.25, needs="images"),
    "regression": Family(_regression, 0.2),
    "diabetes": Family(_diabetes, 0.2),
    "factorisation": Family(_factorisation, 0.15),
    "quadratic": Family(_quadratic, 0.1),
}
