"""What MAIL and RCPT say to a certain peer, and what must not be said to it at all.

Pure: a transaction and the peer's extensions in; command lines, and replies made in the peer's place, out. Nothing that
a sender asked for is dropped in silence: what the peer cannot do, and the message needs, refuses the message here,
before anything is sent.

AUTH= (RFC 4954 section 5) is never sent: we vouch for nobody. DSN parameters to a peer without DSN are left out, and
the caller, who sees that in `Conversation.extensions`, says "relayed" (RFC 3461 section 5.2.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...message.xtext import MAX_ENVID, format_envid, format_orcpt
from ...storage.queued import QueuedRecipient
from .engine import command, path
from .interfaces import PeerReply, Transaction

__all__ = ["Envelope", "largest"]

_NOTIFY: Final = frozenset(("SUCCESS", "FAILURE", "DELAY"))


class Envelope:
    """`mail` and `rcpts` are command lines; `numbers` says whose each of `rcpts` is.

    `replies`, one for each recipient of the transaction: None for those in `numbers`, else ours. No `rcpts`: nothing
    is to be sent. `name`: of the peer, for texts; `tls`: whether the connection is encrypted.
    """

    __slots__ = ("mail", "numbers", "rcpts", "replies")

    def __init__(
        self, transaction: Transaction, extensions: Mapping[str, str], tls: bool, name: str
    ) -> None:
        self.mail = b""
        self.rcpts: list[bytes] = []
        self.numbers: list[int] = []
        self.replies: list[PeerReply | None] = [None] * len(transaction.recipients)
        utf8 = _wants_utf8(transaction)
        refusal = _refusal(transaction, extensions, tls, name)
        if refusal is None:
            try:
                self.mail = _mail(transaction, extensions, utf8 and "SMTPUTF8" in extensions)
            except ValueError:
                # RFC 3463 section 3.2: bad sender's mailbox address syntax
                refusal = _made(553, "5.1.7", "the sender's address cannot be written in SMTP")
        if refusal is not None:
            self.replies = [refusal] * len(transaction.recipients)
            return
        dsn = "DSN" in extensions
        utf8 = utf8 and "SMTPUTF8" in extensions
        for number, recipient in enumerate(transaction.recipients):
            if not utf8 and not recipient.address.isascii():
                self.replies[number] = _made(
                    553, "5.6.7", f"{name} takes no addresses outside ASCII (SMTPUTF8)"
                )
                continue
            try:
                line = _rcpt(recipient, dsn, utf8)
            except ValueError:
                self.replies[number] = _made(553, "5.1.3", "this address cannot be written in SMTP")
                continue
            self.rcpts.append(line)
            self.numbers.append(number)


def largest(extensions: Mapping[str, str]) -> int:
    """Octets that a message may have by the peer's SIZE (RFC 1870 section 4); 0: it does not say."""
    limit = extensions.get("SIZE", "")
    return int(limit) if limit.isascii() and limit.isdigit() and len(limit) <= 20 else 0


def _wants_utf8(transaction: Transaction) -> bool:
    # RFC 6531 section 3.4: also for one address of the envelope alone
    return (
        transaction.options.smtputf8
        or not transaction.mail_from.isascii()
        or not all(recipient.address.isascii() for recipient in transaction.recipients)
    )


def _refusal(
    transaction: Transaction, extensions: Mapping[str, str], tls: bool, name: str
) -> PeerReply | None:
    """Why the message must not go there, whoever its recipients are."""
    options = transaction.options
    # RFC 8689 section 4.2.1: TLS, and a peer that promises the same
    if options.requiretls and not (tls and "REQUIRETLS" in extensions):
        lacks = "does not know REQUIRETLS" if tls else "is reached without TLS"
        return _made(550, "5.7.30", f"{name} {lacks}, and the message must be protected")
    if "SMTPUTF8" not in extensions and (options.smtputf8 or not transaction.mail_from.isascii()):
        # RFC 6531 section 3.5
        return _made(550, "5.6.7", f"{name} takes no internationalised mail (SMTPUTF8)")
    # RFC 6152 section 3
    if options.eight_bit and "8BITMIME" not in extensions:
        return _made(554, "5.6.3", f"{name} takes no 8-bit content (8BITMIME)")
    limit = largest(extensions)
    # RFC 1870 section 6.1: not sent when the limit is known
    if limit and transaction.wire > limit:
        return _made(
            552, "5.3.4", f"the message has {transaction.wire} octets, {name} takes {limit}"
        )
    return None


def _mail(transaction: Transaction, extensions: Mapping[str, str], utf8: bool) -> bytes:
    options = transaction.options
    words = ["MAIL FROM:", path(transaction.mail_from)]
    if "SIZE" in extensions and transaction.wire > 0:
        words.append(f" SIZE={transaction.wire}")  # RFC 1870 section 5
    if options.eight_bit:
        words.append(" BODY=8BITMIME")  # RFC 6152 section 2
    if utf8:
        words.append(" SMTPUTF8")  # RFC 6531 section 3.4
    if options.requiretls:
        words.append(" REQUIRETLS")  # RFC 8689 section 2
    if "DSN" in extensions:
        if options.ret in ("FULL", "HDRS"):
            words.append(f" RET={options.ret}")  # RFC 3461 section 4.3
        if options.envid and len(envid := format_envid(options.envid)) <= MAX_ENVID:
            words.append(f" ENVID={envid}")  # RFC 3461 section 4.4
    return command("".join(words))


def _rcpt(recipient: QueuedRecipient, dsn: bool, utf8: bool) -> bytes:
    line = f"RCPT TO:{path(recipient.address)}"
    if not recipient.address:
        raise ValueError("no address")
    if dsn:
        notify = recipient.notify
        # RFC 3461 section 4.1
        if notify and (notify == "NEVER" or _NOTIFY.issuperset(notify.split(","))):
            line += f" NOTIFY={notify}"
        if recipient.orcpt and (orcpt := format_orcpt(recipient.orcpt, smtputf8=utf8)):
            line += f" ORCPT={orcpt}"  # RFC 3461 section 4.2
    return command(line)


def _made(code: int, enhanced: str, text: str) -> PeerReply:
    return PeerReply(code, enhanced, text, said=False)
