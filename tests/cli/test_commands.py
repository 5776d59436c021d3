"""The command line: results, JSON, and errors as one line with exit code 2."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from closedform.cli import app
from closedform.rules import Rule, load_rule, save_rule

RUNNER = CliRunner()


def invoke(*args: str):
    return RUNNER.invoke(app, [str(arg) for arg in args])


def error_of(*args: str) -> str:
    result = invoke(*args)
    assert result.exit_code == 2, result.output
    message = result.stderr.strip()
    assert message.startswith("error: "), message
    assert "\n" not in message
    assert "Traceback" not in result.output
    return message


def test_rules_and_explain() -> None:
    rows = json.loads(invoke("rules", "list", "--json").stdout)
    assert {"name": "adam", "state_cost": 2, "complexity": 40, "lr": 0.001}.items() <= next(
        row for row in rows if row["name"] == "adam"
    ).items()
    assert invoke("rules", "show", "lion").stdout == load_rule("lion").to_json()
    found = json.loads(invoke("explain", "adam", "--json").stdout)
    assert found["state_cost"] == 2
    assert found["latex"] == load_rule("adam").latex()
    assert invoke("explain", "adam", "--latex").stdout.strip() == load_rule("adam").latex()
    printed = invoke("explain", "adam").stdout
    assert "complexity 40" in printed
    assert "no drift without gradients" in printed


def test_explain_shows_the_certificates_of_the_rule_that_ships() -> None:
    found = json.loads(invoke("explain", "cf1", "--json").stdout)["certificates"]
    shown = {name: (entry["value"], entry["by"]) for name, entry in found.items()}
    assert shown["odd"] == (True, "proof")
    assert shown["no_drift"] == (True, "proof")
    assert shown["degree_g"] == (0, "proof")
    printed = invoke("explain", "cf1").stdout
    assert all(text in printed for text in ("odd in g", "degree of scale", "stands still", "proof", "check"))


def test_check(tmp_path: Path) -> None:
    path = save_rule(load_rule("lion"), tmp_path / "lion.json")
    assert invoke("rules", "check", path).exit_code == 0
    path.write_text(path.read_text().replace("beta2*m", "beta3*m"))
    assert 'rule "lion", state "m": unknown name "beta3"' in error_of("rules", "check", path)


def test_a_rule_that_is_nowhere_finite_is_explained_all_the_same(tmp_path: Path) -> None:
    path = save_rule(Rule.parse("tower", "exp(exp(9 + square(g)))"), tmp_path / "tower.json")
    assert "nowhere finite" in invoke("explain", path).stdout
    assert set(json.loads(invoke("explain", path, "--json").stdout)["gradient_response"]["y"]) == {None}


def test_tasks() -> None:
    rows = {row["name"]: row for row in json.loads(invoke("tasks", "--json").stdout)}
    assert rows["mlp-digits"]["available"]
    assert rows["mlp-digits"]["parameters"] == 1510


@pytest.mark.parametrize(
    ("args", "cause"),
    [
        (("explain", "adamm"), "did you mean 'adam'"),
        (("explain", "none/none.json"), "No such file"),
        (("train", "rp-sii"), "did you mean 'rp-si'"),
        (("train", "rp-si", "--task", "mlp-digit"), "did you mean 'mlp-digits'"),
        (("train", "rp-si", "--steps", "0"), "steps must be a whole number"),
        (("evaluate", "--task", "quadratics"), "did you mean 'quadratic'"),
        (("evaluate", "--seeds", "0"), "seeds"),
        (("run", "--preset", "defualt"), "did you mean 'default'"),
        (("run", "--optimizer", "rp-sii"), "did you mean 'rp-si'"),
        (("run", "--device", "cuda:7", "--task", "quadratic"), "cannot be used here"),
    ],
)
def test_bad_input_is_one_line(args: tuple[str, ...], cause: str, tmp_path: Path) -> None:
    out = () if args[0] == "explain" else ("--out", str(tmp_path / "out"))
    assert cause in error_of(*args, *out)


def test_missing_data_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    message = error_of("train", "--task", "mlp-mnist", "--data-dir", tmp_path / "data", "--out", tmp_path / "out")
    assert "--data-dir" in message
    assert not (tmp_path / "out").exists()


def test_unwritable_folder() -> None:
    message = error_of("train", "rp-s", "--task", "quadratic", "--steps", "1", "--out", "/proc/nothing")
    assert "cannot write" in message


def test_version_and_help() -> None:
    from closedform import __version__

    assert invoke("--version").stdout.strip() == __version__
    assert invoke("--help").exit_code == 0
    assert invoke("nonsense").exit_code == 2


def test_a_fault_of_ours_is_one_line_too(monkeypatch) -> None:
    from closedform.cli import _rules

    monkeypatch.setattr(_rules, "explain", lambda rule: 1 / 0)
    result = invoke("explain", "adam")
    assert result.exit_code == 1
    assert result.stderr.startswith("internal error: ZeroDivisionError")


def test_train_record_evaluate(tmp_path: Path) -> None:
    """The commands pass one file an arrow."""
    trained = invoke(
        "train",
        "rp-s",
        "--task",
        "quadratic",
        "--steps",
        "6",
        "--unroll",
        "5",
        "--horizon",
        "10",
        "--out",
        tmp_path / "t",
        "--json",
    )
    assert trained.exit_code == 0, trained.output
    model = json.loads(trained.stdout)["model"]
    recording = tmp_path / "trajectories.safetensors"
    sizes = ("--steps", "12", "--episodes", "4", "--samples", "100")
    recorded = invoke("record", model, "--task", "quadratic", *sizes, "--out", recording, "--json")
    assert recorded.exit_code == 0, recorded.output
    assert json.loads(recorded.stdout)["columns"] == ["m_tilde", "g_tilde"]
    short = ("--steps", "12", "--seeds", "2", "--tuning-seeds", "1", "--baselines", "sgd")
    distilled = invoke("distill", recording, "--time-limit", "0", "--out", tmp_path / "d", "--json")
    assert distilled.exit_code == 0, distilled.output
    assert load_rule(json.loads(distilled.stdout)["rule"]).state_cost >= 0
    tuned = invoke("tune", "sgd", "--task", "quadratic", "--steps", "2", "--out", tmp_path / "u", "--json")
    assert tuned.exit_code == 0, tuned.output
    compared = invoke(
        "evaluate", f"mine={model}", "adam", "--task", "quadratic", *short, "--out", tmp_path / "e", "--json"
    )
    assert compared.exit_code == 0, compared.output
    assert {entry["name"] for entry in json.loads(compared.stdout)["entries"]} == {"mine", "adam", "sgd"}
