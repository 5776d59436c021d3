"""Train networks with rules: `RuleOptimizer`, a `torch.optim.Optimizer`, and `parameter_groups` for it."""

from closedform.optim._optimizer import RuleOptimizer
from closedform.optim._parameter_groups import parameter_groups

__all__ = ["RuleOptimizer", "parameter_groups"]
