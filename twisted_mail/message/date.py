"""The Date field (RFC 5322 section 3.3, obsolete and broken forms of section 4.3 too). Never raises."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

__all__ = ["parse_date"]

_MONTHS: Final = {
    name: number
    for number, name in enumerate((b"jan feb mar apr may jun jul aug sep oct nov dec").split(), 1)
}
# RFC 5322 section 4.3: obs-zone, hours from UTC; a military letter says nothing
_ZONES: Final = {b"EST": -5, b"EDT": -4, b"CST": -6, b"CDT": -5, b"MST": -7, b"MDT": -6} | {
    b"PST": -8,
    b"PDT": -7,
}
_TIME = rb"(\d{1,2})[:.](\d{1,2})(?:[:.](\d{1,2}))?(?:[.,]\d+)?"
_ZONE = rb"(?:\s*(?:([+-])(\d{1,2}):?(\d\d)|([A-Za-z]{1,5})))?"
_usual = re.compile(
    rb"\s*(?:[A-Za-z]{3,9}\.?,?)?\s*(\d{1,2})[\s-]+([A-Za-z]{3})[A-Za-z]*\.?,?[\s-]+(\d{2,4})"
    rb",?\s+" + _TIME + _ZONE
).match
# Of the C library: Wed Jan  5 10:00:00 2000
_asctime = re.compile(
    rb"\s*(?:[A-Za-z]{3,9},?\s+)?([A-Za-z]{3})[a-z]*\s+(\d{1,2}),?\s+"
    + _TIME
    + _ZONE
    + rb"\s+(\d{4})"
).match
_comment = re.compile(rb"\([^()]*\)")
_EPOCH: Final = date(1970, 1, 1).toordinal()


def parse_date(value: bytes) -> tuple[int, int] | None:
    """(seconds UTC, day) since 1970-01-01, the day in the date's own zone; None when it cannot be read.

    Seconds 60 count as the next minute's first. A zone that is not known is UTC.
    """
    value = value[:200]
    if b"(" in value:
        value = _comment.sub(b" ", value)
    found = _usual(value)
    if found is not None:
        day, month, year, hour, minute, second, sign, hours, minutes, name = found.groups()
    else:
        found = _asctime(value)
        if found is None:
            return None
        month, day, hour, minute, second, sign, hours, minutes, name, year = found.groups()
    number = int(year)
    if len(year) < 4:
        # RFC 5322 section 4.3: obs-year
        number += 2000 if len(year) == 2 and number < 50 else 1900
    try:
        own = date(number, _MONTHS[month.lower()], int(day)).toordinal() - _EPOCH
    except (KeyError, ValueError):
        return None
    clock = int(hour), int(minute), int(second or 0)
    if clock[0] > 23 or clock[1] > 59 or clock[2] > 60:
        return None
    offset = 0
    if sign is not None:
        offset = (int(hours) * 60 + int(minutes)) * 60
        if offset >= 86_400:
            offset = 0
        elif sign == b"-":
            offset = -offset
    elif name is not None:
        offset = _ZONES.get(name.upper(), 0) * 3600
    return own * 86_400 + clock[0] * 3600 + clock[1] * 60 + clock[2] - offset, own
