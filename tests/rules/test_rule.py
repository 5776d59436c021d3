"""Rules: file format, errors, library."""

import inspect
import json
from pathlib import Path

import pytest

from closedform.errors import RuleError, UnknownNameError
from closedform.rules import FORMAT, LATE_FORMAT, Rule, library_names, load_rule, save_rule

ADAM = json.loads(load_rule("adam").to_json())


def changed(**entries) -> str:
    document = {**ADAM, **entries}
    return json.dumps({key: value for key, value in document.items() if value is not None})


@pytest.mark.parametrize("name", library_names())
def test_library_files_round_trip_byte_for_byte(name: str, tmp_path) -> None:
    rule = load_rule(name)
    path = save_rule(rule, tmp_path / "rule.json")
    assert load_rule(path) == rule
    assert load_rule(path).to_json().encode() == path.read_bytes()
    assert rule.name == name
    assert rule.provenance["source"]
    assert rule.latex().startswith(r"\begin{aligned}")


def test_shipped_files_are_in_canonical_form() -> None:
    from importlib import resources

    for entry in (resources.files("closedform.rules") / "library").iterdir():
        text = entry.read_text(encoding="utf-8")
        assert Rule.from_json(text).to_json() == text


@pytest.mark.parametrize(
    ("name", "cost"), [("sgd", 0), ("momentum", 1), ("adam", 2), ("amsgrad", 3), ("nadam", 2), ("lion", 1), ("lamb", 2)]
)
def test_state_cost_of_known_optimizers(name: str, cost: int) -> None:
    assert load_rule(name).state_cost == cost


def test_adam_in_latex() -> None:
    text = load_rule("adam").latex()
    assert r"m_{t} &= \beta_{1} \, m_{t-1} + \left(1 - \beta_{1}\right) \, g_{t}" in text
    assert r"\Delta w_{t} = -\frac{\hat{m}_{t}}{\sqrt{\hat{v}_{t}} + \epsilon}" in text
    assert r"\epsilon = 10^{-8}" in text


def test_with_constants() -> None:
    rule = load_rule("adam").with_constants(beta1=0.95)
    assert rule.constants["beta1"] == 0.95
    assert load_rule("adam").constants["beta1"] == 0.9
    with pytest.raises(RuleError, match=r'rule "adam", unknown constant "?\'?beta3'):
        load_rule("adam").with_constants(beta3=0.1)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (changed(format="closedform.rule/3"), r"format 'closedform.rule/3' cannot be read"),
        (changed(format=None), "format None"),
        (changed(name=None), 'needs a "name"'),
        (changed(update=None), '"update" is missing'),
        (changed(updates="g"), "unknown entry 'updates': did you mean 'update'"),
        (changed(update="-m_hat/(sqrt(v_hat) + beta3)"), 'rule "adam", update: unknown name "beta3"'),
        (changed(state={"m": "beta3*m", "v": "v"}), 'rule "adam", state "m": unknown name "beta3".*known: '),
        (changed(where={"m_hat": "tnh(m)", "v_hat": "v"}), 'rule "adam", where "m_hat": unknown operator'),
        (changed(constants={**ADAM["constants"], "beta1": "0.9"}), 'constant "beta1": must be a finite number'),
        (changed(constants={**ADAM["constants"], "beta1": True}), 'constant "beta1": must be a finite number'),
        (changed(constants=[1]), "constants: must be an object"),
        (changed(lr="fast"), "lr: must be a finite number"),
        (changed(update=3), "must be text"),
        (changed(provenance=3), "provenance: must be an object"),
        (changed(update="__import__('os').system('true')"), "only named operators"),
        ('{"a": NaN}', "not a finite number"),
        ('{"name": 1, "name": 2}', "appears twice"),
        ("[1]", "expected a JSON object"),
        ("{", "invalid JSON"),
        ("[" * 100_000, "invalid JSON"),
    ],
)
def test_malformed_rule_names_the_place_and_the_cause(text: str, cause: str) -> None:
    with pytest.raises(RuleError, match=cause) as caught:
        Rule.from_json(text)
    assert "\n" not in str(caught.value)


def test_bad_files(tmp_path) -> None:
    huge = tmp_path / "huge.json"
    huge.write_bytes(b" " * (10 * 2**20))
    with pytest.raises(RuleError, match="10485760 bytes; the limit is"):
        load_rule(huge)
    with pytest.raises(RuleError, match="No such file"):
        load_rule(tmp_path / "none.json")
    with pytest.raises(RuleError, match="Is a directory"):
        load_rule(tmp_path)
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RuleError, match="not UTF-8"):
        load_rule(binary)
    with pytest.raises(UnknownNameError, match="did you mean 'adam'"):
        load_rule("adamm")


@pytest.mark.parametrize(
    "entries",
    [
        {"update": "-progress*g"},
        {"update": "-g/fan_in"},
        {"update": "-row_mean(g)"},
        {"update": "-m", "state": {"m": "m + g"}, "init": {"m": "w"}},
    ],
)
def test_what_is_new_is_of_format_2(entries) -> None:
    rule = Rule.parse("new", **entries)
    text = rule.to_json()
    document = json.loads(text)
    assert document["format"] == LATE_FORMAT
    assert Rule.from_json(text) == rule
    assert Rule.from_json(text).to_json() == text
    assert rule.latex().startswith(r"\begin{aligned}")
    with pytest.raises(RuleError, match='\'closedform.rule/1\' has no .*; say "format": "closedform.rule/2"'):
        Rule.from_json(json.dumps({**document, "format": FORMAT}))


def test_own_names_of_format_1_keep_their_meaning() -> None:
    document = {"format": FORMAT, "name": "own", "update": "-T*numel", "constants": {"T": 2.0}, "where": {"numel": "g"}}
    rule = Rule.from_json(json.dumps(document))
    assert not rule.needs_total_steps
    assert json.loads(rule.to_json())["format"] == FORMAT
    with pytest.raises(RuleError, match='constants "T": this name is reserved in closedform.rule/2'):
        Rule.from_json(json.dumps({**document, "format": LATE_FORMAT}))
    plain = Rule.from_json(json.dumps({"format": LATE_FORMAT, "name": "plain", "update": "-g"}))
    assert json.loads(plain.to_json())["format"] == FORMAT


def test_format_is_stated() -> None:
    assert ADAM["format"] == FORMAT == "closedform.rule/1"


def test_a_rule_as_plain_values() -> None:
    rule = load_rule("adam")
    document = rule.to_dict()
    assert document == json.loads(rule.to_json())
    assert Rule.from_dict(document) == rule
    assert Rule.from_document(document) == rule


def test_a_rule_saves_and_loads_itself(tmp_path: Path) -> None:
    rule = load_rule("lion")
    path = rule.save(tmp_path / "mine.json")
    assert Rule.load(path) == load_rule(path) == rule
    with pytest.raises(RuleError, match="cannot read rule file"):
        Rule.load(tmp_path / "lion")


@pytest.mark.parametrize("name", library_names())
def test_a_library_rule_says_where_its_default_rate_comes_from(name: str) -> None:
    rule = load_rule(name)
    told = str(rule.provenance["lr"])
    if told.startswith("default of "):
        package, _, label = told.removeprefix("default of ").rpartition(".")
        optimizer = getattr(pytest.importorskip(package), label)
        assert inspect.signature(optimizer).parameters["lr"].default == rule.lr
    else:
        assert "not measured" in told or "results" in rule.provenance
