"""One message handed over: MAIL, RCPT, the content, and the last word on each recipient.

Round trips: with PIPELINING one for the envelope, DATA included, and one for the content, which goes in one write with
its last dot when it is small. RSET goes before MAIL of the next message, in the same write, when the last transaction
did not come to its end.

BDAT is never sent before a RCPT was accepted, though RFC 3030 allows it: there are servers that do not discard a chunk
they refuse (go-smtp issue 315), and run what a stranger wrote into it as commands in our name. So it saves no round
trip where there is PIPELINING, and small content goes by DATA. Large content goes by BDAT where CHUNKING is offered:
it can be refused in its midst, and nothing in it can be taken for its end.

What a failure is to the recipients:

- a reply is a reply: MAIL's for all, RCPT's for its own, DATA's and the last one for all that RCPT let in. 421, at any
  of them or unasked in the midst of the content, is the word on all that have no other yet, and the end;
- when the peer is lost, silent, or talks nonsense, and some recipients have their word (refused, or delivered: LMTP),
  the others get 451 4.4.2 made by us; when none has, SessionError. The message may then have been taken.
- 552 at RCPT is temporary unless its enhanced code says otherwise (RFC 5321 section 4.5.3.1.10).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from ...interfaces import Content
from ...message.wire import DotStuffer, LineEnds
from .channel import Channel, peer_reply, quoted
from .engine import Reply
from .envelope import Envelope
from .interfaces import PeerReply, SessionError, Timeouts

__all__ = ["Transfer"]

BLOCK: Final = 1 << 16
"""Octets read at once; content not longer than that is small."""
CHUNK: Final = 1 << 18
"""Octets on the wire at which a chunk is full; it has up to a block more."""
CHUNKS_AHEAD: Final = 4
"""Chunks that may be unanswered."""
GROUP: Final = 4
"""A pipelined group has so many times the time of one command, however many there are."""

# RFC 3463 section 3.3, 3.4 and 3.8: full mailbox, too large a message, policy: not "too many recipients"
_REALLY_552: Final = ("5.2.", "5.3.", "5.7.")


class Transfer:
    """`run` once, then `replies`."""

    __slots__ = (
        "_accepted",
        "_channel",
        "_envelope",
        "_lmtp",
        "_mailed",
        "_name",
        "_pipelined",
        "_timeouts",
        "_until",
        "_use_chunks",
        "_words",
    )

    def __init__(
        self,
        channel: Channel,
        envelope: Envelope,
        extensions: Mapping[str, str],
        name: str,
        timeouts: Timeouts,
        lmtp: bool,
    ) -> None:
        self._channel = channel
        self._envelope = envelope
        self._name = name
        self._timeouts = timeouts
        self._lmtp = lmtp
        self._pipelined = "PIPELINING" in extensions
        # LMTP: RFC 3030 does not say how many replies a refused chunk has
        self._use_chunks = "CHUNKING" in extensions and not lmtp
        self._words: list[PeerReply | None] = envelope.replies
        self._accepted: list[int] = []  # their numbers, in RCPT's order
        self._mailed = False
        self._until = 0.0

    def replies(self) -> list[PeerReply]:
        """The last word on each recipient."""
        assert None not in self._words
        return self._words  # type: ignore[return-value]  # as asserted

    async def run(self, content: Content, stale: bool) -> bool:
        """Do it. `stale`: RSET comes first. Gives whether the next message needs it.

        Raises SessionError when nobody knows anything of any recipient; and what reading `content` raises: before
        MAIL nothing has happened then, later the connection is cut.
        """
        head = await content.read(BLOCK)
        more = await content.read(BLOCK) if head else b""
        # Reading may have given less than the whole of a small content.
        while more and len(head) + len(more) <= BLOCK:
            head += more
            more = await content.read(BLOCK)
        if not more and self._pipelined:
            self._use_chunks = False
        over = self._channel.over
        if over is not None:
            raise SessionError(over.text, over.reply)
        try:
            go_ahead = await self._address(stale)
            if self._accepted:
                if self._use_chunks:
                    return await self._send_chunks(head, more, content)
                if go_ahead:
                    return await self._send_data(head, more, content)
            elif go_ahead:
                await self._send_nothing()
            return self._mailed
        except SessionError as error:
            self._settle(error)
            return True
        except BaseException:
            # Half a message: nothing but the end of the connection keeps it from being taken for a whole one.
            self._channel.abort(SessionError(f"the message to {self._name} could not be read"))
            raise

    async def _address(self, stale: bool) -> bool:
        """MAIL, RCPT, and DATA unless there are chunks: whether the peer waits for the content."""
        channel, envelope = self._channel, self._envelope
        if self._pipelined:
            # RFC 2920 section 3.1: DATA is the last of a group
            lines = [b"RSET\r\n", envelope.mail] if stale else [envelope.mail]
            lines += envelope.rcpts
            if not self._use_chunks:
                lines.append(b"DATA\r\n")
            channel.write(b"".join(lines), len(lines))
        # RFC 5321 section 4.5.3.2; and one byte a minute in answer to a hundred recipients is not for ever
        command = self._timeouts.command
        self._until = channel.now() + GROUP * command
        if stale:
            await self._exchange(b"RSET\r\n", "RSET", command)
        mail = await self._exchange(envelope.mail, "MAIL", command)
        if mail.code >= 400:
            word = peer_reply(mail)
            for number in envelope.numbers:
                self._words[number] = word
            if not self._pipelined:
                return False
        elif mail.code >= 300:
            raise self._nonsense("MAIL", mail)
        else:
            self._mailed = True
        for number, line in zip(envelope.numbers, envelope.rcpts, strict=True):
            rcpt = await self._exchange(line, "RCPT", command)
            if self._words[number] is not None:
                continue  # MAIL's word
            if rcpt.code < 300:
                self._accepted.append(number)
            elif rcpt.code < 400:
                raise self._nonsense("RCPT", rcpt)
            else:
                self._words[number] = _refusal(rcpt)
        if self._use_chunks or not (self._pipelined or self._accepted):
            return False
        data = await self._exchange(b"DATA\r\n", "DATA", self._timeouts.data_start)
        if data.code >= 400:
            self._tell_accepted(data)
            return False
        # RFC 5321 section 4.3.2: nothing but 354 lets content come
        if data.code < 300:
            raise self._nonsense("DATA", data)
        return True

    async def _send_data(self, head: bytes, more: bytes, content: Content) -> bool:
        channel = self._channel
        stuffer = DotStuffer()
        # RFC 2033 section 4.2: one for each recipient that was accepted
        replies = len(self._accepted) if self._lmtp else 1
        block = stuffer.encode(head)
        while more:
            channel.write(block, 0)
            if channel.blocked:
                await channel.drained(self._timeouts.data_block)
            block = stuffer.encode(more)
            more = await content.read(BLOCK)
        channel.write(block + stuffer.finish(), replies)
        return await self._last_words(replies)

    async def _send_nothing(self) -> None:
        """354, and nobody to send it to."""
        if self._lmtp:
            # Nobody knows how many replies an empty message to nobody has.
            self._channel.abort(SessionError(f"{self._name} wanted a message for no recipient"))
            return
        self._until = math.inf
        self._channel.write(b".\r\n", 1)  # RFC 2920 section 3.1
        await self._reply("the end of an empty message", self._timeouts.data_end)

    async def _send_chunks(self, head: bytes, more: bytes, content: Content) -> bool:
        channel = self._channel
        ends = LineEnds()
        chunk = ends.encode(head)
        ahead = CHUNKS_AHEAD if self._pipelined else 1
        owed = 0
        self._until = math.inf  # each is an answer to so many octets: there is an end to it
        while True:
            while more and len(chunk) < CHUNK:
                chunk += ends.encode(more)
                more = await content.read(BLOCK)
            if not more:
                break
            channel.write(b"BDAT %d\r\n" % len(chunk) + chunk, 1)  # RFC 3030 section 2
            owed += 1
            chunk = b""
            if channel.blocked:
                await channel.drained(self._timeouts.data_block)
            while owed:
                reply = channel.take()
                if reply is None:
                    if owed < ahead:
                        break
                    reply = await self._reply("BDAT", self._timeouts.data_end)
                owed -= 1
                if not self._takes_more(reply):
                    return await self._give_up(owed)
        chunk += ends.finish()
        channel.write(b"BDAT %d LAST\r\n" % len(chunk) + chunk, 1)
        while owed:
            reply = await self._reply("BDAT", self._timeouts.data_end)
            if not self._takes_more(reply):
                return await self._give_up(owed)
            owed -= 1
        return await self._last_words(1)

    def _takes_more(self, reply: Reply) -> bool:
        """What a chunk's reply says of the message."""
        if reply.code == 421:
            raise self._ended(reply)
        if reply.code >= 400:
            self._tell_accepted(reply)
            return False
        if reply.code >= 300:
            raise self._nonsense("BDAT", reply)
        return True

    async def _give_up(self, owed: int) -> bool:
        """A chunk was refused, and so are those behind it (RFC 3030 section 2): RSET is next."""
        for _ in range(owed):
            await self._reply("BDAT", self._timeouts.data_end)
        return True

    async def _last_words(self, replies: int) -> bool:
        """What became of the message; gives whether the peer may still have its transaction."""
        self._until = self._channel.now() + GROUP * self._timeouts.data_end
        what = "the end of the message"
        if not self._lmtp:
            reply = await self._reply(what, self._timeouts.data_end)
            if 300 <= reply.code < 400:
                raise self._nonsense(what, reply)
            self._tell_accepted(reply)
            return reply.code >= 400
        stale = False
        for number in self._accepted:
            reply = await self._reply(what, self._timeouts.data_end)
            if 300 <= reply.code < 400:
                raise self._nonsense(what, reply)
            self._words[number] = peer_reply(reply)
            stale = stale or reply.code >= 400
        return stale

    async def _exchange(self, line: bytes, what: str, seconds: float) -> Reply:
        """The reply to a command, which was sent already where commands are pipelined."""
        if not self._pipelined:
            self._channel.write(line, 1)
        return await self._reply(what, seconds)

    async def _reply(self, what: str, seconds: float) -> Reply:
        channel = self._channel
        reply = channel.take()
        if reply is None:
            left = self._until - channel.now()
            reply = await channel.reply(max(min(seconds, left), 0), what)
        if reply.code == 421:
            raise self._ended(reply)
        return reply

    def _tell_accepted(self, reply: Reply) -> None:
        word = peer_reply(reply)
        for number in self._accepted:
            self._words[number] = word

    def _ended(self, reply: Reply) -> SessionError:
        # RFC 5321 section 3.8: 421 is the word on everything that has no other
        error = SessionError(
            f"{self._name} ended the conversation: {quoted(reply)}", peer_reply(reply)
        )
        self._channel.end(error)
        return error

    def _nonsense(self, what: str, reply: Reply) -> SessionError:
        error = SessionError(f"{self._name} answered {what} with {quoted(reply)}")
        self._channel.abort(error)
        return error

    def _settle(self, error: SessionError) -> None:
        """The conversation is over: the word on those that have none yet, or the error itself."""
        word = error.reply
        if word is None:
            if not any(self._words):
                raise error
            # RFC 3463 section 3.5: bad connection
            word = PeerReply(451, "4.4.2", error.text, said=False)
        for number, known in enumerate(self._words):
            if known is None:
                self._words[number] = word


def _refusal(reply: Reply) -> PeerReply:
    """RCPT's."""
    if reply.code == 552 and not reply.enhanced.startswith(_REALLY_552):
        # RFC 5321 section 4.5.3.1.10: treated as if it were 452
        return PeerReply(452, "4.5.3", reply.text)
    return peer_reply(reply)
