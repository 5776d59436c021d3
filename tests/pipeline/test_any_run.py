"""Reports on folders as commands leave them, and equations taken out of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import closedform as cf
from closedform.cli import app
from closedform.distillation import Entry, EquationHall, HallOfFame, Table, distill_table
from closedform.errors import CheckpointError, DataError
from closedform.pipeline import read_equations, read_run, write_runs_report

RUNNER = CliRunner()


def entry(nodes: int, buffers: int, error: float) -> Entry:
    """An equation of that size; its rule tells them apart."""
    states = {f"m{k}": f"0.{k + 5}*m{k} + g" for k in range(buffers)}
    rule = cf.Rule.parse(f"of-{nodes}", " - ".join([f"-{nodes}*g", *states]), state=states)
    return Entry(rule, f"-{nodes}*g", error, error, nodes, buffers, "made")


HALL = HallOfFame((entry(3, 0, 0.5), entry(5, 1, 0.2), entry(5, 2, 0.1), entry(9, 1, 0.05), entry(15, 2, 0.049)))


@pytest.fixture
def distilled(tmp_path: Path) -> Path:
    HALL.save(tmp_path / "d" / "hall_of_fame.json")
    return tmp_path / "d"


@pytest.fixture(scope="module")
def equations() -> EquationHall:
    x = np.linspace(-1, 1, 60)
    return distill_table(Table.from_columns({"x": x, "y": 2 * x + 1}, "y"), time_limit=0)


def train(folder: Path, rows: list[dict[str, float | None]], end: str = "") -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + end)
    return folder


@pytest.mark.parametrize(
    ("asked", "nodes", "buffers"),
    [(["--nodes", "5"], 5, 2), (["--nodes", "8", "--buffers", "1"], 5, 1), (["--buffers", "0"], 3, 0)],
)
def test_pick_takes_the_most_faithful_of_a_size(distilled: Path, asked: list[str], nodes: int, buffers: int) -> None:
    done = RUNNER.invoke(app, ["pick", str(distilled), *asked, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert (found["complexity"], found["state_cost"]) == (nodes, buffers)
    (expected,) = [e for e in HALL.entries if (e.complexity, e.state_cost) == (nodes, buffers)]
    assert cf.load_rule(found["rule"]) == expected.rule
    assert Path(found["rule"]) == distilled / "picked.json"


def test_every_dot_of_the_page_is_taken_by_the_command_that_it_tells(distilled: Path) -> None:
    page = write_runs_report([distilled], distilled / "report.html").read_text()
    found = re.search(r'<script type="application/json">(.*?)</script>', page)
    assert found is not None
    data = json.loads(found[1])
    assert data["command"] == f"closedform pick {distilled}"
    assert data["entries"][data["chosen"]]["nodes"] == HALL.choose().complexity
    for k, row in enumerate(data["entries"]):
        assert page.count(f'id="hall-point-{k}"') == 1
        picked = HALL.choose(max_complexity=row["nodes"], max_state_cost=row["buffers"], tolerance=0)
        assert (picked.complexity, picked.state_cost) == (row["nodes"], row["buffers"])
    assert f'id="hall-point-{len(HALL)}"' not in page


def test_pick_without_a_size_is_what_distill_chooses(distilled: Path, tmp_path: Path) -> None:
    done = RUNNER.invoke(app, ["pick", str(distilled / "hall_of_fame.json"), "--out", str(tmp_path / "mine.json")])
    assert done.exit_code == 0
    assert cf.load_rule(tmp_path / "mine.json") == HALL.choose().rule


def test_equations_of_a_table_are_picked_and_shown_but_are_no_rules(equations: EquationHall, tmp_path: Path) -> None:
    equations.save(tmp_path / "equations.json")
    done = RUNNER.invoke(app, ["pick", str(tmp_path)])
    assert done.exit_code == 0
    assert "there is no rule to write" in done.output
    assert equations.choose().equation in done.output
    assert not (tmp_path / "picked.json").exists()
    page = write_runs_report([tmp_path], tmp_path / "report.html").read_text()
    assert '<tr class="chosen">' in page
    path, again = read_equations(tmp_path / "equations.json")
    assert (path.name, again) == ("equations.json", equations)


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda folder: None, DataError, "holds no hall_of_fame.json or equations.json: name the folder"),
        (lambda folder: (folder / "hall_of_fame.json").write_text("{"), CheckpointError, "hall of fame"),
    ],
)
def test_what_is_no_hall_is_refused_in_a_line(make, error: type[Exception], said: str, tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(error, match=said) as caught:
        read_equations(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_size_that_nothing_has_is_said(distilled: Path) -> None:
    done = RUNNER.invoke(app, ["pick", str(distilled), "--nodes", "2"])
    assert done.exit_code == 2
    assert "no equation has at most 2 nodes: raise the limit" in done.output


ROWS: list[dict[str, float | None]] = [
    {"step": 1, "meta_loss": 2.0, "validation": 2.5},
    {"step": 2, "meta_loss": None},
    {"step": 3, "meta_loss": 1.0, "validation": 1.5},
]


def test_a_training_at_work_is_reported_up_to_its_last_whole_line(tmp_path: Path) -> None:
    found = read_run(train(tmp_path / "t", ROWS, end='{"step": 4, "meta_l'))
    assert found.meta_training == ROWS
    assert found.rule is None
    assert found.hall is None


def test_the_page_of_a_training_says_where_it_stands(tmp_path: Path) -> None:
    page = write_runs_report([train(tmp_path / "t", ROWS)], tmp_path / "report.html").read_text()
    assert "took 3 meta-steps" in page
    assert "went from 2.50 to 1.50 at meta-step 3" in page


def test_an_unfinished_run_says_what_is_still_to_come(tmp_path: Path) -> None:
    train(tmp_path / "meta_training", ROWS)
    (tmp_path / "stages.json").write_text('{"train": 3.5, "record": 1}')
    (tmp_path / "config.json").write_text('{"task": "mlp-digits"}')
    found = read_run(tmp_path)
    assert found.lead == "Not finished: distilling, tuning, choosing, comparing, reporting still to come."
    assert found.run is not None
    assert found.run.stages == {"meta-training": 3.5, "recording": 1.0}


def test_several_runs_share_a_page(tmp_path: Path, distilled: Path) -> None:
    runs = [train(tmp_path / "a", ROWS), train(tmp_path / "b", ROWS[:1]), distilled]
    done = RUNNER.invoke(app, ["report", *map(str, runs), "--out", str(tmp_path / "all.html")])
    assert done.exit_code == 0, done.output
    page = (tmp_path / "all.html").read_text()
    assert "<h1>3 runs</h1>" in page
    cells = [re.sub(r"<[^>]+>", " ", row).split() for row in re.findall(r"<tr>(.*?)</tr>", page, re.S)]
    assert [str(runs[0]), "3", "1.50", "–", "–", "–"] in cells
    assert [str(runs[2]), "–", "–", "5", "0.9510", "15"] in cells
    assert page.count("<svg") == 1
    assert f"validation: final loss of {runs[0]}, {runs[1]}" in page


def test_an_empty_folder_has_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds nothing to report yet"):
        read_run(tmp_path)
    done = RUNNER.invoke(app, ["report", str(tmp_path / "none")])
    assert done.exit_code == 2
    assert "is no folder" in done.output
