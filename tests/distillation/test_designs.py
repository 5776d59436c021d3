"""Whole optimizers as designs: their programs mean what they say, and fit what published code does."""

import random

import pytest
import torch

import closedform as cf
from closedform.distillation.designs._design import CHOICES, KINDS, Design
from closedform.distillation.designs._fit import Cells, fitted
from closedform.distillation.designs._search import searched
from closedform.distillation.problem import Episodes
from closedform.lang import Expr, Program, horizon_inputs, initial_memory, parse, step
from closedform.learned_optimizers import BlackBox, black_box
from closedform.rules import Rule, library_names

STEPS, COUNT = 160, 24
HATS = {"hat_m": "own", "hat_v": "own"}
EARLY = {**HATS, "floor": "early"}


def gradients(steps: int = STEPS, count: int = COUNT) -> torch.Tensor:
    """Of several sizes, with a drift and noise."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(steps, count, generator=generator, dtype=torch.float64)
    t = torch.arange(steps, dtype=torch.float64)[:, None]
    sizes = 10 ** torch.linspace(-4, 0, count, dtype=torch.float64)
    return sizes * (noise + torch.sin(t / 20 + torch.arange(count)))


def at_work(box: BlackBox) -> Cells:
    """An optimizer's updates on given gradients."""
    given = gradients()
    w = torch.linspace(-1, 1, COUNT, dtype=torch.float64)
    state, update, weights, updates = box.init_state(w), box.bind(), [], []
    for g in given:
        moved, state = update(g, w, state)
        weights.append(w)
        updates.append(moved)
        w = w + moved
    u = torch.stack(updates)
    return Cells(Episodes(given, torch.stack(weights), STEPS), u, torch.ones_like(u, dtype=torch.bool))


def interpreted(program: Program, given: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    memory = initial_memory(program, given[0])
    found: dict[str, list[torch.Tensor]] = {name: [] for name in program.outputs}
    for k, (g, w) in enumerate(zip(given, weights, strict=True)):
        t = torch.tensor(k + 1.0, dtype=torch.float64)
        outputs, memory = step(program, {"g": g, "w": w, "t": t, **horizon_inputs(t, len(given))}, memory)
        for name, value in outputs.items():
            found[name].append(value.expand_as(g))
    return {name: torch.stack(values) for name, values in found.items()}


def _of(text: str) -> Expr:
    return parse(text)


def agree(program: Program) -> bool:
    given = gradients(40, 6)
    weights = torch.linspace(-1, 1, 6, dtype=torch.float64) + torch.cumsum(given, 0) / 100
    found, exact = Episodes(given, weights, 40).run(program), interpreted(program, given, weights)
    return all(torch.allclose(found[name], exact[name], rtol=1e-9, atol=1e-15, equal_nan=True) for name in exact)


@pytest.mark.parametrize("name", library_names())
def test_episodes_run_as_the_interpreter_does(name: str) -> None:
    program = cf.load_rule(name).program
    if program.reduces or program.needs_shapes:
        with pytest.raises(KeyError):  # whole tensors are not there
            Episodes(gradients(4, 4), gradients(4, 4), 4).run(Program({}, {}, {}, {"update": _of("fan_in*g")}))
        return
    assert agree(program)


@pytest.mark.parametrize(
    "program",
    [
        Rule.parse("knot", "-a", state={"a": "0.9*a + b*g", "b": "0.5*b + tanh(a)"}).program,
        Rule.parse("power", "-s", state={"s": "where(greater(t, 3), s*square(g), g)"}).program,
        Rule.parse("lag", "-m", where={"m": "0.5*lag(m, 3) + g"}).program,
        Program({}, {"s": _of("0.9*s + g")}, {}, {"update": _of("prev(s)*g")}, {"s": _of("2*g")}),
        Rule.parse("varying", "-s", state={"s": "s*(1 - 1/t) + g/t"}).program,
    ],
    ids=lambda program: next(iter({**program.state, **program.where})),
)
def test_so_do_states_of_every_kind(program: Program) -> None:
    assert agree(program)


def test_another_constant_is_another_run() -> None:
    program = Design(below="yogi").program()
    given = gradients(40, 6)
    episodes = Episodes(given, given, 40)
    for name in program.constants:
        before = episodes.run(program)["u0"]
        assert not torch.equal(before, episodes.run(program, {name: 0.7 * program.constants[name]})["u0"]), name


def test_so_do_designs() -> None:
    walk, chance = Design(), random.Random(0)
    for _ in range(60):
        alone = [one for one in walk.neighbours() if one.sensible and not one.reads_tensor]
        walk = chance.choice(alone)
        assert agree(walk.program()), walk.changed
    for one in KINDS:
        assert one.sensible
        assert agree(one.program()), one.changed


def test_every_kind_of_every_choice_can_be_reached() -> None:
    met = {Design()}
    ahead = [Design(), *KINDS]
    for _ in range(2):
        ahead = [near for one in ahead for near in one.neighbours() if near.sensible and near not in met]
        met.update(ahead)
    for name, kinds in CHOICES.items():
        assert {getattr(one, name) for one in met} == set(kinds)


PUBLISHED = {
    "ADOPT": (Design(inside="clipped t", below="mean", late="late", floor="max"), (0.9, 0.9999)),
    "AdaBound": (Design(below="mean", **EARLY, form="bounded"), (0.9, 0.999)),
    "AdaDelta": (Design(above="x", below="deltas"), (0.9,)),
    "AdaMod": (Design(below="mean", **EARLY, form="moderated"), (0.9, 0.99, 0.9999)),
    "AdaPNM": (Design(above="pair", **HATS, below="top", floor="both"), (0.9, 0.999)),
    "AdaSmooth": (Design(above="x", below="smooth", floor="inside"), (0.5, 0.99)),
    "AdamG": (Design(inside="weighted", below="mean", **HATS, schedule="power"), (0.95, 0.999, 0.95)),
    "Adan": (Design(above="m+d", below="ahead", **HATS), (0.98, 0.92, 0.99)),
    "DiffGrad": (Design(below="mean", **HATS, floor="both", form="friction"), (0.9, 0.999)),
    "DualAdam": (Design(below="mean", **HATS, schedule="inverse"), (0.9, 0.999)),
    "Fira": (Design(below="mean", **EARLY), (0.9, 0.999)),
    "Grams": (Design(below="mean", **HATS, form="size"), (0.9, 0.999)),
    "GrokFastAdamW": (Design(x="fast from g", below="mean", **HATS, floor="max"), (0.9, 0.99, 0.98)),
    "Kate": (Design(above="x", below="sums"), ()),
    "LaProp": (Design(inside="divided", below="mean", **HATS, floor="both"), (0.9, 0.999)),
    "MADGRAD": (Design(above="x", schedule="dual"), ()),
    "MSVAG": (Design(hat_m="own", form="trusted"), (0.9,)),
    "NAdam": (Design(below="mean", hat_v="own", schedule="nadam"), (0.9, 0.999)),
    "PAdam": (Design(below="mean", **EARLY, root="free"), (0.9, 0.999)),
    "PNM": (Design(above="pair"), (0.9,)),
    "RAdam": (Design(below="mean", **EARLY, schedule="held"), (0.9, 0.999)),
    "ScheduleFreeAdamW": (Design(above="x", below="mean", hat_v="own", schedule="averaged"), (0.9, 0.999)),
    "ScheduleFreeSGD": (Design(above="x", schedule="averaged"), (0.9,)),
    "SimplifiedAdEMAMix": (Design(below="mean", hat_m="other", hat_v="own"), (0.99, 0.95)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_code_is_a_design(name: str) -> None:
    design, decays = PUBLISHED[name]
    found = fitted(design, at_work(black_box(f"pytorch_optimizer:{name}")), {}, 40)
    assert found is not None
    assert found.error < 1e-6
    constants = [value for key, value in found.constants.items() if key.startswith("d_")]
    for decay in decays:
        assert min(abs(value - decay) / (1 - decay) for value in constants) < 0.02


@pytest.mark.parametrize(("name", "design"), [("Grams", {"form": "size"}), ("LaProp", {"inside": "divided"})])
def test_the_search_comes_there_by_itself(name: str, design: dict) -> None:
    *_, found = searched(at_work(black_box(f"pytorch_optimizer:{name}")), 1e-12)
    assert found.error < 1e-9
    assert {key: found.design.changed.get(key) for key in design} == design


def test_what_is_no_design_is_not_called_one() -> None:
    network = cf.learned_optimizers.get("rp", pretrained=True)
    recording = cf.record(network, "mlp-digits", steps=60, episodes=4, coordinates=24)
    assert cf.distill(recording, time_limit=10, generations=2).choose().error > 1e-4


def test_a_distilled_design_is_a_whole_rule() -> None:
    recording = cf.record("pytorch_optimizer:NAdam", "logistic-digits", steps=120, episodes=4, coordinates=32)
    entry = cf.distill(recording, time_limit=20).choose()
    assert entry.stage == "designs"
    assert entry.error < 1e-12
    assert (entry.rule.constants["d_m"], entry.rule.constants["d_v"]) == (0.9, 0.999)
    assert entry.rule.state_cost == 2
    assert entry.rule.provenance["design"].startswith(
        "Nadam; decay of the average 0.9, decay of the second moment 0.999"
    )
    again = Rule.from_dict(entry.rule.to_dict())
    twin = cf.RuleOptimizer([mine := torch.nn.Parameter(torch.ones(3))], again)
    theirs = torch.nn.Parameter(torch.ones(3))
    reference = torch.optim.NAdam([theirs])
    for k in range(20):
        mine.grad = theirs.grad = torch.tensor([0.3, -0.01, 2.0]) * (1 + k % 3)
        twin.step()
        reference.step()
    assert torch.allclose(mine, theirs, rtol=1e-5)
