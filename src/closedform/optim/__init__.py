"""Train networks with rules: `RuleOptimizer`, a `torch.optim.Optimizer`."""

from closedform.optim._optimizer import RuleOptimizer

__all__ = ["RuleOptimizer"]
