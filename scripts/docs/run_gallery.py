"""Run one script of the gallery cell by cell, and keep what each cell prints and draws: run_gallery.py SCRIPT OUT.json

A script is a notebook in the percent format: ``# %%`` begins a cell of code, ``# %% [markdown]`` one of text. Pictures
are SVG in the colours of the page that they are put into.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import tempfile
import time
import warnings
from pathlib import Path

CELL = re.compile(r"^# %%(?P<kind> \[markdown\])?\n", re.MULTILINE)


def cells(text: str) -> list[tuple[bool, str]]:
    """Whether a cell is code, and its content."""
    starts = [*CELL.finditer(text)]
    ends = [match.start() for match in starts[1:]] + [len(text)]
    found = []
    for match, end in zip(starts, ends, strict=True):
        body = text[match.end() : end].strip("\n")
        found.append((True, body) if match["kind"] is None else (False, re.sub(r"^# ?", "", body, flags=re.MULTILINE)))
    return found


def run(script: Path) -> dict[str, object]:
    """The script's cells with what they printed and drew, and the seconds that all took."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import torch

    from closedform.report import STYLE, to_svg

    torch.set_num_threads(1)
    plt.show = lambda: None
    names: dict[str, object] = {"__name__": "__main__"}
    done, begin = [], time.perf_counter()
    with (
        warnings.catch_warnings(),
        matplotlib.rc_context(STYLE | {"figure.figsize": (8, 3.6), "figure.constrained_layout.use": True}),
    ):
        warnings.simplefilter("ignore")
        for index, (code, body) in enumerate(cells(script.read_text(encoding="utf-8"))):
            printed, pictures = io.StringIO(), []
            if code:
                with contextlib.redirect_stdout(printed):
                    exec(compile(body, f"{script.name}, cell {index}", "exec"), names)  # noqa: S102  (our own script)
                pictures = [
                    to_svg(plt.figure(k), f"cell{index}-{k}", _described(plt.figure(k))) for k in plt.get_fignums()
                ]
                plt.close("all")
            done.append({"code": code, "text": body, "printed": printed.getvalue(), "pictures": pictures})
    return {"cells": done, "seconds": time.perf_counter() - begin}


def _described(figure) -> str:
    axes = figure.axes[0]
    series = ", ".join(label for label in axes.get_legend_handles_labels()[1] if not label.startswith("_"))
    return f"{axes.get_ylabel() or 'value'} against {axes.get_xlabel() or 'index'}" + (f": {series}" if series else "")


if __name__ == "__main__":
    source, target = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        outcome = run(source)
    target.write_text(json.dumps(outcome), encoding="utf-8")
