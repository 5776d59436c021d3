"""CIFAR-10 and CIFAR-100 in their binary version: files of equal records, a label or two and 3 x 32 x 32 bytes.

Either the archive (``cifar-10-binary.tar.gz``, as it is downloaded) or the ``.bin`` files in it are read; the archive
is never unpacked to disk. All is untrusted until its SHA-256 is right, and no more is read than a whole file holds.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009; section "Binary version" of the
data sets' page.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from closedform.errors import DataError
from closedform.tasks._data_files import Download, FileSource
from closedform.tasks._images import Images, halves


@dataclass(frozen=True)
class CifarFile:
    """One file of a data set: its number of records, and the SHA-256 of its content."""

    name: str
    rows: int
    content: str


@dataclass(frozen=True)
class CifarDataset:
    """A data set in CIFAR's binary version.

    Attributes:
        labels: Labels a record; the last of them, the finest, is the one that counts.
        size: Bytes of the archive.
        archive: Its address and SHA-256.
        files: Training files first, the test file last.
    """

    title: str
    folder: str
    labels: int
    classes: int
    size: int
    archive: Download
    files: tuple[CifarFile, ...]
    shape: tuple[int, int, int] = (3, 32, 32)

    @property
    def record(self) -> int:
        """Bytes a record."""
        channels, rows, columns = self.shape
        return self.labels + channels * rows * columns


_PAGE = "https://www.cs.toronto.edu/~kriz/"

CIFAR10 = CifarDataset(
    title="CIFAR-10",
    folder="cifar-10-batches-bin",
    labels=1,
    classes=10,
    size=170052171,
    archive=Download(
        f"{_PAGE}cifar-10-binary.tar.gz", "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    ),
    files=(
        CifarFile("data_batch_1.bin", 10000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        CifarFile("data_batch_2.bin", 10000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        CifarFile("data_batch_3.bin", 10000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        CifarFile("data_batch_4.bin", 10000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        CifarFile("data_batch_5.bin", 10000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
        CifarFile("test_batch.bin", 10000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
    ),
)

CIFAR100 = CifarDataset(
    title="CIFAR-100",
    folder="cifar-100-binary",
    labels=2,
    classes=100,
    size=168513733,
    archive=Download(
        f"{_PAGE}cifar-100-binary.tar.gz", "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
    ),
    files=(
        CifarFile("train.bin", 50000, "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"),
        CifarFile("test.bin", 10000, "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"),
    ),
)


class CifarSource(FileSource):
    """A data set in CIFAR's binary version.

    The 50,000 training images are halved into ``train`` and ``eval``; the 10,000 test images are ``test``.

    Args:
        dataset: Which one.
        data_dir: The folder that holds it, or whose sub-folder does; None looks in the usual places.
    """

    reference = "data: Krizhevsky 2009"

    def __init__(self, dataset: CifarDataset, data_dir: str | Path | None = None) -> None:
        super().__init__(data_dir)
        self.dataset = dataset
        self.data = dataset.title
        self.folder = dataset.folder
        self.shape = dataset.shape
        self.classes = dataset.classes
        self.advice = f"pass --data-dir, a folder with {dataset.archive.name} or the .bin files in it"

    def absent(self, folder: Path) -> tuple[Sequence[str], bool]:
        if (folder / self.dataset.archive.name).is_file():
            return (), True
        names = [file.name for file in self.dataset.files if not (folder / file.name).is_file()]
        return names, len(names) < len(self.dataset.files)

    @property
    def downloads(self) -> Sequence[Download]:
        return (self.dataset.archive,)

    def load(self) -> Images:
        folder = self.located()
        archive = folder / self.dataset.archive.name
        parts = dict(self._in_archive(archive) if archive.is_file() else self._in_folder_files(folder))
        records = torch.cat([parts[file.name] for file in self.dataset.files])
        train = len(records) - self.dataset.files[-1].rows
        return Images(
            pixels=records[:, self.dataset.labels :].contiguous(),
            labels=records[:, self.dataset.labels - 1].to(torch.int64),
            white=255.0,
            splits={**halves(train), "test": torch.arange(train, len(records))},
        )

    def _in_folder_files(self, folder: Path) -> Iterator[tuple[str, Tensor]]:
        for file in self.dataset.files:
            path = folder / file.name
            try:
                with path.open("rb") as stream:
                    yield file.name, read_records(stream, path, file, self.dataset)
            except OSError as error:
                raise DataError(f"cannot read {path}: {error.strerror or error}") from error

    def _in_archive(self, path: Path) -> Iterator[tuple[str, Tensor]]:
        wanted = {f"{self.dataset.folder}/{file.name}": file for file in self.dataset.files}
        try:
            _check_archive(path, self.dataset)
            with tarfile.open(path, "r|gz") as archive:
                for member in archive:
                    file = wanted.pop(member.name, None)
                    stream = archive.extractfile(member) if file is not None else None
                    if file is not None and stream is not None:
                        yield file.name, read_records(stream, path, file, self.dataset)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise DataError(f"{path} is a damaged or truncated archive ({error}); fetch it again") from error
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        if wanted:
            raise DataError(f"{path} lacks {', '.join(sorted(wanted))}; fetch it again")


def read_records(stream: IO[bytes], path: Path, file: CifarFile, dataset: CifarDataset) -> Tensor:
    """Read one file's records.

    Args:
        stream: The file, or a member of the archive.
        path: What to call it in messages.
        file: What it should hold.
        dataset: The data set that it belongs to.

    Returns:
        [rows, labels + pixels] uint8.

    Raises:
        DataError: it is truncated, too long, holds a label that does not exist, or is another file.
    """
    where = f"{path}, {file.name}," if path.name != file.name else str(path)
    size = file.rows * dataset.record
    body = bytearray(stream.read(size + 1))  # one byte more than there should be, to find trailing bytes
    if len(body) != size:
        fault = f"is truncated: {len(body)} bytes" if len(body) < size else "has more bytes"
        raise DataError(f"{where} {fault} instead of {file.rows} records of {dataset.record}; fetch it again")
    records = torch.frombuffer(body, dtype=torch.uint8).view(file.rows, dataset.record)
    largest = int(records[:, dataset.labels - 1].max())
    if largest >= dataset.classes:
        raise DataError(f"{where} is not {dataset.title}'s: it holds the label {largest} of 0 to {dataset.classes - 1}")
    if hashlib.sha256(body).hexdigest() != file.content:
        raise DataError(f"{where} is not {dataset.title}'s (its SHA-256 differs): damaged, or of another data set")
    return records


def _check_archive(path: Path, dataset: CifarDataset) -> None:
    """Raise DataError unless the archive is the one that is known: before that, nothing in it is looked at."""
    size = path.stat().st_size
    if size < dataset.size:
        raise DataError(f"{path} is truncated: {size} bytes instead of {dataset.size}; fetch it again")
    digest = hashlib.sha256()
    if size == dataset.size:
        with path.open("rb") as stream:
            for chunk in iter(lambda: stream.read(2**20), b""):
                digest.update(chunk)
    if digest.hexdigest() != dataset.archive.sha256:
        raise DataError(f"{path} is not {dataset.title}'s archive (its SHA-256 differs): fetch it again")
