"""What an accepting server does to a message's header, while the message streams by.

On every port an old Return-Path goes, and a message that has been through too many servers is refused. On submission
besides: Date and Message-ID when they are missing, and Bcc goes. Bodies are nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from ..message.headers import may_be_field, split, without
from ..status import MailError

__all__ = ["HeaderEditor", "HeaderRules"]

# RFC 5322 section 4.5: obsolete space before the colon
_OURS = re.compile(
    rb"^(received|return-path|bcc|date|message-id)[ \t]*:", re.MULTILINE | re.IGNORECASE
)
_NOTHING = bytearray()
MAX_HEADER = 128 * 1024
"""Octets of a header block, at most, as Exchange has it: it is held in memory until it is whole, and looked at in
one go, for which others wait."""


class HeaderRules(NamedTuple):
    """What to do. `missing` gives whole fields by lower-case name, put in when there are none; `check` is shown the
    header of a submission as it came, and raises MailError for one that is not taken."""

    max_received: int
    submission: bool = False
    missing: Callable[[], dict[bytes, bytes]] = dict
    check: Callable[[bytes], None] | None = None


class HeaderEditor:
    """Takes content with LF line ends and gives it back without its header.

    Once `done`, `received` is the header block as it came, and `head` what becomes of it, without the trace.
    """

    __slots__ = ("_held", "_looked", "_rules", "done", "head", "received")

    def __init__(self, rules: HeaderRules) -> None:
        self._rules = rules
        self._held = _NOTHING
        self._looked = 0
        self.done = False
        self.received = self.head = b""

    def feed(self, text: bytes) -> bytes:
        """More content in; out comes what follows the header, which begins with the empty line, if there is anything.

        Raises MailError when the message is to be refused.
        """
        if self.done:
            return text
        held = self._held
        if held:
            held += text
            if held.find(b"\n\n", max(0, self._looked - 1)) < 0 and len(held) <= MAX_HEADER:
                self._looked = len(held)
                return b""
            return self._edit(bytes(held))
        # Nearly always the first block has all of it.
        if text.startswith(b"\n") or b"\n\n" in text or len(text) > MAX_HEADER:
            return self._edit(text)
        self._held = bytearray(text)
        self._looked = len(text)
        return b""

    def finish(self) -> bytes:
        """The rest, at the end of the content."""
        return b"" if self.done else self._edit(bytes(self._held))

    def _edit(self, content: bytes) -> bytes:
        self._held, self.done = _NOTHING, True
        header, rest = split(content)
        if len(header) > MAX_HEADER or may_be_field(rest):
            raise MailError(552, "5.3.4", "Message header too big")
        if rest and not rest.startswith(b"\n"):
            # RFC 5322 section 2.1: text that follows the fields at once is body; our trace must not be read as such.
            rest = b"\n" + rest
        self.received = header
        self.head = self._edited(header)
        return rest

    def _edited(self, header: bytes) -> bytes:
        rules = self._rules
        lower = header.lower()
        loops = lower.count(b"received") >= rules.max_received
        if not (loops or rules.submission or b"return-path" in lower):
            return header  # nearly always, and words are found sooner than fields
        found = [name.lower() for name in _OURS.findall(header)]
        # RFC 5321 section 6.3
        if found.count(b"received") >= rules.max_received:
            raise MailError(554, "5.4.6", "Too many hops: this message is in a loop")
        # RFC 5321 section 4.4: the one made at final delivery is the only one
        unwanted = {b"return-path"}
        added = b""
        if rules.submission:
            if rules.check is not None:
                rules.check(header)
            # RFC 6409 section 8
            unwanted.add(b"bcc")
            added = b"".join(field for name, field in rules.missing().items() if name not in found)
        if not unwanted.isdisjoint(found):
            header = without(header, unwanted)
        return header + added
