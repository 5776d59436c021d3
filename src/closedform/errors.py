"""Every error that closedform raises on purpose.

    ClosedFormError
    ├── RuleError (ValueError)          a rule file or rule object is malformed; the text names the place
    │   └── ExpressionError             an expression is malformed: syntax, unknown name, past a limit
    ├── UnknownNameError (KeyError)     no such task, rule, optimizer, feature, ...; suggests the nearest
    ├── DataError                       a data set is missing, truncated or of the wrong format
    ├── CheckpointError                 a checkpoint or result file cannot be used: damaged, or of another model
    ├── OutputError (OSError)           a result cannot be written: no permission, no space
    ├── DivergenceError                 a loss, gradient or parameter became NaN or infinite
    ├── DistillationError               symbolic regression cannot run on these data or options
    └── OptionError (ValueError)        an option's value makes no sense

Messages are one line: what is wrong, where, and what to do. The command line prints them and exits with code 2.
"""

from __future__ import annotations

_LONGEST = 4000
"""Characters of a message; what comes from a file is cut shorter where it is quoted."""


def one_line(text: str, limit: int = _LONGEST) -> str:
    """A text as one line of printable characters: all others escaped, and cut to a length."""
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return text if text.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


class ClosedFormError(Exception):
    """Base of all errors of this package. Whatever a message quotes, it is one line, and a terminal is safe from it."""

    def __str__(self) -> str:  # KeyError would print the repr of its argument
        return one_line(str(self.args[0])) if self.args else self.__class__.__name__


class RuleError(ClosedFormError, ValueError):
    """A rule is malformed. The message names the rule, the place in it and the cause."""


class ExpressionError(RuleError):
    """An expression is malformed: bad syntax, an unknown name or operator, or past a size limit."""


class UnknownNameError(ClosedFormError, KeyError):
    """A family (tasks, rules, features, ...) has no member of that name."""


class DataError(ClosedFormError):
    """A data set is missing, truncated or of the wrong format; the message says how to get it."""


class CheckpointError(ClosedFormError):
    """A checkpoint or result file is damaged, or belongs to another model or format version."""


class OutputError(ClosedFormError, OSError):
    """A result cannot be written where it was asked for."""


class DivergenceError(ClosedFormError):
    """A loss, gradient or parameter became NaN or infinite."""


class DistillationError(ClosedFormError):
    """Symbolic regression cannot run on these data or with these options."""


class OptionError(ClosedFormError, ValueError):
    """An option's value makes no sense; the message says which values do."""
