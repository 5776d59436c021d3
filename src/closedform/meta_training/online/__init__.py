"""Online tuning: `MetaTuner` moves a rule's constants while a network trains with it."""

from closedform.meta_training.online._config import TunerConfig
from closedform.meta_training.online._tuner import MetaTuner

__all__ = ["MetaTuner", "TunerConfig"]
