"""What an SMTP or LMTP client says, and what it makes of the answers.

Which failure is what:

- SessionError without `reply`: the peer closed, was silent past a timeout, sent no SMTP, or said something that is no
  answer. SessionError with `reply`: it refused what nothing goes without (greeting, EHLO, STARTTLS, AUTH), with 421 or
  otherwise. After either the conversation is over, `open` is False; only after a refused STARTTLS or AUTH that was not
  421 it goes on.
- `send` gives replies for what the peer, or we in its place, said of the message: see `transfer`.

A password is written to the peer and nowhere else.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ...interfaces import Content
from ...sasl import SaslError
from ...world import World
from .channel import Channel, peer_reply, quoted
from .engine import Reply, command
from .envelope import Envelope
from .interfaces import PeerReply, SessionError, Timeouts, Transaction
from .login import ScramClient, best_of, plain
from .transfer import Transfer

__all__ = ["SmtpConversation"]

_INITIAL: Final = 400
"""Octets of an initial response, in base64; longer ones go in a line of their own (RFC 4954 section 4)."""
_TELLING: Final = 4
"""Characters of a secret that betray it. Shorter ones stand in any text by chance."""


class SmtpConversation:
    """`interfaces.Conversation`, made by `protocol.connect`. `name`: of the peer, for texts."""

    def __init__(
        self,
        channel: Channel,
        world: World,
        *,
        name: str,
        helo: str,
        lmtp: bool,
        clear_login: bool,
        timeouts: Timeouts,
    ) -> None:
        self.name = name
        self.extensions: Mapping[str, str] = {}
        self._channel = channel
        self._world = world
        self._helo = helo
        self._lmtp = lmtp
        self._clear_login = clear_login
        self._timeouts = timeouts
        self._greeted = False
        self._stale = False  # the peer still has a transaction: RSET comes before MAIL

    @property
    def tls(self) -> str | None:
        return self._channel.tls

    @property
    def open(self) -> bool:
        return self._channel.over is None

    def peer_chain(self) -> Sequence[Any]:
        return self._channel.peer_chain()

    async def hello(self) -> None:
        if not self._greeted:
            greeting = await self._channel.reply(self._timeouts.greeting, "with a greeting")
            self._greeted = True
            # RFC 5321 section 3.1: 554 for "no mail here"
            if greeting.code // 100 != 2:
                raise self._over("refused the connection", greeting)
        self._stale = False
        self.extensions = {}
        # RFC 2033 section 4.1
        verb = "LHLO" if self._lmtp else "EHLO"
        reply = await self._ask(command(f"{verb} {self._helo}"), verb)
        if reply.code // 100 == 2:
            self.extensions = _extensions(reply.lines[1:])
            return
        # RFC 5321 section 3.2: whoever does not know EHLO says 5xx
        if reply.code >= 500 and not self._lmtp:
            verb = "HELO"
            reply = await self._ask(command(f"HELO {self._helo}"), verb)
            if reply.code // 100 == 2:
                return
        raise self._over(f"refused {verb}", reply)

    async def start_tls(self, creator: Any) -> None:
        reply = await self._ask(b"STARTTLS\r\n", "STARTTLS")
        if reply.code // 100 != 2:
            raise self._refused("refused STARTTLS", reply)
        # RFC 3207 section 4.2: what was learnt in clear is forgotten
        self.extensions = {}
        await self._channel.start_tls(creator, self._timeouts.tls)

    async def login(self, username: str, password: str) -> None:
        if self.tls is None and not self._clear_login:
            raise SessionError(f"no password is sent to {self.name} without TLS")
        mechanism = best_of(self.extensions.get("AUTH", ""))
        if mechanism is None:
            raise SessionError(f"{self.name} offers no login that we know")
        try:
            if mechanism == "PLAIN":
                reply = await self._auth(mechanism, plain(username, password))
            elif mechanism == "LOGIN":
                reply = await self._login(username, password)
            else:
                reply = await self._scram(username, password)
        except SaslError as error:
            why = SessionError(f"login at {self.name}: {error}")
            self._channel.abort(why)
            raise why from None
        except SessionError as error:
            raise _without(error, self.name, username, password) from None
        if reply.code // 100 != 2:
            raise _without(self._refused("refused the login", reply), self.name, username, password)

    async def send(self, transaction: Transaction, content: Content) -> list[PeerReply]:
        try:
            channel = self._channel
            if channel.over is not None:
                raise SessionError(channel.over.text, channel.over.reply)
            envelope = Envelope(transaction, self.extensions, channel.tls is not None, self.name)
            transfer = Transfer(
                channel, envelope, self.extensions, self.name, self._timeouts, self._lmtp
            )
            if envelope.rcpts:
                stale, self._stale = self._stale, True
                self._stale = await transfer.run(content, stale)
            return transfer.replies()
        finally:
            content.close()

    async def quit(self) -> None:
        channel = self._channel
        if channel.over is None:
            try:
                channel.write(b"QUIT\r\n", 1)
                await channel.reply(self._timeouts.quit, "QUIT")
            except SessionError:
                pass
            channel.end(SessionError(f"the conversation with {self.name} has ended"))

    def abort(self) -> None:
        self._channel.abort(SessionError(f"the connection to {self.name} was cut"))

    async def _ask(self, line: bytes, what: str) -> Reply:
        self._channel.write(line, 1)
        return await self._channel.reply(self._timeouts.command, what)

    def _refused(self, what: str, reply: Reply) -> SessionError:
        """An error that ends nothing, unless the reply does."""
        error = SessionError(f"{self.name} {what}: {quoted(reply)}", peer_reply(reply))
        # RFC 5321 section 3.8; and 3xx and the like is nothing one can go on from
        if reply.code == 421 or reply.code < 400:
            self._channel.end(error)
        return error

    def _over(self, what: str, reply: Reply) -> SessionError:
        error = SessionError(f"{self.name} {what}: {quoted(reply)}", peer_reply(reply))
        self._channel.end(error)
        return error

    async def _auth(self, mechanism: str, initial: bytes) -> Reply:
        """AUTH, and the first message of the client."""
        first = b64encode(initial)
        if len(first) <= _INITIAL:
            return await self._ask(b"AUTH %s %s\r\n" % (mechanism.encode(), first), "AUTH")
        reply = await self._ask(b"AUTH %s\r\n" % mechanism.encode(), "AUTH")
        return reply if reply.code != 334 else await self._ask(first + b"\r\n", "AUTH")

    async def _login(self, username: str, password: str) -> Reply:
        reply = await self._ask(b"AUTH LOGIN\r\n", "AUTH")
        for text in (username, password):
            if reply.code != 334:
                break
            reply = await self._ask(b64encode(text.encode()) + b"\r\n", "AUTH")
        return reply

    async def _scram(self, username: str, password: str) -> Reply:
        nonce = b64encode(self._world.entropy(18)).decode()
        scram = ScramClient(username, password, nonce)
        reply = await self._auth("SCRAM-SHA-256", scram.first())
        if reply.code != 334:
            return self._unproved(reply)
        answer = await self._world.threads.call(scram.answer, _decoded(reply))
        reply = await self._ask(b64encode(answer) + b"\r\n", "AUTH")
        if reply.code != 334:
            return self._unproved(reply)
        scram.verify(_decoded(reply))
        return await self._ask(b"\r\n", "AUTH")

    def _unproved(self, reply: Reply) -> Reply:
        # RFC 5802 section 3: the server is believed when it has shown that it knows the password
        if reply.code // 100 == 2:
            raise SaslError("the server has not shown that it knows the password")
        return reply


def _extensions(lines: Sequence[str]) -> dict[str, str]:
    """EHLO's reply: keyword → parameters. The old ``AUTH=LOGIN`` says AUTH, too."""
    found: dict[str, str] = {}
    for line in lines:
        keyword, _, parameters = line.partition(" ")
        keyword = keyword.upper()
        if keyword.startswith("AUTH="):
            keyword, parameters = "AUTH", f"{line[5:]} {found.get('AUTH', '')}"
        elif keyword == "AUTH":
            parameters = f"{parameters} {found.get('AUTH', '')}"
        if keyword:
            found[keyword] = parameters.strip()
    return found


def _decoded(reply: Reply) -> bytes:
    try:
        return b64decode(reply.text, validate=True)
    except ValueError:
        raise SaslError("the server's challenge is not base64") from None


def _without(error: SessionError, name: str, username: str, password: str) -> SessionError:
    """The error, unless the peer has sent the secret back to us: then it is told without the peer's words."""
    secrets = {password, b64encode(password.encode()).decode()}
    try:
        secrets.add(b64encode(plain(username, password)).decode())
    except SaslError:
        pass
    # Texts are cut: the beginning of a secret is one, too.
    if not any(len(secret) >= _TELLING and secret[:_TELLING] in error.text for secret in secrets):
        return error
    if error.reply is None:
        return SessionError(f"{name} repeated the password")
    reply = PeerReply(error.reply.code, error.reply.enhanced, "(the peer repeated the password)")
    return SessionError(f"{name} refused the login: {quoted(reply)}", reply)
