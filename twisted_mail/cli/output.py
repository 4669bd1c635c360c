"""How mailctl shows lists: a JSON array, a table on a terminal, columns between tabs elsewhere; and its numbers."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

__all__ = ["counted", "json_option", "octets_text", "show", "show_blocks"]

# What moves a terminal's cursor or turns a line around, and what begins another line or column
_ACTING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# Of those what JSON has not escaped; its own line ends stay
_ACTING_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

json_option: Callable[[Callable[..., None]], Callable[..., None]] = click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON array."
)


def show(
    rows: Sequence[Mapping[str, Any]],
    as_json: bool = False,
    *,
    headings: bool = True,
    colours: Mapping[str, str] | None = None,
) -> None:
    """Print `rows`, which all have the same keys: those are the columns, and stand above them.

    Nothing in a value acts on a terminal, or can be taken for another value: such characters are escaped.

    Without `headings` they do so on a terminal alone. Nothing is printed when there are no rows. `colours`: of words in
    the first column, on a terminal.
    """
    if as_json:
        text = json.dumps(rows, ensure_ascii=False, indent=2)
        click.echo(_ACTING_IN_JSON.sub(_escaped, text))
    elif sys.stdout.isatty() and rows:
        _table(rows, colours or {})
    else:
        if headings and rows:
            click.echo("\t".join(rows[0]))
        for row in rows:
            click.echo("\t".join(_text(value) for value in row.values()))


def show_blocks(rows: Sequence[Mapping[str, Any]], as_json: bool = False) -> None:
    """As `show`, but on a terminal a line for each value that there is: for rows of too many columns."""
    if as_json or not sys.stdout.isatty():
        show(rows, as_json)
        return
    for number, row in enumerate(rows):
        if number:
            click.echo()
        told = {
            f"{key.replace('_', ' ')}:": _text(value) for key, value in row.items() if _text(value)
        }
        width = max(map(len, told), default=0)
        for label, text in told.items():
            click.echo(f"{label:{width}} {text}")


def octets_text(number: int) -> str:
    value, unit = float(number), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"


def counted(number: int, one: str, many: str = "") -> str:
    """``1 message``, ``2 messages``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _table(rows: Sequence[Mapping[str, Any]], colours: Mapping[str, str]) -> None:
    # Lean import: a tenth of a second that scripts need not pay.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*rows[0], box=box.SIMPLE_HEAD)
    for row in rows:
        # Text, so that brackets in what users typed are not taken for markup.
        first, *others = map(_text, row.values())
        table.add_row(Text(first, colours.get(first, "")), *map(Text, others))
    Console(emoji=False).print(table)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(one) for one in value)
    return "" if value is None else _ACTING.sub(_escaped, str(value))


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
