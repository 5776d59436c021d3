"""Options of the online tuner."""

from __future__ import annotations

from dataclasses import dataclass

from closedform._names import lookup
from closedform._options import check_count, check_number, check_seed
from closedform.errors import OptionError
from closedform.meta_training.online._subset import SAMPLINGS


@dataclass(frozen=True)
class TunerConfig:
    """Options of `MetaTuner`.

    Attributes:
        coordinates: About how many coordinates of the network sensitivities are carried for, for each rule.
        every: Steps after which the constants move.
        rate: How far the logarithm of the learning rate moves a step where the direction is sure; 0 only measures.
            Other constants move a fiftieth of it.
        memory: Steps after which a sensitivity is forgotten; None: never. The shorter, the greedier: what is best for
            the next steps is a smaller learning rate than what is best for the run (Wu et al. 2018).
        spread: Steps over which the usual size of a cosine is measured.
        limit: The largest factor by which a rate, or 1 - decay, may change within 100 steps.
        sampling: How coordinates are drawn: "slopes", in proportion to first gradients, or "stratified", alike.
        seed: Of the draw.
    """

    coordinates: int = 4096
    every: int = 5
    rate: float = 0.1
    memory: float | None = None
    spread: float = 100.0
    limit: float = 1000.0
    sampling: str = "slopes"
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("coordinates", self.coordinates)
        check_count("every", self.every)
        lookup("sampling", self.sampling, SAMPLINGS)
        check_number("rate", self.rate, 0)
        check_seed("seed", self.seed)
        if self.memory is not None:
            check_number("memory", self.memory, 1)
        check_number("spread", self.spread, 1)
        check_number("limit", self.limit, 1)
        if self.limit == 1:
            raise OptionError(f"limit must be a factor above 1, not {self.limit!r}")
