"""An account's mailboxes as IMAP sees them: values, and what storage (or somebody's own realm) has to provide.

An account that provides `interfaces.IMailboxAccount` gives a `Mailboxes`; that opens an `OpenMailbox`, whose `snapshot`
is immutable and replaced by a newer one whenever anybody (this session, another one, another process, POP3, delivery,
another program in the Maildir) changed the mailbox. A session keeps the snapshot that its client knows, and tells the
difference when the protocol lets it.

Names of mailboxes are Unicode (NFC), hierarchy by ``/``; the inbox is ``INBOX``. Flags are bits: five system flags,
then up to 26 keywords whose names the snapshot has. UIDs and mod-sequences are as in RFC 9051 and RFC 7162. What is
awaited raises `status.MailError`, whose `imap` is the response code (``NONEXISTENT``, ``OVERQUOTA`` …, RFC 9051
section 7.1).
"""

from __future__ import annotations

import enum
from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from itertools import compress
from typing import Any, Final, NamedTuple, Protocol

__all__ = [
    "ANSWERED",
    "DELETED",
    "DRAFT",
    "FIRST_KEYWORD",
    "FLAGGED",
    "MAX_KEYWORDS",
    "SEEN",
    "SYSTEM_FLAGS",
    "Added",
    "Appending",
    "Change",
    "Filed",
    "LargeContent",
    "MailboxInfo",
    "Mailboxes",
    "Message",
    "OpenMailbox",
    "Quota",
    "Snapshot",
    "Status",
    "StoreMode",
    "Stored",
    "Writing",
]

SEEN: Final = 1
ANSWERED: Final = 2
FLAGGED: Final = 4
DELETED: Final = 8
DRAFT: Final = 16
SYSTEM_FLAGS: Final = {
    "\\Seen": SEEN,
    "\\Answered": ANSWERED,
    "\\Flagged": FLAGGED,
    "\\Deleted": DELETED,
    "\\Draft": DRAFT,
}
FIRST_KEYWORD: Final = 5
"""The bit of a mailbox's first keyword: keyword `n` is ``1 << (FIRST_KEYWORD + n)``."""
MAX_KEYWORDS: Final = 26
"""A letter of a Maildir's file names each, as Dovecot has them."""
MAX_LOG: Final = 64
"""Changes that a snapshot remembers, so that who is not far behind need not compare everything."""


class Added(NamedTuple):
    """A message that is new in a mailbox. `size`: octets as sent (CRLF); `date`: INTERNALDATE, seconds UTC."""

    uid: int
    flags: int
    modseq: int
    size: int
    date: int


class Change(NamedTuple):
    """What happened at one mod-sequence, or several that were seen together (`modseq` is the highest).

    `changed` and `expunged` are UIDs, ascending; what was added is above the `uidnext` of before.
    """

    modseq: int
    changed: Sequence[int]
    expunged: Sequence[int]


class Snapshot:
    """A mailbox at one moment. Immutable: nobody writes into its arrays, and they may be shared.

    The arrays are parallel, in ascending order of `uids`. `modseq` is HIGHESTMODSEQ. `keywords[n]` is the name of
    keyword `n`; "" for a letter without a name. `log`: the last changes, oldest first; `log_floor`: the mod-sequence
    of the snapshot to which the first of them was applied.
    """

    __slots__ = (
        "dates",
        "flags",
        "keywords",
        "log",
        "log_floor",
        "modseq",
        "modseqs",
        "sizes",
        "uidnext",
        "uids",
        "validity",
    )

    def __init__(
        self,
        *,
        validity: int,
        uidnext: int,
        modseq: int,
        uids: array[int] | None = None,
        flags: array[int] | None = None,
        modseqs: array[int] | None = None,
        sizes: array[int] | None = None,
        dates: array[int] | None = None,
        keywords: tuple[str, ...] = (),
        log: tuple[Change, ...] = (),
        log_floor: int | None = None,
    ) -> None:
        self.validity = validity
        self.uidnext = uidnext
        self.modseq = modseq
        self.uids = array("I") if uids is None else uids
        self.flags = array("I") if flags is None else flags
        self.modseqs = array("Q") if modseqs is None else modseqs
        self.sizes = array("Q") if sizes is None else sizes
        self.dates = array("q") if dates is None else dates
        self.keywords = keywords
        self.log = log
        self.log_floor = modseq if log_floor is None else log_floor

    def __len__(self) -> int:
        return len(self.uids)

    def index(self, uid: int) -> int:
        """Where `uid` stands in the arrays; -1 when it is not there."""
        at = bisect_left(self.uids, uid)
        return at if at < len(self.uids) and self.uids[at] == uid else -1

    def names(self, bits: int) -> tuple[str, ...]:
        """The flags that `bits` stand for, in a constant order."""
        found = [name for name, bit in SYSTEM_FLAGS.items() if bits & bit]
        rest = bits >> FIRST_KEYWORD
        if rest:
            found += [name for n, name in enumerate(self.keywords) if name and rest & (1 << n)]
        return tuple(found)

    def bits(self, names: Iterable[str]) -> int:
        """The bits of those `names` that are known here; flags are case-blind (RFC 9051 section 2.3.2)."""
        bits = 0
        for name in names:
            wanted = name.lower()
            for known, bit in SYSTEM_FLAGS.items():
                if known.lower() == wanted:
                    bits |= bit
            for n, known in enumerate(self.keywords):
                if known and known.lower() == wanted:
                    bits |= 1 << (FIRST_KEYWORD + n)
        return bits

    def first_unseen(self) -> int:
        """The index of the first message without \\Seen; -1 when there is none."""
        for at, bits in enumerate(self.flags):
            if not bits & SEEN:
                return at
        return -1

    def changed_since(self, modseq: int) -> list[int]:
        """UIDs whose mod-sequence is above `modseq`, ascending."""
        if modseq >= self.modseq:
            return []
        return [uid for uid, mark in zip(self.uids, self.modseqs, strict=True) if mark > modseq]

    def after(
        self,
        *,
        modseq: int,
        added: Sequence[Added] = (),
        changed: Sequence[tuple[int, int, int]] = (),
        expunged: Collection[int] = (),
        uidnext: int | None = None,
        keywords: tuple[str, ...] | None = None,
    ) -> Snapshot:
        """This mailbox after a change. `changed`: (uid, flags, modseq). What is known already changes nothing."""
        last = self.uids[-1] if self.uids else 0
        if added and added[0].uid <= last:
            # Who tells everything since a moment before does not know that we have heard of these.
            changed = [*changed, *((one.uid, one.flags, one.modseq) for one in added)]
        uids, flags, modseqs = self.uids, self.flags, self.modseqs
        sizes, dates = self.sizes, self.dates
        touched: list[int] = []
        if changed:
            flags, modseqs = flags[:], modseqs[:]
            for uid, bits, mark in changed:
                at = self.index(uid)
                if at >= 0 and modseqs[at] < mark:
                    flags[at] = bits
                    modseqs[at] = mark
                    touched.append(uid)
        gone: list[int] = []
        if expunged:
            without = sorted(at for uid in set(expunged) if (at := self.index(uid)) >= 0)
            if without:
                gone = [uids[at] for at in without]
                uids, flags, modseqs, sizes, dates = (
                    _kept(values, without) for values in (uids, flags, modseqs, sizes, dates)
                )
        new = [one for one in added if one.uid > last]
        if new:
            uids = uids + array("I", [one.uid for one in new])
            flags = flags + array("I", [one.flags for one in new])
            modseqs = modseqs + array("Q", [one.modseq for one in new])
            sizes = sizes + array("Q", [one.size for one in new])
            dates = dates + array("q", [one.date for one in new])
        modseq = max(modseq, self.modseq)
        log, floor = self.log, self.log_floor
        if len(log) >= MAX_LOG:
            floor, log = log[MAX_LOG // 2 - 1].modseq, log[MAX_LOG // 2 :]
        top = max(self.uidnext, uidnext or 0, new[-1].uid + 1 if new else 0)
        return Snapshot(
            validity=self.validity,
            uidnext=top,
            modseq=modseq,
            uids=uids,
            flags=flags,
            modseqs=modseqs,
            sizes=sizes,
            dates=dates,
            keywords=self.keywords if keywords is None else keywords,
            log=(*log, Change(modseq, sorted(touched), gone)),
            log_floor=floor,
        )


def _kept(values: array[int], without: Sequence[int]) -> array[int]:
    """`values` without those at the indexes `without`, ascending. Sessions wait: no step of Python for each value."""
    if len(without) * 16 > len(values):
        keep = bytearray(b"\1") * len(values)
        for at in without:
            keep[at] = 0
        return array(values.typecode, compress(values, keep))
    kept = array(values.typecode)
    start = 0
    for at in without:
        kept += values[start:at]
        start = at + 1
    kept += values[start:]
    return kept


class MailboxInfo(NamedTuple):
    """One line of what LIST is made of. `selectable` False: only subscribed to, or only above others."""

    name: str
    mailbox_id: str
    special_use: frozenset[str]
    subscribed: bool
    selectable: bool


class Status(NamedTuple):
    """What STATUS can be asked for (RFC 9051 section 6.3.11, RFC 7162 section 3.1.2.1, RFC 8474 section 4.3)."""

    messages: int
    unseen: int
    deleted: int
    size: int
    uidnext: int
    validity: int
    modseq: int
    mailbox_id: str
    deleted_size: int


class Quota(NamedTuple):
    """RFC 9208 section 5: what is used and allowed. Sizes in octets (STORAGE is told in 1024); None: no limit."""

    storage: int
    storage_limit: int | None
    messages: int
    message_limit: int | None


class StoreMode(enum.Enum):
    """RFC 9051 section 6.4.6."""

    REPLACE = "FLAGS"
    ADD = "+FLAGS"
    REMOVE = "-FLAGS"


class Stored(NamedTuple):
    """The outcome of `OpenMailbox.store`. `failed`: UIDs whose mod-sequence was above the one asked for.

    `modseq`: that of the change; messages whose flags were so before keep theirs.
    """

    modseq: int
    failed: Sequence[int]


class Filed(NamedTuple):
    """Messages that were put into a mailbox: RFC 4315 section 3. `sources`: for COPY and MOVE, the UIDs before."""

    validity: int
    uids: Sequence[int]
    sources: Sequence[int] = ()


class Writing(Protocol):
    """A message on its way in: blocks with LF line ends (`message.lines`), then it is given to `Mailboxes.append`."""

    size: int
    """Bytes taken so far."""

    def write(self, block: bytes) -> Awaitable[None] | None:
        """Take a block; what is to be awaited, when there is something, before the next one."""

    async def finish(self) -> None:
        """Nothing more is written. To be called where another message follows: so that only one file is open at a time.
        Raises MailError."""

    def discard(self) -> None:
        """Forget it. May be called at any time, and more than once."""


class Appending(NamedTuple):
    """A message for APPEND. `flags`: names; `date`: seconds since 1970 UTC, None for now."""

    content: Any
    flags: Sequence[str] = ()
    date: int | None = None


class LargeContent(Protocol):
    """A message too large to be read at once; bytes as stored."""

    size: int

    async def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`; b"" behind the end."""

    def close(self) -> None:
        """Let go of the file. To be called once, always."""


class Message(NamedTuple):
    """What `OpenMailbox.contents` gives. `content`: all its bytes as stored, or a `LargeContent`; None: it is gone."""

    uid: int
    content: Any


class OpenMailbox(Protocol):
    """A mailbox that somebody has selected. All UID sequences that go in are ascending and without doubles."""

    read_only: bool

    @property
    def name(self) -> str:
        """Its name, also after somebody has renamed it."""

    @property
    def mailbox_id(self) -> str:
        """RFC 8474 section 4.1."""

    @property
    def snapshot(self) -> Snapshot:
        """The mailbox as this process knows it now. Cheap."""

    def listen(self, changed: Callable[[], None] | None) -> None:
        """Call `changed` on the reactor thread whenever `snapshot` has become another one; None: no more."""

    def refresh(self) -> Awaitable[None] | None:
        """Look for what other programs and processes did; None when there is nothing to be looked for."""

    async def store(
        self,
        uids: Sequence[int],
        mode: StoreMode,
        flags: Sequence[str],
        unchanged_since: int | None = None,
    ) -> Stored:
        """Change flags. UIDs that are gone are passed over. Raises MailError, imap="LIMIT" for one keyword too many."""

    async def expunge(self, uids: Sequence[int] | None = None) -> None:
        """Delete what has \\Deleted, among `uids` only when given; durable when it returns."""

    async def copy(self, uids: Sequence[int], name: str) -> Filed:
        """Into the mailbox `name`, all or none, with flags and dates. MailError imap="TRYCREATE" when there is none."""

    async def move(self, uids: Sequence[int], name: str) -> Filed:
        """As `copy`, and they are gone here."""

    async def vanished(self, since: int) -> Sequence[int] | None:
        """UIDs expunged after the mod-sequence `since`, ascending; None when that is not known any more."""

    def contents(self, uids: Sequence[int]) -> AsyncIterator[Sequence[Message]]:
        """The messages in their order, some at a time (bounded by bytes). Who takes a `LargeContent` closes it."""

    def columns(
        self, uids: Sequence[int], names: Sequence[str]
    ) -> AsyncIterator[Sequence[tuple[Any, ...]]]:
        """(uid, value, …) in the order of `uids`, many at a time; what is gone is left out.

        `names` are fields of `message.digest.Digest` (computed when they are not known yet), or ``save_date``
        (seconds), ``emailid``, ``threadid``.
        """

    async def match_field(self, field: str, folded: str, uids: Sequence[int]) -> Sequence[int]:
        """Those of `uids` whose field of the digest (a folded text) contains `folded`. Exact."""

    async def match_text(self, text: str, uids: Sequence[int], *, body_only: bool) -> Sequence[int]:
        """Those of `uids` whose text (SEARCH TEXT; BODY) contains `text`, folded. Exact."""

    async def match_header(self, name: str, text: str, uids: Sequence[int]) -> Sequence[int]:
        """Those of `uids` with a header field `name` (lower case) whose text contains `text`, folded. Exact."""

    async def close(self) -> None:
        """Let go. Called once, always."""


class Mailboxes(Protocol):
    """All mailboxes of one account, for one session."""

    async def list(self) -> Sequence[MailboxInfo]:
        """Every mailbox, and every name that is only subscribed to; the inbox first, then by name."""

    async def create(self, name: str, special_use: Collection[str] = ()) -> str:
        """Make a mailbox, and give its id. Raises MailError imap="ALREADYEXISTS", "CANNOT", "LIMIT", "USEATTR"."""

    async def delete(self, name: str) -> None:
        """Raises MailError imap="NONEXISTENT", "CANNOT" (the inbox)."""

    async def rename(self, name: str, to: str) -> None:
        """With all below it; INBOX: its messages move, it stays (RFC 9051 section 6.3.6)."""

    async def subscribe(self, name: str, wanted: bool) -> None:
        """Names need not exist. Durable when it returns."""

    async def status(self, name: str) -> Status:
        """Raises MailError imap="NONEXISTENT"."""

    async def open(self, name: str, *, read_only: bool = False) -> OpenMailbox:
        """Raises MailError imap="NONEXISTENT"."""

    def write(self) -> Writing:
        """A new message's content, to be written."""

    async def append(self, name: str, messages: Sequence[Appending]) -> Filed:
        """All or none; durable and readable when it returns. The contents are the store's, whatever happens.

        MailError imap="TRYCREATE" when there is no such mailbox, "OVERQUOTA", "LIMIT".
        """

    async def replace(self, opened: OpenMailbox, uid: int, name: str, message: Appending) -> Filed:
        """RFC 8508: append to `name` and expunge `uid` of `opened`, in one step."""

    async def quota(self) -> Quota:
        """Of the account as a whole."""

    async def metadata(self, name: str) -> dict[str, bytes]:
        """RFC 5464: all entries of a mailbox, of the account for "": lower-case entry name → value."""

    async def set_metadata(self, name: str, entries: dict[str, bytes | None]) -> None:
        """Set or (None) remove. All or none; durable. MailError imap="METADATA TOOMANY", "METADATA MAXSIZE n"."""

    def watch(
        self, names: Collection[str] | None, changed: Callable[[str], None]
    ) -> Callable[[], None]:
        """Call `changed(name)` when a mailbox (of `names`; None: any) has other messages or flags, ``""`` when there
        are other mailboxes or subscriptions. Gives what ends it."""

    def watch_metadata(self, changed: Callable[[str, Collection[str]], None]) -> Callable[[], None]:
        """Call `changed(name, entries)` when another session of this process has set or removed annotations of a
        mailbox (``""``: of the account). Gives what ends it."""

    def watch_end(self, ended: Callable[[], None]) -> Callable[[], None]:
        """Call `ended`, once, on the reactor thread, when the account is no more: whoever has it open is sent away.
        Gives what ends it. Nothing of the account is made again by what is called afterwards: that raises MailError."""

    async def close(self) -> None:
        """The session is over. Called once, always, after what it opened was closed."""
