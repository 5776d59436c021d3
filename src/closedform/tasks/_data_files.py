"""Find the files of a data set, or fetch them.

Looked for in this order: the folder asked for (then nowhere else), the folder of the environment variable
CLOSEDFORM_DATA_DIR, /usr/share/datasets, and the download cache. A folder holds the files directly, or in a sub-folder
of the data set's name. Every file is checked by SHA-256 when it is read: a damaged file is never taken for a whole one,
nor one data set for another.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from closedform.errors import DataError
from closedform.tasks._images import ImageSource

DATA_DIR_VARIABLE = "CLOSEDFORM_DATA_DIR"
SYSTEM_FOLDER = Path("/usr/share/datasets")
_TIMEOUT = 20.0  # seconds without an answer until a download is given up


@dataclass(frozen=True)
class Download:
    """A file to fetch: where from, and the SHA-256 that it must have."""

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name, here and there."""
        return self.url.rpartition("/")[2]


class FileSource(ImageSource):
    """Images that come as files.

    Attributes:
        folder: The sub-folder's name.
        advice: How to get the files by hand.

    Args:
        data_dir: The folder that holds them, or whose sub-folder does; None looks in the usual places.
    """

    folder: str
    advice: str

    def __init__(self, data_dir: str | Path | None = None) -> None:
        self.data_dir = None if data_dir is None else Path(data_dir).expanduser()

    @abstractmethod
    def absent(self, folder: Path) -> tuple[Sequence[str], bool]:
        """The files that a folder lacks, and whether it holds any of them."""

    @property
    @abstractmethod
    def downloads(self) -> Sequence[Download]:
        """What to fetch so that the cache holds all."""

    def available(self) -> str | None:
        try:
            return self._missing("not on this machine, but downloaded on first use") if self._locate() is None else None
        except DataError as error:
            return str(error)

    def prepare(self) -> None:
        if self._locate() is None:
            self._fetch()

    def located(self) -> Path:
        """The folder that holds the files, which are fetched first if need be."""
        folder = self._locate()
        if folder is None:
            self._fetch()
            folder = self._cache()
        return folder

    def _locate(self) -> Path | None:
        """The folder that holds the files, or None; DataError where the folder asked for does not hold them."""
        if self.data_dir is not None:
            return self._in_data_dir(self.data_dir)
        variable = os.environ.get(DATA_DIR_VARIABLE)
        places = [Path(variable).expanduser()] if variable else []
        for place in (*places, SYSTEM_FOLDER):
            folder = self._in_folder(place)
            if folder is not None:
                return folder
        cache = self._cache()
        return None if self.absent(cache)[0] else cache

    def _in_data_dir(self, data_dir: Path) -> Path:
        if not data_dir.is_dir():
            raise DataError(f"data directory {data_dir} does not exist or is not a folder")
        folder = self._in_folder(data_dir)
        if folder is None:
            raise DataError(self._missing(f"not in {data_dir}, nor in its sub-folder {self.folder!r}"))
        return folder

    def _in_folder(self, place: Path) -> Path | None:
        for folder in (place / self.folder, place):
            absent, some = self.absent(folder)
            if not absent:
                return folder
            if some:
                raise DataError(f"{folder} holds only a part of {self.data}: {', '.join(absent)} missing")
        return None

    def _cache(self) -> Path:
        import pooch

        return Path(pooch.os_cache("closedform")) / self.folder

    def _fetch(self) -> None:
        for download in self.downloads:
            self._retrieve(download)

    def _retrieve(self, download: Download) -> None:
        import pooch

        try:
            self._cache().mkdir(parents=True, exist_ok=True)
            pooch.retrieve(
                download.url,
                known_hash=f"sha256:{download.sha256}",
                fname=download.name,
                path=self._cache(),
                downloader=pooch.HTTPDownloader(timeout=_TIMEOUT),
            )
        except OSError as error:
            host = urlsplit(download.url).hostname
            failure = f"{error.filename}: {error.strerror}" if error.strerror else f"{host} cannot be reached"
            raise DataError(self._missing(f"not on this machine, and not downloaded ({failure})")) from error
        except ValueError as error:
            raise DataError(f"the download of {download.url} is damaged: its SHA-256 is wrong; try again") from error

    def _missing(self, cause: str) -> str:
        return f"{self.data} is {cause}: {self.advice}"
