"""MNIST and Fashion-MNIST: find the four IDX files, fetch them if they are nowhere, check them, read them.

Looked for in this order: the folder asked for (then nowhere else), the folder of the environment variable
CLOSEDFORM_DATA_DIR, /usr/share/datasets, and the download cache. A folder holds the four files, plain or gzipped,
directly or in a sub-folder of the data set's name. The two data sets share their file names, so every file's content is
checked by SHA-256: Fashion-MNIST is never taken for MNIST, and a damaged file never for a whole one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torch import Tensor

from closedform.errors import DataError
from closedform.tasks._idx import read_idx
from closedform.tasks._images import Images, ImageSource, halves

DATA_DIR_VARIABLE = "CLOSEDFORM_DATA_DIR"
SYSTEM_FOLDER = Path("/usr/share/datasets")
_TIMEOUT = 20.0  # seconds without an answer until a download is given up


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
    folder: str
    mirror: str
    hint: str
    files: tuple[IdxFile, ...]


MNIST = IdxDataset(
    title="MNIST",
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


class IdxSource(ImageSource):
    """A data set of IDX files.

    The 60,000 training images are halved into ``train`` and ``eval``; the 10,000 test images are ``test``.

    Args:
        dataset: Which one.
        data_dir: The folder that holds it, or whose sub-folder does; None looks in the usual places.
    """

    def __init__(self, dataset: IdxDataset, data_dir: str | Path | None = None) -> None:
        self.dataset = dataset
        self.data_dir = None if data_dir is None else Path(data_dir).expanduser()
        self.data = f"{dataset.title}, IDX files: {dataset.hint}--data-dir, or downloaded on first use"
        _, rows, columns = dataset.files[0].shape
        self.pixels = rows * columns

    def available(self) -> str | None:
        try:
            return self._missing("not on this machine") if self._locate() is None else None
        except DataError as error:
            return str(error)

    def prepare(self) -> None:
        if self._locate() is None:
            self._download()

    def load(self) -> Images:
        folder = self._locate()
        if folder is None:
            self._download()
            folder = self._cache()
        arrays = [_read_checked(folder, file, self.dataset.title) for file in self.dataset.files]
        train, test = arrays[1].shape[0], arrays[3].shape[0]
        return Images(
            pixels=torch.cat((arrays[0], arrays[2])).flatten(1),
            labels=torch.cat((arrays[1], arrays[3])).to(torch.int64),
            white=255.0,
            splits={**halves(train), "test": torch.arange(train, train + test)},
        )

    def _locate(self) -> Path | None:
        """The folder that holds the four files, or None; DataError where the folder asked for does not hold them."""
        if self.data_dir is not None:
            return self._in_data_dir(self.data_dir)
        variable = os.environ.get(DATA_DIR_VARIABLE)
        places = [Path(variable).expanduser()] if variable else []
        for place in (*places, SYSTEM_FOLDER):
            folder = self._in_folder(place)
            if folder is not None:
                return folder
        cached = all(_find(self._cache(), file.name) for file in self.dataset.files)
        return self._cache() if cached else None

    def _in_data_dir(self, data_dir: Path) -> Path:
        if not data_dir.is_dir():
            raise DataError(f"data directory {data_dir} does not exist or is not a folder")
        folder = self._in_folder(data_dir)
        if folder is None:
            raise DataError(self._missing(f"not in {data_dir}, nor in its sub-folder {self.dataset.folder!r}"))
        return folder

    def _in_folder(self, place: Path) -> Path | None:
        for folder in (place / self.dataset.folder, place):
            absent = [file.name for file in self.dataset.files if _find(folder, file.name) is None]
            if not absent:
                return folder
            if len(absent) < len(self.dataset.files):
                raise DataError(f"{folder} holds only a part of {self.dataset.title}: {', '.join(absent)} missing")
        return None

    def _cache(self) -> Path:
        import pooch

        return Path(pooch.os_cache("closedform")) / self.dataset.folder

    def _download(self) -> None:
        import pooch

        for file in self.dataset.files:
            url = f"{self.dataset.mirror}{file.name}.gz"
            host = urlsplit(url).hostname
            try:
                self._cache().mkdir(parents=True, exist_ok=True)
                pooch.retrieve(
                    url,
                    known_hash=f"sha256:{file.download}",
                    fname=f"{file.name}.gz",
                    path=self._cache(),
                    downloader=pooch.HTTPDownloader(timeout=_TIMEOUT),
                )
            except OSError as error:
                failure = f"{error.filename}: {error.strerror}" if error.strerror else f"{host} cannot be reached"
                raise DataError(self._missing(f"not on this machine, and not downloaded ({failure})")) from error
            except ValueError as error:
                raise DataError(f"the download of {url} is damaged: its SHA-256 is wrong; try again") from error

    def _missing(self, cause: str) -> str:
        first = self.dataset.files[0].name
        way = f"{self.dataset.hint}pass --data-dir, a folder with the four IDX files ({first}[.gz], ...)"
        return f"{self.dataset.title} is {cause}: {way}"


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
