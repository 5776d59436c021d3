"""The public names, pinned: adding one is a decision, removing one is a breaking change."""

import importlib
import re
from pathlib import Path

import pytest

import closedform
from closedform import evaluation

TOP = {
    *(
        "__version__",
        "Evaluation",
        "EvolveConfig",
        "HallOfFame",
        "LearnedOptimizer",
        "MetaTrainConfig",
        "Rule",
        "RuleOptimizer",
    ),
    *(
        "SymbolicOptimizer",
        "SymbolicRegressor",
        "Task",
        "TaskDistribution",
        "Trajectories",
        "TruncatedBPTT",
        "certify",
        "distill",
        "evaluate",
        "evolve",
        "explain",
        "load_rule",
    ),
    *(
        "meta_train",
        "meta_tune",
        "parameter_groups",
        "record",
        "save_rule",
        "share_rule",
        "suggest_lr",
        "LearningRateFinder",
        "MetaTuner",
        "RaceConfig",
        "race",
    ),
    *("analysis", "codegen", "distillation", "errors", "evaluation", "export", "features", "lang"),
    *("learned_optimizers", "meta_training", "optim", "pipeline", "report", "reproduce", "rules", "tasks"),
    *("trajectories", "unroll"),
}
NEEDED = {
    "lang": {"Program", "parse", "to_text", "step", "evaluate", "simplify", "derivative", "latex", "OPERATORS"},
    "rules": {"Rule", "load_rule", "save_rule", "library_names", "FORMAT"},
    "features": {"FEATURES", "Feature", "feature_program", "rule_from_features", "get"},
    "optim": {"RuleOptimizer", "parameter_groups"},
    "tasks": {"Task", "TASKS", "get"},
    "tasks.distribution": {"TaskDistribution", "DrawnTask", "Reparametrised", "FAMILIES"},
    "learned_optimizers": {
        "LearnedOptimizer",
        "LEARNED_OPTIMIZERS",
        "PRETRAINED",
        "SymbolicOptimizer",
        "get",
        "load_optimizer",
    },
    "meta_training": {
        "meta_train",
        "meta_tune",
        "TruncatedBPTT",
        "ESTIMATORS",
        "MetaTrainConfig",
        "evolve",
        "EvolveConfig",
        "race",
        "RaceConfig",
        "read_race",
    },
    "trajectories": {"Trajectories", "record"},
    "distillation": {
        "distill",
        "SymbolicRegressor",
        "distill_table",
        "load_table",
        "HallOfFame",
        "EquationHall",
        "BACKENDS",
        "select_closed_loop",
    },
    "evaluation": {"evaluate", "Evaluation", "BASELINES"},
    "report": {
        "write_comparison",
        "write_watch",
        "write_report",
        "report_html",
        "ReportData",
        "RunInfo",
        "loss_curves",
        "standalone",
        "comparison_figures",
        "rule_mathml",
        "to_svg",
        "STYLE",
    },
    "analysis": {
        "compare",
        "nearest",
        "perception",
        "portrait",
        "watch",
        "response_curves",
        "explain",
        "Explanation",
        "certify",
        "Certificates",
        "Certificate",
    },
    "reproduce": {"REPRODUCTIONS", "Reproduction", "TARGETS", "sanity"},
    "pipeline": {"run", "RunConfig", "PRESETS"},
    "export": {"export", "EXPORTERS"},
}


def test_top_level_names() -> None:
    assert set(closedform.__all__) == TOP
    for name in TOP:
        assert getattr(closedform, name) is not None


@pytest.mark.parametrize("package", NEEDED)
def test_packages_offer_their_names(package: str) -> None:
    module = importlib.import_module(f"closedform.{package}")
    assert NEEDED[package] <= set(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name)


ARCHITECTURE = Path(__file__).parents[1] / "docs" / "architecture.md"
DOCUMENTED = {
    package: names.split()
    for package, names in re.findall(r"^\| `(\w+)` \| .* \| `([^`]+)` \|$", ARCHITECTURE.read_text(), re.MULTILINE)
}


def test_the_architecture_names_every_package() -> None:
    packages = set(closedform._SUBPACKAGES) - {"errors"}
    assert set(DOCUMENTED) == packages | {"cli"}


@pytest.mark.parametrize("package", DOCUMENTED)
def test_the_architectures_names_are_there(package: str) -> None:
    """In their package, and those of the whole library at its top too."""
    module = importlib.import_module(f"closedform.{package}")
    for name in DOCUMENTED[package]:
        found = getattr(module, name, None) or getattr(closedform, name, None)
        assert found is not None, name
        assert name in module.__all__ or name in closedform.__all__


def test_the_architecture_names_what_is_new() -> None:
    documented = {name for names in DOCUMENTED.values() for name in names}
    assert {"evolve", "EvolveConfig", "certify", "parameter_groups", "TaskDistribution", "RuleOptimizer"} <= documented


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = closedform.nothing


@pytest.mark.parametrize("name", evaluation._MOVED)
def test_what_moved_out_of_evaluation_is_still_found_there(name: str) -> None:
    assert getattr(evaluation, name) is getattr(importlib.import_module(evaluation._MOVED[name]), name)


def test_a_name_that_evaluation_never_had_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = evaluation.nothing
