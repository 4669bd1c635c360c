"""One complete command, from octets to a value (RFC 9051 section 9, RFC 3501, and the extensions).

The octets are the command as it came without its line end, literals in place. `parse` raises
nothing but `Malformed`, whatever the octets. APPEND and REPLACE are not here: they are streams.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from . import grammar_fetch, grammar_list, grammar_more, grammar_search
from .commands import (
    NO_ARGUMENTS,
    Arguments,
    Authenticate,
    Compress,
    Copy,
    Delete,
    Enable,
    Expunge,
    Login,
    Move,
    Subscribe,
    Unsubscribe,
)
from .events import Command
from .reader import Malformed, Reader

__all__ = ["Malformed", "known", "parse", "tag_of"]

MAX_TAG: Final = 255

# tag = 1*<any ASTRING-CHAR except "+">
_TAG: Final = rb'[^\x00-\x20\x7f-\xff(){%*"\\+]+'
_HEAD: Final = re.compile(rb"(" + _TAG + rb") ((?:[Uu][Ii][Dd] )?)([A-Za-z]+)(?= |\Z)")
_TAG_ONLY: Final = re.compile(_TAG)
_BASE64: Final = re.compile(rb"=|[A-Za-z0-9+/]+={0,2}")


def tag_of(line: bytes | bytearray) -> bytes:
    """The tag at the beginning of `line`; ``*`` where there is none that could be answered."""
    found = _TAG_ONLY.match(line, 0, MAX_TAG + 1)
    return bytes(found[0]) if found is not None and found.end() <= MAX_TAG else b"*"


def known(line: bytes | bytearray) -> bool:
    """Whether `line` begins as a command that `parse` takes."""
    head = _HEAD.match(line)
    if head is None:
        return False
    name = head[3].upper()
    return name in _NUMBERED or (not head[2] and (name in _COMMANDS or name in _BARE))


def parse(line: bytes, utf8: bool = False) -> Command:
    """`utf8`: how mailbox names come (`names.mailbox_name`). Raises Malformed, with its `tag`."""
    try:
        head = _HEAD.match(line)
        if head is None:
            raise Malformed(
                "a tag is missing" if tag_of(line) == b"*" else "a command's name is missing"
            )
        tag, uid, raw = head.groups()
        if len(tag) > MAX_TAG:
            raise Malformed("the tag is too long")
        name = raw.upper()
        reader = Reader(line, head.end(), utf8=utf8)
        args: Arguments
        numbered = _NUMBERED.get(name)
        if numbered is not None:
            args = numbered(reader, bool(uid))
        elif uid:
            raise Malformed("there is no such command with UID")
        else:
            make = _COMMANDS.get(name)
            if make is not None:
                args = make(reader)
            elif name in _BARE:
                args = NO_ARGUMENTS
            else:
                raise Malformed("there is no such command")
        reader.end()
    except Malformed as malformed:
        malformed.tag = tag_of(line)
        raise
    return Command(tag, name.decode("ascii"), args)


def _authenticate(reader: Reader) -> Authenticate:
    reader.sp()
    mechanism = reader.word()
    initial: bytes | None = None
    if reader.take(b" ") and not reader.at_end():
        # RFC 4959 section 3
        found = _BASE64.match(reader.data, reader.at)
        if found is None:
            raise Malformed("the initial response is not BASE64")
        reader.at = found.end()
        initial = found[0]
    return Authenticate(mechanism, initial)


def _login(reader: Reader) -> Login:
    reader.sp()
    user = reader.astring()
    reader.sp()
    return Login(user, reader.astring())


def _compress(reader: Reader) -> Compress:
    reader.sp()
    return Compress(reader.word())


def _enable(reader: Reader) -> Enable:
    reader.sp()
    made = [reader.word()]
    while reader.take(b" ") and not reader.at_end():
        made.append(reader.word())
    return Enable(tuple(dict.fromkeys(made)))


def _delete(reader: Reader) -> Delete:
    reader.sp()
    return Delete(reader.mailbox())


def _subscribe(reader: Reader) -> Subscribe:
    reader.sp()
    return Subscribe(reader.mailbox())


def _unsubscribe(reader: Reader) -> Unsubscribe:
    reader.sp()
    return Unsubscribe(reader.mailbox())


def _copy(reader: Reader, uid: bool) -> Copy:
    reader.sp()
    sequence = reader.sequence()
    reader.sp()
    return Copy(uid, sequence, reader.mailbox())


def _move(reader: Reader, uid: bool) -> Move:
    return Move(*_copy(reader, uid))


def _expunge(reader: Reader, uid: bool) -> Expunge:
    if not uid:
        return Expunge(None)
    reader.sp()
    return Expunge(reader.sequence())


_BARE: Final = frozenset(
    (
        b"CAPABILITY",
        b"CHECK",
        b"CLOSE",
        b"IDLE",
        b"LOGOUT",
        b"NAMESPACE",
        b"NOOP",
        b"STARTTLS",
        b"UNAUTHENTICATE",
        b"UNSELECT",
    )
)

_COMMANDS: Final[dict[bytes, Callable[[Reader], Arguments]]] = {
    b"AUTHENTICATE": _authenticate,
    b"COMPRESS": _compress,
    b"CREATE": grammar_list.create,
    b"DELETE": _delete,
    b"ENABLE": _enable,
    b"EXAMINE": lambda reader: grammar_list.select(reader, True),
    b"GETMETADATA": grammar_more.get_metadata,
    b"GETQUOTA": grammar_more.get_quota,
    b"GETQUOTAROOT": grammar_more.get_quota_root,
    b"ID": grammar_more.id_,
    b"LIST": grammar_list.list_,
    b"LOGIN": _login,
    b"LSUB": grammar_list.lsub,
    b"NOTIFY": grammar_more.notify,
    b"RENAME": grammar_list.rename,
    b"SELECT": lambda reader: grammar_list.select(reader, False),
    b"SETMETADATA": grammar_more.set_metadata,
    b"SETQUOTA": grammar_more.set_quota,
    b"STATUS": grammar_list.status,
    b"SUBSCRIBE": _subscribe,
    b"UNSUBSCRIBE": _unsubscribe,
}

_NUMBERED: Final[dict[bytes, Callable[[Reader, bool], Arguments]]] = {
    b"COPY": _copy,
    b"EXPUNGE": _expunge,
    b"FETCH": grammar_fetch.fetch,
    b"MOVE": _move,
    b"SEARCH": grammar_search.search,
    b"SORT": grammar_search.sort,
    b"STORE": grammar_fetch.store,
    b"THREAD": grammar_search.thread,
}
