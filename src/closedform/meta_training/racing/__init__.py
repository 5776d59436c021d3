"""Races: a rule's constants tuned by whole training runs, on several processes or machines."""

from closedform.meta_training.racing._race import RaceConfig, race
from closedform.meta_training.racing._race_file import Candidate, read_race

__all__ = ["Candidate", "RaceConfig", "race", "read_race"]
