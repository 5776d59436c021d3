"""MNIST and Fashion-MNIST: four IDX files each, plain or gzipped.

The two data sets share their file names, so it is every file's content, checked by SHA-256, that tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from closedform.errors import DataError
from closedform.tasks._data_files import Download, FileSource
from closedform.tasks._idx import read_idx
from closedform.tasks._images import Images, halves


@dataclass(frozen=True)
class IdxFile:
    """One file of a data set: its shape, the SHA-256 of its content, and of the gzip file on the mirror."""

    name: str
    shape: tuple[int, ...]
    content: str
    download: str


@dataclass(frozen=True)
class IdxDataset:
    """A data set of IDX files, in the order training images, training labels, test images, test labels."""

    title: str
    reference: str
    folder: str
    mirror: str
    hint: str
    files: tuple[IdxFile, ...]


MNIST = IdxDataset(
    title="MNIST",
    reference="data: LeCun et al. 1998",
    folder="mnist",
    mirror="https://ossci-datasets.s3.amazonaws.com/mnist/",
    hint="",
    files=(
        IdxFile(
            "train-images-idx3-ubyte",
            (60000, 28, 28),
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        IdxFile(
            "train-labels-idx1-ubyte",
            (60000,),
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        IdxFile(
            "t10k-images-idx3-ubyte",
            (10000, 28, 28),
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        IdxFile(
            "t10k-labels-idx1-ubyte",
            (10000,),
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
)

FASHION_MNIST = IdxDataset(
    title="Fashion-MNIST",
    reference="data: Xiao, Rasul & Vollgraf 2017",
    folder="fashion-mnist",
    mirror="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    hint="install Debian's package dataset-fashion-mnist, or ",
    files=(
        IdxFile(
            "train-images-idx3-ubyte",
            (60000, 28, 28),
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        IdxFile(
            "train-labels-idx1-ubyte",
            (60000,),
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        IdxFile(
            "t10k-images-idx3-ubyte",
            (10000, 28, 28),
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        IdxFile(
            "t10k-labels-idx1-ubyte",
            (10000,),
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
)


class IdxSource(FileSource):
    """A data set of IDX files.

    The 60,000 training images are halved into ``train`` and ``eval``; the 10,000 test images are ``test``.

    Args:
        dataset: Which one.
        data_dir: The folder that holds it, or whose sub-folder does; None looks in the usual places.
    """

    def __init__(self, dataset: IdxDataset, data_dir: str | Path | None = None) -> None:
        super().__init__(data_dir)
        self.dataset = dataset
        self.data = dataset.title
        self.reference = dataset.reference
        self.folder = dataset.folder
        self.shape = (1, *dataset.files[0].shape[1:])  # type: ignore[assignment]
        first = dataset.files[0].name
        self.advice = f"{dataset.hint}pass --data-dir, a folder with the four IDX files ({first}[.gz], ...)"

    def absent(self, folder: Path) -> tuple[Sequence[str], bool]:
        names = [file.name for file in self.dataset.files if _find(folder, file.name) is None]
        return names, len(names) < len(self.dataset.files)

    @property
    def downloads(self) -> Sequence[Download]:
        return [Download(f"{self.dataset.mirror}{file.name}.gz", file.download) for file in self.dataset.files]

    def load(self) -> Images:
        folder = self.located()
        arrays = [_read_checked(folder, file, self.data) for file in self.dataset.files]
        train, test = arrays[1].shape[0], arrays[3].shape[0]
        return Images(
            pixels=torch.cat((arrays[0], arrays[2])).flatten(1),
            labels=torch.cat((arrays[1], arrays[3])).to(torch.int64),
            white=255.0,
            splits={**halves(train), "test": torch.arange(train, train + test)},
        )


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _read_checked(folder: Path, file: IdxFile, title: str) -> Tensor:
    path = _find(folder, file.name)
    if path is None:
        raise DataError(f"{folder / file.name} has vanished; {title} cannot be read")
    array, content = read_idx(path)
    if tuple(array.shape) != file.shape or content != file.content:
        raise DataError(f"{path} is not {title}'s (its SHA-256 differs): damaged, or a file of another data set")
    return array
