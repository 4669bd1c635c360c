"""Where in a TOML text each key stands, so that a mistake can be shown with its line.

`tomllib` gives values without positions. This scanner gives positions without values; it is for
texts that `tomllib` has read already and relies on that: it finds its way, and checks nothing.
"""

from __future__ import annotations

import tomllib
from typing import Final

__all__ = ["KeyPath", "key_lines", "line_of"]

KeyPath = tuple[str | int, ...]
"""Names of tables and keys, and indexes into arrays: ``("tls", "sni", 0, "key")``."""

_BLANK: Final = " \t\r\n"


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line, from 1, of every table, key and array element of a valid TOML text."""
    return _Scanner(text).run()


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int | None:
    """The line of `path`, or of the nearest thing around it; None when nothing of it is written."""
    for length in range(len(path), 0, -1):
        line = lines.get(path[:length])
        if line is not None:
            return line
    return None


class _Scanner:
    def __init__(self, text: str) -> None:
        # A newline at the end spares every loop the question whether there is one.
        self._text = text + "\n"
        self._at = 0
        self._counted = 0
        self._line = 1
        self._lines: dict[KeyPath, int] = {}
        self._last: dict[KeyPath, int] = {}  # arrays of tables: the index of the last one

    def run(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        while self._skip_blank():
            if self._text.startswith("[[", self._at):
                self._at += 2
                table = self._array_table(self._keys("]"))
                self._at += 2
            elif self._text[self._at] == "[":
                self._at += 1
                table = self._resolve((), self._keys("]"))
                self._at += 1
            else:
                self._pair(table)
        return self._lines

    def _mark(self, path: KeyPath) -> None:
        # Lines are counted on the way, so that the whole stays linear.
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        self._lines.setdefault(path, self._line)

    def _skip_blank(self) -> bool:
        """Go to what is neither blank nor comment; False at the end."""
        text = self._text
        while self._at < len(text):
            if text[self._at] in _BLANK:
                self._at += 1
            elif text[self._at] == "#":
                self._at = text.index("\n", self._at)
            else:
                return True
        return False

    def _keys(self, end: str) -> list[str]:
        """The dotted key from here to the character `end`, where it stops."""
        start = self._at
        while self._text[self._at] != end:
            if self._text[self._at] in "\"'":
                self._string()
            else:
                self._at += 1
        # tomllib undoes quotes and escapes.
        value = tomllib.loads(self._text[start : self._at] + "= 0")
        keys = []
        while isinstance(value, dict):
            ((key, value),) = value.items()
            keys.append(key)
        return keys

    def _resolve(self, table: KeyPath, keys: list[str]) -> KeyPath:
        path = table
        for key in keys:
            path += (key,)
            self._mark(path)
            if path in self._last:
                path += (self._last[path],)
        return path

    def _array_table(self, keys: list[str]) -> KeyPath:
        array = (*self._resolve((), keys[:-1]), keys[-1])
        self._mark(array)
        index = self._last[array] = self._last.get(array, -1) + 1
        self._mark((*array, index))
        return (*array, index)

    def _pair(self, table: KeyPath) -> None:
        path = self._resolve(table, self._keys("="))
        self._at += 1
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._skip_blank()
        self._mark(path)
        character = self._text[self._at]
        if character in "\"'":
            self._string()
        elif character == "[":
            self._at += 1
            index = 0
            while self._next_item("]"):
                self._value((*path, index))
                index += 1
        elif character == "{":
            self._at += 1
            while self._next_item("}"):
                self._pair(path)
        else:
            while self._text[self._at] not in ",]}#\n":
                self._at += 1

    def _next_item(self, end: str) -> bool:
        """Go to the next item of an array or inline table; behind its `end` when there is none."""
        self._skip_blank()
        while self._text[self._at] == ",":
            self._at += 1
            self._skip_blank()
        if self._text[self._at] == end:
            self._at += 1
            return False
        return True

    def _string(self) -> None:
        """Go behind the string that begins here."""
        text = self._text
        quote = text[self._at]
        end = quote * 3 if text.startswith(quote * 3, self._at) else quote
        self._at += len(end)
        while not text.startswith(end, self._at):
            self._at += 2 if quote == '"' and text[self._at] == "\\" else 1
        self._at += len(end)
        # One or two quotes may stand before the three that close a multi-line string.
        while len(end) == 3 and text[self._at] == quote:
            self._at += 1
