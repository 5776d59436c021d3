"""What mkdocs calls: pages that are made when the site is built, and links that lead out of docs/.

Made are a page for every library rule, the gallery with what its scripts print and draw, the commands, the interface
of the package, and the measured results. ``mkdocs.yml`` names their first pages; the rest is put into its navigation.
"""

from __future__ import annotations

import re
from pathlib import Path

import api_pages
import command_pages
import gallery_pages
import result_pages
import rule_pages

MAKERS = {
    "gallery/index.md": gallery_pages,
    "rules/index.md": rule_pages,
    "commands/index.md": command_pages,
    "api/index.md": api_pages,
    "results/index.md": result_pages,
}
"""First page of a section -> what makes it: ``names()``, its further pages, and ``pages()``, path -> content."""
EQUATION = re.compile(r"<!-- equation: ([\w-]+) -->")
MOVED = {"../benchmarks/results/": "results/", "../CHANGELOG.md": "changelog.md"}
OUTSIDE = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
ROOT = Path(__file__).parents[2]


def on_config(config):
    """Put the pages that are made behind the first page of their section."""
    config["nav"] = [_expanded(item) for item in config["nav"]]
    return config


def on_files(files, config):
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    for name, maker in MAKERS.items():
        for path, content in maker.pages(Path(name).parent.as_posix()).items():
            files.append(File.generated(config, path, content=content))
    for path, source in OUTSIDE.items():
        files.append(File.generated(config, path, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown, page, config, files):
    """Equations in place, and links to files outside docs/ to their pages here."""
    markdown = EQUATION.sub(lambda match: rule_pages.equation(match[1]), markdown)
    if page.file.src_uri in OUTSIDE:
        markdown = markdown.replace("](docs/", "](").replace("](benchmarks/results/", "](results/")
        markdown = markdown.replace("](CHANGELOG.md", "](changelog.md")
    for before, after in MOVED.items():
        markdown = markdown.replace(f"]({before}", f"]({after}")
    return markdown


def _expanded(item):
    if isinstance(item, str):
        return [item, *MAKERS[item].names()] if item in MAKERS else item
    ((title, value),) = item.items()
    if isinstance(value, str) and value in MAKERS:
        folder = Path(value).parent.as_posix()
        return {title: [value, *({label: f"{folder}/{name}.md"} for label, name in MAKERS[value].names().items())]}
    return {title: [_expanded(one) for one in value]} if isinstance(value, list) else item
