"""The mail that carries a report: RFC 9990 section 3.5.3 for DMARC, RFC 8460 section 5.3 for TLS. Pure.

It is signed by whom it is given to. Nothing in it can begin a header field that somebody else chose.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import textwrap
from typing import Final, NamedTuple

from ..message.trace import date
from ..message.words import one_line

__all__ = ["Letter", "compose", "filename", "packed", "report_id"]

_NOT_HOST: Final = re.compile(r"[^A-Za-z0-9._-]")
_NOT_PHRASE: Final = re.compile(r"[^A-Za-z0-9 !#$%&'*+/=?^_`{|}~-]")


class Letter(NamedTuple):
    """`kind`: ``dmarc`` or ``tls``; `submitter`: our hostname; `subject`: the domain that it is about; `end` is its
    last second. `sender` and `to`: addresses. `content`: the report, compressed.
    """

    kind: str
    submitter: str
    subject: str
    begin: int
    end: int
    organization: str
    sender: str
    to: str
    now: float
    content: bytes


def report_id(kind: str, submitter: str, subject: str, begin: int) -> str:
    """The same whenever the same report is made, so that one that comes twice is known (RFC 9990 section 3.5.1)."""
    what = f"{kind}\n{submitter}\n{subject}\n{begin}".encode()
    return f"{begin}.{hashlib.sha256(what).hexdigest()[:20]}@{_host(submitter)}"


def packed(document: bytes) -> bytes:
    """RFC 1952; the same bytes for the same document."""
    return gzip.compress(document, mtime=0)


def filename(letter: Letter) -> str:
    """RFC 9990 section 3.5.3, RFC 8460 section 5.1."""
    ending = "xml" if letter.kind == "dmarc" else "json"
    names = f"{_host(letter.submitter)}!{_host(letter.subject)}"
    return f"{names}!{letter.begin}!{letter.end}.{ending}.gz"


def compose(letter: Letter) -> bytes:
    """The whole message, LF line ends, ASCII."""
    identifier = report_id(letter.kind, letter.submitter, letter.subject, letter.begin)
    submitter, subject = _host(letter.submitter), _host(letter.subject)
    boundary = f"=_{hashlib.sha256(letter.content).hexdigest()[:24]}"
    tls = letter.kind == "tls"
    name = filename(letter)
    media = "application/tlsrpt+gzip" if tls else "application/gzip"
    # RFC 8460 section 5.3; RFC 9990 asks for no structure
    whole = 'multipart/report; report-type="tlsrpt"' if tls else "multipart/mixed"
    header = [
        f"Date: {date(letter.now)}",
        f"From: {_phrase(letter.organization)} <{_address(letter.sender)}>",
        f"To: <{_address(letter.to)}>",
        f"Subject: Report Domain: {subject}\n\tSubmitter: {submitter}\n\tReport-ID: <{identifier}>",
        f"Message-ID: <{identifier}>",
        # RFC 3834 section 5
        "Auto-Submitted: auto-generated",
    ]
    if tls:
        header += [f"TLS-Report-Domain: {subject}", f"TLS-Report-Submitter: {submitter}"]
        # RFC 8689 section 5; RFC 8460 section 3
        header += ["TLS-Required: No"]
    header += ["MIME-Version: 1.0", f'Content-Type: {whole};\n\tboundary="{boundary}"']
    what = "about TLS" if tls else "of DMARC results"
    day = date(letter.begin)[5:16].strip()
    text = (
        f"This is a report {what} for mail {'to' if tls else 'from'} {subject},"
        f" of {day} (UTC), by {submitter}. It is sent because {'_smtp._tls' if tls else '_dmarc'}.{subject}"
        f" asks for it. The report itself is attached, for programs to read."
    )
    parts = [
        "Content-Type: text/plain; charset=us-ascii",
        "",
        textwrap.fill(text, 76, break_long_words=False, break_on_hyphens=False),
        "",
        f"--{boundary}",
        f'Content-Type: {media};\n\tname="{name}"',
        "Content-Transfer-Encoding: base64",
        f'Content-Disposition: attachment;\n\tfilename="{name}"',
        "",
        base64.encodebytes(letter.content).decode("ascii") + f"--{boundary}--",
        "",
    ]
    return "\n".join([*header, "", f"--{boundary}", *parts]).encode("ascii", "replace")


def _host(text: str) -> str:
    return _NOT_HOST.sub("", text) or "localhost"


def _phrase(text: str) -> str:
    phrase = _NOT_PHRASE.sub(" ", text if text.isascii() else "").strip()[:60]
    return " ".join(phrase.split()) if any(map(str.isalnum, phrase)) else "Mail reports"


def _address(text: str) -> str:
    return one_line(text[:320]).replace("<", "").replace(">", "")
