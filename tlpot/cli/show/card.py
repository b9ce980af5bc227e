"""What a model says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tlpot.model.card import card_rows


def print_card(about: Mapping[str, Any], console: Console) -> None:
    """Print a `tlpot.model.card.card`."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    for title, text in card_rows(about):
        table.add_row(Text(title, style="bold"), Text(text))
    console.print(table)
