"""The report's first line: what is handed over, and which tuned baselines it beats."""

from __future__ import annotations

from collections.abc import Sequence

from closedform.evaluation import Verdict


def lead(found: Verdict, task: str, form: str, won: bool) -> str:
    """The first line.

    Args:
        found: Against each baseline, by the reported numbers.
        task: The task's name.
        form: What is handed over.
        won: Whether it beat the best tuned baseline in validation, beyond the interval, at both horizons.
    """
    handed = f"the {form} (rule.json)"
    validation = f"In validation, on other seeds and data, it {'beat' if won else 'did not beat'} the best of them too."
    if found.won:
        return f"On {task} {handed}, which is handed over, beats tuned {_listed(found.beaten)}. {validation}"
    if not found.unbeaten:
        return f"On {task} {handed} is handed over; there was no baseline to compare it with."
    others = f" It does beat tuned {_listed(found.beaten)}." if found.beaten else ""
    validation = validation.replace("too.", "by itself.") if won else validation
    return (
        f"On {task} nothing was found that beats tuned {_listed(found.unbeaten, 'or')}: handed over is {handed}, the "
        f"best in validation.{others} {validation}"
    )


def _listed(labels: Sequence[str], last: str = "and") -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} {last} {labels[-1]}"
