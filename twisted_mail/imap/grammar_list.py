"""Commands about mailboxes by name: SELECT, CREATE, LIST, LSUB, STATUS and their like.

RFC 9051 section 6.3; RFC 5258, 5819, 6154, 7162, 8438, 8474.
"""

from __future__ import annotations

from typing import Final

from .commands import Create, List, Lsub, QResync, Rename, Select, Status
from .names import pattern
from .reader import Malformed, Reader
from .sequence import SequenceSet

__all__ = ["create", "list_", "lsub", "rename", "select", "status"]

MAX_PATTERNS: Final = 100

# RFC 9051 section 9; RFC 3501 (RECENT); RFC 7162, 7889, 8438, 8474, 9208
_STATUS_ITEMS: Final = frozenset(
    (
        "APPENDLIMIT",
        "DELETED",
        "DELETED-STORAGE",
        "HIGHESTMODSEQ",
        "MAILBOXID",
        "MESSAGES",
        "RECENT",
        "SIZE",
        "UIDNEXT",
        "UIDVALIDITY",
        "UNSEEN",
    )
)
_SELECT: Final = frozenset(("SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"))
_RETURN: Final = frozenset(("SUBSCRIBED", "CHILDREN", "SPECIAL-USE"))
# RFC 6154 section 2, RFC 8457
_SPECIAL_USE: Final = {
    use.lower(): use
    for use in (
        "\\All",
        "\\Archive",
        "\\Drafts",
        "\\Flagged",
        "\\Important",
        "\\Junk",
        "\\Sent",
        "\\Trash",
    )
}


def select(reader: Reader, read_only: bool) -> Select:
    reader.sp()
    mailbox = reader.mailbox()
    condstore = False
    qresync: QResync | None = None
    if reader.take(b" ("):
        while True:
            name = reader.word()
            if name == "CONDSTORE":
                condstore = True
            elif name == "QRESYNC" and qresync is None:
                qresync = _qresync(reader)
            else:
                raise Malformed("a parameter of SELECT is not known or there twice")
            if not reader.take(b" "):
                break
        reader.need(b")")
    return Select(mailbox, read_only, condstore, qresync)


def _qresync(reader: Reader) -> QResync:
    # RFC 7162 section 7: select-param =/ ("QRESYNC" SP "(" uidvalidity SP mod-sequence-value …")")
    reader.need(b" (")
    validity = reader.number(least=1)
    reader.sp()
    mod_sequence = reader.mod_sequence(least=1)
    known: SequenceSet | None = None
    match: tuple[SequenceSet, SequenceSet] | None = None
    if reader.comes(b" ") and not reader.comes(b" ("):
        reader.sp()
        known = _fixed(reader)
    if reader.take(b" ("):
        numbers = _fixed(reader)
        reader.sp()
        uids = _fixed(reader)
        if len(numbers) != len(uids):
            raise Malformed("the two sets of QRESYNC are not of one size")
        match = numbers, uids
        reader.need(b")")
    reader.need(b")")
    return QResync(validity, mod_sequence, known, match)


def _fixed(reader: Reader) -> SequenceSet:
    made = reader.sequence()
    if not made.fixed:
        raise Malformed("* and $ cannot stand in QRESYNC")
    return made


def create(reader: Reader) -> Create:
    reader.sp()
    mailbox = reader.mailbox()
    uses: tuple[str, ...] = ()
    if reader.take(b" ("):
        if reader.word() != "USE":
            raise Malformed("a parameter of CREATE is not known")
        reader.need(b" (")
        if not reader.take(b")"):
            made = [_special_use(reader)]
            while reader.take(b" "):
                made.append(_special_use(reader))
            uses = tuple(dict.fromkeys(made))
            reader.need(b")")
        reader.need(b")")
    return Create(mailbox, uses)


def _special_use(reader: Reader) -> str:
    reader.need(b"\\")
    use = _SPECIAL_USE.get("\\" + reader.word().lower())
    if use is None:
        # RFC 6154 section 3: NO [USEATTR] for a use that cannot be had
        raise Malformed("there is no such special use", "USEATTR", "NO")
    return use


def rename(reader: Reader) -> Rename:
    reader.sp()
    source = reader.mailbox()
    reader.sp()
    return Rename(source, reader.mailbox())


def lsub(reader: Reader) -> Lsub:
    reader.sp()
    reference = reader.list_mailbox(pattern)
    reader.sp()
    return Lsub(reference, reader.list_mailbox(pattern))


def list_(reader: Reader) -> List:
    reader.sp()
    selected: frozenset[str] = frozenset()
    extended = False
    if reader.comes(b"("):
        extended = True
        selected = frozenset(reader.words())
        if not selected <= _SELECT:
            raise Malformed("a selection option of LIST is not known")
        # RFC 9051 section 6.3.9.1; RFC 6154 section 6: SPECIAL-USE is no option that it could go with
        if "RECURSIVEMATCH" in selected and "SUBSCRIBED" not in selected:
            raise Malformed("RECURSIVEMATCH goes with SUBSCRIBED only")
        reader.sp()
    reference = reader.list_mailbox(pattern)
    reader.sp()
    if reader.comes(b"("):
        extended = True
        patterns = reader.list_of(lambda: reader.list_mailbox(pattern))
        if len(patterns) > MAX_PATTERNS:
            raise Malformed("too many patterns", "LIMIT", "NO")
    else:
        patterns = (reader.list_mailbox(pattern),)
    returns: set[str] = set()
    items: tuple[str, ...] = ()
    if reader.take_word(b" RETURN ("):
        extended = True
        while not reader.take(b")"):
            option = reader.word()
            if option == "STATUS":  # RFC 5819
                reader.sp()
                items = _status_items(reader)
            elif option in _RETURN:
                returns.add(option)
            else:
                raise Malformed("a return option of LIST is not known")
            if not reader.comes(b")"):
                reader.sp()
    return List(reference, patterns, selected, frozenset(returns), items, extended)


def status(reader: Reader) -> Status:
    reader.sp()
    mailbox = reader.mailbox()
    reader.sp()
    return Status(mailbox, _status_items(reader))


def _status_items(reader: Reader) -> tuple[str, ...]:
    items = tuple(dict.fromkeys(reader.words()))
    if not items or not _STATUS_ITEMS.issuperset(items):
        raise Malformed("a STATUS item is missing or not known")
    return items
