from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from closedform.errors import OptionError
from closedform.meta_training import Imitation, TruncatedBPTT
from closedform.reproduce import REPRODUCTIONS, InterpretabilityResult, Statement
from closedform.reproduce._interpretability import interpretability
from closedform.reproduce._interpretability_measures import GRADIENT, Field, Measured, _field, _read
from closedform.reproduce._interpretability_models import MODELS
from closedform.reproduce._interpretability_plan import quick_plan
from closedform.reproduce._interpretability_statements import FAILS, HOLDS, UNDECIDED, spread, statements

INPUTS = {"dm": ("log_g", "sign_g"), "rp": ("m_tilde", "g_tilde"), "rp-s": ("m_tilde", "g_tilde")}


def network(name: str, seed: int, field: float | None, mc: int) -> Measured:
    """Made up: all perception fields are one number."""
    inputs = INPUTS.get(MODELS[name].network, ("m_tilde", "g_tilde", "n_tilde"))
    return Measured(
        model=name,
        seed=seed,
        first_validation=2.3,
        validation=0.2,
        best_step=3,
        fields={key: Field(field, 0.1 if field else 1.0, field) for key in (GRADIENT, *inputs)},
        mc=mc,
        mc_state_cost=2,
        mc_r2=0.95,
        mc_equation="-m_tilde",
        best_r2=0.955,
        numerical=(0.2, 0.3),
        distilled=(0.25, None),
        rule="-m_tilde",
        rule_r2=0.95,
        seconds=(1.0, 1.5, 0.5),
    )


def of_paper(seed: int, sign: float = 1.0) -> list[Measured]:
    """Networks with the paper's numbers, or with their inverses; a little noise by seed."""
    noise = 1 + 0.01 * seed
    return [
        network(name, seed, (model.tpf[0] * noise) ** sign, round(1e4 * (model.mc / 1e3) ** sign))
        for name, model in MODELS.items()
    ]


def test_the_papers_own_numbers_pass_and_their_inverses_fail() -> None:
    held = statements([one for seed in range(3) for one in of_paper(seed)])
    assert {said.verdict for said in held} == {HOLDS}
    assert {said.agreeing for said in held} == {3}
    failed = statements([one for seed in range(3) for one in of_paper(seed, -1.0)])
    assert {said.verdict for said in failed} == {FAILS}
    assert {said.agreeing for said in failed} == {0}


def test_a_mixed_outcome_or_one_seed_decides_nothing() -> None:
    mixed = statements([*of_paper(0), *of_paper(1, -1.0), *of_paper(2)])
    assert {said.verdict for said in mixed} == {UNDECIDED}
    single = statements(of_paper(0))
    assert {said.verdict for said in single} == {UNDECIDED}
    assert all(said.mean is not None and said.mean > 1 and said.low is None for said in single)


def test_a_field_without_an_end_is_no_number() -> None:
    found = [
        network("DM", seed, None, 9) if one.model == "DM" and seed == 1 else one
        for seed in range(3)
        for one in of_paper(seed)
    ]
    said = next(one for one in statements(found) if one.larger == "DM" and one.smaller == "RP")
    assert said.ratios[1] is None
    assert said.verdict == UNDECIDED
    assert said.mean is None


def test_the_interval_is_students() -> None:
    mean, low, high = spread([math.e, math.e**2, math.e**3])
    assert mean == pytest.approx(math.e**2)
    half = 4.302652729911275 / math.sqrt(3)  # t, 0.975, two degrees of freedom; deviation 1
    assert (math.log(low or 0), math.log(high or 0)) == pytest.approx((2 - half, 2 + half))
    assert spread([2.0, None]) == (None, None, None)


def test_ratios_of_the_paper() -> None:
    def ratio(quantity: str, larger: str, smaller: str) -> float | None:
        return next(
            said.paper
            for said in statements(of_paper(0))
            if (said.quantity, said.larger, said.smaller) == (quantity, larger, smaller)
        )

    assert ratio("MC", "RP_s", "RP_si") == pytest.approx(80.3 / 67.0)
    assert ratio("TPF of the features", "RP_s", "RP_si") == pytest.approx(math.sqrt(5.5 * 2.2 / (4.6 * 2.0)))
    assert ratio("TPF of the features", "DM", "RP") == pytest.approx(25.2 / math.sqrt(5.3 * 2.4))
    assert ratio("TPF of the gradient", "DM", "RP") is None


def test_the_near_field_is_that_of_the_last_steps() -> None:
    from closedform.analysis import PerceptionCurve

    found = _field(PerceptionCurve("g", tuple(0.9**lag for lag in range(100)), 10.0, 0.0))
    assert found.tpf == 10
    assert found.near == pytest.approx(10 - 20 * 0.9**20 / (1 - 0.9**20))  # of a geometric series cut after 20
    assert _field(PerceptionCurve("g", (0.0, 0.0), math.nan, 0.0)) == Field(None, 0.0, None)


def test_what_is_the_same_of_all_six_and_what_is_not() -> None:
    training = quick_plan().training
    plain, alone = training.of(MODELS["RP"], 3)
    taught, both = training.of(MODELS["RP+CL+IL"], 3)
    assert isinstance(alone, TruncatedBPTT)
    assert isinstance(both, Imitation)
    assert both.base == alone
    assert taught.curriculum
    assert not plain.curriculum
    assert replace(taught, curriculum=(), curriculum_patience=plain.curriculum_patience) == plain
    assert plain.seed == 3


def test_the_document_says_what_was_found() -> None:
    found = [one for seed in range(3) for one in of_paper(seed)]
    result = InterpretabilityResult.of(found, replace(quick_plan(), seeds=3), "here")
    page, document = result.to_markdown(), json.loads(result.to_json())
    assert "| RP_si | m_tilde 4.65, g_tilde 4.65, n_tilde 4.65 |" in page
    assert "0.25 ± 0 | 0.23 ± 0.13 | 0.25 ± 0 (3 of 6 diverged) | 0.33 ± 0.26 |" in page
    assert "20 holds" in page
    assert {said["verdict"] for said in document["statements"]} == {"holds"}
    assert result.seconds == 54
    assert _read(document["networks"][0]) == found[0]
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(result.table())
    assert "curriculum and imitation lengthen it" in console.export_text()


def test_verdicts_by_interval() -> None:
    said = Statement("f", "q", "DM", "RP", None, (2.0, 3.0), 2.4, 1.5, 4.0)
    assert said.verdict == HOLDS
    assert replace(said, low=0.9).verdict == UNDECIDED
    assert replace(said, low=0.1, high=0.9).verdict == FAILS


@pytest.mark.slow
def test_the_networks_are_trained_measured_and_kept(tmp_path: Path) -> None:
    assert REPRODUCTIONS["interpretability"] is interpretability
    parts: list[tuple[int, int, str]] = []
    result = interpretability(out=tmp_path, progress=lambda *part: parts.append(part), quick=True)
    assert parts[0] == (0, 12, "DM, seed 0")
    assert len(parts) == len(result.networks) == 12
    assert all(one.mc >= 1 and len(one.numerical) == 2 for one in result.networks)
    own = {one.model: set(one.fields) for one in result.networks}
    assert own["DM"] == {GRADIENT, "log_g", "sign_g"}
    assert own["RP_si"] == {GRADIENT, "m_tilde", "g_tilde", "n_tilde"}
    before = (tmp_path / "reproduce_interpretability.json").read_text()
    again = interpretability(out=tmp_path, quick=True)
    assert again.networks == result.networks
    assert json.loads((tmp_path / "reproduce_interpretability.json").read_text()) == json.loads(before)
    kept = tmp_path / "interpretability"
    (kept / "RP" / "1" / "measured.json").unlink()
    resumed = interpretability(out=tmp_path, quick=True)
    assert [one.fields for one in resumed.networks] == [one.fields for one in result.networks]
    assert [one.distilled for one in resumed.networks] == [one.distilled for one in result.networks]
    (kept / "plan.json").write_text("{}")
    with pytest.raises(OptionError, match="other options"):
        interpretability(out=tmp_path, quick=True)
