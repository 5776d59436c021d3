"""Language models: the text and its splits, torch.nn as the reference, causality, learning."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from closedform import tasks
from closedform.errors import DataError
from closedform.tasks import _text
from closedform.tasks._language import LanguageOptions, LanguageTask
from closedform.tasks._network import Specs
from closedform.tasks._text import ALPHABET, MODULES, PythonSource, decode, encode, modules
from closedform.tasks._transformer import Block, Transformer, TransformerOptions


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder with a module of every name, each with text of its own."""
    for name in MODULES:
        (tmp_path / f"{name}.py").write_bytes(f"# {name}\n".encode())
    return tmp_path


def here(name: str, **options: int) -> LanguageTask:
    task = tasks.TASKS[name](**options)
    missing = task.available()
    if missing is not None:
        pytest.skip(missing)
    assert isinstance(task, LanguageTask)
    return task


def drawn(specs: Specs) -> tasks.Params:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(spec.shape, generator=generator, dtype=torch.float64) for name, spec in specs.items()}


def test_printable_text_survives_the_alphabet() -> None:
    text = "def f(x):\n    return x ** 2  # ~{}|\\`!\n"
    places = encode(text.encode())
    assert places.dtype == torch.uint8
    assert decode(places) == text
    assert ALPHABET == 97
    every = encode(bytes(range(256)))
    assert sorted(every.unique().tolist()) == list(range(97))
    assert decode(encode("a\té".encode())) == "a\ufffd\ufffd\ufffd"  # a tab, and two bytes of UTF-8


def test_modules_are_dealt_out_whole() -> None:
    dealt = [modules(split) for split in tasks.SPLITS]
    assert sorted(name for names in dealt for name in names) == sorted(set(MODULES)) == list(MODULES)
    assert [len(names) for names in dealt] == [29, 28, 14]


def test_splits_are_their_modules_in_order(library: Path) -> None:
    source = PythonSource(library)
    assert source.available() is None
    for split in tasks.SPLITS:
        assert decode(source.texts[split]) == "".join(f"# {name}\n" for name in modules(split))
    assert f"train {len(source.texts['train'])} bytes" in source.reference


def test_line_ends_of_windows_are_those_of_others(library: Path) -> None:
    (library / "argparse.py").write_bytes(b"x = 1\r\ny = 2\r\n")
    assert decode(PythonSource(library).texts["train"]).startswith("x = 1\ny = 2\n# base64\n")


def test_missing_empty_or_huge_modules_are_refused(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (library / "enum.py").write_bytes(b"")
    with pytest.raises(DataError, match=r"enum\.py is not a module of the standard library: it is empty or larger"):
        _ = PythonSource(library).texts
    (library / "enum.py").write_bytes(b"x" * 50)
    monkeypatch.setattr(_text, "_MOST", 49)
    with pytest.raises(DataError, match=r"enum\.py .* empty or larger than 49 bytes"):
        _ = PythonSource(library).texts
    (library / "enum.py").unlink()
    message = str(PythonSource(library).available())
    assert "enum.py and 0 more of 71 missing" in message
    assert "install Python with its .py files" in message
    with pytest.raises(DataError, match=r"cannot read .*enum\.py: No such file"):
        _ = PythonSource(library).texts


def test_this_pythons_library_is_read_and_named() -> None:
    task = here("gru-python")
    texts = task.text.texts
    assert all(300_000 < len(text) < 3_000_000 for text in texts.values())
    assert "import" in decode(texts["train"][:20000])
    assert f"{_text.platform.python_version()} here" in task.source


def test_windows_are_pieces_of_their_split(generator: torch.Generator) -> None:
    task = here("transformer-python", window=40, batch_size=3)
    text = decode(task.text.texts["eval"])
    (windows,) = task.batch("eval", generator)
    assert windows.shape == (3, 41)
    assert all(decode(window) in text for window in windows)
    (sample,) = task.full("eval")
    assert sample.shape == (1024, 41)
    assert decode(sample[0]) == text[:41]
    assert decode(sample[-1]) == text[-41:]
    assert torch.equal(sample, task.full("eval")[0])


@pytest.mark.parametrize("name", ["transformer-python", "gru-python"])
def test_starts_near_a_uniform_guess_and_learns(name: str, generator: torch.Generator) -> None:
    task = here(name, window=32, batch_size=16)
    leaves = {key: value.requires_grad_() for key, value in task.init(generator).items()}
    batch = task.batch("test", generator)
    assert task.metrics(leaves, batch)["loss"] == pytest.approx(math.log(ALPHABET), abs=0.2)
    adam = torch.optim.Adam(leaves.values(), lr=0.005, foreach=True)
    for _ in range(40):
        _, grads = task.loss_and_grad(leaves, task.batch("train", generator))
        for key, leaf in leaves.items():
            leaf.grad = grads[key]
        adam.step()
    metrics = task.metrics(leaves, batch)
    assert metrics["loss"] < 3.3
    assert metrics["accuracy"] > 0.25


@pytest.mark.parametrize("name", ["transformer-python", "gru-python"])
def test_no_prediction_sees_the_future(name: str, generator: torch.Generator) -> None:
    task = tasks.TASKS[name](window=10).to(dtype=torch.float64)
    assert isinstance(task, LanguageTask)
    params = task.init(generator)
    inputs = torch.randint(ALPHABET, (2, 10), generator=generator)
    changed = inputs.clone()
    changed[:, 6] = (changed[:, 6] + 1) % ALPHABET
    before, after = task._network(params, inputs), task._network(params, changed)
    assert before.shape == (2, 10, ALPHABET)
    torch.testing.assert_close(before[:, :6], after[:, :6], rtol=0, atol=0)
    assert (before[:, 6:] - after[:, 6:]).abs().amax(dim=(0, 2)).min() > 0


def test_gru_is_that_of_torch_nn(generator: torch.Generator) -> None:
    task = tasks.TASKS["gru-python"](width=6)
    assert isinstance(task, LanguageTask)
    params = drawn(task.specs)
    cell = torch.nn.GRU(6, 6, batch_first=True).double()
    names = ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")
    values = [params[name] for name in ("input.weight", "input.bias", "hidden.weight", "hidden.bias")]
    cell.load_state_dict(dict(zip(names, values, strict=True)))
    inputs = torch.randint(ALPHABET, (4, 9), generator=generator)
    expected = cell(params["character"][inputs])[0] @ params["head.weight"].T + params["head.bias"]
    torch.testing.assert_close(task._network(params, inputs), expected)


def test_transformer_block_is_that_of_torch_nn(generator: torch.Generator) -> None:
    block = Block("b", TransformerOptions(width=8, heads=2))
    params = drawn(block.specs)
    reference = torch.nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True).double()
    names = {
        "norm1": ("scale", "shift"),
        "self_attn.in_proj": ("qkv.weight", "qkv.bias"),
        "self_attn.out_proj": ("out.weight", "out.bias"),
        "norm2": ("scale", "shift"),
        "linear1": ("up.weight", "up.bias"),
        "linear2": ("down.weight", "down.bias"),
    }
    ours = dict(zip(names, ("norm1.", "", "", "norm2.", "", ""), strict=True))
    state = {}
    for theirs, parts in names.items():
        for suffix, part in zip(("weight", "bias"), parts, strict=True):
            key = f"{theirs}_{suffix}" if theirs.endswith("in_proj") else f"{theirs}.{suffix}"
            state[key] = params[f"b.{ours[theirs]}{part}"]
    reference.load_state_dict(state)
    x = torch.randn(3, 7, 8, generator=generator, dtype=torch.float64)
    mask = torch.full((7, 7), -math.inf, dtype=torch.float64).triu(1)
    torch.testing.assert_close(block(params, x, mask), reference(x, src_mask=mask, is_causal=True))


def test_sizes_are_those_of_the_formula() -> None:
    d, layers = 64, 2
    block = 12 * d * d + 13 * d
    assert tasks.TASKS["transformer-python"]().size == (97 + 64) * d + layers * block + 2 * d + 97 * (d + 1)
    assert tasks.TASKS["gru-python"]().size == 97 * d + 2 * 3 * d * (d + 1) + 97 * (d + 1)
    assert len(Transformer(TransformerOptions(layers=3)).blocks) == 3
    assert LanguageOptions().horizon == 500
