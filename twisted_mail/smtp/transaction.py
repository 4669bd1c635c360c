"""Mail transactions: MAIL, RCPT, DATA, BDAT and RSET, from the envelope to the commitment.

`Transactions` answers these commands, once the session has let the client come so far. It keeps
their order (RFC 5321 section 4.1.4, RFC 3030 section 2), counts recipients and octets, and
remembers the first refusal while content is still to be read: content that is not wanted any more
is dropped, since the client reads a reply only at its end. A refusal that the intake has a say in
is raised as MailError.

Promises: after the reply to the end of a message, good or bad, and after `reset`, no transaction is
open and nothing is left of a message that was not answered 250.
"""

from __future__ import annotations

from collections.abc import Callable

from ..address import Address, forward_path, reverse_path
from ..connection.interfaces import Answer
from ..delivery.interfaces import Client, Envelope, Incoming, Intake, Recipient
from ..log import Logger
from ..status import MailError
from . import replies
from .engine import Chunk
from .parameters import chunk_arguments, mail_parameters, rcpt_parameters

__all__ = ["Transactions"]

_log = Logger()

NAMED = 5
"""Recipients that the log names, of a message."""


class _Transaction:
    """One of them. `begun` once content was asked for; `refusal` is why it will not be taken;
    `tried`: a recipient was named, maybe in vain.
    """

    __slots__ = (
        "begun",
        "client",
        "envelope",
        "incoming",
        "refusal",
        "size",
        "tried",
    )

    def __init__(self, client: Client, envelope: Envelope) -> None:
        self.client = client
        self.envelope = envelope
        self.begun = self.tried = False
        self.refusal: Exception | None = None
        self.size = 0
        self.incoming: Incoming | None = None

    @property
    def without_recipient(self) -> Answer | None:
        """The answer to DATA and BDAT that come too early, or in vain."""
        if self.envelope.recipients:
            return None
        # RFC 5321 section 3.3: 503 when there was no RCPT, 554 when all were rejected
        return replies.NO_RECIPIENT if self.tried else replies.NO_RCPT

    def begin(self, intake: Intake) -> str:
        """The message's id."""
        self.incoming = intake.begin(self.client, self.envelope)
        self.begun = True
        return self.incoming.message_id

    def refuse(self, error: Exception) -> None:
        self.refusal = error
        self.abort()

    async def commit(self) -> str:
        """The message's id, once it is durable."""
        if self.refusal is not None:
            raise self.refusal
        incoming, self.incoming = self.incoming, None
        assert incoming is not None, "begun, and neither refused nor committed"
        await incoming.commit()
        return incoming.message_id

    def abort(self) -> None:
        incoming, self.incoming = self.incoming, None
        if incoming is not None:
            incoming.abort()


class Transactions:
    """One after the other, in one session. `auth` says whether MAIL knows AUTH=."""

    def __init__(
        self,
        intake: Intake,
        *,
        max_bytes: int,
        max_recipients: int,
        strict: bool,
        auth: bool,
    ) -> None:
        self._intake = intake
        self._max_bytes = max_bytes
        self._max_recipients = max_recipients
        self._strict = strict
        self._auth = auth
        self._current: _Transaction | None = None
        self._latest: Envelope | None = None
        self._recipient: Address | None = None
        self._message = ""
        self.served = False
        """Whether a recipient has been taken, ever."""
        # Of the chunk that is being read.
        self._chunk_size = 0
        self._chunk_is_last = False
        self._chunk_refusal: Answer | None = None

    @property
    def midway(self) -> bool:
        """Whether a message has begun to come, and not ended."""
        return self._current is not None and self._current.begun

    @property
    def utf8(self) -> bool:
        """Whether the client of the open transaction reads UTF-8 in replies."""
        return self._current is not None and self._current.envelope.smtputf8

    def about(self) -> dict[str, str]:
        """What the log is to name when the command that came last was refused: it may have ended the transaction."""
        found = {"message": self._message} if self._message else {}
        if (envelope := self._latest) is not None:
            found["sender"] = str(envelope.reverse_path or "")
            if self._recipient is not None:
                found["recipient"] = str(self._recipient)
            elif envelope.recipients:
                found["to"] = _some(envelope)
        return found

    def reset(self) -> None:
        """Forget the open transaction, if any."""
        current, self._current = self._current, None
        if current is not None:
            current.abort()

    async def mail(self, argument: bytes, client_of: Callable[[bool], Client]) -> Answer:
        """`client_of` tells who sends, given whether SMTPUTF8 was asked for."""
        if self._current is not None:
            return replies.NESTED_MAIL  # RFC 5321 section 4.1.4
        self._latest = self._recipient = None
        self._message = ""
        if argument[:5].upper() != b"FROM:":
            return replies.MAIL_SYNTAX
        try:
            address, rest, utf8 = reverse_path(argument[5:], strict=self._strict)
        except ValueError as error:
            raise MailError(501, "5.1.7", f"Bad sender address: {error}") from None
        parameters = mail_parameters(rest, auth=self._auth)
        if utf8 and not parameters.smtputf8:
            return replies.SENDER_NEEDS_UTF8
        if parameters.size is not None and parameters.size > self._max_bytes:
            return replies.TOO_BIG  # RFC 1870 section 6.1
        client = client_of(parameters.smtputf8)
        if parameters.requiretls and client.tls is None:
            return replies.REQUIRETLS_NEEDS_TLS
        envelope = Envelope(
            address,
            parameters.size,
            parameters.body,
            parameters.smtputf8,
            parameters.ret,
            parameters.envid,
            parameters.requiretls,
        )
        self._latest = envelope
        await self._intake.check_sender(client, envelope)
        self._current = _Transaction(client, envelope)
        return replies.SENDER_OK

    async def rcpt(self, argument: bytes) -> Answer:
        current = self._current
        if current is None:
            return replies.NO_MAIL
        if current.begun:
            return replies.CHUNKS_BEGUN
        current.tried = True
        self._recipient = None
        if argument[:3].upper() != b"TO:":
            return replies.RCPT_SYNTAX
        try:
            address, rest, utf8 = forward_path(argument[3:], strict=self._strict)
        except ValueError as error:
            raise MailError(501, "5.1.3", f"Bad recipient address: {error}") from None
        assert address is not None, "no forward-path is <>"
        self._recipient = address
        envelope = current.envelope
        recipient = Recipient(address)
        if rest:
            parameters = rcpt_parameters(rest, smtputf8=envelope.smtputf8)
            recipient = Recipient(address, parameters.notify, parameters.orcpt)
        if utf8 and not envelope.smtputf8:
            return replies.RECIPIENT_NEEDS_UTF8
        if len(envelope.recipients) >= self._max_recipients:
            return replies.TOO_MANY_RECIPIENTS  # RFC 5321 section 4.5.3.1.10
        await self._intake.route(current.client, envelope, address)
        envelope.recipients.append(recipient)
        self.served = True
        return replies.RECIPIENT_OK

    async def data(self, argument: bytes) -> Answer:
        if argument:
            return replies.NO_ARGUMENT
        current = self._current
        if current is None:
            return replies.NO_MAIL
        if current.begun:
            return replies.CHUNKS_BEGUN  # RFC 3030 section 2
        if (refusal := current.without_recipient) is not None:
            return refusal
        self._begin(current)
        return replies.SEND_CONTENT

    def _begin(self, current: _Transaction) -> None:
        self._recipient = None
        self._message = current.begin(self._intake)

    async def end_of_data(self) -> Answer:
        return await self._commit()

    async def bdat(self, argument: bytes) -> Answer:
        """Ask for the chunk, wanted or not: the reply comes at its end (RFC 3030 section 2)."""
        if not argument:
            # Nothing was announced, so there is nothing to drop.
            return replies.BDAT_SYNTAX
        chunk = chunk_arguments(argument)
        if chunk is None:
            return replies.IMPOSSIBLE_CHUNK
        self._chunk_size, self._chunk_is_last, complete = chunk
        self._chunk_refusal = None
        current = self._current
        if not complete:
            self._chunk_refusal = replies.BDAT_SYNTAX
        elif current is None:
            self._chunk_refusal = replies.NO_MAIL
        elif (refusal := current.without_recipient) is not None:
            self._chunk_refusal = refusal
        elif not current.begun:
            try:
                self._begin(current)
            except Exception as error:
                current.refuse(error)
        if self._chunk_refusal is not None:
            # RFC 3030 section 2: a chunk that fails fails the transaction
            self.reset()
        return Answer(expect=Chunk(self._chunk_size))

    async def end_of_chunk(self) -> Answer:
        if self._chunk_refusal is not None:
            return self._chunk_refusal
        if self._chunk_is_last:
            return await self._commit()
        current = self._current
        assert current is not None, "else there is a refusal"
        if current.refusal is not None:
            self._current = None
            raise current.refusal
        return Answer(b"250 2.0.0 %d octets received\r\n" % self._chunk_size)

    async def block(self, data: bytes) -> Answer:
        """Content of DATA or BDAT."""
        if (current := self._current) is not None and (incoming := current.incoming) is not None:
            current.size += len(data)
            if current.size > self._max_bytes:
                # RFC 1870 section 6.3
                current.refuse(MailError(552, "5.3.4", "Message too big"))
            else:
                try:
                    await incoming.write(data)
                except Exception as error:
                    current.refuse(error)
        return replies.READ_ON

    async def _commit(self) -> Answer:
        # Whatever comes of it, the next MAIL is welcome; and nobody aborts what is being committed.
        current, self._current = self._current, None
        assert current is not None, "content is read in a transaction only"
        message_id = await current.commit()
        envelope = current.envelope
        _log.info(
            "message accepted",
            connection=current.client.connection,
            message=message_id,
            sender=str(envelope.reverse_path or ""),
            recipients=len(envelope.recipients),
            to=_some(envelope),
            size=current.size,
        )
        return Answer(b"250 2.0.0 Ok: queued as %s\r\n" % message_id.encode("ascii"))


def _some(envelope: Envelope) -> str:
    """Recipients, for the log."""
    return " ".join(str(recipient.address) for recipient in envelope.recipients[:NAMED])
