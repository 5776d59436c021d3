"""Pieces of HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Raw:
    """Text that is HTML already."""

    html: str


Cell = str | Raw


def element(name: str, content: Cell, css: str = "", **attributes: str) -> str:
    """``<name class="css" ...>content</name>``; content is escaped unless it is `Raw`."""
    given = {"class": css, **attributes} if css else attributes
    text = "".join(f' {key.replace("_", "-")}="{escape(value, quote=True)}"' for key, value in given.items())
    return f"<{name}{text}>{_inner(content)}</{name}>"


def paragraph(content: Cell, css: str = "") -> str:
    """``<p>``."""
    return element("p", content, css)


def figure(svg: str, caption: Cell) -> str:
    """A picture and what to see in it."""
    return element("figure", Raw(svg + element("figcaption", caption)))


def details(summary: str, content: str) -> str:
    """Text that opens on a click."""
    return element("details", Raw(element("summary", summary) + element("pre", element_code(content))))


def element_code(text: str) -> Raw:
    """``<code>`` with the text as it is."""
    return Raw(element("code", text))


Row = tuple[str, Sequence[Cell]]
"""A table row: its class, and its cells."""


@dataclass(frozen=True)
class Column:
    """A table's column: its heading and the class of its cells ("number" aligns right)."""

    heading: Cell
    css: str = "number"


def table(columns: Sequence[Column], rows: Iterable[Row], caption: Cell = "", css: str = "") -> str:
    """A table that scrolls on narrow screens; the first cell of a row names it; a note under it."""
    head = "".join(element("th", column.heading, column.css, scope="col") for column in columns)
    body = "".join(_row(columns, name, cells) for name, cells in rows)
    inside = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    note = paragraph(caption, "note") if caption else ""
    return element("div", Raw(element("table", Raw(inside), css)), "scroll") + note


def _row(columns: Sequence[Column], css: str, cells: Sequence[Cell]) -> str:
    first = element("th", cells[0], columns[0].css, scope="row")
    rest = [element("td", cell, column.css) for column, cell in zip(columns[1:], cells[1:], strict=True)]
    return element("tr", Raw(first + "".join(rest)), css)


def _inner(content: Cell) -> str:
    return content.html if isinstance(content, Raw) else escape(content, quote=False)
