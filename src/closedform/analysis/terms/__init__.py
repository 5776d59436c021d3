"""A rule at work, term by term."""

from closedform.analysis.terms._terms import terms_of
from closedform.analysis.terms._watch import Watch, watch

__all__ = ["Watch", "terms_of", "watch"]
