"""Dates as IMAP writes them: ``date-time`` of INTERNALDATE and APPEND, ``date`` of SEARCH (RFC 9051 section 9)."""

from __future__ import annotations

import re
from datetime import date
from functools import lru_cache
from typing import Final

__all__ = ["date_time", "parse_date", "parse_date_time"]

_MONTHS: Final = tuple(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())
_NUMBER_OF: Final = {name.upper(): number for number, name in enumerate(_MONTHS, 1)}
_EPOCH: Final = date(1970, 1, 1).toordinal()
_LAST: Final = (date.max.toordinal() - _EPOCH) * 86400 + 86399
_FIRST: Final = (1 - _EPOCH) * 86400

_DATE_TIME: Final = re.compile(
    rb"([ 0-9]?[0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"
)
_DATE: Final = re.compile(rb"([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})")


def parse_date_time(text: bytes) -> int:
    """Seconds since 1970 UTC of ``17-Jul-1996 02:44:25 -0700`` (no quotes). Raises ValueError."""
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        raise ValueError("not a date and time")
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = found.groups()
    days = _date(day, month, year).toordinal() - _EPOCH
    hours, minutes, seconds = int(hour), int(minute), int(second)
    # RFC 5322 section 3.3: 60 is a leap second
    if hours > 23 or minutes > 59 or seconds > 60 or int(zone_minutes) > 59:
        raise ValueError("no such time of day")
    east = int(zone_hours) * 3600 + int(zone_minutes) * 60
    seconds += days * 86400 + hours * 3600 + minutes * 60
    return seconds - east if sign == b"+" else seconds + east


def parse_date(text: bytes) -> date:
    """``1-Feb-1994``. Raises ValueError."""
    found = _DATE.fullmatch(text)
    if found is None:
        raise ValueError("not a date")
    return _date(*found.groups())


def date_time(seconds: int) -> bytes:
    """``"17-Jul-1996 09:44:25 +0000"``, quoted. What no calendar has becomes its first or last second."""
    seconds = min(max(seconds, _FIRST), _LAST)
    days, rest = divmod(seconds, 86400)
    minutes, second = divmod(rest, 60)
    return b'"%s %02d:%02d:%02d +0000"' % (_day(days), minutes // 60, minutes % 60, second)


def _date(day: bytes, month: bytes, year: bytes) -> date:
    number = _NUMBER_OF.get(month.upper())
    if number is None:
        raise ValueError("no such month")
    return date(int(year), number, int(day))


@lru_cache(maxsize=4096)
def _day(days: int) -> bytes:
    day = date.fromordinal(days + _EPOCH)
    # RFC 9051 section 9: date-day-fixed, a blank before one digit
    return b"%2d-%s-%04d" % (day.day, _MONTHS[day.month - 1], day.year)
