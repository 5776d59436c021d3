"""CIFAR's binary version: the reader on good and bad files, made by hand; archives; the real files where they are."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from closedform import tasks
from closedform.errors import DataError
from closedform.tasks._cifar import CIFAR10, CIFAR100, CifarDataset, CifarFile, CifarSource
from closedform.tasks._data_files import Download


def make(like: CifarDataset, rows: int = 3) -> tuple[CifarDataset, dict[str, bytes]]:
    """A data set with the same files, but few records of 3 x 2 x 2 pixels; and the files."""
    generator = torch.Generator().manual_seed(0)
    contents = {}
    for number, file in enumerate(like.files):
        labels = torch.arange(rows)[:, None] + torch.tensor([7 * number + 1, number][-like.labels :])
        pixels = torch.randint(256, (rows, 12), generator=generator)
        contents[file.name] = bytes(torch.cat((labels, pixels), dim=1).flatten().tolist())
    files = tuple(CifarFile(name, rows, hashlib.sha256(body).hexdigest()) for name, body in contents.items())
    packed = pack(like.folder, contents)
    archive = Download(like.archive.url, hashlib.sha256(packed).hexdigest())
    made = dataclasses.replace(like, shape=(3, 2, 2), files=files, archive=archive, size=len(packed))
    return made, contents


def pack(folder: str, contents: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, body in {"readme.html": b"hello", **contents}.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
    return gzip.compress(stream.getvalue(), mtime=0)  # the same bytes whenever it is packed: their SHA-256 is held to


def write(folder: Path, contents: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in contents.items():
        (folder / name).write_bytes(body)


@pytest.mark.parametrize("like", [CIFAR10, CIFAR100], ids=lambda like: like.folder)
@pytest.mark.parametrize("place", ["asked", "asked/sub", "system", "cache"])
@pytest.mark.parametrize("packed", [False, True])
def test_reads_what_was_written(places: Path, like: CifarDataset, place: str, packed: bool) -> None:
    dataset, contents = make(like)
    folder = {"asked": "asked", "asked/sub": f"asked/{like.folder}", "system": f"system/{like.folder}"}.get(
        place, f"cache/closedform/{like.folder}"
    )
    write(places / folder, {dataset.archive.name: pack(like.folder, contents)} if packed else contents)
    source = CifarSource(dataset, places / "asked" if place.startswith("asked") else None)
    assert source.available() is None
    source.prepare()
    images = source.load()
    whole = b"".join(contents.values())
    expected = torch.tensor(list(whole), dtype=torch.uint8).view(-1, dataset.record)
    assert torch.equal(images.pixels, expected[:, like.labels :])
    assert images.pixels.shape[1] == source.pixels == 12
    assert torch.equal(images.labels, expected[:, like.labels - 1].long())  # the finer of two labels
    test = len(images.labels) - 3
    assert images.splits["test"].tolist() == [test, test + 1, test + 2]
    assert sorted(torch.cat((images.splits["train"], images.splits["eval"])).tolist()) == list(range(test))


def bad(contents: dict[str, bytes], body: bytes) -> dict[str, bytes]:
    return {**contents, "data_batch_3.bin": body}


def test_bad_files_are_refused_by_name_and_cause(places: Path) -> None:
    dataset, contents = make(CIFAR10)
    good = contents["data_batch_3.bin"]
    cases = {
        b"": r"data_batch_3.bin is truncated: 0 bytes instead of 3 records of 13; fetch it again",
        good[:-1]: r"data_batch_3.bin is truncated: 38 bytes instead of 3 records of 13",
        good + b"!": r"data_batch_3.bin has more bytes instead of 3 records of 13",
        good + bytes(2**20): r"data_batch_3.bin has more bytes instead of 3 records of 13",
        b"\x0a" + good[1:]: r"data_batch_3.bin is not CIFAR-10's: it holds the label 10 of 0 to 9",
        good[:-1] + bytes([good[-1] ^ 1]): r"data_batch_3.bin is not CIFAR-10's \(its SHA-256 differs\)",
    }
    for number, (body, message) in enumerate(cases.items()):
        write(places / str(number), bad(contents, body))
        with pytest.raises(DataError, match=message) as caught:
            CifarSource(dataset, places / str(number)).load()
        assert "\n" not in str(caught.value)


def test_bad_archives_are_refused_by_name_and_cause(places: Path) -> None:
    dataset, contents = make(CIFAR10)
    whole = pack(CIFAR10.folder, contents)
    other = bytearray(whole)
    other[-1] ^= 1
    lacking = pack(CIFAR10.folder, {name: body for name, body in contents.items() if name != "test_batch.bin"})
    wrong = pack(CIFAR10.folder, bad(contents, b"short"))
    damaged = gzip.compress(b"x" * 700)
    cases = [
        (whole[:-9], dataset, f"is truncated: {len(whole) - 9} bytes instead of {len(whole)}; fetch it again"),
        (whole + b"!", dataset, r"is not CIFAR-10's archive \(its SHA-256 differs\)"),
        (bytes(other), dataset, r"is not CIFAR-10's archive \(its SHA-256 differs\)"),
        (lacking, known(dataset, lacking), "lacks cifar-10-batches-bin/test_batch.bin; fetch it again"),
        (wrong, known(dataset, wrong), r"tar.gz, data_batch_3.bin, is truncated: 5 bytes instead of 3 records"),
        (damaged, known(dataset, damaged), "is a damaged or truncated archive"),
    ]
    for number, (body, description, message) in enumerate(cases):
        write(places / str(number), {dataset.archive.name: body})
        with pytest.raises(DataError, match=message) as caught:
            CifarSource(description, places / str(number)).load()
        assert "\n" not in str(caught.value)


def known(dataset: CifarDataset, packed: bytes) -> CifarDataset:
    """The data set as if this archive were the right one."""
    archive = dataclasses.replace(dataset.archive, sha256=hashlib.sha256(packed).hexdigest())
    return dataclasses.replace(dataset, archive=archive, size=len(packed))


def test_a_part_of_the_files_is_refused(places: Path) -> None:
    dataset, contents = make(CIFAR10)
    del contents["data_batch_2.bin"], contents["test_batch.bin"]
    write(places / "part", contents)
    with pytest.raises(
        DataError, match=r"part holds only a part of CIFAR-10: data_batch_2\.bin, test_batch\.bin missing"
    ):
        CifarSource(dataset, places / "part").prepare()


def test_files_that_cannot_be_read_are_named(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, contents = make(CIFAR10)
    write(places / "asked", contents)

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"cannot read .*data_batch_1\.bin: Permission denied"):
        CifarSource(dataset, places / "asked").load()


@pytest.mark.parametrize("name", ["conv-cifar10", "resnet18-cifar100"])
def test_without_data_or_network_one_line_says_what_to_do(places: Path, name: str) -> None:
    task = tasks.TASKS[name]()
    assert "pass --data-dir, a folder with cifar-10" in str(task.available())
    with pytest.raises(
        DataError, match=r"is not .*www\.cs\.toronto\.edu cannot be reached.*: pass --data-dir"
    ) as caught:
        task.prepare()
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="does not exist or is not a folder"):
        tasks.get(name, data_dir=places / "nowhere")


def test_downloads_the_archive_with_its_hash(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pooch

    dataset, contents = make(CIFAR10)
    asked = []

    def retrieve(url: str, known_hash: str, fname: str, path: Path, **_: Any) -> str:
        asked.append((url, known_hash))
        (path / fname).write_bytes(pack(CIFAR10.folder, contents))
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    source = CifarSource(dataset)
    assert source.available() is not None
    assert source.load().pixels.shape == (18, 12)
    assert asked == [(CIFAR10.archive.url, f"sha256:{dataset.archive.sha256}")]
    assert source.available() is None


@pytest.mark.parametrize("dataset", [CIFAR10, CIFAR100], ids=lambda dataset: dataset.folder)
def test_real_files_match_their_hashes(dataset: CifarDataset) -> None:
    source = CifarSource(dataset)
    missing = source.available()
    if missing is not None:
        pytest.skip(missing)
    images = source.load()
    assert images.pixels.shape == (60000, 3072)
    assert images.labels.bincount().tolist() == [60000 // dataset.classes] * dataset.classes
