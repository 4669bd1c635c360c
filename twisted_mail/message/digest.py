"""What an index keeps of a message, computed once: what FETCH, SEARCH, SORT and THREAD ask for most.

Most of it is in the header: `header_block` finds that in the first octets of a message. All values can stand in a
column of SQLite. They are a cache: `DIGEST_VERSION` changes with what they mean.
"""

from __future__ import annotations

from mmap import mmap
from typing import Final, NamedTuple

from .addresses import Address
from .bodystructure import bodystructure
from .collation import fold
from .date import parse_date
from .envelope import MAX_HEADER, read_fields, unfolded_block, written
from .plain_header import MAX_KEY, MAX_REFERENCES, message_ids, plain_digest, references
from .structure import Part, blank_line, scan, to_bytes
from .subject import base_subject
from .text import header_text, one_blank

__all__ = [
    "DIGEST_VERSION",
    "MAX_REFERENCES",
    "Digest",
    "HeaderDigest",
    "StructureDigest",
    "digest",
    "header_block",
    "header_digest",
    "read_header",
    "split_references",
    "structure_digest",
]

DIGEST_VERSION: Final = 2


class HeaderDigest(NamedTuple):
    """`envelope`: as IMAP writes it.

    `subject`, `from_`, `to`, `cc`, `bcc`: the fields' texts, decoded, unfolded and folded (`collation`), for SEARCH;
    several fields of one name are lines; a subject's words have one blank between them. `sent`: the Date in seconds
    since 1970-01-01 UTC, `sent_day`: its day in its own zone, in days since then (SENTSINCE); both None without a
    date that can be read. `message_id`, `references` (one a line; of In-Reply-To when there are none): without
    angle brackets, for THREAD; `base_subject` (folded) and `reply` (0, 1): RFC 5256 section 2.1. `sort_…`: keys of
    SORT (RFC 5256 section 3: the first address's mailbox),
    `display_…`: of RFC 5957, all folded.
    """

    envelope: bytes
    subject: str
    from_: str
    to: str
    cc: str
    bcc: str
    sent: int | None
    sent_day: int | None
    message_id: str
    references: str
    base_subject: str
    reply: int
    sort_from: str
    sort_to: str
    sort_cc: str
    display_from: str
    display_to: str


class StructureDigest(NamedTuple):
    """`bodystructure`: as IMAP writes it; `structure`: `part.to_bytes`; `octets`: RFC822.SIZE."""

    bodystructure: bytes
    structure: bytes
    octets: int


class Digest(NamedTuple):
    """Of a whole message."""

    header: HeaderDigest
    structure: StructureDigest

    def get(self, name: str) -> bytes | str | int | None:
        """A value of either by its name."""
        part = self.structure if name in StructureDigest._fields else self.header
        value: bytes | str | int | None = getattr(part, name)
        return value


def digest(content: bytes | mmap, root: Part | None = None) -> Digest:
    """Of a stored message; `root` when it was scanned already. Never raises."""
    if root is None:
        root = scan(content)
    header = content[root.start : min(root.body, root.start + MAX_HEADER)]
    return Digest(header_digest(unfolded_block(header)), structure_digest(root))


def structure_digest(root: Part) -> StructureDigest:
    """Of what `structure.scan` found."""
    return StructureDigest(bodystructure(root), to_bytes(root), root.header_octets + root.octets)


def header_block(content: bytes, whole: bool) -> bytes | None:
    """The header of the message that begins with `content`, as `envelope.unfolded_block` gives it: where
    `structure.scan` sees it end. None: that is behind `content`, which is not the `whole` message."""
    if content.startswith((b"\n", b"\r\n")):
        return unfolded_block(content[: content.index(b"\n") + 1])
    found = blank_line(content)
    if found is None and not whole:
        return None
    return unfolded_block(content[: len(content) if found is None else found.end()][:MAX_HEADER])


def header_digest(block: bytes) -> HeaderDigest:
    """Of a header block as `envelope.unfolded_block` gives it. Never raises."""
    values = plain_digest(block)
    return read_header(block) if values is None else HeaderDigest._make(values)


def read_header(block: bytes) -> HeaderDigest:
    """The same, whatever is in it."""
    fields = read_fields(block)
    texts, lists, raw = fields
    subject = header_text(texts.get(b"subject", b""))
    base, reply = base_subject(subject)
    date = texts.get(b"date")
    sent = None if date is None else parse_date(date)
    own = message_ids(texts.get(b"message-id", b""))
    from_ = lists.get(b"from")
    to = lists.get(b"to")
    return HeaderDigest(
        written(fields),
        "\n".join([one_blank(line) for line in _text(raw.get(b"subject")).split("\n")]),
        _text(raw.get(b"from")),
        _text(raw.get(b"to")),
        _text(raw.get(b"cc")),
        _text(raw.get(b"bcc")),
        None if sent is None else sent[0],
        None if sent is None else sent[1],
        own[0] if own else "",
        references(texts),
        fold(base),
        int(reply),
        _mailbox(from_),
        _mailbox(to),
        _mailbox(lists.get(b"cc")),
        _displayed(from_),
        _displayed(to),
    )


def split_references(text: str) -> list[str]:
    """The message ids of `Digest.references`."""
    return text.split("\n") if text else []


def _text(values: list[bytes] | None) -> str:
    if values is None:
        return ""
    return fold("\n".join([header_text(value) for value in values]))


def _mailbox(found: list[Address] | None) -> str:
    if not found:
        return ""
    return fold((found[0].mailbox or b"").decode("utf-8", "replace")[:MAX_KEY])


def _displayed(found: list[Address] | None) -> str:
    """RFC 5957 section 3: the display-name, else the address."""
    if not found:
        return ""
    name, _, mailbox, domain = found[0]
    if name is not None and (text := header_text(name)):
        return fold(text[:MAX_KEY])
    text = (mailbox or b"").decode("utf-8", "replace")
    if domain is not None:
        text += "@" + domain.decode("utf-8", "replace")
    return fold(text[:MAX_KEY])
