"""The page for people who train runs as it is written."""

import re
import runpy
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_its_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"(<!-- not run -->\n)?```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    blocks = [text for skipped, text in found if not skipped]
    assert len(blocks) >= 6
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))
    runpy.run_path(str(script))
    assert (tmp_path / "optimizer.pt").exists()
