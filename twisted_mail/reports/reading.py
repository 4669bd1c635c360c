"""Reports of others found in files and mails. What is no report, and why, is told; nothing raises.

In a mail only those attachments count that look like a report, or that a mail with the Subject of one has: a mailbox
may hold all kinds of things.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..message.headers import split
from . import aggregate_read, tls
from .aggregate import Report
from .counting import is_report
from .tls import TlsReport
from .unpack import Attachment, ReportError, attachments, unpacked

__all__ = ["Found", "in_file", "in_message", "understand"]

# RFC 9990 section 3.5.3, RFC 8460 section 5.1
_NAME: Final = re.compile(r"[^!]+![^!]+![0-9]+![0-9]+")
_BOMS: Final = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


class Found(NamedTuple):
    """`where`: the name of the file or attachment. Either `report`, or `problem` says in one line why there is none."""

    where: str
    report: Report | TlsReport | None
    problem: str = ""


def in_message(content: bytes) -> Iterator[Found]:
    """Those in a mail as stored. Other attachments are passed over."""
    expected = is_report(split(content)[0])
    for one in attachments(content):
        found = _understood(one)
        if found.report is not None or expected or _NAME.match(one.name):
            yield found


def in_file(name: str, data: bytes) -> list[Found]:
    """Those in a file: a report, compressed or not, or a mail."""
    if data[:2] == b"\x1f\x8b" or data[:4] == b"PK\x03\x04" or _is_document(data):
        return [_understood(Attachment(name, data))]
    found = list(in_message(data.replace(b"\r\n", b"\n")))
    return found or [Found(name, None, "it is neither a report nor a mail with one")]


def understand(packed: bytes) -> Report | TlsReport:
    """Raises ReportError."""
    document = unpacked(packed)
    start = document.lstrip()[:1]
    if start == b"{":
        return tls.read(document)
    if start == b"<" or document.startswith(_BOMS):
        return aggregate_read.read(document)
    raise ReportError("it is neither XML nor JSON")


def _understood(one: Attachment) -> Found:
    try:
        return Found(one.name, understand(one.packed))
    except ReportError as error:
        return Found(one.name, None, str(error))


def _is_document(data: bytes) -> bool:
    return data.lstrip()[:1] in (b"<", b"{") or data.startswith(_BOMS)
