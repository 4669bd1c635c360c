"""How mailctl shows lists: a JSON array, a table on a terminal, columns between tabs elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

__all__ = ["json_option", "show"]

json_option: Callable[[Callable[..., None]], Callable[..., None]] = click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON array."
)


def show(rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Print `rows`, which all have the same keys: those are the columns."""
    if as_json:
        click.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif sys.stdout.isatty() and rows:
        _table(rows)
    else:
        for row in rows:
            click.echo("\t".join(_text(value) for value in row.values()))


def _table(rows: Sequence[Mapping[str, Any]]) -> None:
    # Lean import: a tenth of a second that scripts need not pay.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*rows[0], box=box.SIMPLE_HEAD)
    for row in rows:
        # Text, so that brackets in what users typed are not taken for markup.
        table.add_row(*(Text(_text(value)) for value in row.values()))
    Console().print(table)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(one) for one in value)
    return "" if value is None else str(value)
