"""LIST unasked: mailboxes that were made, removed, renamed, and subscriptions (RFC 5465 section 5.4 and 5.5).

`Names` keeps which names there were, and compares; what its own session does is not told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..mailboxes import MailboxInfo
from .encode import flag_list, mailbox, quoted
from .listing import Tree
from .naming import naming

if TYPE_CHECKING:
    from .session import ImapSession

__all__ = ["Names"]

_RETURNS = frozenset(("CHILDREN", "SPECIAL-USE", "SUBSCRIBED"))


class _Listed(NamedTuple):
    mailbox_id: str
    subscribed: bool


class Names:
    """What the client may believe of names. `wanted` gives the events of a name."""

    __slots__ = ("_listed", "_own", "_session", "_wanted", "subscribed")

    def __init__(self, session: ImapSession, wanted: Callable[[str], frozenset[str]]) -> None:
        self._session = session
        self._wanted = wanted
        self._listed: dict[str, _Listed] = {}
        self._own: set[str] = set()
        self.subscribed: frozenset[str] = frozenset()

    def note(self, infos: Sequence[MailboxInfo]) -> None:
        """It is so now."""
        self._listed = {
            one.name: _Listed(one.mailbox_id, one.subscribed)
            for one in infos
            if one.selectable or one.subscribed
        }
        self.subscribed = frozenset(one.name for one in infos if one.subscribed)

    def own(self, name: str) -> None:
        """The session itself did something to `name`, or with "/" at its end to all below it (section 5)."""
        self._own.add(name)

    def changes(self, infos: Sequence[MailboxInfo]) -> Iterator[bytes]:
        """What differs, as responses: those of what is there first."""
        before, subscribed = self._listed, self.subscribed
        self.note(infos)
        now = self._listed
        own, self._own = self._own, set()
        made, gone, renamed = _compared(before, now)
        affected: dict[str, None] = {}
        for name in (*made, *gone):
            if not _within(name, own):
                affected[name] = None
                # RFC 5465 section 5.4: so is what stands directly above
                affected[name.rpartition("/")[0]] = None
        affected.pop("", None)
        lines = {name: "" for name in affected if "MailboxName" in self._wanted(name)}
        for name, source in renamed.items():
            if (
                not _within(name, own)
                and "MailboxName" in self._wanted(name)
                and not _moved_along(name, source, renamed)
            ):
                lines[name] = source
        for name in self.subscribed ^ subscribed:
            if name not in own and "SubscriptionChange" in self._wanted(name):
                lines.setdefault(name, "")
        return self._responses(infos, lines)

    def _responses(self, infos: Sequence[MailboxInfo], lines: dict[str, str]) -> Iterator[bytes]:
        """`lines`: names as storage has them, and what they were called before, or ""."""
        if not lines:
            return
        names = naming(self._session.settings)
        shown = {names.shown(name): source for name, source in lines.items()}
        tree = Tree(((names.shown(info.name), info) for info in infos), names.separator)
        separator = quoted(names.separator.encode())
        # RFC 5465 section 5.5: with all its attributes
        for line in tree.entries(shown.__contains__, frozenset(), _RETURNS, True):
            yield self._line(line.name, line.attributes, separator, shown.pop(line.name))
        there = {names.shown(name) for name in self.subscribed}
        for name in sorted(shown):
            attributes = ("\\NonExistent", "\\Subscribed") if name in there else ("\\NonExistent",)
            yield self._line(name, attributes, separator, "")

    def _line(self, name: str, attributes: tuple[str, ...], separator: bytes, source: str) -> bytes:
        session = self._session
        line = b"* LIST %s %s %s" % (flag_list(attributes), separator, mailbox(name, session.utf8))
        if source:
            # RFC 5465 section 5.4, RFC 9051 section 7.3.1
            old = naming(session.settings).shown(source)
            line += b' ("OLDNAME" (%s))' % mailbox(old, session.utf8)
        return line + b"\r\n"


def _compared(
    before: dict[str, _Listed], now: dict[str, _Listed]
) -> tuple[list[str], list[str], dict[str, str]]:
    """Mailboxes that were made, those that are gone, and what the others were called."""
    missing = {
        one.mailbox_id: name
        for name, one in before.items()
        if one.mailbox_id and (name not in now or now[name].mailbox_id != one.mailbox_id)
    }
    made: list[str] = []
    renamed: dict[str, str] = {}
    for name, one in now.items():
        if one.mailbox_id and (name not in before or before[name].mailbox_id != one.mailbox_id):
            source = missing.pop(one.mailbox_id, None)
            if source is None:
                made.append(name)
            else:
                renamed[name] = source
    gone = [name for name in missing.values() if name not in now or not now[name].mailbox_id]
    return made, gone, renamed


def _moved_along(name: str, source: str, renamed: dict[str, str]) -> bool:
    """RFC 5465 section 5.4: of what is below a mailbox that was renamed nothing is said."""
    above = name.rpartition("/")[0]
    while above:
        old = renamed.get(above)
        if old is not None and source == old + name[len(above) :]:
            return True
        above = above.rpartition("/")[0]
    return False


def _within(name: str, own: set[str]) -> bool:
    return name in own or any(name.startswith(one) for one in own if one.endswith("/"))
