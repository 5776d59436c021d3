"""What ``gpu_training.py`` trains: a ResNet-18 on Fashion-MNIST and a small GPT on Python's own source, in plain torch.

A workload makes its model, draws training batches on the device (the same ones for the same seed, whoever trains) and
measures loss and accuracy on held-out data. Nothing beyond torch and this package is imported, and nothing is fetched.
"""

from __future__ import annotations

import sysconfig
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from closedform.errors import DataError

FASHION = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz")
FASHION_TEST = ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
TEXT_LIMIT = 24 * 2**20  # bytes of source that are read
HELD_OUT = 20  # every 20th file


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        resnet_width, images: Channels of the first stage; training images that are used.
        resnet_batch, epochs: Images a step; passes over the images at most.
        layers, gpt_width, heads, block: Of the GPT; block is tokens a window.
        gpt_batch, gpt_steps: Windows a step; steps at most.
        text, test_batches: Bytes of source; batches that a test takes at most.
    """

    resnet_width: int = 64
    images: int = 60_000
    resnet_batch: int = 512
    epochs: int = 15
    layers: int = 6
    gpt_width: int = 384
    heads: int = 6
    block: int = 256
    gpt_batch: int = 64
    gpt_steps: int = 2000
    text: int = TEXT_LIMIT
    test_batches: int = 20


FULL = Scale()
QUICK = Scale(4, 256, 32, 1, 1, 16, 2, 16, 4, 8, 2**20, 1)


class Workload(ABC):
    """One problem on one device.

    Attributes:
        name: Of the workload.
        decay: AdamW's weight decay, on tensors of two or more axes.
        betas: AdamW's.
        most_steps: Steps of a full run.
        unit_steps: Steps that a shorter run is a multiple of.
    """

    name: str
    decay: float
    betas: tuple[float, float]
    most_steps: int
    unit_steps: int

    def __init__(self, scale: Scale, device: torch.device) -> None:
        self.scale, self.device = scale, device

    @abstractmethod
    def model(self) -> nn.Module:
        """A fresh model on the device, drawn with torch's global generator."""

    @abstractmethod
    def batch(self, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Inputs and labels of a training step."""

    @abstractmethod
    def held_out(self) -> list[tuple[Tensor, Tensor]]:
        """The test's batches."""

    def logits(self, model: nn.Module, x: Tensor) -> Tensor:
        """Scores [..., classes] under bfloat16 autocast on the GPU."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            found: Tensor = model(x)
        return found

    def loss(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy, nats."""
        scores = self.logits(model, x)
        return functional.cross_entropy(scores.flatten(0, -2).float(), y.flatten())

    @torch.no_grad()
    def test(self, model: nn.Module) -> dict[str, float]:
        """Mean cross-entropy (nats) and accuracy on held-out data."""
        model.eval()
        loss, right, count = 0.0, 0.0, 0
        for x, y in self.held_out():
            scores, wanted = self.logits(model, x).flatten(0, -2).float(), y.flatten()
            loss += float(functional.cross_entropy(scores, wanted, reduction="sum"))
            right += float((scores.argmax(1) == wanted).sum())
            count += len(wanted)
        model.train()
        return {"loss": loss / count, "accuracy": right / count}


# ------------------------------------------------------------------------------------------------------- ResNet-18


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, inward: int, outward: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inward, outward, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outward, outward, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outward), nn.BatchNorm2d(outward)
        self.shortcut = nn.Sequential()
        if stride != 1 or inward != outward:
            self.shortcut = nn.Sequential(nn.Conv2d(inward, outward, 1, stride, bias=False), nn.BatchNorm2d(outward))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        return functional.relu(y + self.shortcut(x))


def resnet18(width: int) -> nn.Sequential:
    """The variant for small images: a 3x3 stem without pooling (He et al. 2015, section 4.2's stem)."""
    layers: list[nn.Module] = [nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    inward = width
    for stage in range(4):
        outward = width << stage
        layers += [Block(inward, outward, 2 if stage else 1), Block(outward, outward, 1)]
        inward = outward
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inward, 10))


class FashionResNet(Workload):
    """ResNet-18 on Fashion-MNIST padded to 32x32, with random crops and flips, in channels-last order."""

    name, decay, betas = "ResNet-18", 0.05, (0.9, 0.999)

    def __init__(self, scale: Scale, device: torch.device, data_dir: Path) -> None:
        super().__init__(scale, device)
        images, self.labels = (part[: scale.images].to(device) for part in _fashion(data_dir, FASHION))
        most = scale.test_batches * scale.resnet_batch
        test_images, self.test_labels = (part[:most].to(device) for part in _fashion(data_dir, FASHION_TEST))
        scaled = images.float() / 255
        self.mean, self.std = scaled.mean(), scaled.std()
        # 28 -> 32 by two pixels of black; four more around them, which crops move into.
        self.images = functional.pad(self._normalised(images), (6, 6, 6, 6), value=float(-self.mean / self.std))
        self.test_images = functional.pad(
            self._normalised(test_images), (2, 2, 2, 2), value=float(-self.mean / self.std)
        )
        self.unit_steps = len(images) // scale.resnet_batch
        self.most_steps = scale.epochs * self.unit_steps
        self._order = torch.arange(0)

    def model(self) -> nn.Module:
        return resnet18(self.scale.resnet_width).to(self.device, memory_format=torch.channels_last)

    def batch(self, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        place, size = step % self.unit_steps, self.scale.resnet_batch
        if place == 0:
            self._order = torch.randperm(len(self.images), generator=generator, device=self.device)
        chosen = self._order[place * size : (place + 1) * size]
        shift = torch.randint(9, (2, size, 1), generator=generator, device=self.device)
        rows, columns = shift + torch.arange(32, device=self.device)
        flipped = torch.randint(2, (size, 1), generator=generator, device=self.device).bool()
        columns = torch.where(flipped, columns.flip(1), columns)
        x = self.images[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
        return self._in(x), self.labels[chosen]

    def held_out(self) -> list[tuple[Tensor, Tensor]]:
        size = self.scale.resnet_batch
        batches = zip(self.test_images.split(size), self.test_labels.split(size), strict=True)
        return [(self._in(x), y) for x, y in batches]

    def _normalised(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean) / self.std

    def _in(self, images: Tensor) -> Tensor:
        return images[:, None].contiguous(memory_format=torch.channels_last)


def _fashion(folder: Path, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    from closedform.tasks._idx import read_idx

    images, labels = (read_idx(folder / name)[0] for name in names)
    return images, labels.long()


# ------------------------------------------------------------------------------------------------------------- GPT


class Layer(nn.Module):
    """Causal attention and a perceptron, each behind a layer norm (Radford et al. 2019)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.query_key_value(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(*parts.unbind(0), is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(functional.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """Bytes in, scores of the next byte out."""

    def __init__(self, scale: Scale) -> None:
        super().__init__()
        width = scale.gpt_width
        self.tokens, self.places = nn.Embedding(256, width), nn.Embedding(scale.block, width)
        self.layers = nn.Sequential(*(Layer(width, scale.heads) for _ in range(scale.layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 256, bias=False)
        for name, param in self.named_parameters():
            if param.dim() > 1:
                deep = (2 * scale.layers) ** -0.5 if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(param, std=0.02 * deep)
            elif name.endswith("bias"):
                nn.init.zeros_(param)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        return self.head(self.norm(self.layers(self.tokens(x) + self.places(places))))


class SourceGPT(Workload):
    """A byte-level GPT on the source of Python's standard library; every 20th file is held out."""

    name, decay, betas = "GPT", 0.1, (0.9, 0.95)

    def __init__(self, scale: Scale, device: torch.device) -> None:
        super().__init__(scale, device)
        self.train_text, self.test_text = (part.to(device) for part in _source(scale.text))
        self.most_steps, self.unit_steps = scale.gpt_steps, max(1, scale.gpt_steps // 20)
        self._window = torch.arange(scale.block + 1, device=device)

    def model(self) -> nn.Module:
        return GPT(self.scale).to(self.device)

    def batch(self, step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        last = len(self.train_text) - self.scale.block
        starts = torch.randint(last, (self.scale.gpt_batch, 1), generator=generator, device=self.device)
        windows = self.train_text[starts + self._window].long()
        return windows[:, :-1], windows[:, 1:]

    def held_out(self) -> list[tuple[Tensor, Tensor]]:
        size = self.scale.block
        count = min((len(self.test_text) - 1) // size, self.scale.test_batches * self.scale.gpt_batch)
        starts = torch.arange(count, device=self.device)[:, None] * size
        windows = self.test_text[starts + self._window].long().split(self.scale.gpt_batch)
        return [(rows[:, :-1], rows[:, 1:]) for rows in windows]


def _source(limit: int) -> tuple[Tensor, Tensor]:
    """Bytes of training and of held-out files."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    parts = (bytearray(), bytearray())
    for number, path in enumerate(_source_files(folder)):
        if len(parts[0]) >= limit:
            break
        parts[number % HELD_OUT == HELD_OUT - 1].extend(path.read_bytes())
    if min(map(len, parts)) < 4096:
        raise DataError(f"too little Python source in {folder}: install Python with its .py files")
    train, test = (torch.frombuffer(part, dtype=torch.uint8) for part in parts)
    return train, test


def _source_files(folder: Path) -> list[Path]:
    foreign = {"site-packages", "dist-packages", "__pycache__"}
    return sorted(path for path in folder.rglob("*.py") if not foreign & {*path.relative_to(folder).parts})


def workload(name: str, scale: Scale, device: torch.device, data_dir: Path) -> Workload:
    """By the name that the command line uses: "resnet" or "gpt"."""
    return FashionResNet(scale, device, data_dir) if name == "resnet" else SourceGPT(scale, device)
