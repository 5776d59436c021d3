"""Docstrings as Markdown, for mkdocstrings: examples as code, tables drawn with signs as they are drawn."""

from __future__ import annotations

import re

import griffe

EXAMPLE = re.compile(r"^(\s*)Example:$", re.MULTILINE)
DRAWN = re.compile(r"^(={3,}(?: +={3,})+)\n(?:.*\n)*?\1\n(?:.*\n)*?\1$", re.MULTILINE)
"""A table between lines of "=", with one below its headings."""


class Docstrings(griffe.Extension):
    """Changes docstrings as they are collected."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring:
            text = EXAMPLE.sub(r"\1Examples:", obj.docstring.value)
            obj.docstring.value = DRAWN.sub(lambda match: f"```text\n{match[0]}\n```", text)
