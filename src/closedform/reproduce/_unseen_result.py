"""The table of unseen tasks as `closedform reproduce` prints and saves it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from closedform.reproduce._entrants import REFERENCE, SINGLE
from closedform.reproduce._unseen_numbers import UnseenNumbers
from closedform.reproduce._unseen_page import loss_table, page

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class UnseenResult(UnseenNumbers):
    """The table, for printing and saving."""

    def table(self) -> Table:
        """For printing with rich: final losses, an entrant a column."""
        from rich.table import Table

        header, rows = loss_table(self)
        table = Table(*header)
        for row in rows:
            table.add_row(*row)
        return table

    def to_markdown(self) -> str:
        """A document with how it was measured."""
        return page(self)

    def to_json(self) -> str:
        """The numbers, for machines."""
        totals = {
            reference: {name: asdict(found) for name, found in self.against(reference).items()}
            for reference in (REFERENCE, SINGLE)
        }
        return json.dumps({**asdict(self), "against": totals}, indent=2, ensure_ascii=False) + "\n"
