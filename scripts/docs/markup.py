"""Markdown and HTML for pages that are made."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from textwrap import indent


def cell(value: object) -> str:
    """A value as text that is safe in a cell of a table."""
    return html.escape(str(value), quote=False).replace("|", "&#124;").replace("*", "\\*").replace("_", "\\_")


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; what is code or a link stays as it is."""
    lines = [headings, ["---"] * len(headings), *[[_shown(value) for value in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: object) -> str:
    text = str(value)
    return text.replace("|", "\\|") if re.search(r"^`.*`$|\]\(|^\*\*|&lt;|\\_", text) else cell(text)


def aside(title: str, content: str) -> str:
    """What is folded away."""
    return f'??? note "{title}"\n\n{indent(content, "    ")}'


def figure(svg: str, caption: str) -> str:
    """A picture in the page: one block of HTML, which blank lines would end."""
    drawn = re.sub(r"\n\s*\n", "\n", svg)
    said = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="plot"><div class="scroll">{drawn}</div>{said}</figure>'
