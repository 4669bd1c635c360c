"""Delivery status notifications, composed (RFC 3461 to 3464, 6522; RFC 6533 for addresses in UTF-8).

`compose` gives the whole message, LF line ends: plain words first, then the report for programs, then the message or
its header. It is ASCII wherever it can be; what is not declares 8bit on every level above it. Only when its recipient's
own address is in UTF-8 is there more than ASCII in its header, and it needs SMTPUTF8 on its way.

Nothing a peer or a sender wrote can begin a line, end a part or be longer than `MAX_VALUE` in a field.
"""

from __future__ import annotations

import re
from binascii import b2a_qp
from collections.abc import Iterator
from typing import Final

from .downgrade import downgrade_field
from .dsn_text import explanation, subject_words
from .headers import fields, split
from .notice import Action, Notice, Recipient, notified, returns_whole
from .trace import date
from .words import decode_words, one_line
from .xtext import unitext, utf8_xtext

__all__ = ["Action", "Notice", "Recipient", "compose", "notified", "returns_whole"]

MAX_VALUE: Final = 900
"""Octets of a field's value that may have no space to fold at (RFC 5322 section 2.1.1: 998 in a line)."""
MAX_HEADER: Final = 65_536
"""Octets of the original's header block that come back; further fields are left out."""

FROM_NAME: Final = "Mail Delivery System"
FROM_LOCAL: Final = "MAILER-DAEMON"

_FOLD: Final = 76
_NOT_HOST: Final = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_NOT_UNIQUE: Final = re.compile(r"[^A-Za-z0-9.]")
_MESSAGE_ID: Final = re.compile(rb"\s*(<[!-;=?-~]{1,250}>)")


def compose(notice: Notice) -> bytes:
    """The notification as a complete message. Any values give a valid one."""
    header = _bounded(split(notice.original)[0])
    original, kept = _original(notice, header)
    subject = decode_words(_value(header, b"subject"))
    text = explanation(notice, subject, kept).encode("utf-8", "replace")
    parts = [_text_part(text), _status_part(notice)]
    if original:
        parts.append(original)
    boundary = _boundary(notice.unique, parts)
    eight_bit = not all(part.isascii() for part in parts)
    out = [*_header(notice, header, subject)]
    # RFC 6522 section 3
    out.append(
        b"MIME-Version: 1.0\n"
        b"Content-Type: multipart/report; report-type=delivery-status;\n"
        b'\tboundary="' + boundary + b'"\n'
    )
    if eight_bit:
        # RFC 2045 section 6.4: a multipart says what its parts need
        out.append(b"Content-Transfer-Encoding: 8bit\n")
    out.append(b"\n")
    for part in parts:
        out += (b"--", boundary, b"\n", part, b"\n")
    out += (b"--", boundary, b"--\n")
    return b"".join(out)


def _header(notice: Notice, original: bytes, subject: str) -> Iterator[bytes]:
    host = _host(notice.host) or "localhost"
    yield f"Date: {date(notice.now)}\n".encode()
    yield f"From: {FROM_NAME} <{FROM_LOCAL}@{host}>\n".encode()
    # An address that is not ASCII can only stand as it is (RFC 6532 section 3.2)
    yield b"To: <" + _cut(one_line(notice.to)).encode() + b">\n"
    yield _subject_field(notice, subject)
    yield f"Message-ID: <{_unique(notice)}@{host}>\n".encode()
    # RFC 3834 sections 3.1.5, 3.1.6
    if found := _MESSAGE_ID.fullmatch(_value(original, b"message-id").rstrip()):
        yield b"In-Reply-To: " + found[1] + b"\nReferences: " + found[1] + b"\n"
    # RFC 3834 section 5
    yield b"Auto-Submitted: auto-replied\n"


def _subject_field(notice: Notice, subject: str) -> bytes:
    happened, subject = subject_words(notice, subject)
    # What looks like an encoded-word (RFC 2047) after decoding must stay what it looks like
    subject = subject.replace("=?", "= ?")
    if not subject:
        return f"Subject: {happened}\n".encode()
    if subject.isascii():
        return _folded("Subject", f"{happened}: {subject}").encode()
    words = downgrade_field(b"Subject: " + subject.encode("utf-8", "replace"))
    return f"Subject: {happened}:\n ".encode() + words.removeprefix(b"Subject: ") + b"\n"


def _text_part(text: bytes) -> bytes:
    encoding = b"7bit"
    if not text.isascii():
        encoding, text = b"quoted-printable", b2a_qp(text)
    return (
        b"Content-Type: text/plain; charset=utf-8\n"
        b"Content-Transfer-Encoding: " + encoding + b"\n\n" + text
    )


def _status_part(notice: Notice) -> bytes:
    blocks = [_message_fields(notice)]
    blocks += [_recipient_fields(notice, recipient) for recipient in notice.recipients]
    text = "\n".join(blocks).encode("utf-8", "replace")
    # RFC 6533 section 4: the global form is for what has to be in UTF-8
    if text.isascii():
        return b"Content-Type: message/delivery-status\n\n" + text
    return (
        b"Content-Type: message/global-delivery-status\nContent-Transfer-Encoding: 8bit\n\n" + text
    )


def _message_fields(notice: Notice) -> str:
    """RFC 3464 section 2.2."""
    out = []
    if envid := one_line(notice.envid, 100):
        out.append(_folded("Original-Envelope-Id", _ascii(envid)))
    out.append(f"Reporting-MTA: dns;{_host(notice.host) or 'localhost'}\n")
    if notice.arrived is not None:
        out.append(f"Arrival-Date: {date(notice.arrived)}\n")
    return "".join(out)


def _recipient_fields(notice: Notice, recipient: Recipient) -> str:
    """RFC 3464 section 2.3."""
    out = []
    if recipient.orcpt:
        kind, _, address = recipient.orcpt.partition(";")
        original = _address(kind, address, notice.smtputf8)
        # One that is too long in its 7-bit form is none any more when it is cut
        if len(original.encode()) <= MAX_VALUE:
            out.append(f"Original-Recipient: {original}\n")
    final = _address("rfc822", recipient.address, notice.smtputf8)
    out.append(f"Final-Recipient: {_cut(final)}\n")
    out.append(f"Action: {recipient.action.value}\n")
    out.append(f"Status: {recipient.status}\n")
    host, ip = _host(recipient.host), _host(recipient.ip)
    if host:
        out.append(f"Remote-MTA: dns;{host}{f' ([{ip}])' if ip else ''}\n")
    elif ip:
        out.append(f"Remote-MTA: dns;[{ip}]\n")
    diagnostic = _cut(one_line(recipient.diagnostic, MAX_VALUE))
    if diagnostic and recipient.action is not Action.EXPANDED:
        # RFC 3464 section 2.3.6: smtp is what a peer said; other kinds begin with X-
        kind = "smtp" if recipient.said else "X-Twisted-Mail"
        said = diagnostic if notice.smtputf8 else _ascii(diagnostic)
        out.append(_folded("Diagnostic-Code", f"{kind}; {said}"))
    if recipient.last_attempt is not None:
        out.append(f"Last-Attempt-Date: {date(recipient.last_attempt)}\n")
    if queue_id := _host(notice.queue_id):
        out.append(f"Final-Log-Id: {queue_id}\n")
    # RFC 3464 section 2.3.9: only where there will be another try
    if recipient.action is Action.DELAYED and recipient.retry_until is not None:
        out.append(f"Will-Retry-Until: {date(recipient.retry_until)}\n")
    return "".join(out)


def _address(kind: str, address: str, smtputf8: bool) -> str:
    address = one_line(address)
    if address.isascii() and kind.lower() != "utf-8":
        return f"{_host(kind) or 'unknown'};{address}"
    # RFC 6533 section 3: the 7-bit form for who may not know better
    return f"utf-8;{unitext(address) if smtputf8 else utf8_xtext(address)}"


def _original(notice: Notice, header: bytes) -> tuple[bytes, str]:
    """The third part, b"" for none, and what it is called."""
    content = notice.original
    plain_header = header.isascii()
    # Raw octets in a header make a message that cannot be converted for a hop without 8BITMIME: its header can.
    if (
        notice.whole
        and len(content) <= notice.limit
        and (plain_header or (notice.smtputf8 and _is_utf8(header)))
        and content
    ):
        # RFC 6533 section 6: message/global when its own header is in UTF-8
        kind = b"message/rfc822" if plain_header else b"message/global"
        encoding = b"" if content.isascii() else b"Content-Transfer-Encoding: 8bit\n"
        return b"Content-Type: " + kind + b"\n" + encoding + b"\n" + content, "your message"
    if not header:
        return b"", ""
    if plain_header:
        return b"Content-Type: text/rfc822-headers\n\n" + header, "the header of your message"
    if notice.smtputf8 and _is_utf8(header):
        kind = b"message/global-headers\nContent-Transfer-Encoding: 8bit"
    else:
        # RFC 6522 section 4: quoted-printable makes broken header fields legal
        kind = b"text/rfc822-headers\nContent-Transfer-Encoding: quoted-printable"
        header = b2a_qp(header)
    return b"Content-Type: " + kind + b"\n\n" + header, "the header of your message"


def _bounded(header: bytes) -> bytes:
    """Whole fields of the header block, up to `MAX_HEADER` octets."""
    if len(header) <= MAX_HEADER:
        return header
    end = 0
    for _, _, field_end in fields(header):
        if field_end > MAX_HEADER:
            break
        end = field_end
    return header[:end]


def _value(header: bytes, wanted: bytes) -> bytes:
    for name, start, end in fields(header):
        if name == wanted:
            return header[start:end].partition(b":")[2].replace(b"\n", b"").strip()
    return b""


def _boundary(unique: str, parts: list[bytes]) -> bytes:
    """RFC 2046 section 5.1.1: one that stands in no part."""
    stem = f"=_{_NOT_UNIQUE.sub('', unique)[:40] or 'report'}"
    number = 0
    while any(f"--{stem}.{number}".encode() in part for part in parts):
        number += 1
    return f"{stem}.{number}".encode()


def _folded(name: str, value: str) -> str:
    """A field in lines of about `_FOLD` characters, cut at spaces only (RFC 5322 section 2.2.3).

    The first word stands beside the name, however long: readers of reports that know no folding find something there.
    """
    lines = []
    first, *words = value.split(" ")
    line = f"{name}: {first}"
    for word in words:
        if len(line) + len(word) >= _FOLD and line.strip():
            lines.append(line)
            line = ""
        line += f" {word}"
    lines.append(line)
    return "\n".join(lines) + "\n"


def _unique(notice: Notice) -> str:
    return _NOT_UNIQUE.sub("", notice.unique)[:100] or "report"


def _host(text: str) -> str:
    return _NOT_HOST.sub("", text[:255])


def _cut(text: str) -> str:
    """At most `MAX_VALUE` octets of it, as UTF-8."""
    return text.encode("utf-8", "replace")[:MAX_VALUE].decode("utf-8", "ignore")


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode("ascii")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
