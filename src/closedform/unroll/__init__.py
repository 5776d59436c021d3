"""An optimizer at work on a problem: the one loop that meta-training, recording and evaluation all run.

A `Problem` is a task as a function of one flat vector, a `ProblemBatch` several side by side. `begin` draws the start
of an episode, a `Carry`; `steps` and `run` take it on. What is drawn comes from `generator_for` a seed and a purpose.
"""

from closedform.unroll._problem import AnyProblem, FlatParams, Problem, ProblemBatch
from closedform.unroll._seeds import generator_for, window_generator
from closedform.unroll._unroll import Carry, Step, begin, run, steps, unroll

__all__ = [
    "AnyProblem",
    "Carry",
    "FlatParams",
    "Problem",
    "ProblemBatch",
    "Step",
    "begin",
    "generator_for",
    "run",
    "steps",
    "unroll",
    "window_generator",
]
