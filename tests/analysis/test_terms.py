"""Terms sum to the update, and their shares are what hand computation says."""

import math

import pytest
import torch

import closedform as cf
from closedform.analysis import terms_of, watch
from closedform.cli import app
from closedform.errors import OptionError
from closedform.lang import Program, horizon_inputs, initial_memory, shape_inputs, step, to_text
from closedform.report import watch_html
from closedform.rules import Rule, library_names


@pytest.mark.parametrize("name", library_names())
def test_terms_sum_to_the_update(name: str) -> None:
    rule = cf.load_rule(name)
    live, terms = rule.program.live, terms_of(rule)
    outputs = {**live.outputs, **{f"term{k}": term for k, term in enumerate(terms)}}
    program = Program(live.constants, live.state, live.where, outputs, live.init)
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(4, 6, generator=generator, dtype=torch.float64)
    memory = initial_memory(program, w)
    for t in range(1, 8):
        now = torch.tensor(float(t), dtype=torch.float64)
        g = torch.randn(4, 6, generator=generator, dtype=torch.float64)
        inputs = {"g": g, "w": w, "t": now, **horizon_inputs(now, 20), **shape_inputs(w.shape)}
        found, memory = step(program, inputs, memory)
        total = sum(found[f"term{k}"] for k in range(len(terms)))
        assert torch.allclose(total.expand_as(w), found["update"].expand_as(w), rtol=1e-9, atol=1e-12)


def test_what_is_a_term() -> None:
    def told(update: str) -> list[str]:
        return [to_text(term) for term in terms_of(Rule.parse("rule", update, state={"m": "0.9*m + g"}))]

    assert told("-(m + g)/2") == ["-m/2", "-g/2"]
    assert told("(1 - 1/t)*m") == ["(1 - 1/t)*m"]
    assert told("-m - 0.1*w") == ["-m", "-(0.1*w)"]


def test_the_share_of_weight_decay() -> None:
    rule = Rule.parse("decayed", "-g - 0.5*w", lr=0.01)
    seen = watch(rule, steps=3)
    assert seen.terms == ("-g", "-(0.5*w)")
    for shares, updates in zip(seen.shares, seen.updates, strict=True):
        for row, update in zip(shares, updates, strict=True):
            assert sum(row) == pytest.approx(1) or update == 0
    assert [sum(row) for row in seen.whole()] == pytest.approx([1.0] * 3)
    first = list(zip(seen.gradients[0], seen.weights[0], seen.updates[0], seen.shares[0], strict=True))
    for g, w, u, (of_gradient, of_decay) in first:  # |u|^2 = g^2 + gw + w^2/4, shares by hand from these
        power = (u / rule.lr) ** 2
        cross = power - g * g - w * w / 4
        assert of_gradient == pytest.approx((g * g + cross / 2) / power, rel=1e-4)
        assert of_decay == pytest.approx((w * w / 4 + cross / 2) / power, rel=1e-4, abs=1e-6)


def test_it_trains_as_the_optimizer_does() -> None:
    seen = watch("momentum", steps=30)
    assert seen.loss[-1] < seen.loss[0]
    assert (len(seen.loss), seen.diverged_at) == (30, None)


def test_what_diverges_is_kept_until_then() -> None:
    seen = watch(Rule.parse("up", "1e30*g*t"), steps=20)
    assert seen.diverged_at is not None
    assert len(seen.loss) == seen.diverged_at - 1
    assert "diverges" in watch_html(seen, Rule.parse("up", "1e30*g*t"))


def test_the_page(tmp_path) -> None:
    from typer.testing import CliRunner

    out = tmp_path / "watch.html"
    result = CliRunner().invoke(app, ["watch", "adamw", "--steps", "6", "--out", str(out)])
    assert result.exit_code == 0, result.output
    page = out.read_text(encoding="utf-8")
    assert 'type="range"' in page
    assert page.count("<script") == 2
    assert "src=" not in page
    assert len(page) < 2**20


def test_bad_options() -> None:
    with pytest.raises(OptionError, match="steps"):
        watch("sgd", steps=0)
    assert math.isfinite(watch("cf1", steps=2).loss[0])
