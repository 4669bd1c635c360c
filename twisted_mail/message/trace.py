"""Trace fields: Received, Return-Path, Delivered-To, and what a submission server adds (Date, Message-ID).

Fields are bytes with LF line ends. What a client chose (its HELO name) is cut down to printable ASCII first, so
that nothing a peer says can begin a line.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ..address import Address

__all__ = ["date", "delivered_to", "message_id", "received", "return_path"]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


_PLAIN = re.compile("[!-'*-;=?-~]{1,255}").fullmatch


def date(seconds: float) -> str:
    """RFC 5322 section 3.3, in UTC; `seconds` since 1970."""
    return _date(int(seconds))


@lru_cache(maxsize=8)
def _date(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    # Days to a civil date: the era arithmetic of the proleptic Gregorian calendar, March first.
    era_day = days + 719468
    era, of_era = divmod(era_day, 146097)
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * of_year + 2) // 153
    day = of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    year = year_of_era + era * 400 + (month <= 2)
    return (
        f"{_DAYS[(days + 3) % 7]}, {day} {_MONTHS[month - 1]} {year:04}"
        f" {rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02} +0000"
    )


def received(
    *,
    helo: str,
    ip: str,
    by: str,
    protocol: str,
    tls: str | None,
    message_id: str,
    recipient: Address | None,
    seconds: float,
    utf8: bool = False,
) -> bytes:
    """RFC 5321 section 4.4. `recipient` only when there is one: others must not learn of each other."""
    to = f"\n\tfor <{_for(recipient, utf8)}>" if recipient is not None else ""
    by_whom = _from(helo, ip, by, protocol, tls)
    return f"{by_whom} id {message_id}{to};\n\t{_date(int(seconds))}\n".encode()


@lru_cache(maxsize=1024)
def _from(helo: str, ip: str, by: str, protocol: str, tls: str | None) -> str:
    """What the fields of all messages of one connection begin with."""
    literal = f"IPv6:{ip}" if ":" in ip else ip
    said = _printable(helo) or "unknown"
    encrypted = f"\n\t(using {tls})" if tls else ""
    return f"Received: from {said} ([{literal}]){encrypted}\n\tby {by} with {protocol}"


def return_path(sender: Address | None) -> bytes:
    """RFC 5321 section 4.4: made at final delivery."""
    return f"Return-Path: <{sender if sender is not None else ''}>\n".encode()


def delivered_to(recipient: Address) -> bytes:
    """RFC 9228: the address that was delivered to; only when it is the only one."""
    return f"Delivered-To: {recipient}\n".encode()


def message_id(unique: str, hostname: str) -> bytes:
    """A Message-ID field (RFC 6409 section 8.3)."""
    return f"Message-ID: <{unique}@{hostname}>\n".encode()


def _for(recipient: Address | None, utf8: bool) -> str:
    text = str(recipient)
    return text if utf8 or text.isascii() else text.encode("ascii", "replace").decode()


def _printable(text: str) -> str:
    if _PLAIN(text):
        return text  # nearly always
    return "".join(c if "!" <= c <= "~" and c not in "()<>" else "?" for c in text[:255])
