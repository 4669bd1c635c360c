"""The milter protocol, version 6, from the side of the mail server: calls to packets, bytes to answers.

    packet = length (4 octets, network order; of all that follows)  command (1 octet)  data

There is no standard; this follows libmilter's ``mfdef.h`` and what Postfix and Sendmail do. Duties of the caller: write
what a call returns, and when `awaiting` is not None then, get that stage's answer (`receive`, `answer`) before the
next call. `MilterError`: the filter broke the protocol; the connection is of no use any more. Nothing else is raised,
whatever the bytes; what is kept of them is bounded by `MAX_PACKET`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final, NamedTuple

from ..address import Address
from ..status import Reply
from .edits import make_field
from .interfaces import Add, Change, Delete, Edit, Insert, Recipient, Sender
from .milter_packets import (
    address_in,
    braced,
    macro_lists,
    packet,
    printable,
    reply_from,
    strings_in,
    text,
)

__all__ = [
    "LARGE_CHUNKS",
    "MAX_PACKET",
    "Answer",
    "Body",
    "Deleted",
    "Kind",
    "MilterEngine",
    "MilterError",
    "Quarantine",
    "Stage",
]

VERSION: Final = 6
CHUNK: Final = 65535
"""Octets of content in a packet, as libmilter wants it unless more was agreed on."""
LARGE_CHUNKS: Final = {0x10000000: 256 * 1024 - 1, 0x20000000: 1024 * 1024 - 1}
"""SMFIP_MDS_256K and SMFIP_MDS_1M: what more may be agreed on."""
MAX_PACKET: Final = 1024 * 1024 + 64
_MAX_CHANGES: Final = 2000
"""And one for each field of the header: who floods it must not keep a filter from cleaning it."""
_MAX_PROGRESS: Final = 10_000

# SMFIF_*: header fields added, body, recipients added and deleted, header fields changed, quarantine, sender,
# recipients with parameters, own lists of macros
_ADDHDRS, _CHGBODY, _ADDRCPT, _DELRCPT, _CHGHDRS, _QUARANTINE = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20
_CHGFROM, _ADDRCPT_PAR, _SETSYMLIST = 0x40, 0x80, 0x100
_ACTIONS: Final = 0x1FF
# SMFIP_*: stages and answers left out (below), and
_SKIP, _RCPT_REJ, _LEADING_SPACE = 0x400, 0x800, 0x100000
_STEPS: Final = 0x1FFFFF


class MilterError(Exception):
    """What the filter did wrong, in words fit for a log."""


class Stage(Enum):
    """A command: its letter, SMFIP_NO* (it is not sent), SMFIP_NR_* (no answer), the number of its list of macros."""

    CONNECT = (b"C", 0x1, 0x1000, 0)
    HELO = (b"H", 0x2, 0x2000, 1)
    MAIL = (b"M", 0x4, 0x4000, 2)
    RCPT = (b"R", 0x8, 0x8000, 3)
    DATA = (b"T", 0x200, 0x10000, 4)
    HEADER = (b"L", 0x20, 0x80, -1)
    EOH = (b"N", 0x40, 0x40000, 6)
    BODY = (b"B", 0x10, 0x80000, -1)
    EOM = (b"E", 0, 0, 5)
    NEGOTIATE = (b"O", 0, 0, -1)

    def __init__(self, letter: bytes, left_out: int, no_answer: int, macros: int) -> None:
        self.letter = letter
        self.left_out = left_out
        self.no_answer = no_answer
        self.macros = macros

    @property
    def title(self) -> str:
        """For people."""
        return self.name.lower()


class Kind(Enum):
    """What an answer is. CHANGE and PROGRESS are followed by others; REFUSED has a reply, 4xx or 5xx."""

    CONTINUE = 0
    ACCEPT = 1
    DISCARD = 2
    REFUSED = 3
    SKIP = 4
    PROGRESS = 5
    CHANGE = 6


class Body(NamedTuple):
    """A piece of a new body, with CRLF line ends."""

    block: bytes


class Deleted(NamedTuple):
    """A recipient to be removed; None: what was written is no address, so it is nobody's here."""

    address: Address | None


class Quarantine(NamedTuple):
    """Keep it back."""

    reason: str


class Answer(NamedTuple):
    """One packet of the filter's."""

    kind: Kind
    reply: Reply | None = None
    change: Edit | Body | Deleted | Quarantine | Recipient | Sender | None = None


_REJECT: Final = Reply(550, "5.7.1", ("Command rejected",))
_TEMPFAIL: Final = Reply(451, "4.7.1", ("Service unavailable - try again later",))
_SHUTDOWN: Final = Reply(421, "4.7.0", ("Service unavailable, closing the connection",))

_PLAIN: Final = {
    b"c": Answer(Kind.CONTINUE),
    b"a": Answer(Kind.ACCEPT),
    b"d": Answer(Kind.DISCARD),
    b"r": Answer(Kind.REFUSED, _REJECT),
    b"t": Answer(Kind.REFUSED, _TEMPFAIL),
    b"4": Answer(Kind.REFUSED, _SHUTDOWN),
    b"f": Answer(Kind.REFUSED, _SHUTDOWN),
    b"p": Answer(Kind.PROGRESS),
    b"s": Answer(Kind.SKIP),
}
# Which action must have been agreed on for a change
_CHANGES: Final = {
    b"h": _ADDHDRS,
    b"i": _ADDHDRS,
    b"m": _CHGHDRS,
    b"b": _CHGBODY,
    b"+": _ADDRCPT,
    b"2": _ADDRCPT_PAR,
    b"-": _DELRCPT,
    b"e": _CHGFROM,
    b"q": _QUARANTINE,
}


class MilterEngine:
    """One connection to a milter. `large`: offer packets of more than 64 KiB."""

    def __init__(self, *, large: bool = False) -> None:
        self.awaiting: Stage | None = None
        self.version = 0
        self.chunk = CHUNK
        """How much content goes into one packet."""
        self.leading_space = False
        """Whether values of header fields keep the space behind the colon, both ways."""
        self._offered = _STEPS | (sum(LARGE_CHUNKS) if large else 0)
        self._actions = 0
        self._steps = 0
        self._macros: dict[int, tuple[str, ...]] = {}
        self._buffer = bytearray()
        self._changes_left = _MAX_CHANGES
        self._progress = 0
        self._skipping = False

    # Calls

    def offer(self) -> bytes:
        """The first packet: what this side can do."""
        self.awaiting = Stage.NEGOTIATE
        return packet(b"O", struct.pack(">III", VERSION, _ACTIONS, self._offered))

    def wants(self, stage: Stage) -> bool:
        """Whether the filter wants to be told of this stage."""
        return not self._steps & stage.left_out and not (stage is Stage.BODY and self._skipping)

    @property
    def wants_refused(self) -> bool:
        """Whether it wants to be told of recipients that were refused (SMFIP_RCPT_REJ)."""
        return bool(self._steps & _RCPT_REJ)

    def call(
        self, stage: Stage, data: bytes = b"", macros: Mapping[str, str] | None = None
    ) -> bytes:
        """Packets for one stage; b"" when the filter wants neither it nor macros."""
        self._ready()
        out = b""
        if macros:
            # Also for stages that it does not want: they are valid from here on.
            out = self._macro_packet(stage, macros)
        if not self.wants(stage):
            return out
        if stage is Stage.EOM:
            self._skipping = False
        elif stage is Stage.MAIL:
            self._changes_left = _MAX_CHANGES
        self._progress = 0
        if not self._steps & stage.no_answer or stage is Stage.EOM:
            self.awaiting = stage
        return out + packet(stage.letter, data)

    def connect(self, ip: str, port: int, name: str, macros: Mapping[str, str]) -> bytes:
        """SMFIC_CONNECT. `name` is "" when it is not known."""
        if not ip:
            where = b"U"
        else:
            family = b"6" if ":" in ip else b"4"
            where = family + struct.pack(">H", port) + text(ip)
        return self.call(Stage.CONNECT, text(name or "unknown") + where, macros)

    def path(
        self,
        stage: Stage,
        address: Address | None,
        parameters: Iterable[str],
        macros: Mapping[str, str],
    ) -> bytes:
        """SMFIC_MAIL and SMFIC_RCPT."""
        words = [f"<{'' if address is None else address}>", *parameters]
        return self.call(stage, b"".join(map(text, words)), macros)

    def header(self, field: bytes) -> bytes:
        """SMFIC_HEADER: one field, as it stands in the message."""
        name, _, value = field.partition(b":")
        if not self.leading_space:
            value = value.removeprefix(b" ")
        value = value.removesuffix(b"\n").replace(b"\0", b"")
        # A packet that libmilter would not take; no honest field is so long.
        value = value[: CHUNK - len(name) - 8]
        self._changes_left += 1
        return self.call(Stage.HEADER, name.rstrip(b" \t")[:1000] + b"\0" + value + b"\0")

    def abort(self) -> bytes:
        """SMFIC_ABORT: the message is over. No answer."""
        self._ready()
        self._skipping = False
        return packet(b"A")

    def quit(self) -> bytes:
        """SMFIC_QUIT: goodbye. No answer."""
        return packet(b"Q")

    def _ready(self) -> None:
        if self.awaiting is not None:
            raise MilterError(f"no answer to {self.awaiting.title} yet")
        if self._buffer:
            raise MilterError("it talks without being asked")

    def _macro_packet(self, stage: Stage, macros: Mapping[str, str]) -> bytes:
        wanted = self._macros.get(stage.macros)
        pairs = (
            macros.items()
            if wanted is None
            else ((name, macros[name]) for name in wanted if name in macros)
        )
        data = b"".join(text(braced(name)) + text(value) for name, value in pairs)
        return packet(b"D", stage.letter + data) if data or wanted is None else b""

    # Answers

    def receive(self, data: bytes) -> None:
        """Bytes from the filter. Call `answer` until it gives None before there are more."""
        self._buffer += data

    def answer(self) -> Answer | None:
        """The next answer to `awaiting`; None: it is not there yet. Raises MilterError."""
        found = self._packet()
        if found is None:
            return None
        stage = self.awaiting
        if stage is None:
            raise MilterError("it talks without being asked")
        command, data = found
        if stage is Stage.NEGOTIATE:
            self._agree(command, data)
            self.awaiting = None
            return Answer(Kind.CONTINUE)
        answer = self._read(stage, command, data)
        if answer.kind is Kind.PROGRESS:
            self._progress += 1
            if self._progress > _MAX_PROGRESS:
                raise MilterError("it is always about to answer")
        elif answer.kind is Kind.CHANGE:
            # Bodies are bounded by their size
            self._changes_left -= not isinstance(answer.change, Body)
            if self._changes_left < 0:
                raise MilterError("too many changes")
        else:
            self._skipping = answer.kind is Kind.SKIP
            self.awaiting = None
        return answer

    def _packet(self) -> tuple[bytes, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 4:
            return None
        size = int.from_bytes(buffer[:4])
        if not 1 <= size <= MAX_PACKET:
            raise MilterError(f"a packet of {size} octets")
        if len(buffer) < 4 + size:
            return None
        command, data = bytes(buffer[4:5]), bytes(buffer[5 : 4 + size])
        del buffer[: 4 + size]
        return command, data

    def _agree(self, command: bytes, data: bytes) -> None:
        if command != b"O" or len(data) < 12:
            raise MilterError("no answer to the negotiation")
        version, actions, steps = struct.unpack_from(">III", data)
        if not 2 <= version <= VERSION:
            raise MilterError(f"it talks version {version}")
        if actions & ~_ACTIONS:
            raise MilterError(f"it wants to do what is not offered ({actions & ~_ACTIONS:#x})")
        self.version = version
        self._actions = actions
        self._steps = steps & self._offered
        # Commands that an older filter does not know
        if version < 3:
            self._steps |= 0x100
        if version < 4:
            self._steps |= Stage.DATA.left_out
        self.leading_space = bool(self._steps & _LEADING_SPACE)
        for flag, size in LARGE_CHUNKS.items():
            if self._steps & flag:
                self.chunk = size
                break
        self._macros = macro_lists(data[12:])

    def _read(self, stage: Stage, command: bytes, data: bytes) -> Answer:
        answer = _PLAIN.get(command)
        if answer is not None:
            if data:
                raise MilterError("an answer with something behind it")
            if answer.kind is Kind.SKIP and not (stage is Stage.BODY and self._steps & _SKIP):
                raise MilterError(f"it skips at {stage.title}")
            if answer.kind is Kind.DISCARD and stage in (Stage.CONNECT, Stage.HELO):
                raise MilterError(f"it discards at {stage.title}")
            return answer
        if command == b"y":
            reply = reply_from(data.partition(b"\0")[0])
            if reply is None:
                raise MilterError("a reply that is none")
            return Answer(Kind.REFUSED, reply)
        needs = _CHANGES.get(command)
        if needs is None or stage is not Stage.EOM:
            raise MilterError(f"an unknown answer to {stage.title}")
        if not self._actions & needs and not (command == b"+" and self._actions & _ADDRCPT_PAR):
            raise MilterError("a change that was not agreed on")
        try:
            return Answer(Kind.CHANGE, change=self._change(command, data))
        except ValueError as error:
            raise MilterError(f"a change that cannot be made: {error}") from None

    def _change(
        self, command: bytes, data: bytes
    ) -> Edit | Body | Deleted | Quarantine | Recipient | Sender:
        if command == b"b":
            return Body(data)
        if command == b"q":
            return Quarantine(printable(data.partition(b"\0")[0]) or "quarantined")
        if command in (b"i", b"m"):
            if len(data) < 4:
                raise ValueError("a number is missing")
            index, data = int.from_bytes(data[:4]), data[4:]
        words = strings_in(data)
        if command in (b"h", b"i", b"m"):
            if len(words) != 2:
                raise ValueError("not a name and a value")
            name, value = words
            if command == b"m" and not value:
                make_field(name, b"")
                return Delete(name.lower(), max(1, index))
            field = make_field(name, value, space=not self.leading_space)
            if command == b"h":
                return Add(field)
            if command == b"i":
                # Counted with our own Received, which the filter does not see: 0 is above it, 1 below. Ours stays
                # on top.
                return Insert(max(0, index - 1), field)
            return Change(name.lower(), max(1, index), field)
        if not words or (len(words) > 1 and command in (b"+", b"-")) or len(words) > 64:
            raise ValueError("not an address")
        parameters = tuple(printable(word) for word in words[1:] for word in word.split() if word)
        if command == b"e":
            return Sender(address_in(words[0], null=True), parameters)
        if command == b"-":
            try:
                return Deleted(address_in(words[0]))
            except ValueError:
                return Deleted(None)
        address = address_in(words[0])
        if address is None:
            raise ValueError("not an address")
        return Recipient(address, parameters)
