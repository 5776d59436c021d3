"""Meta-training RNNprop as released code of learned optimizers does it: what ``meta_training.py`` measures against.

The algorithm is `TruncatedBPTT`'s: all losses of an unroll are summed, the optimizer's inputs are detached, and Adam
takes a step once an unroll. It is written in plain torch, with rows of hidden units for every parameter ([N, 20]) and
``torch.nn.LSTMCell``; the optimizee is a module that is built anew from its updated parameters at every step, and stays
attached to the updates, so that the backward pass of the unroll goes through the optimizee to reach them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from closedform.learned_optimizers import RNNprop
from closedform.tasks import Task

DECAY, EPS = 0.95, 1e-8


class MLP(nn.Module):
    """The optimizee: a module whose parameters may have a history."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = list(parameters)
        for name, value in parameters.items():
            self.register_buffer(name.replace(".", "_"), value)

    def named_values(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, getattr(self, name.replace(".", "_"))) for name in self.names)

    def forward(self, pixels: Tensor, labels: Tensor) -> Tensor:
        values = [value for _, value in self.named_values()]
        for weight, bias in zip(values[:-2:2], values[1:-2:2], strict=True):
            pixels = functional.relu(functional.linear(pixels, weight, bias))
        return functional.nll_loss(functional.log_softmax(functional.linear(pixels, *values[-2:]), dim=1), labels)


class Network(nn.Module):
    """RNNprop with rows of hidden units, and the weights of one of ours."""

    def __init__(self, ours: RNNprop) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(len(ours.features), ours.size.width), nn.Linear(ours.size.hidden, 1)
        self.cells = nn.ModuleList(nn.LSTMCell(ours.size.hidden, ours.size.hidden) for _ in ours.cells)
        self.scale = ours.scale
        pairs = [(self.enter.weight, ours.input_weight), (self.enter.bias, ours.input_bias)]
        pairs += [(self.leave.weight, ours.output_weight), (self.leave.bias, ours.output_bias)]
        for cell, other in zip(self.cells, ours.cells, strict=True):
            weights = other.weight.split(ours.size.hidden, dim=1)
            pairs += [(cell.weight_ih, weights[0]), (cell.weight_hh, weights[1]), (cell.bias_ih, other.bias)]
            nn.init.zeros_(cell.bias_hh)
        with torch.no_grad():
            for mine, value in pairs:
                mine.copy_(value.reshape(mine.shape))

    def forward(self, features: Tensor, hidden: list[Tensor], memory: list[Tensor]) -> tuple[Tensor, list, list]:
        x, new_hidden, new_memory = functional.elu(self.enter(features)), [], []
        for cell, h, c in zip(self.cells, hidden, memory, strict=True):
            x, c = cell(x, (h, c))
            new_hidden.append(x)
            new_memory.append(c)
        return self.scale * torch.tanh(self.leave(x)), new_hidden, new_memory

    def gradient_like(self, ours: RNNprop) -> Tensor:
        """The gradient in the order of our parameters, as one vector."""
        parts = [self.enter.weight, self.enter.bias, self.leave.weight, self.leave.bias]
        found = {"input_weight": parts[0], "input_bias": parts[1], "output_weight": parts[2], "output_bias": parts[3]}
        gradients = {name: value.grad for name, value in found.items()}
        for index, cell in enumerate(self.cells):
            gradients[f"cells.{index}.weight"] = torch.cat([cell.weight_ih.grad, cell.weight_hh.grad], dim=1)
            gradients[f"cells.{index}.bias"] = cell.bias_ih.grad
        return torch.cat([gradients[name].reshape(-1) for name, _ in ours.named_parameters()])


class ReleasedLoop:
    """The loop as released: every step's ``loss.backward()`` walks back through all updates so far.

    Only the newest parameters' gradient is used of it. The states of all parameters are one tensor a layer, filled in
    place, a parameter tensor at a time.

    Args:
        ours: Whose weights the network starts from.
        task: The task.
        seed: Of starting point and batches.
    """

    def __init__(self, ours: RNNprop, task: Task, seed: int) -> None:
        self.task, self.generator, self.network = task, torch.Generator().manual_seed(seed), Network(ours)
        self.meta_optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        start = task.init(self.generator)
        self.optimizee = MLP({name: value.requires_grad_() for name, value in start.items()})
        self.m, self.v = ({name: torch.zeros(value.numel()) for name, value in start.items()} for _ in range(2))
        self.hidden, self.memory = (self.no_states() for _ in range(2))
        self.t = 0

    def no_states(self) -> list[Tensor]:
        return [torch.zeros(self.task.size, cell.hidden_size) for cell in self.network.cells]

    def loss(self) -> Tensor:
        return self.optimizee(*self.task.batch("train", self.generator))

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        """The loss's gradient in the optimizee's parameters, with the graph kept."""
        values = dict(self.optimizee.named_values())
        for value in values.values():
            value.retain_grad()
        loss.backward(retain_graph=True)
        return {name: value.grad.detach() for name, value in values.items() if value.grad is not None}

    def features(self, name: str, g: Tensor) -> Tensor:
        self.m[name] = DECAY * self.m[name] + (1 - DECAY) * g
        self.v[name] = DECAY * self.v[name] + (1 - DECAY) * g * g
        correction = 1 - DECAY**self.t
        scale = (self.v[name] / correction).sqrt() + EPS
        return torch.stack([self.m[name] / correction / scale, g / scale], dim=1)

    def step(self, gradients: Mapping[str, Tensor]) -> None:
        """Update the optimizee, one parameter tensor after the other."""
        self.t, offset, values = self.t + 1, 0, {}
        hidden, memory = self.no_states(), self.no_states()
        for name, value in self.optimizee.named_values():
            rows = slice(offset, offset + value.numel())
            features = self.features(name, gradients[name].reshape(-1))
            old = ([state[rows] for state in states] for states in (self.hidden, self.memory))
            update, *new = self.network(features, *old)
            for states, parts in zip((hidden, memory), new, strict=True):
                for state, part in zip(states, parts, strict=True):
                    state[rows] = part
            values[name] = value + update.view_as(value)
            offset = rows.stop
        self.optimizee, self.hidden, self.memory = MLP(values), hidden, memory

    def window(self, unroll: int) -> None:
        """One unroll and one step of the meta-optimizer, by the mean of the losses after the updates."""
        losses = []
        for _ in range(unroll):
            losses.append(self.loss())
            self.step(self.gradients(losses[-1]))
        losses.append(self.loss())
        self.meta_optimizer.zero_grad()
        (torch.stack(losses[1:]).sum() / unroll).backward()
        self.meta_optimizer.step()
        values = {name: value.detach().requires_grad_() for name, value in self.optimizee.named_values()}
        self.optimizee = MLP(values)
        self.hidden, self.memory = ([state.detach() for state in states] for states in (self.hidden, self.memory))


class OwnGradientLoop(ReleasedLoop):
    """The same, where a step's backward pass ends at the step's own parameters."""

    def gradients(self, loss: Tensor) -> dict[str, Tensor]:
        values = dict(self.optimizee.named_values())
        return dict(zip(values, torch.autograd.grad(loss, list(values.values()), retain_graph=True), strict=True))
