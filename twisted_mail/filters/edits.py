"""Header fields from filters: made fit to stand in a message, and put where they belong. Pure.

No bytes of a filter's can end the header, begin another field, or make a line that is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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
    """The fields after the edits, each made on what the one before left (so does Postfix: numbers move)."""
    now = list(fields)
    limit = max(MAX_FIELDS, len(now))
    for edit in edits:
        if isinstance(edit, Add):
            now.append(edit.field)
        elif isinstance(edit, Insert):
            now.insert(max(0, edit.at), edit.field)
        elif isinstance(edit, Change):
            at = _find(now, edit.name, edit.n)
            if at is None:
                now.append(edit.field)
            else:
                now[at] = edit.field
        elif edit.n == 0:
            now = [field for field in now if field_name(field) != edit.name]
        else:
            at = _find(now, edit.name, edit.n)
            if at is not None:
                del now[at]
        del now[limit:]
    return now


def _find(fields: Sequence[bytes], name: bytes, n: int) -> int | None:
    places = [at for at, field in enumerate(fields) if field_name(field) == name]
    if n == -1:
        return places[-1] if places else None
    return places[n - 1] if 1 <= n <= len(places) else None


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
