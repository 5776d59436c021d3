"""The public names, pinned: adding one is a decision, removing one is a breaking change."""

import importlib

import pytest

import closedform

TOP = {
    *("__version__", "Evaluation", "HallOfFame", "LearnedOptimizer", "MetaTrainConfig", "Rule", "RuleOptimizer"),
    *(
        "SymbolicOptimizer",
        "Task",
        "TaskDistribution",
        "Trajectories",
        "TruncatedBPTT",
        "distill",
        "evaluate",
        "explain",
        "load_rule",
    ),
    *("meta_train", "meta_tune", "parameter_groups", "record", "save_rule"),
    *("analysis", "distillation", "errors", "evaluation", "export", "features", "lang", "learned_optimizers"),
    *("meta_training", "optim", "pipeline", "reproduce", "rules", "tasks", "trajectories"),
}
NEEDED = {
    "lang": {"Program", "parse", "to_text", "step", "evaluate", "simplify", "derivative", "latex", "OPERATORS"},
    "rules": {"Rule", "load_rule", "save_rule", "library_names", "FORMAT"},
    "features": {"FEATURES", "Feature", "feature_program", "rule_from_features", "get"},
    "optim": {"RuleOptimizer", "parameter_groups"},
    "tasks": {"Task", "TASKS", "get"},
    "learned_optimizers": {
        "LearnedOptimizer",
        "LEARNED_OPTIMIZERS",
        "PRETRAINED",
        "SymbolicOptimizer",
        "get",
        "load_optimizer",
    },
    "meta_training": {"meta_train", "meta_tune", "TruncatedBPTT", "ESTIMATORS", "MetaTrainConfig"},
    "trajectories": {"Trajectories", "record"},
    "distillation": {"distill", "distill_table", "load_table", "HallOfFame", "EquationHall", "BACKENDS"},
    "evaluation": {"evaluate", "Evaluation", "BASELINES", "select_closed_loop"},
    "analysis": {"explain", "Explanation"},
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


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = closedform.nothing
