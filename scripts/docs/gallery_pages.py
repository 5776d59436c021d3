"""The gallery as pages: each script's text, code, and what the code printed and drew.

A script takes seconds to run, so what came of it is kept in build/gallery, under the hash of the script and of the
package's sources: it is never older than they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from markup import figure
from run_gallery import cells

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "gallery").glob("*.py"))
KEPT = ROOT / "build" / "gallery"
LIMIT = 250
"""Seconds that a script may take."""


def names() -> dict[str, str]:
    """Scripts by title."""
    return {title(script): slug(script) for script in SCRIPTS}


def pages(folder: str) -> dict[str, str]:
    """The overview and the scripts."""
    return {f"{folder}/index.md": overview()} | {f"{folder}/{slug(script)}.md": page(script) for script in SCRIPTS}


def slug(script: Path) -> str:
    """The page's name: the script's, without the number that orders it."""
    return re.sub(r"^\d+_", "", script.stem).replace("_", "-")


def title(script: Path) -> str:
    """The first heading."""
    return _opening(script)[0].lstrip("# ")


def _opening(script: Path) -> list[str]:
    return cells(script.read_text(encoding="utf-8"))[0][1].split("\n\n")


def overview() -> str:
    """What there is."""
    listed = "\n".join(
        f"- **[{title(script)}]({slug(script)}.md)**. {' '.join(_opening(script)[1].split())}" for script in SCRIPTS
    )
    return f"""# Gallery

Six stories from beginning to end, each a script of fewer than 80 lines. The tests run them; what is shown is what they
printed and drew when this site was built.

{listed}

To run one: `python gallery/{SCRIPTS[0].name}`, in a checkout with the package installed. Editors open the files as
notebooks, cell by cell.
"""


def page(script: Path) -> str:
    """One script's page."""
    found = outcome(script)
    parts = []
    for one in found["cells"]:
        parts.append(f"```python\n{one['text']}\n```" if one["code"] else one["text"])
        if one["printed"].strip():
            parts.append(f"``` {{ .text .printed }}\n{one['printed'].rstrip()}\n```")
        parts += [figure(svg, "") for svg in one["pictures"]]
    parts.append(f"*`gallery/{script.name}`, run in {found['seconds']:.0f} seconds on one core.*")
    return "\n\n".join(parts)


@cache
def outcome(script: Path) -> dict:
    """What came of a script; run if it was not, since it or the package changed."""
    kept = KEPT / f"{script.stem}-{_sources(script)}.json"
    if not kept.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        half = kept.with_suffix(f".{os.getpid()}.tmp")
        runner = Path(__file__).with_name("run_gallery.py")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT / "src")])}
        subprocess.run([sys.executable, runner, script, half], env=environment, timeout=LIMIT, check=True)
        for old in KEPT.glob(f"{script.stem}-*.json"):
            old.unlink()
        half.rename(kept)
    return json.loads(kept.read_text(encoding="utf-8"))


def _sources(script: Path) -> str:
    package = sorted(path for path in (ROOT / "src").rglob("*") if path.is_file() and path.suffix != ".pyc")
    files = [script, Path(__file__).with_name("run_gallery.py"), *package]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
