"""A dynamic portrait: how an optimizer remembers, answers, adapts, anneals and converges."""

from closedform.analysis.portrait._portrait import Portrait, portrait
from closedform.analysis.portrait._quadratics import Quadratics, radius_over
from closedform.analysis.portrait._settled import Settled, TimeScale
from closedform.analysis.portrait._spectrum import Spectrum

__all__ = ["Portrait", "Quadratics", "Settled", "Spectrum", "TimeScale", "portrait", "radius_over"]
