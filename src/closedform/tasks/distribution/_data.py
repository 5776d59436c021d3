"""The images of drawn tasks: a few thousand of a source, read once, so that many tasks can be kept in memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from closedform.tasks._images import Images, ImageSource
from closedform.tasks._sources import IMAGES

MOST = 2048
"""Images a split."""
SMALL_IMAGES = ("digits", "mnist1d", "mnist-14x14", "fashion-mnist-14x14")
"""Names of ``IMAGES`` that are small enough for steps of a millisecond."""


class FewImages(ImageSource):
    """The first ``most`` images of each of another source's splits.

    Args:
        source: The images.
        most: Images a split that are kept.
    """

    def __init__(self, source: ImageSource, most: int = MOST) -> None:
        self.source, self.most = source, most
        self.data, self.reference = source.data, f"{source.reference}, at most {most} images a split"
        self.shape, self.classes = source.shape, source.classes

    def available(self) -> str | None:
        return self.source.available()

    def prepare(self) -> None:
        self.source.prepare()

    def load(self) -> Images:
        images = self.source.load()
        kept = {name: rows[: self.most] for name, rows in images.splits.items()}
        rows = torch.cat(list(kept.values()))
        places = torch.arange(len(rows)).split([len(part) for part in kept.values()])
        return dataclasses.replace(
            images,
            pixels=images.pixels[rows].clone(),
            labels=images.labels[rows].clone(),
            splits=dict(zip(kept, places, strict=True)),
        )


def sources(names: tuple[str, ...], data_dir: str | Path | None) -> dict[str, ImageSource]:
    """The sources of these names in ``IMAGES``; nothing is read yet."""
    return {name: FewImages(IMAGES[name](data_dir)) for name in names}


def present(data_dir: str | Path | None) -> tuple[str, ...]:
    """Those of ``SMALL_IMAGES`` whose data are on this machine."""
    return tuple(name for name in SMALL_IMAGES if IMAGES[name](data_dir).available() is None)
