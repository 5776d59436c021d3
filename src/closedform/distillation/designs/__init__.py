"""Whole optimizers as designs: a search over the choices that published ones are made of, fitted to a recording."""

from closedform.distillation.designs._stage import designed

__all__ = ["designed"]
