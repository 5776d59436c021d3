"""Exported files are written to a folder and imported from there, as a user would."""

import importlib.util
import itertools
from collections.abc import Callable
from types import ModuleType

import pytest

Load = Callable[[str], ModuleType]


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Imports the text of an exported Python file."""
    folder, numbers = tmp_path_factory.mktemp("exported"), itertools.count()

    def load(text: str) -> ModuleType:
        path = folder / f"exported_{next(numbers)}.py"
        path.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
