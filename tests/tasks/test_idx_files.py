"""IDX files: the parser on good and bad bytes, where data sets are looked for, downloads, and the real files."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from closedform.errors import DataError
from closedform.tasks import _data_files
from closedform.tasks._idx import read_idx
from closedform.tasks._idx_files import FASHION_MNIST, MNIST, IdxDataset, IdxFile, IdxSource

WHOLE = b"\0\0\x08\x02" + struct.pack(">2I", 2, 3) + bytes(range(6))


def idx(values: torch.Tensor) -> bytes:
    header = bytes((0, 0, 8, values.dim())) + struct.pack(f">{values.dim()}I", *values.shape)
    return header + bytes(values.flatten().tolist())


@pytest.mark.parametrize("data", [WHOLE, gzip.compress(WHOLE)], ids=["plain", "gzip"])
@pytest.mark.parametrize("name", ["a-idx2-ubyte", "a-idx2-ubyte.gz"])
def test_reads_what_was_written(tmp_path: Path, data: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(data)
    array, content = read_idx(tmp_path / name)
    assert array.dtype == torch.uint8
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert content == hashlib.sha256(WHOLE).hexdigest()


BAD = {
    "no bytes": (b"", "truncated: it ends within its 4-byte magic number"),
    "half a magic number": (WHOLE[:3], "truncated: it ends within its 4-byte magic number"),
    "half a header": (WHOLE[:9], "truncated: it ends within its 12-byte header"),
    "no numbers": (WHOLE[:12], "truncated: 2 x 3 numbers announced, 0 there"),
    "one number short": (WHOLE[:-1], "truncated: 2 x 3 numbers announced, 5 there"),
    "one byte too many": (WHOLE + b"!", "more bytes than the 2 x 3 numbers"),
    "an image": (b"\x89PNG\r\n\x1a\n" + bytes(30), "not an IDX file of unsigned bytes: its magic number is 0x89504e47"),
    "floats": (b"\0\0\x0d" + WHOLE[3:], "not an IDX file of unsigned bytes: its magic number is 0x00000d02"),
    "no axes": (b"\0\0\x08\0" + WHOLE[4:], "not an IDX file of unsigned bytes"),
    "255 axes": (b"\0\0\x08\xff" + WHOLE[4:], "not an IDX file of unsigned bytes"),
    "huge": (b"\0\0\x08\x02" + b"\xff" * 8 + bytes(6), "claims to hold 4294967295 x 4294967295 numbers"),
    "empty": (b"\0\0\x08\x02" + struct.pack(">2I", 0, 3), "claims to hold 0 x 3 numbers"),
    "truncated gzip": (gzip.compress(WHOLE)[:-6], "damaged or truncated gzip"),
    "gzip header alone": (gzip.compress(WHOLE)[:10], "damaged or truncated gzip"),
    "gzip with a flipped bit": (gzip.compress(WHOLE, 0)[:-9] + b"\xff" + gzip.compress(WHOLE, 0)[-8:], "damaged"),
    "gzip bomb": (gzip.compress(WHOLE[:12] + bytes(50 * 2**20)), "more bytes than the 2 x 3 numbers"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_file_is_refused_by_name_and_cause(tmp_path: Path, case: str) -> None:
    data, message = BAD[case]
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_past_the_limit_and_no_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(WHOLE)
    with pytest.raises(DataError, match="claims to hold 2 x 3 numbers; 1 to 5 are possible here"):
        read_idx(path, limit=5)
    with pytest.raises(DataError, match=r"cannot read .*: Is a directory"):
        read_idx(tmp_path)
    with pytest.raises(DataError, match=r"cannot read .*: No such file"):
        read_idx(tmp_path / "nothing")


@pytest.fixture
def dataset() -> tuple[IdxDataset, dict[str, bytes]]:
    """A data set like MNIST with 6 training and 3 test images of 2 x 2 pixels, and its files."""
    generator = torch.Generator().manual_seed(0)
    arrays = (
        torch.randint(256, (6, 2, 2), generator=generator),
        torch.arange(6),
        torch.randint(256, (3, 2, 2), generator=generator),
        torch.arange(3),
    )
    contents = {file.name: idx(array) for file, array in zip(MNIST.files, arrays, strict=True)}
    files = tuple(
        IdxFile(name, tuple(array.shape), hashlib.sha256(contents[name]).hexdigest(), "")
        for name, array in zip(contents, arrays, strict=True)
    )
    return dataclasses.replace(MNIST, files=files), contents


def write(folder: Path, contents: dict[str, bytes], *, zipped: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    "place", ["asked", "asked/mnist", "variable", "variable/mnist", "system/mnist", "cache/closedform/mnist"]
)
def test_found_wherever_it_may_be(
    places: Path,
    dataset: tuple[IdxDataset, dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    zipped: bool,
) -> None:
    description, contents = dataset
    write(places / place, contents, zipped=zipped)
    monkeypatch.setenv(_data_files.DATA_DIR_VARIABLE, str(places / "variable"))
    source = IdxSource(description, places / "asked" if place.startswith("asked") else None)
    assert source.available() is None
    source.prepare()
    images = source.load()
    assert images.pixels.shape == (9, source.pixels) == (9, 4)
    assert idx(images.pixels[:6].view(6, 2, 2)) == contents["train-images-idx3-ubyte"]
    assert images.labels.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert images.splits["test"].tolist() == [6, 7, 8]
    assert sorted(torch.cat((images.splits["train"], images.splits["eval"])).tolist()) == list(range(6))


def test_folder_asked_for_is_the_only_one_searched(places: Path, dataset: tuple[IdxDataset, dict[str, bytes]]) -> None:
    description, contents = dataset
    write(places / "system" / "mnist", contents)
    (places / "asked").mkdir()
    source = IdxSource(description, places / "asked")
    assert "MNIST is not in" in str(source.available())
    with pytest.raises(DataError, match="nor in its sub-folder 'mnist': pass --data-dir"):
        source.prepare()


def test_damaged_incomplete_or_foreign_files_are_refused(
    places: Path, dataset: tuple[IdxDataset, dict[str, bytes]]
) -> None:
    description, contents = dataset
    write(places, contents)
    images = places / "train-images-idx3-ubyte"
    images.write_bytes(contents[images.name][:-1])
    with pytest.raises(DataError, match="train-images-idx3-ubyte is truncated"):
        IdxSource(description, places).load()
    images.write_bytes(contents[images.name][:-1] + b"\x07")
    with pytest.raises(DataError, match=r"is not MNIST's \(its SHA-256 differs\)"):
        IdxSource(description, places).load()
    images.unlink()
    with pytest.raises(DataError, match="holds only a part of MNIST: train-images-idx3-ubyte missing"):
        IdxSource(description, places).prepare()


def test_without_data_or_network_one_line_says_what_to_do(places: Path) -> None:
    for description, hint in (
        (MNIST, "pass --data-dir"),
        (FASHION_MNIST, "install Debian's package dataset-fashion-mnist"),
    ):
        source = IdxSource(description)
        assert hint in str(source.available())
        with pytest.raises(DataError, match=f"{description.title} is not .*cannot be reached.*{hint}") as caught:
            source.prepare()
        assert "\n" not in str(caught.value)


def test_downloads_every_file_with_its_hash(
    places: Path, dataset: tuple[IdxDataset, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pooch

    description, contents = dataset
    asked = []

    def retrieve(url: str, known_hash: str, fname: str, path: Path, **_: Any) -> str:
        asked.append((url, known_hash))
        (path / fname).write_bytes(gzip.compress(contents[fname.removesuffix(".gz")]))
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    source = IdxSource(description)
    assert source.available() is not None
    assert source.load().pixels.shape == (9, 4)
    assert asked == [(f"{description.mirror}{file.name}.gz", f"sha256:{file.download}") for file in description.files]
    assert source.available() is None


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (ValueError("hash"), "its SHA-256 is wrong; try again"),
        (OSError(28, "No space left", "f.gz"), "f.gz: No space left"),
    ],
)
def test_failed_download_names_its_cause(
    places: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, message: str
) -> None:
    import pooch

    def retrieve(*_: Any, **__: Any) -> str:
        raise failure

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DataError, match=message):
        IdxSource(MNIST).prepare()


@pytest.mark.parametrize("description", [MNIST, FASHION_MNIST], ids=lambda description: description.folder)
def test_real_files_match_their_hashes(description: IdxDataset) -> None:
    source = IdxSource(description)
    missing = source.available()
    if missing is not None:
        pytest.skip(missing)
    images = source.load()
    assert images.pixels.shape == (70000, 784)
    assert {name: len(split) for name, split in images.splits.items()} == {"train": 30000, "eval": 30000, "test": 10000}
    assert torch.equal(torch.cat(list(images.splits.values())).sort().values, torch.arange(70000))
    assert images.labels[images.splits["test"]].bincount().sum() == 10000
