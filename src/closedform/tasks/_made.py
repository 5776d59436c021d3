"""Tasks from what people have: arrays, a module and its loader, folders of images or data sets."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from closedform._options import check_count, check_seed, check_share
from closedform.errors import DataError, OptionError
from closedform.tasks._module import Loss, ModuleTask

Model: TypeAlias = nn.Module | Callable[[], nn.Module]
MOST_BYTES = 4 * 2**30
"""Of data that a task keeps in memory."""
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
"""Files that `from_image_folder` reads."""


def from_arrays(
    inputs: Any,
    targets: Any,
    model: Model,
    loss: Loss | None = None,
    *,
    name: str = "arrays",
    batch_size: int = 32,
    horizon: int = 100,
    test_share: float = 0.2,
    seed: int = 0,
    fresh: bool = True,
) -> ModuleTask:
    """A task of arrays and a module.

        task = tasks.from_arrays(X, y, nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)))

    Args:
        inputs: [N, ...], numpy or torch; float64 becomes float32.
        targets: [N, ...].
        model: A module, or a function that makes one. Of a module every episode draws the weights anew, where its
            layers know how (``reset_parameters``); see ``fresh``.
        loss: Of the module's output on a minibatch and its targets. By default cross-entropy where targets are whole
            numbers, and the mean squared error where they are not.
        name: The task's name.
        batch_size: Rows a minibatch.
        horizon: Steps an episode.
        test_share: Share of the rows that is held out; of the others half are for meta-training, half for comparing.
        seed: Draws which rows.
        fresh: False: every episode starts at the module's own weights, as fine-tuning does.

    Raises:
        DataError: too few rows, lengths that differ, numbers that are not finite.
        OptionError: an option makes no sense, or the module does not work under ``torch.func.vmap``.
    """
    x, y = _tensor(inputs, "inputs"), _tensor(targets, "targets")
    if len(x) != len(y):
        raise DataError(f"{len(x)} inputs and {len(y)} targets: give one target for each input")
    chosen = loss or (functional.mse_loss if y.is_floating_point() else functional.cross_entropy)
    data = _split(x, y if y.is_floating_point() else y.long(), test_share, seed)
    made = _maker(model, fresh)
    if loss is None and y.is_floating_point():
        _check_shapes(made, data["train"])
    return ModuleTask(
        name, made, data, loss=chosen, batch_size=batch_size, horizon=horizon, source="arrays and a torch module"
    )


def from_module(
    model: Model,
    loader: Iterable[Any],
    loss: Loss | None = None,
    *,
    name: str = "module",
    keys: Sequence[str] | None = None,
    batch_size: int | None = None,
    **options: Any,
) -> ModuleTask:
    """A task of a module and its data loader, which is gone through once.

        task = tasks.from_module(model, DataLoader(dataset, batch_size=64), nn.functional.cross_entropy)

    Its data are kept in memory. Normalisation uses the minibatch's own statistics, dropout draws for each optimizee.

    Args:
        model, loss, name: As for `from_arrays`.
        loader: Anything that yields batches: (inputs, targets), or mappings.
        keys: Of mappings, the names of inputs and targets; by default the first two, or those that are named like it.
        batch_size: Rows a minibatch; by default as the loader's first batch.
        options: As for `from_arrays`.

    Raises:
        DataError: the loader yields nothing, something else, or more than 4 GiB.
        OptionError: as for `from_arrays`.
    """
    inputs, targets, size = [], [], 0
    for batch in loader:
        x, y = _pair(batch, keys)
        inputs.append(x)
        targets.append(y)
        size += x.numel() * x.element_size() + y.numel() * y.element_size()
        if size > MOST_BYTES:
            raise DataError(f"the loader holds more than {MOST_BYTES} bytes: give a part of the data set")
    if not inputs:
        raise DataError("the loader is empty, or was gone through before: give a DataLoader, not an iterator of it")
    try:
        x, y = torch.cat(inputs), torch.cat(targets)
    except RuntimeError as error:
        raise DataError(f"the loader's batches do not fit together: {str(error).splitlines()[0]}") from None
    return from_arrays(x, y, model, loss, name=name, batch_size=batch_size or len(inputs[0]), **options)


def from_image_folder(
    folder: str | Path, model: Model, *, size: int = 32, channels: int = 3, name: str | None = None, **options: Any
) -> ModuleTask:
    """A task of images in folders, one a class: ``folder/cat/1.png``, ``folder/dog/2.png``.

    Args:
        folder: The folder; classes are its sub-folders, in order of their names.
        model: As for `from_arrays`; its inputs are [N, channels, size, size], from -1 to 1.
        size: Pixels of a side; images are cut to squares about their middle and scaled.
        channels: 1 for grey, 3 for colours.
        name: The task's name; the folder's by default.
        options: As for `from_arrays`.

    Raises:
        DataError: the folder is missing, has fewer than two classes, or holds an image that cannot be read.
        OptionError: as for `from_arrays`, or Pillow is not installed.
    """
    check_count("size", size, 1, 4096)
    if channels not in (1, 3):
        raise OptionError(f"channels must be 1 or 3, not {channels!r}")
    root = Path(folder)
    classes = sorted(entry for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
    if len(classes) < 2:
        raise DataError(f"{root} must hold a folder for each class, two or more: {root}/CLASS/IMAGE.png")
    rows = [(file, k) for k, one in enumerate(classes) for file in sorted(one.rglob("*")) if _is_image(file)]
    if not rows:
        raise DataError(f"{root} holds no images ({', '.join(IMAGES)})")
    if 4 * len(rows) * channels * size**2 > MOST_BYTES:
        raise DataError(f"{len(rows)} images of {size} pixels are more than {MOST_BYTES} bytes: choose a smaller size")
    pixels = np.stack([_image(file, size, channels) for file, _ in rows])
    labels = np.array([label for _, label in rows])
    return from_arrays(pixels, labels, model, name=name or root.name, **options)


def from_dataset(
    dataset: Any, model: Model, *, inputs: str, targets: str, name: str = "dataset", **options: Any
) -> ModuleTask:
    """A task of a Hugging Face data set, or the folder that ``save_to_disk`` wrote (needs the package datasets).

    Args:
        dataset: The data set, one split of it, or the path of a folder.
        model: As for `from_arrays`.
        inputs, targets: Names of columns that hold numbers; rows of one length.
        name: The task's name.
        options: As for `from_arrays`.

    Raises:
        DataError: the folder is no data set, a column is missing, or its rows differ in length.
        OptionError: as for `from_arrays`, or datasets is not installed.
    """
    found = _data_set(Path(dataset)) if isinstance(dataset, (str, Path)) else dataset
    columns = list(found.column_names)
    for column in (inputs, targets):
        if column not in columns:
            raise DataError(f"the data set has no column {column!r}; it has {', '.join(map(str, columns))}")
    try:
        table = found.with_format("numpy")
        x, y = np.asarray(table[inputs][:]), np.asarray(table[targets][:])
    except ValueError as error:
        raise DataError(f"rows of {inputs!r} or {targets!r} differ in length: {error}") from None
    return from_arrays(x, y, model, name=name, **options)


def _data_set(path: Path) -> Any:
    try:
        import datasets
    except ImportError:
        raise OptionError("from_dataset reads folders with the package datasets: pip install datasets") from None
    try:
        found = datasets.load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no folder that save_to_disk wrote: {str(error).splitlines()[0]}") from None
    if isinstance(found, datasets.DatasetDict):
        names = list(found)
        raise DataError(f"{path} holds the splits {', '.join(names)}: name one, such as {path / names[0]}")
    return found


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGES and path.is_file()


def _image(path: Path, size: int, channels: int) -> np.ndarray:
    """One image, [channels, size, size], float32 from -1 to 1."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise OptionError("images are read with Pillow: pip install pillow") from None
    try:
        with Image.open(path) as opened:
            square = ImageOps.fit(opened.convert("RGB" if channels == 3 else "L"), (size, size))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from None
    values = np.asarray(square, np.float32) / 127.5 - 1
    return values.reshape(size, size, channels).transpose(2, 0, 1)


def _tensor(values: Any, what: str) -> Tensor:
    try:
        found = values.detach().cpu() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} must be an array of numbers: {error}") from None
    if not found.dim():
        raise DataError(f"{what} must be an array with a row for each example")
    if found.is_floating_point():
        if not bool(torch.isfinite(found).all()):
            bad = int((~torch.isfinite(found)).sum())
            raise DataError(f"{what} hold {bad} numbers that are not finite: fill them in or leave their rows out")
        return found.to(torch.float32)
    return found.to(torch.float32) if what == "inputs" and found.dtype in (torch.uint8, torch.bool) else found


def _split(x: Tensor, y: Tensor, test_share: float, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    check_share("test_share", test_share)
    check_seed("seed", seed)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    held = round(test_share * len(x))
    half = (len(x) - held) // 2
    parts = {"test": order[:held], "train": order[held : held + half], "eval": order[held + half :]}
    if not all(len(rows) for rows in parts.values()):
        raise DataError(f"{len(x)} rows are too few to hold out {test_share:.0%} and halve the rest")
    return {name: (x[rows], y[rows]) for name, rows in parts.items()}


def _pair(batch: Any, keys: Sequence[str] | None) -> tuple[Tensor, Tensor]:
    if isinstance(batch, Mapping):
        names = list(keys or list(batch)[:2])
        if len(names) != 2 or any(key not in batch for key in names):
            raise DataError(f"batches have {', '.join(map(str, batch))}: say keys=(INPUTS, TARGETS)")
        batch = [batch[key] for key in names]
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise DataError("the loader must yield (inputs, targets), or mappings with keys=(INPUTS, TARGETS)")
    return _tensor(batch[0], "inputs"), _tensor(batch[1], "targets")


def _maker(model: Model, fresh: bool) -> Callable[[], nn.Module]:
    if not isinstance(model, nn.Module):
        if not fresh:
            raise OptionError("fresh=False starts at a module's own weights: give the module, not what makes it")
        return model
    kept = copy.deepcopy(model)

    def make() -> nn.Module:
        made = copy.deepcopy(kept)
        if fresh:
            for layer in made.modules():
                reset = getattr(layer, "reset_parameters", None)
                if callable(reset):
                    reset()
        return made

    return make


def _check_shapes(make: Callable[[], nn.Module], data: tuple[Tensor, Tensor]) -> None:
    """The squared error broadcasts [N, 1] against [N] silently, which is never meant."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        out = make().eval()(data[0][:2])
    if isinstance(out, Tensor) and out.shape[1:] != data[1].shape[1:]:
        raise DataError(
            f"the module gives {list(out.shape[1:])} for each row, and targets have {list(data[1].shape[1:])}: make "
            "them alike, such as y[:, None]"
        )
