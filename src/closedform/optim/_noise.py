"""Noise for stochastic rounding: a function of a seed alone, so that a run that is resumed repeats it bit for bit.

Bits come from a counter that is hashed (S. Vigna 2015, splitmix64) by plain integer operations, so that the seed may
be a tensor on a device: a step captured as a CUDA graph then draws new noise at every replay.
"""

from __future__ import annotations

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15


class Noise:
    """Noise of one step; every call of `rounded` draws other bits.

    Args:
        seed: Another one every step; a number, or a scalar tensor of int64.
    """

    def __init__(self, seed: int | Tensor) -> None:
        self.seed = seed
        self._drawn = 0

    def rounded(self, value: Tensor) -> Tensor:
        """``value`` in bfloat16, rounded up or down at random so that its expectation is kept."""
        self._drawn += 1
        return rounded(value, stream(self.seed, value.device) + hashed(self._drawn))


def rounded(value: Tensor, start: Tensor) -> Tensor:
    """To bfloat16 by noise below the last bit that is kept, from a hash of ``start`` (scalar, int64) and position."""
    noise = (mixed(torch.arange(value.numel(), device=value.device) * _signed(GOLDEN) + start) >> 40) & 0xFFFF
    bits = value.float().view(torch.int32)
    moved = ((bits + noise.to(torch.int32).view(value.shape)) & -0x10000).view(torch.float32)
    return torch.where(value.isfinite(), moved, value).to(torch.bfloat16)


def stream(seed: int | Tensor, device: torch.device) -> Tensor:
    """Where the noise of a seed starts: a scalar of int64; nothing is copied from host to device, nor back."""
    if isinstance(seed, Tensor):
        return mixed((seed + 1) * _signed(GOLDEN))
    return torch.full((), hashed(seed), dtype=torch.int64, device=device)


def hashed(number: int) -> int:
    """A 64-bit hash of a number, as a signed integer."""
    z = (number + 1) * GOLDEN % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return _signed(z ^ (z >> 31))


def mixed(x: Tensor) -> Tensor:
    """The same hash of each element of an int64 tensor (masks make its arithmetic shifts logical ones)."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _signed(0x94D049BB133111EB)
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _signed(bits: int) -> int:
    return bits - 2**64 if bits >= 2**63 else bits
