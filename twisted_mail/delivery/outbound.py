"""What the queue gets of a message: its recipients elsewhere, and notices that are owed for those here.

A pure function of the envelope and of where its recipients lead; most messages have nothing for the queue, and cost
one look at each recipient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..accounts.directory import Directory
from ..address import Address
from ..storage.queued import Options, QueuedMessage, QueuedRecipient
from .interfaces import Envelope, Recipient
from .routes import Routes, any_tls
from .routing import SenderRewriting, Way

__all__ = ["Outbound"]


@dataclass(frozen=True, slots=True)
class Outbound:
    """`lifetime`, `warn_after` (0: never): seconds; `domain` is for SRS where nothing else is."""

    directory: Directory
    routes: Routes
    srs: SenderRewriting | None
    domain: str
    lifetime: float
    warn_after: float

    def message(
        self,
        message_id: str,
        envelope: Envelope,
        ways: Sequence[Way],
        *,
        now: float,
        skip: int,
        eight_bit: bool,
        utf8_header: bool,
        held: str = "",
    ) -> QueuedMessage | None:
        """The message for the queue; None when there is nothing for it. `ways` are those of the recipients, in order.

        `eight_bit`: the content has octets over 127; `utf8_header`: its header has. What a client declares (BODY,
        SMTPUTF8) and then does not use is no reason to refuse a server that cannot do it: many declare it always.
        `held`: why it waits for somebody to let it go, "" for not.
        """
        recipients = self._recipients(envelope, ways)
        if not recipients:
            return None
        sender = envelope.reverse_path
        # RFC 6531 section 3.4; a client that does not know it has always sent raw octets in headers all the same.
        smtputf8 = (
            (envelope.smtputf8 and utf8_header)
            or (sender is not None and sender.needs_smtputf8)
            or any(address.needs_smtputf8 for way in ways for address in way.remote)
        )
        return QueuedMessage(
            id=message_id,
            sender="" if sender is None else str(sender),
            recipients=tuple(recipients),
            arrived=now,
            expires=now + self.lifetime,
            # Nobody is there to be warned of a bounce that is late.
            warn=now + self.warn_after if self.warn_after and sender is not None else None,
            options=Options(
                envid=envelope.envid,
                # RFC 8689 section 5: FULL is disregarded
                ret="HDRS" if envelope.requiretls else envelope.ret,
                eight_bit=eight_bit,
                smtputf8=smtputf8,
                requiretls=envelope.requiretls,
            ),
            skip=skip,
            held=held,
        )

    def _recipients(self, envelope: Envelope, ways: Sequence[Way]) -> list[QueuedRecipient]:
        # Each address once, as it was named first: an alias may lead where the sender has written himself.
        found: dict[tuple[str, str], QueuedRecipient] = {}
        sender = envelope.reverse_path
        for recipient, way in zip(envelope.recipients, ways, strict=True):
            if not (way.remote or recipient.notify):
                continue  # nearly all
            # RFC 3461 section 6.2: no notice without somebody to have it
            if way.here and sender is not None and "SUCCESS" in recipient.notify:
                text = str(recipient.address)
                # The empty hop: delivered here with the commit of this message, a notice is owed.
                owed = QueuedRecipient(text, "", recipient.notify, recipient.orcpt)
                found.setdefault(("", text), owed)
            for address in way.remote:
                hop = self.routes.hop_of(address, requiretls=envelope.requiretls)
                if envelope.any_tls:
                    hop = any_tls(hop)
                text = str(address)
                if (hop, text) not in found:
                    found[hop, text] = (
                        QueuedRecipient(text, hop, recipient.notify, recipient.orcpt)
                        if way.origin is None
                        else self._forwarded(sender, recipient, text, hop, way.origin)
                    )
        return list(found.values())

    def _forwarded(
        self, sender: Address | None, recipient: Recipient, text: str, hop: str, origin: Address
    ) -> QueuedRecipient:
        """RFC 3461 section 5.2.7: what was asked goes on with it, and the address that the sender knows."""
        orcpt = recipient.orcpt
        if not orcpt:
            # RFC 6533 section 3
            written = str(recipient.address)
            orcpt = f"{'rfc822' if written.isascii() else 'utf-8'};{written}"
        mail_from = None
        if (
            self.srs is not None
            and sender is not None
            and not self.directory.is_local_domain(sender.domain)
        ):
            rewritten = self.srs.forward(sender, origin.domain or self.domain)
            if rewritten != sender:
                mail_from = str(rewritten)
        return QueuedRecipient(text, hop, recipient.notify, orcpt, str(origin), mail_from)
