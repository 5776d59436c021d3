"""Train networks with rules: `RuleOptimizer`, a `torch.optim.Optimizer`, and `parameter_groups` for it."""

from closedform.optim._learning_rate import LearningRateFinder, RangeTest
from closedform.optim._optimizer import RuleOptimizer
from closedform.optim._parameter_groups import parameter_groups

__all__ = ["LearningRateFinder", "RangeTest", "RuleOptimizer", "parameter_groups"]
