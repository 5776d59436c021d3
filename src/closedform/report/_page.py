"""What a page is made of, as data; ``page.html.j2`` says how each piece is written as HTML.

The template escapes all text but what is HTML already, made by this package alone: pictures, equations, and cells that
are `Markup`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from markupsafe import Markup

if TYPE_CHECKING:
    from jinja2 import Template


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar = "text"
    text: str
    css: str = ""


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    kind: ClassVar = "heading"
    text: str


@dataclass(frozen=True)
class Code:
    """Text as it is, in a typewriter's letters."""

    kind: ClassVar = "code"
    text: str


@dataclass(frozen=True)
class Equations:
    """Typeset equations in a panel, from `rule_mathml`."""

    kind: ClassVar = "equations"
    mathml: str


@dataclass(frozen=True)
class Figure:
    """A picture, from `to_svg`, and what to see in it."""

    kind: ClassVar = "figure"
    svg: str
    caption: str


@dataclass(frozen=True)
class TableColumn:
    """A table's column: its heading and the class of its cells ("number" aligns right)."""

    heading: str
    css: str = "number"


Cell: TypeAlias = str | Markup
Row: TypeAlias = tuple[str, Sequence[Cell]]
"""A table row: its class, and its cells, of which the first names it."""


@dataclass(frozen=True)
class Table:
    """A table that scrolls on narrow screens, and a note under it."""

    kind: ClassVar = "table"
    columns: Sequence[TableColumn]
    rows: Sequence[Row]
    caption: str = ""
    css: str = ""

    def __post_init__(self) -> None:
        assert all(len(cells) == len(self.columns) for _, cells in self.rows)


@dataclass(frozen=True)
class Box:
    """Blocks in a panel of a class."""

    kind: ClassVar = "box"
    css: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Folded:
    """Blocks that open on a click."""

    kind: ClassVar = "folded"
    summary: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Live:
    """HTML of this package's own that moves, with its script."""

    kind: ClassVar = "live"
    html: Markup


Block: TypeAlias = Live | Text | Heading | Code | Equations | Figure | Table | Box | Folded


@dataclass(frozen=True)
class Section:
    """A part of the page: its id, its title, and what it holds."""

    name: str
    title: str
    blocks: Sequence[Block]


def page_html(title: str, head: Sequence[Block], sections: Sequence[Section]) -> str:
    """The page's text: a title, what stands under it, and sections with links to them."""
    return _template().render(title=title, head=head, sections=sections, stylesheet=stylesheet())


def stylesheet() -> str:
    """The page's CSS."""
    return resources.files("closedform.report").joinpath("report.css").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("closedform.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    ).get_template("page.html.j2")
