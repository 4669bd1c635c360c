"""Header fields from filters: made fit to stand in a message, and put where they belong. Pure.

No bytes of a filter's can end the header, begin another field, or make a line that is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .interfaces import Add, Change, Edit, Insert, Opinion, Recipient

__all__ = [
    "MAX_FIELDS",
    "apply_edits",
    "field_name",
    "field_value",
    "make_field",
    "recipients_after",
]

MAX_FIELDS = 10_000
"""More than these a message does not get: what a filter adds beyond is left out."""
_MAX_VALUE = 256 * 1024
# RFC 5322 section 3.6.8: ftext
_NAME = re.compile(rb"[!-9;-~]{1,256}")
_LINE_ENDS = re.compile(rb"\r\n|\r|\n")


def make_field(name: bytes, value: bytes, *, space: bool = True) -> bytes:
    """``name: value``, folded where `value` is, ending in LF. ValueError when there can be no such field.

    `space`: one is put behind the colon. Lines that do not begin with white space get a tab, empty ones go.
    """
    if _NAME.fullmatch(name) is None:
        raise ValueError("not a field's name")
    if len(value) > _MAX_VALUE:
        raise ValueError("a field that is too large")
    lines = _LINE_ENDS.split(value.replace(b"\0", b""))
    # RFC 5322 section 3.2.2: no line of a folded field is white space alone
    rest = [line for line in lines[1:] if line.strip(b" \t")]
    folded = b"".join(
        b"\n" + (line if line.startswith((b" ", b"\t")) else b"\t" + line) for line in rest
    )
    return name + (b": " if space else b":") + lines[0] + folded + b"\n"


def field_name(field: bytes) -> bytes:
    """In lower case; b"" for what is no field."""
    name, colon, _ = field.partition(b":")
    return name.rstrip(b" \t").lower() if colon else b""


def field_value(field: bytes) -> bytes:
    """What follows the colon, folds and the space behind the colon included; the last LF is left out."""
    return field.partition(b":")[2].removesuffix(b"\n")


def apply_edits(fields: Iterable[bytes], edits: Iterable[Edit]) -> list[bytes]:
    """The fields after the edits, each made on what the one before left (so does Postfix: numbers move).

    Fields called the same may be many, and each deleted by its number: that takes no time that grows with the square.
    """
    now = _Fields(fields)
    for edit in edits:
        if isinstance(edit, Add):
            now.add(edit.field)
        elif isinstance(edit, Insert):
            now.insert(edit.at, edit.field)
        elif isinstance(edit, Change):
            now.change(edit.name, edit.n, edit.field)
        else:
            now.delete(edit.name, edit.n)
    return now.left()


class _Fields:
    """A field is a list of one, emptied when it is deleted; `named` has those that are left by name, in their order."""

    def __init__(self, fields: Iterable[bytes]) -> None:
        self._all = [[field] for field in fields]
        self._room = MAX_FIELDS - len(self._all)
        self._name_all()

    def left(self) -> list[bytes]:
        return [field for one in self._all for field in one]

    def add(self, field: bytes) -> None:
        if self._room > 0:
            self._room -= 1
            one = [field]
            self._all.append(one)
            self._named.setdefault(field_name(field), []).append(one)

    def insert(self, at: int, field: bytes) -> None:
        if self._room > 0:
            self._room -= 1
            self._all = [one for one in self._all if one]
            # JSON knows numbers that no list does.
            self._all.insert(min(max(0, at), len(self._all)), [field])
            self._name_all()

    def change(self, name: bytes, n: int, field: bytes) -> None:
        same = self._named.get(name, [])
        if not 1 <= n <= len(same):
            self.add(field)
            return
        same[n - 1][0] = field
        if field_name(field) != name:
            self._name_all()

    def delete(self, name: bytes, n: int) -> None:
        same = self._named.get(name, [])
        if n == 0:
            gone, same[:] = same[:], []
        elif n == -1 or 1 <= n <= len(same):
            gone = [same.pop(n if n < 0 else n - 1)] if same else []
        else:
            gone = []
        for one in gone:
            one.clear()
        self._room += len(gone)

    def _name_all(self) -> None:
        self._named: dict[bytes, list[list[bytes]]] = {}
        for one in self._all:
            if one:
                self._named.setdefault(field_name(one[0]), []).append(one)


def recipients_after(
    recipients: Iterable[Recipient], opinion: Opinion
) -> tuple[tuple[Recipient, ...], tuple[Recipient, ...]]:
    """(those that are left, those that came new). Who is there already is not added again."""
    gone = {address.key for address in opinion.deleted}
    left = tuple(one for one in recipients if one.address.key not in gone)
    known = {one.address.key for one in left}
    new: list[Recipient] = []
    for one in opinion.added:
        if (key := one.address.key) not in known:
            known.add(key)
            new.append(one)
    return left, tuple(new)
