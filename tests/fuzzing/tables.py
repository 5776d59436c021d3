"""Tables and data sets: csv, npy, parquet, IDX, CIFAR."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np

from closedform.distillation import Table, load_table
from closedform.tasks._cifar import CIFAR10, CIFAR100, CifarFile, read_records
from closedform.tasks._idx import read_idx
from fuzzing.documents import sure
from fuzzing.harness import Kind
from fuzzing.mutations import TEXTS, spoil_bytes, spoil_text

ROWS = 40


def check_table(table: Table) -> None:
    """A table that was accepted has one number, perhaps missing, a cell."""
    sure(table.values.ndim == 2 and table.values.shape[1] == len(table.names), "names and columns differ in number")
    sure(table.values.dtype == np.float64 and len(set(table.names)) == len(table.names), "no numbers, or a name twice")
    sure(len(table.target) == len(table.values), "a target of another length")


def csv(folder: Path) -> Kind:
    rows = [
        f"2024-01-{1 + k % 28:02d},{k},{k * k % 7}.5,{'' if k % 9 else 'nan'}{k % 9 or ''},{2 * k}" for k in range(ROWS)
    ]
    plain = "\n".join(["day,a,b,c,y", *rows]) + "\n"

    def spoil(rng: Random, data: bytes) -> bytes:
        return spoil_bytes(rng, data) if rng.random() < 0.3 else _cells(rng, data.decode()).encode("utf-8", "replace")

    seeds = [(plain.encode(), spoil), (plain.replace(",", ";").encode(), spoil)]
    return Kind(seeds, lambda path: check_table(load_table(path)), folder / "table.csv")


def _cells(rng: Random, text: str) -> str:
    if rng.random() < 0.4:
        return spoil_text(rng, text)
    lines = [line.split(",") for line in text.split("\n")]
    for _ in range(rng.choice((1, 2, 5))):
        line = rng.choice(lines)
        line[rng.randrange(len(line))] = rng.choice(
            [*TEXTS, "1e400", "-inf", "2024-02-31", "9999999999-01-01", '"', "x" * 200_000]
        )
    return "\n".join(",".join(line) for line in lines)


def npy(folder: Path) -> Kind:
    values = np.random.default_rng(0).normal(size=(ROWS, 3))
    named = np.zeros(ROWS, dtype=[("a", "f8"), ("day", "M8[D]"), ("y", "i4")])
    seeds = [(_saved(array), _spoil_npy) for array in (values, values.astype("f4"), named)]
    return Kind(seeds, lambda path: check_table(load_table(path, columns=("a", "b", "y"))), folder / "table.npy")


def _saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


SHAPES = ["(40, 3)", "(40,)", "()", "(0, 3)", "(10**9, 3)", "(4294967296, 4294967296)", "(-1, 3)", "(40, 3.0)", "40"]
TYPES = ["'<f8'", "'|O'", "'<f4'", "'<c16'", "'|b1'", "'<U4'", "'|V8'", "'<M8[D]'", "'<m8[ns]'", "'<f2'", "'>i8'", "[]"]
TYPES += ["[('a', '|O'), ('y', '<f8')]", "[('a', '<f8', (3,)), ('y', '<f8')]", "[('\\n', '<f8'), ('y', '<f8')]"]


def _spoil_npy(rng: Random, data: bytes) -> bytes:
    draw = rng.random()
    if draw < 0.3:
        return spoil_bytes(rng, data)
    length = struct.unpack("<H", data[8:10])[0]
    text = data[10 : 10 + length].decode("latin-1")
    if draw < 0.6:
        text = spoil_text(rng, text)
    else:
        order = rng.choice(("False", "True", "3"))
        text = f"{{'descr': {rng.choice(TYPES)}, 'fortran_order': {order}, 'shape': {rng.choice(SHAPES)}, }}\n"
    header = text.encode("utf-8", "replace")[:65535]
    return data[:8] + struct.pack("<H", len(header)) + header + data[10 + length :]


def parquet(folder: Path) -> Kind:
    import pyarrow
    from pyarrow import parquet as files

    numbers = np.random.default_rng(0).normal(size=ROWS)
    contents = [
        {"a": numbers, "b": np.arange(ROWS), "y": numbers},
        {"a\n": numbers, "b": [f"n{k}" for k in range(ROWS)], "y": numbers},
        {"a": [[1.0, 2.0]] * ROWS, "b": [None] * ROWS, "y": numbers},
        {"a": np.arange(ROWS).astype("M8[ns]"), "b": [True] * ROWS, "y": [b"x"] * ROWS},
    ]
    seeds = []
    for content in contents[:1]:
        files.write_table(pyarrow.table(content), folder / "good.parquet")
        seeds.append(((folder / "good.parquet").read_bytes(), spoil_bytes))
    others = []
    for content in contents[1:]:
        files.write_table(pyarrow.table(content), folder / "good.parquet")
        others.append((folder / "good.parquet").read_bytes())

    def spoil(rng: Random, data: bytes) -> bytes:
        if rng.random() < 0.3:
            return rng.choice(others) if rng.random() < 0.1 else spoil_bytes(rng, rng.choice(others))
        if rng.random() < 0.5:
            end = len(data) - rng.randrange(1, 700)  # the footer, where a damage says most
            return data[:end] + spoil_bytes(rng, data[end:-8]) + data[-8:]
        return spoil_bytes(rng, data)

    return Kind([(seeds[0][0], spoil)], lambda path: check_table(load_table(path)), folder / "table.parquet")


def idx(folder: Path) -> Kind:
    plain = struct.pack(">BBBBIII", 0, 0, 8, 3, 10, 4, 4) + bytes(range(160))
    bomb = gzip.compress(struct.pack(">BBBBI", 0, 0, 8, 1, 2**26) + bytes(2**20))

    def check(path: Path) -> None:
        values, digest = read_idx(path, limit=10**6)
        sure(0 < values.numel() <= 10**6 and len(digest) == 64, "another number of numbers")

    def spoil(rng: Random, data: bytes) -> bytes:
        if rng.random() < 0.1:
            return bomb
        if rng.random() < 0.3:
            return gzip.compress(spoil_bytes(rng, plain))
        return spoil_bytes(rng, data)

    return Kind([(plain, spoil), (gzip.compress(plain), spoil)], check, folder / "train-images-idx3-ubyte")


def cifar(folder: Path) -> Kind:
    rng = np.random.default_rng(0)
    seeds, kinds = [], []
    for dataset in (CIFAR10, CIFAR100):
        body = rng.integers(0, 10, 4 * dataset.record, dtype=np.uint8).tobytes()
        kinds.append((replace(dataset), CifarFile(f"{dataset.classes}.bin", 4, hashlib.sha256(body).hexdigest())))
        seeds.append((body, spoil_bytes))

    def check(path: Path) -> None:
        dataset, file = kinds[0] if path.stem == "10" else kinds[1]
        with path.open("rb") as stream:
            records = read_records(stream, path, file, dataset)
        sure(tuple(records.shape) == (4, dataset.record), "another number of records")

    return Kind(seeds, check, [folder / "10.bin", folder / "100.bin"])
