"""NOTIFY (RFC 5465): what one client wants to hear of mailboxes, selected or not.

Storage says only which mailbox has changed (`mailboxes.Mailboxes.watch`). `Notifier.news` looks what that was, and
makes STATUS and LIST responses of it. Bounded: after MAX_PENDING mailboxes that nobody could be told of,
NOTIFICATIONOVERFLOW ends it (section 5.8).

Not as the RFC has it: at the end of a command the client is told what is pending in the selected mailbox, whatever it
asked for (RFC 9051 section 5.2), and STATUS of another mailbox may be told of what this client did there itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from ..mailboxes import Status
from ..status import MailError
from .commands import EventGroup
from .encode import astring, mailbox, ok
from .naming import naming
from .notified import fetched
from .notified_names import Names
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
_METADATA_EVENTS: Final = frozenset(("MailboxMetadataChange", "ServerMetadataChange"))
_SUPPORTED: Final = (
    *sorted(_MESSAGE_EVENTS),
    *sorted(_NAME_EVENTS),
    *sorted(_METADATA_EVENTS),
)


class _Counts(NamedTuple):
    validity: int
    messages: int
    uidnext: int
    modseq: int


class Notifier:
    """One NOTIFY SET. Raises Bad, and No with BADEVENT.

    `selected`: what is wanted of the selected mailbox, None for nothing; `flags`: that changes of flags are;
    `delayed`: EXPUNGE waits for a command.
    """

    __slots__ = (
        "_changed",
        "_counts",
        "_end",
        "_entries",
        "_groups",
        "_names",
        "_names_changed",
        "_overflow",
        "_own",
        "_session",
        "_told",
        "delayed",
        "flags",
        "selected",
    )

    def __init__(self, session: ImapSession, groups: Sequence[EventGroup]) -> None:
        self._session = session
        self.selected: EventGroup | None = None
        self.delayed = self.flags = False
        self._groups: list[EventGroup] = []
        self._changed: dict[str, None] = {}
        self._counts: dict[str, _Counts] = {}
        self._names = Names(session, self._wanted)
        self._names_changed = self._overflow = False
        # Entries of annotations that were changed, by mailbox
        self._entries: dict[str, dict[str, None]] = {}
        # Messages of the selected mailbox that this session put there
        self._own: frozenset[int] = frozenset()
        self._end = _nothing
        # Up to which UID of which view new messages were fetched
        self._told: tuple[View, int] | None = None
        if len(groups) > MAX_GROUPS or sum(len(one.mailboxes) for one in groups) > MAX_NAMES:
            # RFC 5465 section 3.1
            raise No("That is too much to watch", "NOTIFICATIONOVERFLOW")
        chosen = False
        for group in groups:
            if group.filter in ("SELECTED", "SELECTED-DELAYED"):
                # RFC 5465 section 6.1
                if chosen:
                    raise Bad("SELECTED can be said once")
                chosen = True
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
            if not events <= _MESSAGE_EVENTS:
                raise Bad("SELECTED is about messages only")
            self.selected = group if events else None
            self.flags = "FlagChange" in events
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
            ends = [mailboxes.watch(None, self._heard)]
            if any(not _METADATA_EVENTS.isdisjoint(one.events) for one in self._groups):
                ends.append(mailboxes.watch_metadata(self._annotated))

            def end() -> None:
                for one in ends:
                    one()

            self._end = end
            try:
                if self._follows_names:
                    self._names.note(await mailboxes.list())
            except BaseException:
                self.end()
                raise

    def selects(self) -> None:
        """Another mailbox is selected, or none: what is in it is not new."""
        view = self._session.view_
        self._told = None if view is None else (view, view.top)
        self._own = frozenset()

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

    def _annotated(self, name: str, entries: Collection[str]) -> None:
        if ("MailboxMetadataChange" if name else "ServerMetadataChange") not in self._wanted(name):
            return
        changed = self._entries.setdefault(name, {})
        changed.update(dict.fromkeys(entries))
        if len(self._entries) > MAX_PENDING or len(changed) > MAX_PENDING:
            self._overflow = True
        self._session.poke()

    def own_name(self, name: str) -> None:
        """This session made, removed or renamed `name`, or (un)subscribed: that is no news (RFC 5465 section 5)."""
        if self._follows_names:
            self._names.own(name)

    def own_messages(self, name: str, uids: Collection[int]) -> None:
        """This session put messages into `name`: they are not fetched for it (RFC 5465 section 5.2)."""
        view = self._session.view_
        if self.selected is None or not self.selected.new_items or view is None:
            return
        if view.opened.name == name:
            self._own = self._own.union(uids)

    def _wanted(self, name: str) -> frozenset[str]:
        """The events of `name` that are wanted ("": of the account itself): of all groups that have it (RFC 5465
        section 6); but NONE hides it from those behind."""
        wanted: frozenset[str] = frozenset()
        for group in self._groups:
            kind = group.filter
            if (
                kind == "PERSONAL"
                or not name
                or (kind == "INBOXES" and name == "INBOX")
                or (kind == "SUBSCRIBED" and name in self._names.subscribed)
                or (kind == "MAILBOXES" and name in group.mailboxes)
                or (
                    kind == "SUBTREE"
                    and any(name == top or name.startswith(f"{top}/") for top in group.mailboxes)
                )
            ):
                if not group.events and name:
                    break
                wanted = wanted.union(group.events)
        return wanted

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
            lines += self._names.changes(await self._session.mailboxes.list())
        entries, self._entries = self._entries, {}
        for name, changed_entries in entries.items():
            # RFC 5464 section 4.4.2
            shown = self._shown(name) if name else b'""'
            lines.append(b"* METADATA %s %s\r\n" % (shown, b" ".join(map(_entry, changed_entries))))
        changed, self._changed = self._changed, {}
        for name in changed:
            line = await self._status(name, self._wanted(name), self._session.condstore)
            if line:
                lines.append(line)
        return lines

    async def first(self) -> AsyncIterator[bytes]:
        """STATUS of all that is watched for messages (RFC 5465 section 3.1)."""
        for one in await self._session.mailboxes.list():
            wanted = self._wanted(one.name) & _MESSAGE_EVENTS
            if one.selectable and wanted:
                # RFC 5465 section 3.1: with HIGHESTMODSEQ, whatever is enabled
                modseq = "FlagChange" in wanted or self._session.condstore
                line = await self._status(one.name, wanted, modseq)
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
        own, self._own = self._own, frozenset()
        new = SequenceSet(((told[1] + 1, view.top),))
        found = view.positions(new, True)
        if own:
            others = [uid for uid in view.chosen(found) if uid not in own]
            if not others:
                return None
            found = view.positions(SequenceSet.of(others), True)
        return fetched(self._session, view, found, self.selected.new_items)

    async def _status(self, name: str, wanted: frozenset[str], modseq: bool) -> bytes:
        session = self._session
        if session.view_ is not None and session.view_.opened.name == name:
            return b""  # the selected mailbox has its own ways
        try:
            now = await session.mailboxes.status(name)
        except MailError:
            self._counts.pop(name, None)
            return b""  # it is gone: LIST tells
        counts = _Counts(now.validity, now.messages, now.uidnext, now.modseq)
        before = self._counts.get(name)
        if before is None and len(self._counts) >= MAX_PENDING:
            self._counts.clear()
        self._counts[name] = counts
        if before == counts:
            return b""
        if before is not None and before[:3] == counts[:3] and "FlagChange" not in wanted:
            return b""
        return self._status_line(name, now, modseq)

    def _status_line(self, name: str, now: Status, modseq: bool) -> bytes:
        items = b"MESSAGES %d UIDNEXT %d UIDVALIDITY %d UNSEEN %d" % (
            now.messages,
            now.uidnext,
            now.validity,
            now.unseen,
        )
        if modseq:
            items += b" HIGHESTMODSEQ %d" % now.modseq
        return b"* STATUS %s (%s)\r\n" % (self._shown(name), items)

    @property
    def _follows_names(self) -> bool:
        """Whether it matters which mailboxes and subscriptions there are; thousands of names are much to keep."""
        return any(
            group.filter == "SUBSCRIBED" or not _NAME_EVENTS.isdisjoint(group.events)
            for group in self._groups
        )

    def _shown(self, name: str) -> bytes:
        session = self._session
        return mailbox(naming(session.settings).shown(name), session.utf8)


def _nothing() -> None:
    """Ends what has not begun."""


def _entry(name: str) -> bytes:
    return astring(name.encode("utf-8", "replace"))
