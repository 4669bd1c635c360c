"""NOTIFY (RFC 5465): what one client wants to hear of mailboxes, selected or not.

Storage says only which mailbox has changed (`mailboxes.Mailboxes.watch`). `Notifier.news` looks what that was, and
makes STATUS and LIST responses of it. Bounded: after MAX_PENDING mailboxes that nobody could be told of,
NOTIFICATIONOVERFLOW ends it (section 5.8).

A client that did not ask for FlagChange may hear of a flag at the end of a command all the same, as without NOTIFY.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from ..mailboxes import MailboxInfo, Status
from ..status import MailError
from .commands import EventGroup
from .encode import flag_list, mailbox, ok, quoted
from .naming import naming
from .notified import fetched
from .refusal import Bad, No
from .sequence import SequenceSet

if TYPE_CHECKING:
    from .session import ImapSession
    from .view import View

__all__ = ["Notifier"]

MAX_NAMES: Final = 1000
"""Mailboxes in one NOTIFY."""
MAX_GROUPS: Final = 50
MAX_PENDING: Final = 1000
"""Mailboxes that have changed and were not told of yet, and those whose numbers are kept."""

_MESSAGE_EVENTS: Final = frozenset(("MessageNew", "MessageExpunge", "FlagChange"))
_NAME_EVENTS: Final = frozenset(("MailboxName", "SubscriptionChange"))
_SUPPORTED: Final = (*sorted(_MESSAGE_EVENTS), *sorted(_NAME_EVENTS))


class _Counts(NamedTuple):
    messages: int
    uidnext: int
    modseq: int


class _Listed(NamedTuple):
    mailbox_id: str
    subscribed: bool


class Notifier:
    """One NOTIFY SET. Raises Bad, and No with BADEVENT.

    `selected`: what is wanted of the selected mailbox, None for nothing; `delayed`: EXPUNGE waits for a command.
    """

    __slots__ = (
        "_changed",
        "_counts",
        "_end",
        "_groups",
        "_listed",
        "_names_changed",
        "_overflow",
        "_session",
        "_subscribed",
        "_told",
        "delayed",
        "selected",
    )

    def __init__(self, session: ImapSession, groups: Sequence[EventGroup]) -> None:
        self._session = session
        self.selected: EventGroup | None = None
        self.delayed = False
        self._groups: list[EventGroup] = []
        self._changed: dict[str, None] = {}
        self._counts: dict[str, _Counts] = {}
        self._listed: dict[str, _Listed] = {}
        self._subscribed: frozenset[str] = frozenset()
        self._names_changed = self._overflow = False
        self._end = _nothing
        # Up to which UID of which view new messages were fetched
        self._told: tuple[View, int] | None = None
        if len(groups) > MAX_GROUPS or sum(len(one.mailboxes) for one in groups) > MAX_NAMES:
            raise No("That is too much to watch", "LIMIT")
        for group in groups:
            self._add(group)

    def _add(self, group: EventGroup) -> None:
        events = frozenset(group.events)
        unknown = events.difference(_SUPPORTED)
        if unknown:
            # RFC 5465 section 5
            raise No("Not all of these events are known", f"BADEVENT ({' '.join(_SUPPORTED)})")
        # RFC 5465 section 5
        if ("MessageNew" in events) != ("MessageExpunge" in events):
            raise Bad("MessageNew and MessageExpunge go together")
        if "FlagChange" in events and "MessageNew" not in events:
            raise Bad("FlagChange goes with MessageNew and MessageExpunge")
        if group.filter in ("SELECTED", "SELECTED-DELAYED"):
            # RFC 5465 section 6.1
            if self.selected is not None:
                raise Bad("SELECTED can be said once")
            if not events <= _MESSAGE_EVENTS:
                raise Bad("SELECTED is about messages only")
            self.selected = group
            self.delayed = group.filter == "SELECTED-DELAYED"
            return
        if group.new_items:
            # RFC 5465 section 5.2
            raise Bad("Only of the selected mailbox can messages be fetched")
        names = naming(self._session.settings)
        stored = tuple(filter(None, map(names.stored, group.mailboxes)))
        self._groups.append(group._replace(mailboxes=stored))

    # What is heard

    async def begin(self) -> None:
        """Watch from now on."""
        self.selects()
        if self._groups:
            mailboxes = self._session.mailboxes
            self._end = mailboxes.watch(None, self._heard)
            try:
                if self._follows_names:
                    self._note(await mailboxes.list())
            except BaseException:
                self.end()
                raise

    def selects(self) -> None:
        """Another mailbox is selected, or none: what is in it is not new."""
        view = self._session.view_
        self._told = None if view is None else (view, view.top)

    def end(self) -> None:
        """Watch no more. May be called more than once."""
        end, self._end = self._end, _nothing
        end()

    def _heard(self, name: str) -> None:
        if name == "":
            if not self._follows_names:
                return
            self._names_changed = True
        elif self._wanted(name) & _MESSAGE_EVENTS:
            if name not in self._changed and len(self._changed) >= MAX_PENDING:
                self._overflow = True
            else:
                self._changed[name] = None
        else:
            return
        self._session.poke()

    def _wanted(self, name: str) -> frozenset[str]:
        """The events of `name` that are wanted: the first group that has it counts (RFC 5465 section 8)."""
        for group in self._groups:
            kind = group.filter
            if (
                kind == "PERSONAL"
                or (kind == "INBOXES" and name == "INBOX")
                or (kind == "SUBSCRIBED" and name in self._subscribed)
                or (kind == "MAILBOXES" and name in group.mailboxes)
                or (
                    kind == "SUBTREE"
                    and any(name == top or name.startswith(f"{top}/") for top in group.mailboxes)
                )
            ):
                return frozenset(group.events)
        return frozenset()

    # What is told

    async def news(self) -> list[bytes]:
        """What has changed since it was asked the last time, as responses; never raises MailError."""
        if self._overflow:
            self.end()
            self._session.notify = None
            # RFC 5465 section 5.8
            return [ok(b"*", "Too much has happened", "NOTIFICATIONOVERFLOW")]
        lines: list[bytes] = []
        if self._names_changed:
            self._names_changed = False
            lines += self._names(await self._session.mailboxes.list())
        changed, self._changed = self._changed, {}
        for name in changed:
            line = await self._status(name, self._wanted(name))
            if line:
                lines.append(line)
        return lines

    async def first(self) -> AsyncIterator[bytes]:
        """STATUS of all that is watched for messages (RFC 5465 section 3.1)."""
        for one in await self._session.mailboxes.list():
            if one.selectable and self._wanted(one.name) & _MESSAGE_EVENTS:
                line = await self._status(one.name, _MESSAGE_EVENTS)
                if line:
                    yield line

    @property
    def behind(self) -> bool:
        """Whether there are messages in the selected mailbox that are to be fetched, and were not."""
        view = self._session.view_
        if view is None or self.selected is None or not self.selected.new_items:
            return False
        return self._told is not None and self._told[0] is view and view.top > self._told[1]

    def new_messages(self) -> AsyncIterator[bytes] | None:
        """FETCH of the new messages that the client has heard of (RFC 5465 section 5.2); None when there are none."""
        view = self._session.view_
        if view is None or self.selected is None or not self.selected.new_items:
            return None
        told, self._told = self._told, (view, view.top)
        if told is None or told[0] is not view or told[1] >= view.top:
            return None
        found = view.positions(SequenceSet(((told[1] + 1, view.top),)), True)
        return fetched(self._session, view, found, self.selected.new_items)

    async def _status(self, name: str, wanted: frozenset[str]) -> bytes:
        session = self._session
        if session.view_ is not None and session.view_.opened.name == name:
            return b""  # the selected mailbox has its own ways
        try:
            now = await session.mailboxes.status(name)
        except MailError:
            return b""  # it is gone: LIST tells
        counts = _Counts(now.messages, now.uidnext, now.modseq)
        before = self._counts.get(name)
        if before is None and len(self._counts) >= MAX_PENDING:
            self._counts.clear()
        self._counts[name] = counts
        if before == counts:
            return b""
        if before is not None and before[:2] == counts[:2] and "FlagChange" not in wanted:
            return b""
        return self._status_line(name, now)

    def _status_line(self, name: str, now: Status) -> bytes:
        session = self._session
        items = b"MESSAGES %d UIDNEXT %d UIDVALIDITY %d UNSEEN %d" % (
            now.messages,
            now.uidnext,
            now.validity,
            now.unseen,
        )
        if session.condstore:
            items += b" HIGHESTMODSEQ %d" % now.modseq
        return b"* STATUS %s (%s)\r\n" % (self._shown(name), items)

    @property
    def _follows_names(self) -> bool:
        """Whether it matters which mailboxes and subscriptions there are; thousands of names are much to keep."""
        return any(
            group.filter == "SUBSCRIBED" or not _NAME_EVENTS.isdisjoint(group.events)
            for group in self._groups
        )

    def _note(self, infos: Sequence[MailboxInfo]) -> None:
        self._listed = {
            one.name: _Listed(one.mailbox_id, one.subscribed)
            for one in infos
            if one.selectable or one.subscribed
        }
        self._subscribed = frozenset(one.name for one in infos if one.subscribed)

    def _names(self, infos: Sequence[MailboxInfo]) -> Iterator[bytes]:
        """RFC 5465 section 5.4 and 5.5: what was made, removed, renamed; subscriptions."""
        before = self._listed
        subscribed = self._subscribed
        self._note(infos)
        now = self._listed
        gone = {
            one.mailbox_id: name
            for name, one in before.items()
            if one.mailbox_id and (name not in now or now[name].mailbox_id != one.mailbox_id)
        }
        for name, one in now.items():
            wanted = self._wanted(name)
            old = before.get(name)
            if one.mailbox_id and (old is None or old.mailbox_id != one.mailbox_id):
                source = gone.pop(one.mailbox_id, None)
                if "MailboxName" in wanted:
                    yield self._list_line(name, (), source)
                    continue
            if "SubscriptionChange" in wanted and one.subscribed != (name in subscribed):
                yield self._list_line(name, ("\\Subscribed",) if one.subscribed else (), None)
        for name in gone.values():
            self._counts.pop(name, None)
            if name not in now and "MailboxName" in self._wanted(name):
                yield self._list_line(name, ("\\NonExistent",), None)
        for name, one in before.items():
            if one.subscribed and name not in now and "SubscriptionChange" in self._wanted(name):
                yield self._list_line(name, (), None)

    def _list_line(self, name: str, attributes: tuple[str, ...], source: str | None) -> bytes:
        separator = quoted(self._session.settings.separator.encode())
        line = b"* LIST %s %s %s" % (flag_list(attributes), separator, self._shown(name))
        if source is not None:
            # RFC 5465 section 5.4, RFC 9051 section 7.3.1
            line += b' ("OLDNAME" (%s))' % self._shown(source)
        return line + b"\r\n"

    def _shown(self, name: str) -> bytes:
        session = self._session
        return mailbox(naming(session.settings).shown(name), session.utf8)


def _nothing() -> None:
    """Ends what has not begun."""
