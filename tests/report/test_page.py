from __future__ import annotations

from typing import get_args

import pytest
from markupsafe import Markup

from closedform.report._page import (
    Block,
    Box,
    Code,
    Equations,
    Figure,
    Folded,
    Heading,
    Live,
    Section,
    Table,
    TableColumn,
    Text,
    page_html,
)

MARKS = "<b> & \"quoted\" 'too'"
ESCAPED = "&lt;b&gt; &amp; &#34;quoted&#34; &#39;too&#39;"
BLOCKS: dict[type, tuple[Block, str]] = {
    Live: (Live(Markup("<i>moves</i>")), "<i>moves</i>"),
    Text: (Text(MARKS, "note"), f'<p class="note">{ESCAPED}</p>'),
    Heading: (Heading(MARKS), f"<h3>{ESCAPED}</h3>"),
    Code: (Code(f"  {MARKS}\n    b\n"), f"<pre><code>  {ESCAPED}\n    b\n</code></pre>"),
    Equations: (Equations("<math><mi>g</mi></math>"), '<div class="equation"><math><mi>g</mi></math></div>'),
    Figure: (Figure("<svg></svg>", MARKS), f"<figure><svg></svg><figcaption>{ESCAPED}</figcaption></figure>"),
    Table: (
        Table([TableColumn(MARKS, ""), TableColumn("n")], [("best", [MARKS, Markup("<i>1</i>")])], MARKS, "wide"),
        '<div class="scroll"><table class="wide"><thead><tr>'
        f'<th scope="col">{ESCAPED}</th><th class="number" scope="col">n</th></tr></thead><tbody><tr class="best">'
        f'<th scope="row">{ESCAPED}</th><td class="number"><i>1</i></td></tr></tbody></table></div>'
        f'<p class="note">{ESCAPED}</p>',
    ),
    Box: (Box(MARKS, [Text("a"), Text("b")]), f'<div class="{ESCAPED}"><p>a</p><p>b</p></div>'),
    Folded: (
        Folded(MARKS, [Box("", [Text(MARKS)])]),
        f"<details><summary>{ESCAPED}</summary><div><p>{ESCAPED}</p></div></details>",
    ),
}


@pytest.mark.parametrize("kind", get_args(Block), ids=lambda kind: kind.__name__)
def test_every_block_is_written_and_its_text_escaped(kind: type) -> None:
    block, expected = BLOCKS[kind]
    html = page_html("", [], [Section("one", "One", [block])])
    found = html.partition("<h2>One</h2>")[2].partition("</section>")[0]
    kept = "\n" if kind is Code else ""  # line breaks between tags say nothing, those of code do
    assert found.strip().replace("\n", kept) == expected


def test_title_head_and_links() -> None:
    html = page_html(MARKS, [Text("lead")], [Section("one", MARKS, []), Section("two", "Two", [])])
    assert f"<title>{ESCAPED}</title>" in html
    assert f"<h1>{ESCAPED}</h1>\n<p>lead</p>" in html
    assert f'<nav aria-label="Sections"><a href="#one">{ESCAPED}</a><a href="#two">Two</a></nav>' in html
    assert "<nav" not in page_html("", [], [])


def test_a_row_has_a_cell_a_column() -> None:
    with pytest.raises(AssertionError):
        Table([TableColumn("a"), TableColumn("b")], [("", ["1"])])
