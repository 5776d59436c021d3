"""The whole pipeline on small options: all files, the report, resuming, and refusing to overwrite."""

import dataclasses
import html
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from closedform import pipeline
from closedform.analysis import certify
from closedform.errors import CheckpointError, OptionError
from closedform.learned_optimizers import load_learned_optimizer
from closedform.rules import load_rule

pytestmark = pytest.mark.xdist_group("one run")  # of the whole pipeline, made once by one process

FILES = (
    "config.json",
    "stages.json",
    "trajectories.safetensors",
    "hall_of_fame.json",
    "rule.json",
    "rule_distilled.json",
    "rule_scheduled.json",
    "rule_tuned.json",
    "choice.json",
)


class Heard(pipeline.Silent):
    def __init__(self) -> None:
        self.stages: list[str] = []
        self.results: list[str] = []

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def result(self, text: str) -> None:
        self.results.append(text)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    heard = Heard()
    return out, pipeline.run(pipeline.preset("smoke"), out, listener=heard), heard


@pytest.mark.slow
def test_everything_is_there(finished) -> None:
    out, result, heard = finished
    assert heard.stages == list(pipeline.STAGES)
    for name in FILES:
        assert (out / name).is_file()
    assert result.report.stat().st_size > 50_000
    assert load_rule(out / "rule_tuned.json") == result.tuned
    assert {entry.name for entry in result.evaluation.entries} == {
        "rp-si",
        "distilled rule",
        "scheduled rule",
        "tuned rule",
        "sgd",
        "adam",
    }
    assert any("R^2" in line for line in heard.results)
    handed = load_rule(out / "rule.json")
    assert handed == result.rule
    assert handed == {"distilled rule": result.distilled, "tuned rule": result.tuned}.get(result.form, handed)
    assert handed.provenance["chosen"]["form"] == result.form
    assert handed.state_cost <= 4
    certificates = certify(handed)
    assert certificates.odd.value is True
    assert certificates.no_drift.value is True


@pytest.mark.slow
def test_the_report_begins_with_what_is_handed_over(finished) -> None:
    _, result, _ = finished
    first = re.search(r"</h1>\s*<p>(.*?)</p>", result.report.read_text(encoding="utf-8"))
    assert first is not None
    assert html.unescape(first[1]) == result.lead
    assert "nothing was found that beats tuned" in result.lead  # 20 meta-steps teach nothing
    assert "did not beat" in result.lead


@pytest.mark.slow
def test_the_network_is_told_the_progress(finished) -> None:
    out, _, _ = finished
    assert load_learned_optimizer(out / "meta_training" / "model.safetensors").needs_total_steps


@pytest.mark.slow
def test_resuming_a_finished_run_only_reports(finished) -> None:
    out, result, _ = finished
    heard = Heard()
    again = pipeline.run(pipeline.preset("smoke"), out, resume=True, listener=heard)
    assert heard.stages == ["report"]
    assert again.tuned == result.tuned


@pytest.mark.slow
def test_a_run_is_not_overwritten_by_mistake(finished) -> None:
    out, _, _ = finished
    with pytest.raises(OptionError, match="--resume"):
        pipeline.run(pipeline.preset("smoke"), out)
    other = dataclasses.replace(pipeline.preset("smoke"), unroll=7)
    with pytest.raises(CheckpointError, match=r"other options \(unroll\)"):
        pipeline.run(other, out, resume=True)


@pytest.mark.slow
def test_killed_runs_resume_to_the_same_rule(finished, tmp_path: Path) -> None:
    _, result, _ = finished
    command = [sys.executable, "-m", "closedform", "run", "--preset", "smoke", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    checkpoint = tmp_path / "run" / "meta_training" / "checkpoint.safetensors"
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not checkpoint.exists() and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert checkpoint.exists()
    done = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert load_rule(tmp_path / "run" / "rule_distilled.json") == result.distilled
    assert load_rule(tmp_path / "run" / "rule_tuned.json").constants == result.tuned.constants
