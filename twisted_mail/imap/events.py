"""What the engine hands to the session, and what it can be told to read next.

APPEND, REPLACE and UID REPLACE come in pieces, so that content of any size passes through:

    AppendBegin
      AppendMessage                         one or more (MULTIAPPEND)
        Content* ContentEnd                 plain; `AppendMessage.size` octets in all
        or, with `catenate` (RFC 4469):
        (CatenateUrl | CatenateText Content* ContentEnd)*  CatenateEnd
    AppendEnd                               the line end was read: now answer with the tag

`AppendBegin`, `AppendMessage`, `CatenateUrl` and `CatenateText` are answered with `expect` ACCEPT (and, when
the event says `synchronising`, with a continuation request as data), or REFUSE together with the
tagged NO: then the command is over, and what still comes of it is swallowed. `Content` and
`ContentEnd` may be refused in the same way. `Invalid` in between ends the command, too.
"""

from __future__ import annotations

import enum
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from .sequence import SequenceSet

__all__ = [
    "ACCEPT",
    "IDLE",
    "REFUSE",
    "SASL",
    "AppendBegin",
    "AppendEnd",
    "AppendMessage",
    "CatenateEnd",
    "CatenateText",
    "CatenateUrl",
    "Command",
    "Content",
    "ContentEnd",
    "Done",
    "Event",
    "Invalid",
    "LiteralWanted",
    "SaslResponse",
    "Terms",
]


class Expect(enum.Enum):
    """What `Engine.resume` takes besides None (a command) and `Terms`."""

    SASL = "SASL"
    IDLE = "IDLE"
    ACCEPT = "ACCEPT"
    REFUSE = "REFUSE"


SASL: Final = Expect.SASL
"""The next line is a `SaslResponse`."""
IDLE: Final = Expect.IDLE
"""The next line is DONE."""
ACCEPT: Final = Expect.ACCEPT
"""Go on with the append (only needed to say so; None means it, too)."""
REFUSE: Final = Expect.REFUSE
"""The append was answered NO: swallow what comes of it."""


class Terms(NamedTuple):
    """To `resume`, instead of None: what holds from now on, until other terms are given.

    `logged_in`: larger literals, LITERAL+. `utf8`: UTF8=ACCEPT or IMAP4rev2 is enabled, so mailbox
    names are UTF-8 and "&" is only itself.
    """

    logged_in: bool
    utf8: bool = False


class Command(NamedTuple):
    """`name`: upper case, without UID in front: that is in `args`, which are the `commands.Arguments` of that name."""

    tag: bytes
    name: str
    args: Any


class Invalid(NamedTuple):
    """To be answered ``tag status [code] text``; the tag is ``*`` when none could be read. Nothing of
    what it is about will come any more: it ends an append, a SASL exchange, and IDLE (with the tag of
    those commands).
    """

    tag: bytes
    text: str
    code: str = ""
    status: Literal["BAD", "NO"] = "BAD"


class LiteralWanted(NamedTuple):
    """The client waits for a continuation request before it sends a literal."""

    size: int


class SaslResponse(NamedTuple):
    """One line of a SASL exchange without its line end: BASE64, or ``*`` to cancel."""

    line: bytes

    def __repr__(self) -> str:
        return "SaslResponse()"


class Done(NamedTuple):
    """IDLE is over."""


class AppendBegin(NamedTuple):
    """`name`: APPEND or REPLACE. `replaced`: the one message of REPLACE, a set of one number or ``*``;
    `uid`: it is a UID."""

    tag: bytes
    name: str
    mailbox: str
    replaced: SequenceSet | None
    uid: bool


class AppendMessage(NamedTuple):
    """`size`: octets, None with `catenate`; 0 is to be refused (RFC 3502 section 6.3.11).

    `binary`: a literal8, NUL may be in it (RFC 3516); `utf8`: it came as UTF8 (…) (RFC 6855 section
    4). `date`: seconds since 1970 UTC. Flags as in `commands`, without \\Recent."""

    flags: tuple[str, ...]
    date: int | None
    size: int | None
    binary: bool
    utf8: bool
    synchronising: bool
    catenate: bool


class CatenateUrl(NamedTuple):
    url: bytes


class CatenateText(NamedTuple):
    size: int
    binary: bool
    synchronising: bool


class CatenateEnd(NamedTuple):
    """All parts of this message have come."""


class Content(NamedTuple):
    """A block, never empty, of at most 64 KiB."""

    data: bytes

    def __repr__(self) -> str:
        return f"Content({len(self.data)} octets)"


class ContentEnd(NamedTuple):
    """All octets of the literal have come."""


class AppendEnd(NamedTuple):
    """The command is complete; answer it with its tag."""


Event: TypeAlias = (
    Command
    | Invalid
    | LiteralWanted
    | SaslResponse
    | Done
    | AppendBegin
    | AppendMessage
    | CatenateUrl
    | CatenateText
    | CatenateEnd
    | Content
    | ContentEnd
    | AppendEnd
)
