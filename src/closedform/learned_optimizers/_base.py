"""What a learned optimizer is: a pure map from gradients to updates, whose weights are the meta-parameters.

All are coordinatewise maps over one flat vector that holds every parameter of the optimizee, end to end. Everything
that it remembers between steps is in a `State`, a flat dictionary of tensors, and nothing anywhere else: so a run can
be cut anywhere, kept in a checkpoint and gone on with, or differentiated as a whole.

    state = optimizer.init_state(w, sizes)
    update, state = optimizer.update(g, w, state)
    w = w + update
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

State: TypeAlias = dict[str, Tensor]
"""What an optimizer remembers between steps; the step t among it."""
UpdateFunction: TypeAlias = Callable[[Tensor, Tensor, State], tuple[Tensor, State]]
"""``update`` with the meta-parameters filled in: (g [N], w [N], state) -> (update [N], new state)."""


class LearnedOptimizer(nn.Module, ABC):
    """A learned optimizer; its ``nn.Parameter`` entries are the meta-parameters.

    Attributes:
        name: Its name; for a member of the family, its name in ``LEARNED_OPTIMIZERS``.
        features: Names of its input features, in order.
        state_cost: Buffers a parameter that it keeps between steps.
    """

    name: str
    features: tuple[str, ...]
    state_cost: int

    @abstractmethod
    def init_state(self, w: Tensor, sizes: Sequence[int] | None = None) -> State:
        """The state before step 1.

        Args:
            w: The optimizee's parameters, [N].
            sizes: Lengths of the parameter tensors that lie end to end in ``w``; None: it is one tensor.
        """

    @abstractmethod
    def bind(self) -> UpdateFunction:
        """``update`` for the meta-parameters as they are now; what depends on them alone is computed here, once.

        Bind anew after the meta-parameters changed, or after a backward pass through what a bound function returned.
        """

    def update(self, g: Tensor, w: Tensor, state: State) -> tuple[Tensor, State]:
        """One step: pure, and differentiable in the meta-parameters, g, w and state.

        Args:
            g: The optimizee's gradient, [N].
            w: Its parameters, [N].
            state: From ``init_state`` or the last step; stays as it is.

        Returns:
            The update, [N], for ``w <- w + update``, and the new state.
        """
        return self.bind()(g, w, state)

    def describe(self) -> dict[str, Any]:
        """What tells this optimizer from others, apart from its meta-parameters; a JSON object."""
        return {"name": self.name}
