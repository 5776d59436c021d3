"""``closedform explain``, ``compare`` and ``identify``, as they are typed."""

import json
from pathlib import Path

from typer.testing import CliRunner

import closedform as cf
from closedform.cli import app


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, result.output
    return result.output


def test_explain_tells_how_far_back_it_looks() -> None:
    told = run("explain", "momentum")
    assert "how far back" in told
    assert "averages over 19 gradients" in told
    found = json.loads(run("explain", "adam", "--json"))
    assert [curve["input"] for curve in found["perception"]["curves"]] == ["gradient", "m", "v"]
    assert found["portrait"]["settled"]["adaptation"] < -0.99


def test_explain_reads_a_network() -> None:
    found = json.loads(run("explain", "rp-s", "--json"))
    assert (found["complexity"], found["certificates"], found["equations"]) == (None, None, [])
    assert found["portrait"]["spectrum"]["drift"] > 0
    assert "m_tilde" in run("explain", "rp-s")


def test_compare_writes_a_page(tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert "looks back" in run("compare", "sgd", "momentum", "--out", str(out))
    assert "side by side" in out.read_text(encoding="utf-8")


def test_identify_names_the_optimizer(tmp_path: Path) -> None:
    path = cf.record("momentum", "mlp-digits", steps=40, episodes=2, coordinates=12).save(tmp_path / "seen.safetensors")
    assert run("identify", str(path)).startswith("exact: momentum with lr 0.01")
    found = json.loads(run("identify", str(path), "--rule", "sgd", "--rule", "momentum", "--json"))
    assert found["verdict"] == "exact"


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    for words in (("compare", "adamm"), ("identify", str(tmp_path / "none")), ("explain", "adamm")):
        result = CliRunner().invoke(app, list(words))
        assert (result.exit_code, "Traceback" in result.output) == (2, False)
