"""DM: an LSTM that reads the gradient itself and prints an update, one for every parameter.

    h = LSTM(features);  update = scale * (v . h + c)

Source: Andrychowicz et al. 2016, Learning to Learn by Gradient Descent by Gradient Descent, section 2.1; the
log-preprocessed pair of inputs is its appendix A.
"""

from __future__ import annotations

import torch

from closedform.learned_optimizers._native_lstm import Shape
from closedform.learned_optimizers._recurrent import RecurrentOptimizer, RecurrentSize

SCALE = 0.1
"""Default of what the output is multiplied by, as in the paper of 2016; Zheng et al. 2022 take 0.01. Nothing bounds the
output, so the scale is not a limit: it only says how fast meta-training gets to updates of a useful size. On mlp-digits
100 meta-steps lead to a loss of 0.21 with 0.1, and of 0.51 with 0.01."""


class DM(RecurrentOptimizer):
    """DM, for one choice of inputs.

    Args:
        name: Its name in the family.
        size: Features and layers.
        generator: Draws the initial weights.
        scale: What the output is multiplied by, in units of the optimizee's parameters.
        clock: How it can know how far the episode is: a name in ``CLOCKS``.

    Raises:
        OptionError: the scale is not a positive number.
    """

    source = "Andrychowicz et al. 2016, Learning to Learn by Gradient Descent by Gradient Descent"

    def __init__(
        self,
        name: str,
        size: RecurrentSize,
        generator: torch.Generator | None = None,
        scale: float = SCALE,
        clock: str = "own",
    ) -> None:
        super().__init__(name, size, generator, scale, clock)

    def native_shape(self) -> Shape:
        return Shape(len(self.features), 0, self.size.hidden, self.size.layers, bounded=False)


DM_SIZES = {
    "dm": RecurrentSize(("log_g", "sign_g"), hidden=20, layers=2),
    "dm-raw": RecurrentSize(("g",), hidden=20, layers=2),
}
