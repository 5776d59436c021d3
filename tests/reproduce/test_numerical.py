from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from closedform.errors import DataError, OptionError, UnknownNameError
from closedform.evaluation import Summary
from closedform.learned_optimizers import PRETRAINED
from closedform.reproduce import REPRODUCTIONS, numerical
from closedform.reproduce._numerical import NumericalResult, NumericalRow


@pytest.mark.usefixtures("one_network")
def test_the_table_is_made_written_and_resumed(tmp_path: Path) -> None:
    runs: list[tuple[int, int, str]] = []
    result = numerical(out=tmp_path, progress=lambda *run: runs.append(run), quick=True)
    assert {(row.part, row.task, row.steps) for row in result.rows} == {
        ("trained", "mlp-digits", 60),
        ("unseen", "conv-digits", 10),
    }
    adam, annealed = (next(row for row in result.rows if row.optimizer == name) for name in ("Adam", "Adam, cosine"))
    assert (adam.schedule, annealed.schedule) == ("constant", "cosine")
    for baseline in (adam, annealed):
        assert baseline.loss.count == 2
        assert baseline.tuning_runs >= 3
    assert min(adam, annealed, key=lambda row: row.loss.rank).against is None
    assert (adam.against is None) + (annealed.against is None) == 1
    assert "Who ends lowest: mlp-digits (60 steps): Adam" in result.to_markdown()
    document = json.loads((tmp_path / "reproduce_numerical.json").read_text())
    assert [row["optimizer"] for row in document["rows"]] == [row.optimizer for row in result.rows]
    assert f"| mlp-digits | 60 | Adam | {adam.loss.mean:.4f} |" in (tmp_path / "reproduce_numerical.md").read_text()
    console = Console(width=300, record=True, file=io.StringIO())
    console.print(result.table())
    assert "rp-s" in console.export_text()
    before = len(runs)
    assert numerical(out=tmp_path, progress=lambda *run: runs.append(run), quick=True).rows == result.rows
    assert len(runs) == before


def row(loss: Summary, paper: dict[str, float]) -> NumericalRow:
    return NumericalRow("trained", "mlp-mnist", 620, "rp", "learned", loss, 0.1, None, 0, 8, None, paper)


def test_a_loss_is_held_against_all_of_the_papers_numbers() -> None:
    paper = {"RP": 0.12, "RP+CL+IL": 0.11}
    assert row(Summary((0.1, 0.11), 0.105, 0.1, 0.11), paper).reached is True
    assert row(Summary((0.11, 0.12), 0.115, 0.11, 0.12), paper).reached is False
    assert row(Summary((0.1, None), 0.1, None, None), paper).reached is False
    assert row(Summary((0.1,), 0.1, None, None), {}).reached is None
    assert row(Summary((0.1, None), 0.1, None, None), paper).cells[3:9] == [
        *("0.1000", "", "1/2", "+10%", "RP 0.12, RP+CL+IL 0.11", "no"),
    ]


def entry(task: str, optimizer: str, kind: str, mean: float, schedule: str) -> NumericalRow:
    loss = Summary((mean,), mean, None, None)
    return NumericalRow("unseen", task, 9, optimizer, kind, loss, None, None, 0, 8, None, {}, schedule)


def test_the_page_says_plainly_who_wins() -> None:
    rows = [
        *(entry("a", "rp", "learned", 0.2, "constant"), entry("a", "Adam", "baseline", 0.3, "constant")),
        entry("a", "Adam, cosine", "baseline", 0.1, "cosine"),
        *(entry("b", "rp", "learned", 0.5, "constant"), entry("b", "Adam", "baseline", 0.3, "constant")),
    ]
    told = NumericalResult(tuple(rows), 1, 1, 1.0, "here").winners()
    assert told == (
        "Who ends lowest: a (9 steps): Adam, cosine; b (9 steps): Adam. A network does on 0 of 2 tasks; on 1 if "
        "baselines are held to constant learning rates."
    )


@pytest.mark.usefixtures("one_network")
def test_bad_input_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "numerical" in REPRODUCTIONS
    with pytest.raises(OptionError, match="seeds"):
        numerical(0)
    with pytest.raises(UnknownNameError, match="did you mean 'rp-s'"):
        numerical(1, networks=["rp-t"])
    with pytest.raises(DataError, match="MNIST"):
        numerical(1, data_dir=tmp_path)
    monkeypatch.delitem(PRETRAINED, "rp-s")
    with pytest.raises(OptionError, match="no weights ship"):
        numerical(1)
