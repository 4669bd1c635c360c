"""SpamAssassin's spamd (its file ``spamd/PROTOCOL``, version 1.5): how much it looks like spam.

    SYMBOLS SPAMC/1.5                     SPAMD/1.1 0 EX_OK
    Content-length: 1000                  Content-length: 20
    User: alice                           Spam: True ; 15.0 / 5.0

    the message                           GTUBE,NO_RELAYS

With `headers` the command is HEADERS: the answer is the message's header with SpamAssassin's own fields in it, and
those are put into the message.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ..message.headers import fields as split_fields
from ..status import Reply
from ..world import World
from .edits import field_name, make_field
from .interfaces import Action, Delete, Edit, Insert, Message, Opinion
from .scanning import Asking, BadAnswer, Connection, ScannerSettings, message_size, show

__all__ = ["Spamd", "SpamdSettings", "spamd_verdict"]

_STATUS: Final = re.compile(rb"SPAMD/[0-9.]{1,5} +([0-9]{1,4})[^\r\n]*\r?\n")
_SPAM: Final = re.compile(
    rb"^Spam:[ \t]*(True|False|Yes|No)[ \t]*;[ \t]*(-?[0-9.]{1,20})[ \t]*/[ \t]*(-?[0-9.]{1,20})[ \t]*\r?$",
    re.IGNORECASE | re.MULTILINE,
)
_TESTS: Final = re.compile(rb"\btests=([A-Za-z0-9_,\s]*)")
_MAX_OWN: Final = 20


class SpamdSettings(NamedTuple):
    """`user`: whose preferences count, "" for spamd's own. `reject_score`: from there on it is refused; None: never."""

    scanner: ScannerSettings
    user: str = ""
    headers: bool = False
    reject_score: float | None = None


class Spamd:
    """`interfaces.Scanner`. ValueError: the user's name cannot be said."""

    def __init__(self, world: World, settings: SpamdSettings) -> None:
        if not settings.user.isprintable():
            raise ValueError("no name of a user")
        self.name = settings.scanner.name
        self._settings = settings
        self._asking = Asking(world, settings.scanner)

    async def scan(self, message: Message) -> Opinion:
        """JUNK for spam, REJECT over the score for that, else NONE."""
        size = message_size(message)

        async def talk(connection: Connection) -> Opinion:
            settings = self._settings
            command = "HEADERS" if settings.headers else "SYMBOLS"
            head = f"{command} SPAMC/1.5\r\nContent-length: {size}\r\n"
            if settings.user:
                head += f"User: {settings.user}\r\n"
            await connection.write(f"{head}\r\n".encode())
            await show(connection, message, bytes)
            return spamd_verdict(await connection.read_all(), settings)

        return await self._asking.ask(size, talk)


def spamd_verdict(answer: bytes, settings: SpamdSettings) -> Opinion:
    """What a whole answer means. Raises BadAnswer."""
    status = _STATUS.match(answer)
    if status is None:
        raise BadAnswer("spamd: no answer that is one")
    if int(status[1]) != 0:
        raise BadAnswer(f"spamd: it failed with status {int(status[1])}")
    # A body of LF lines may follow a head of CRLF lines.
    head, _, body = answer.partition(b"\r\n\r\n")
    spam = _SPAM.search(head)
    if spam is None:
        raise BadAnswer("spamd: an answer without its verdict")
    try:
        score, required = float(spam[2]), float(spam[3])
    except ValueError:
        raise BadAnswer("spamd: a score that is no number") from None
    edits: tuple[Edit, ...] = ()
    if settings.headers:
        edits = _own_fields(body)
        tests = _TESTS.search(body)
        names = tests[1] if tests is not None else b""
    else:
        names = body
    symbols = tuple(
        name
        for name in (word.strip().decode("ascii", "replace") for word in names.split(b",")[:200])
        if name.isascii() and name.replace("_", "").isalnum() and name != "none"
    )
    is_spam = spam[1].lower() in (b"true", b"yes")
    reason = f"score {score:g}, spam from {required:g}" if is_spam else ""
    if is_spam and settings.reject_score is not None and score >= settings.reject_score:
        reply = Reply(550, "5.7.1", ("The message looks like spam",))
        return Opinion(
            action=Action.REJECT, reply=reply, reason=reason, score=score, symbols=symbols
        )
    action = Action.JUNK if is_spam else Action.NONE
    return Opinion(action=action, reason=reason, edits=edits, score=score, symbols=symbols)


def _own_fields(header: bytes) -> tuple[Edit, ...]:
    """SpamAssassin's fields, in the place of those that came with the message."""
    header = header.replace(b"\r\n", b"\n")
    found: list[bytes] = []
    for name, start, end in split_fields(header):
        if name.startswith(b"x-spam-") and len(found) < _MAX_OWN:
            written, _, value = header[start:end].partition(b":")
            try:
                found.append(make_field(written.rstrip(), value.removesuffix(b"\n"), space=False))
            except ValueError:
                continue
    deleted = [Delete(name, 0) for name in dict.fromkeys(map(field_name, found))]
    return (*deleted, *(Insert(n, field) for n, field in enumerate(found)))
