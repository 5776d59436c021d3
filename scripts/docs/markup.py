"""Markdown and HTML for pages that are made."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from textwrap import indent


def cell(value: object) -> str:
    """Text that is safe in a cell of a table; what is between backticks stays code."""
    parts = re.split(r"`+([^`]+)`+", str(value))
    return "".join(f"`{part}`".replace("|", "\\|") if k % 2 else _plain(part) for k, part in enumerate(parts))


def _plain(text: str) -> str:
    return re.sub(r"([*_|\[\]])", r"\\\1", html.escape(text, quote=False))


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; cells are Markdown, so what is not ours goes through `cell` first."""
    lines = [headings, ["---"] * len(headings), *[[str(value) for value in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def aside(title: str, content: str) -> str:
    """What is folded away."""
    return f'??? note "{title}"\n\n{indent(content, "    ")}'


def figure(svg: str, caption: str) -> str:
    """A picture in the page: one block of HTML, which blank lines would end."""
    drawn = re.sub(r"\n\s*\n", "\n", svg)
    said = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="plot"><div class="scroll">{drawn}</div>{said}</figure>'
