"""What the commands of IMAP say, as values: one class a command, made by `imap.grammar`.

Mailbox names are str, decoded from modified UTF-7 or UTF-8, in NFC; INBOX is "INBOX" in whatever
case it came. Flags are str: system flags spelt as in RFC 9051 section 2.3.2 ("\\\\Seen"), keywords as
they came; none twice. What is searched for, passwords and annotations stay bytes. Names that the
grammar fixes (items, options, capabilities) are str in upper case.

`uid` says whether it was the form with UID in front: the numbers are UIDs.
APPEND and REPLACE are no values here: they are streams (`imap.events`).
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from ..mailboxes import StoreMode
from .fetching import FetchItem
from .searching import SearchKey
from .sequence import SequenceSet

__all__ = [
    "NO_ARGUMENTS",
    "Arguments",
    "Authenticate",
    "Compress",
    "Copy",
    "Create",
    "Delete",
    "Enable",
    "EventGroup",
    "Expunge",
    "Fetch",
    "GetMetadata",
    "GetQuota",
    "GetQuotaRoot",
    "Id",
    "List",
    "Login",
    "Lsub",
    "Move",
    "NoArguments",
    "Notify",
    "QResync",
    "Rename",
    "Search",
    "Select",
    "SetMetadata",
    "SetQuota",
    "Sort",
    "SortCriterion",
    "Status",
    "Store",
    "Subscribe",
    "Thread",
    "Unsubscribe",
]


class NoArguments(NamedTuple):
    """CAPABILITY, NOOP, LOGOUT, STARTTLS, CHECK, CLOSE, UNSELECT, NAMESPACE, IDLE, UNAUTHENTICATE."""


NO_ARGUMENTS: Final = NoArguments()


# -- any state, not authenticated


class Id(NamedTuple):
    """RFC 2971. None for ``ID NIL``; names as they came."""

    parameters: tuple[tuple[bytes, bytes | None], ...] | None


class Authenticate(NamedTuple):
    """`initial` is the initial response as it came (RFC 4959): BASE64, or ``=`` for an empty one."""

    mechanism: str
    initial: bytes | None

    def __repr__(self) -> str:
        return f"Authenticate(mechanism={self.mechanism!r})"


class Login(NamedTuple):
    user: bytes
    password: bytes

    def __repr__(self) -> str:
        return f"Login(user={self.user!r})"


class Compress(NamedTuple):
    """RFC 4978."""

    mechanism: str


# -- authenticated


class Enable(NamedTuple):
    capabilities: tuple[str, ...]


class QResync(NamedTuple):
    """RFC 7162 section 3.2.5. `known_uids`: None is all; `match`: sequence numbers and their UIDs, two
    sets without ``*``, of the same number of members."""

    uid_validity: int
    mod_sequence: int
    known_uids: SequenceSet | None
    match: tuple[SequenceSet, SequenceSet] | None


class Select(NamedTuple):
    """SELECT, and EXAMINE (`read_only`)."""

    mailbox: str
    read_only: bool
    condstore: bool
    qresync: QResync | None


class Create(NamedTuple):
    """`special_use`: RFC 6154 section 3, such as "\\\\Sent"."""

    mailbox: str
    special_use: tuple[str, ...]


class Delete(NamedTuple):
    mailbox: str


class Rename(NamedTuple):
    source: str
    destination: str


class Subscribe(NamedTuple):
    mailbox: str


class Unsubscribe(NamedTuple):
    mailbox: str


class List(NamedTuple):
    """RFC 9051 section 6.3.9, RFC 5258, 5819, 6154.

    `select`: SUBSCRIBED, REMOTE, RECURSIVEMATCH, SPECIAL-USE. `returns`: SUBSCRIBED, CHILDREN,
    SPECIAL-USE. `status`: the items of RETURN (STATUS (…)), else empty. `extended`: whether anything
    of RFC 5258 was used. Patterns have ``*`` and ``%`` in them; INBOX is not made upper case there.
    """

    reference: str
    patterns: tuple[str, ...]
    select: frozenset[str]
    returns: frozenset[str]
    status: tuple[str, ...]
    extended: bool


class Lsub(NamedTuple):
    reference: str
    pattern: str


class Status(NamedTuple):
    """`items`: MESSAGES, RECENT, UIDNEXT, UIDVALIDITY, UNSEEN, DELETED, SIZE, HIGHESTMODSEQ, MAILBOXID,
    APPENDLIMIT, DELETED-STORAGE; none twice."""

    mailbox: str
    items: tuple[str, ...]


class GetQuota(NamedTuple):
    root: str


class GetQuotaRoot(NamedTuple):
    mailbox: str


class SetQuota(NamedTuple):
    """RFC 9208: `limits` are (resource, limit), the resource's name in upper case."""

    root: str
    limits: tuple[tuple[str, int], ...]


class GetMetadata(NamedTuple):
    """RFC 5464. `mailbox` "" is the server. Entries in lower case. `depth`: 0, 1, or None for
    infinity."""

    mailbox: str
    entries: tuple[str, ...]
    max_size: int | None
    depth: int | None


class SetMetadata(NamedTuple):
    """`entries`: (name in lower case, value; None removes it)."""

    mailbox: str
    entries: tuple[tuple[str, bytes | None], ...]


class EventGroup(NamedTuple):
    """RFC 5465 section 8. `filter`: SELECTED, SELECTED-DELAYED, INBOXES, PERSONAL, SUBSCRIBED, SUBTREE,
    MAILBOXES; `mailboxes` of the last two. `events`: MessageNew, MessageExpunge, FlagChange, … in the
    RFC's spelling; empty for NONE. `new_items`: what MessageNew fetches."""

    filter: str
    mailboxes: tuple[str, ...]
    events: tuple[str, ...]
    new_items: tuple[FetchItem, ...]


class Notify(NamedTuple):
    """NOTIFY SET; `groups` is None for NOTIFY NONE. `status`: STATUS is wanted at once."""

    status: bool
    groups: tuple[EventGroup, ...] | None


# -- selected


class Expunge(NamedTuple):
    """`uids`: of UID EXPUNGE, else None."""

    uids: SequenceSet | None


class Search(NamedTuple):
    """`returns`: None without RETURN; else of MIN, MAX, ALL, COUNT, SAVE (``RETURN ()`` is ALL, RFC
    4731 section 3.1). `charset`: upper case, None when not given. What is searched for is bytes in
    that charset."""

    uid: bool
    charset: str | None
    key: SearchKey
    returns: frozenset[str] | None


class SortCriterion(NamedTuple):
    """`key`: ARRIVAL, CC, DATE, FROM, SIZE, SUBJECT, TO, DISPLAYFROM, DISPLAYTO (RFC 5256, 5957)."""

    key: str
    reverse: bool


class Sort(NamedTuple):
    """`returns` as in `Search` (RFC 5267)."""

    uid: bool
    criteria: tuple[SortCriterion, ...]
    charset: str
    key: SearchKey
    returns: frozenset[str] | None


class Thread(NamedTuple):
    """`algorithm`: such as REFERENCES, ORDEREDSUBJECT; whether it is known is the session's to say."""

    uid: bool
    algorithm: str
    charset: str
    key: SearchKey


class Fetch(NamedTuple):
    """`items` without repetition, macros expanded, as asked for: that UID FETCH answers with the UID
    and CHANGEDSINCE with MODSEQ is the session's to add. `vanished` only with UID and CHANGEDSINCE."""

    uid: bool
    sequence: SequenceSet
    items: tuple[FetchItem, ...]
    changed_since: int | None
    vanished: bool


class Store(NamedTuple):
    uid: bool
    sequence: SequenceSet
    unchanged_since: int | None
    mode: StoreMode
    silent: bool
    flags: tuple[str, ...]


class Copy(NamedTuple):
    uid: bool
    sequence: SequenceSet
    mailbox: str


class Move(NamedTuple):
    uid: bool
    sequence: SequenceSet
    mailbox: str


Arguments: TypeAlias = (
    NoArguments
    | Authenticate
    | Compress
    | Copy
    | Create
    | Delete
    | Enable
    | Expunge
    | Fetch
    | GetMetadata
    | GetQuota
    | GetQuotaRoot
    | Id
    | List
    | Login
    | Lsub
    | Move
    | Notify
    | Rename
    | Search
    | Select
    | SetMetadata
    | SetQuota
    | Sort
    | Status
    | Store
    | Subscribe
    | Thread
    | Unsubscribe
)
