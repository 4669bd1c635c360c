"""Where the queue's own mail comes in: bounces and other notices, from ``<>``, complete with their header.

`Notices` is the queue's `Door` (`queue.interfaces`): a notice and the changes that it tells of are one record of the
journal, so that no crash loses it, sends it twice, or leaves it owed for ever. A realm that takes its mail itself has
no part in that record: it gets the notice first, then the changes are committed. A crash in between, or a commit that
fails, and it gets the same notice again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from twisted.logger import Logger

from ..address import Address
from ..interfaces import ILocalDelivery
from ..message import trace
from ..message.downgrade import ascii_saving
from ..message.headers import split
from ..status import MailError
from ..storage.queued import Change, State
from ..storage.store import MailStore
from ..world import World
from .inspecting import message_id_of
from .interfaces import Envelope, Recipient
from .outbound import Outbound
from .routing import DirectoryRouter, RealmRouter, Way
from .telling import Teller

__all__ = ["Bounced", "Notices", "Sign"]

Sign = Callable[[bytes], bytes]
"""A whole message of ours in, the same with its signatures out."""
Bounced = Callable[[Address, int], object]
"""Told whose mail was refused for good elsewhere, and for how many recipients."""

_log = Logger()
_NOTICES: Final = {
    State.BOUNCED: "that it could not be delivered",
    State.DELIVERED: "that it was delivered",
    State.DEFERRED: "that it is late",
}


class Notices:
    """`realm` is the site's own, with its router, or None. `sign`, `bounced`, `teller`: None for not."""

    def __init__(
        self,
        world: World,
        store: MailStore,
        outbound: Outbound,
        mailboxes: DirectoryRouter,
        realm: tuple[ILocalDelivery, RealmRouter] | None,
        *,
        sign: Sign | None = None,
        bounced: Bounced | None = None,
        teller: Teller | None = None,
    ) -> None:
        self._teller = teller
        self._sign = sign
        self._bounced = bounced
        self._world = world
        self._store = store
        self._outbound = outbound
        self._mailboxes = mailboxes
        self._realm = realm

    async def commit(self, changes: Sequence[Change]) -> None:
        """Changes without a message. Durable when it returns. Raises MailError."""
        await self._store.change(changes)

    async def notify(
        self,
        changes: Sequence[Change],
        recipient: str,
        content: bytes,
        *,
        requiretls: bool = False,
        any_tls: bool = False,
    ) -> None:
        """Changes, and a message from ``<>`` to `recipient` (LF line ends, complete), in one record.

        `requiretls`: the message that it tells of was sent so (RFC 8689 section 5); `any_tls`: it tells what is wrong
        with TLS there, and is to arrive all the same. Raises MailError: 5xx when the
        recipient can never be reached (then nothing was committed), 4xx when it is to be tried again.
        """
        try:
            address = Address.parse(recipient)
        except ValueError as error:
            raise MailError(553, "5.1.3", "Bad address", error) from error
        message_id = self._world.entropy(6).hex()
        if self._sign is not None:
            content = self._sign(content)
        if self._realm is None:
            way = self._mailboxes.way(address, True)
            await self._to_store(message_id, changes, address, way, content, requiretls, any_tls)
        else:
            realm, router = self._realm
            try:
                way = await router.way(address, True)
                if way.realm is not None:
                    await realm.deliver(None, (way.realm,), _top(address) + content)
            except MailError:
                raise
            except Exception as error:
                raise MailError(451, "4.3.0", "Local error in processing", error) from error
            if way.realm is not None:
                await self._store.change(changes)
            else:
                await self._to_store(
                    message_id, changes, address, way, content, requiretls, any_tls
                )
        self._tell(address, changes)
        if self._teller is not None:
            self._tell_story(self._teller, message_id, address, way, content, changes)
        _log.info(
            "notice accepted",
            message=message_id,
            of=" ".join(dict.fromkeys(change.message for change in changes)),
            to=str(address),
        )

    def _tell(self, sender: Address, changes: Sequence[Change]) -> None:
        if self._bounced is None:
            return
        count = sum(
            verdict.state is State.BOUNCED for change in changes for verdict in change.verdicts
        )
        if count:
            self._bounced(sender, count)

    def _tell_story(
        self,
        teller: Teller,
        message_id: str,
        address: Address,
        way: Way,
        content: bytes,
        changes: Sequence[Change],
    ) -> None:
        of = list(dict.fromkeys(change.message for change in changes))
        states = {verdict.state for change in changes for verdict in change.verdicts}
        what = next((words for state, words in _NOTICES.items() if state in states), "")
        if not what and any(change.warned for change in changes):
            what = "that it is late"
        telling = teller.begin()
        about = f"about {' '.join(of)}: {what}" if what else "of this server's own"
        telling.say(f"a notice to {address} {about}")
        for key in way.mailboxes:
            telling.say(f"{address}: into the inbox of {key}")
        if way.realm is not None:
            telling.say(f"{address}: to the site's own realm")
        for one in way.remote:
            telling.say(f"{address}: to {one}, by the queue")
        teller.end(
            telling,
            # Found with what it tells of
            connection=of[0] if of else "",
            facts={
                "sender": "",
                "recipients": [str(address)],
                "notice_of": of,
                "size": len(content),
                "queued": bool(way.remote),
                "outcome": "accepted",
            },
            id_=message_id,
            message=message_id_of(split(content)[0]),
        )

    async def _to_store(
        self,
        message_id: str,
        changes: Sequence[Change],
        address: Address,
        way: Way,
        content: bytes,
        requiretls: bool,
        any_tls: bool,
    ) -> None:
        top = _top(address) if way.mailboxes else b""
        header = split(content)[0]
        utf8_header = not header.isascii()
        queue = self._outbound.message(
            message_id,
            Envelope(
                None,
                smtputf8=True,
                requiretls=requiretls,
                any_tls=any_tls,
                recipients=[Recipient(address)],
            ),
            [way],
            now=self._world.now(),
            skip=len(top),
            eight_bit=not content.isascii(),
            utf8_header=utf8_header,
        )
        draft = self._store.draft()
        draft.write(top + content)
        saving = ascii_saving(top + header)
        ascii_size = None if saving is None else draft.size + draft.lines - saving
        await self._store.accept(
            draft,
            way.mailboxes,
            ascii_size=ascii_size,
            envelope={"id": message_id, "from": "", "to": [str(address)]},
            queue=queue,
            changes=changes,
            # A notice that a full mailbox refuses would be tried for days, and then be lost.
            unlimited=way.mailboxes,
        )


def _top(address: Address) -> bytes:
    return trace.return_path(None) + trace.delivered_to(address)
