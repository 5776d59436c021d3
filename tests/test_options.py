"""Every option of every dataclass of options: counts are whole, numbers are finite, whatever package they belong to."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import pkgutil
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import closedform
from closedform import errors, evaluation, reproduce
from closedform.distillation import DistillConfig
from closedform.meta_training import Estimator, Imitation, TruncatedBPTT
from closedform.rules import load_rule

NO_COUNTS = (1.5, True, -1, math.nan, "3")
NO_NUMBERS = (math.nan, True, "3", 10**400)
NEEDED: dict[str, dict[str, Any]] = {
    "Imitation": {"base": TruncatedBPTT(), "teacher": load_rule("adam")},
    "Baseline": {"rule": load_rule("adam")},
}
"""Fields without a default."""
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "evaluate": (lambda **options: closedform.evaluate({}, ["quadratic"], **options), ("steps", "seeds")),
    "explain": (lambda **options: closedform.explain("adam", **options), ("lags", "samples", "seed")),
    "select_closed_loop": (
        lambda **options: evaluation.select_closed_loop(None, ["quadratic"], **options),  # type: ignore[arg-type]
        ("top", "seeds", "length", "first_seed"),
    ),
    "mlp": (lambda **options: closedform.learned_optimizers.get("mlp", **options), ("width",)),
    **{name: (function, ("seeds",)) for name, function in reproduce.REPRODUCTIONS.items()},
}


def option_classes() -> Iterator[type]:
    """Dataclasses named ...Options or ...Config, baselines and estimators, wherever they are."""
    for module in pkgutil.walk_packages(closedform.__path__, "closedform."):
        if module.name.endswith("__main__"):
            continue
        for name, value in sorted(vars(importlib.import_module(module.name)).items()):
            own = isinstance(value, type) and value.__module__ == module.name
            if not own or not dataclasses.is_dataclass(value) or inspect.isabstract(value):
                continue
            if name.endswith(("Options", "Config")) or name == "Baseline" or issubclass(value, Estimator):
                yield value


CLASSES = {kind.__name__: kind for kind in option_classes()}


def fields_of(kind: object) -> list[tuple[str, str]]:
    """Class and field, of fields that hold a number of that kind, or None, or several."""
    found = []
    for name, owner in CLASSES.items():
        hints = typing.get_type_hints(owner)
        for field in dataclasses.fields(owner):
            parts = {hints[field.name], *typing.get_args(hints[field.name])}
            if field.init and kind in parts:
                found.append((name, field.name))
    return found


def make(name: str, field: str, value: object) -> object:
    hint = typing.get_type_hints(CLASSES[name])[field]
    several = typing.get_origin(hint) is tuple
    return CLASSES[name](**{**NEEDED.get(name, {}), field: (value,) if several else value})


def test_the_table_is_whole() -> None:
    assert {DistillConfig.__name__, Imitation.__name__, "EvaluationOptions", "MetaTrainConfig"} <= set(CLASSES)
    assert len(CLASSES) > 20
    for name, kind in CLASSES.items():
        kind(**NEEDED.get(name, {}))


@pytest.mark.parametrize("value", NO_COUNTS, ids=repr)
@pytest.mark.parametrize(("name", "field"), fields_of(int))
def test_counts_are_whole_numbers(name: str, field: str, value: object) -> None:
    with pytest.raises(errors.ClosedFormError, match=field.rstrip("s")) as caught:
        make(name, field, value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("value", NO_NUMBERS, ids=["nan", "True", "text", "huge"])
@pytest.mark.parametrize(("name", "field"), fields_of(float))
def test_numbers_are_finite(name: str, field: str, value: object) -> None:
    with pytest.raises(errors.OptionError, match=field.rstrip("s")):
        make(name, field, value)


@pytest.mark.parametrize(("name", "field"), [pair for pair in fields_of(int) if pair[1].endswith("seed")])
def test_seeds_are_what_generators_take(name: str, field: str) -> None:
    with pytest.raises(errors.OptionError, match=field):
        make(name, field, 2**70)


@pytest.mark.parametrize("value", NO_COUNTS, ids=repr)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_counts_of_functions(name: str, value: object) -> None:
    function, options = FUNCTIONS[name]
    for option in options:
        with pytest.raises(errors.OptionError, match=f"{option} must be a whole number"):
            function(**{option: value})
