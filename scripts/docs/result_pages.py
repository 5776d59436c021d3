"""What was measured: the pages of benchmarks/results, as they are."""

from __future__ import annotations

from pathlib import Path

from markup import cell, table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def names() -> dict[str, str]:
    """Results by title, in the order of their files."""
    return {title(path): path.stem for path in sorted(RESULTS.glob("*.md"))}


def pages(folder: str) -> dict[str, str | bytes]:
    """The overview, the results, and their pictures."""
    rows = [
        [f"[{cell(title(path))}]({path.name})", f"`benchmarks/results/{path.name}`"]
        for path in sorted(RESULTS.glob("*.md"))
    ]
    text = f"""# Measured results

Each page says how it was made, when, and on what machine; beside each lies the same as JSON in the repository.

{table(["result", "file"], rows)}
"""
    made = {f"{folder}/{path.name}": path.read_text(encoding="utf-8") for path in sorted(RESULTS.glob("*.md"))}
    pictures = {f"{folder}/{path.name}": path.read_bytes() for path in sorted(RESULTS.glob("*.svg"))}
    return {f"{folder}/index.md": text} | made | pictures


def title(path: Path) -> str:
    """A page's heading."""
    first = next(line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    return first.lstrip("# ").strip()
