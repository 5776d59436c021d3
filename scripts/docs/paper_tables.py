"""Tables of docs/paper.md: the paper's numbers beside ours, all of them read from benchmarks/results.

The commands that wrote the results put the paper's numbers beside their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from markup import cell, table

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
NETWORKS = {"dm": "DM", "rp": "RP", "rp-s": "RP_s", "rp-si": "RP_si"}
SPACES = {"states": "recurrences", "window": "window, as the paper"}


def rows(page: str, *columns: str, under: str = "") -> list[dict[str, str]]:
    """Rows of the tables of a result that have these columns; of a heading that comes again the second is "... 2".

    Args:
        page: The result's name, without ``.md``.
        columns: Headings that a table must have.
        under: The section that they are in; everywhere if empty.
    """
    found, heads, section = [], [], ""
    for line in (RESULTS / f"{page}.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            section = line.lstrip("# ")
        cells = [one.strip() for one in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            heads = []
        elif not heads:
            heads = _unique(cells)
        elif set(columns) <= set(heads) and not set(line) <= set("|-: ") and under in section:
            found.append(dict(zip(heads, cells, strict=True)))
    if not found:
        raise LookupError(f"{page} has no table with the columns {', '.join(columns)}")
    return found


def _unique(heads: Sequence[str]) -> list[str]:
    counts = [heads[: k + 1].count(head) for k, head in enumerate(heads)]
    return [head if count == 1 else f"{head} {count}" for head, count in zip(heads, counts, strict=True)]


def chosen(found: Sequence[dict[str, str]], columns: dict[str, str]) -> str:
    """A table of some columns: heading in the result -> heading here."""
    return table(list(columns.values()), [[cell(row[key]) for key in columns] for row in found])


def costs() -> str:
    """Memory of states and of meta-training, and time of a step."""
    lines = [
        [
            f"state of {cell(NETWORKS[row['network']])} and of its equation, buffers a parameter",
            _state(row),
            row["state"],
        ]
        for row in rows("reproduce_r2", "paper: distilled")
    ]
    peak = {row[""]: row["200"] for row in rows("meta_training", "200")}
    lines += [
        ["back-propagation through 200 steps, MB", peak["truncated BPTT"], peak["rule: truncated BPTT"]],
        ["forward accumulation over 200 steps, MB", "", peak["rule: forward accumulation"]],
    ]
    step = {(row["work"], row["contender"]): row["median ms"] for row in rows("optimizer_step", "work", "median ms")}
    million = "1e+06 parameters"
    lines.append(
        [
            "one step of a million parameters, ms",
            *(step[million, one] for one in ("RNNprop, LSTM 2 x 20", "rule two tanh")),
        ]
    )
    return table(["price", "network", "equation"], lines)


def _state(row: dict[str, str]) -> str:
    (found,) = {
        one["state"] for one in rows("reproduce_numerical", "optimizer", "state") if one["optimizer"] == row["network"]
    }
    return found


def sanity() -> str:
    """Recovering known optimizers."""
    found = [row | {"space": SPACES[row["space"]]} for row in rows("reproduce_sanity", "paper: R²") if row["paper: R²"]]
    columns = {"target": "target", "space": "search", "paper: R²": "paper: R²", "R²": "R²", "paper: s": "paper: s"}
    return chosen(found, columns | {"seconds": "s", "exact": "exact in", "state": "buffers"})


def r2() -> str:
    """Fidelity of distilled rules."""
    every = rows("reproduce_r2", "R² P1", "space")
    paper = {row["network"]: row["paper: P1, P2"] for row in every if row["paper: P1, P2"]}
    found = [
        row
        | {"network": NETWORKS[row["network"]], "space": SPACES[row["space"]], "paper": paper.get(row["network"], "")}
        for row in every
        if row["space"] in SPACES
    ]
    columns = {"network": "network", "space": "search", "paper": "paper: P1, P2", "R² P1": "R² P1", "R² P2": "R² P2"}
    return chosen(found, columns | {"nodes": "nodes", "state": "buffers"})


def losses() -> str:
    """Evaluation loss of networks, of their distilled rules, and of tuned baselines."""
    found = [row | {"network": NETWORKS[row["network"]]} for row in rows("reproduce_r2", "paper: distilled")]
    blank = dict.fromkeys(("paper: numerical", "paper: distilled", "distilled", "nodes"), "")
    for row in rows("reproduce_numerical", "optimizer", "95 % interval"):
        if (row["task"], row["steps"]) == ("mlp-mnist", "620") and row["optimizer"].startswith(("Adam", "Momentum")):
            loss = f"{row['loss']} [{row['95 % interval'].replace(' to ', ', ')}]"
            found.append(blank | {"network": row["optimizer"], "numerical": loss, "state": row["state"]})
    columns = {name: name for name in ("paper: numerical", "numerical", "paper: distilled", "distilled", "nodes")}
    return chosen(found, {"network": "optimizer"} | columns | {"state": "buffers"})


def fields() -> str:
    """Perception fields and mapping complexities."""
    found = rows("reproduce_interpretability", "MC", "state cost", "numerical")
    columns = {"model": "model", "paper": "paper: TPF", "TPF by feature": "TPF by feature"}
    columns |= {"last 20 steps": "in the last 20 steps", "paper 2": "paper: MC", "MC": "MC", "state cost": "buffers"}
    return chosen(found, columns)


def findings() -> str:
    """The section's findings as statements."""
    found = rows("reproduce_interpretability", "finding", "verdict")
    columns = {
        name: name for name in ("finding", "said to be larger", "paper's ratio", "ratio", "95 % interval", "verdict")
    }
    return chosen(found, columns)


def scale() -> str:
    """What was asked of a rule on ten tasks that nothing was learned on."""
    return chosen(rows("reproduce_unseen", "asked", "found"), {name: name for name in ("asked", "found", "reached")})


def resnet() -> str:
    """ResNet-18 on a GPU."""
    found = rows("gpu_training", "entrant", "test accuracy", under="ResNet-18")
    for row in found:
        row["entrant"] = "`cf1`" if row["entrant"] == "rule" else row["entrant"]
    return chosen(found, {name: name for name in ("entrant", "lr", "test loss", "test accuracy", "train loss")})


TABLES = {
    "paper-costs": costs,
    "paper-sanity": sanity,
    "paper-r2": r2,
    "paper-losses": losses,
    "paper-fields": fields,
    "paper-findings": findings,
    "paper-scale": scale,
    "paper-resnet": resnet,
}
"""Name in docs/paper.md -> what writes it."""
