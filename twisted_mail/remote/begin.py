"""From a connection to a session that may carry mail: greeting, TLS as the policy wants it, login.

`Beginner.begin` gives a `Session` or raises; then the connection is closed. A handshake that fails where TLS is
opportunistic is made up for by a new connection in clear, as others do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..smtp.client.interfaces import Conversation, SessionError
from ..world import World
from .contexts import ClientContexts
from .judge import Authorities, Verdict, judge, unreadable
from .tls_policy import Level, TlsPolicy, Unusable
from .tls_results import Failure, TlsResults

__all__ = ["Beginner", "Redial", "Session", "Way"]

Redial = Callable[[], Awaitable[Conversation]]
"""A new connection to the same address. Raises SessionError."""


@dataclass(frozen=True, slots=True)
class Way:
    """How one host wants to be talked to. `domain`: the destination, "" for a route (for reports).

    `implicit`: TLS from the first byte; the handshake is over already. `host`: its name, for texts.
    """

    host: str
    policy: TlsPolicy
    domain: str = ""
    lmtp: bool = False
    implicit: bool = False
    requiretls: bool = False
    username: str = ""
    password: str = field(default="", repr=False)


class Session(NamedTuple):
    """`tls`: for people, such as ``TLSv1.3 TLS_AES_256_GCM_SHA384 verified``; "" in clear."""

    conversation: Conversation
    tls: str


class Beginner:
    """Begins sessions."""

    def __init__(
        self,
        world: World,
        contexts: ClientContexts,
        authorities: Authorities,
        results: TlsResults,
    ) -> None:
        self._world = world
        self._contexts = contexts
        self._authorities = authorities
        self._results = results

    def creator(self, policy: TlsPolicy) -> Any:
        """What `start_tls`, or a connection with implicit TLS, is given."""
        strict = policy.level >= Level.VERIFIED
        return self._contexts.creator(policy.server_name, strict=strict)

    async def begin(
        self, way: Way, address: str, conversation: Conversation, redial: Redial
    ) -> Session:
        """Raises SessionError, or Unusable when the host is not what the policy asks for."""
        try:
            if way.implicit:
                self._judge(way, address, conversation)
                await conversation.hello()
            else:
                await conversation.hello()
                if way.policy.level is Level.NONE:
                    pass
                elif "STARTTLS" not in conversation.extensions:
                    self._not_offered(way, address)
                elif not await self._start_tls(way, address, conversation):
                    if not conversation.open:
                        conversation = await redial()
                        await conversation.hello()
                else:
                    self._judge(way, address, conversation)
                    await conversation.hello()
            # RFC 8689 section 4.2.1; behind LMTP is the mailbox, and nobody who could promise anything
            if way.requiretls and not way.lmtp and "REQUIRETLS" not in conversation.extensions:
                raise Unusable(
                    f"the message requires TLS on its whole way, and {way.host} does not offer that",
                    "5.7.30",
                    permanent=True,
                )
            if way.username:
                await conversation.login(way.username, way.password)
        except Unusable:
            await conversation.quit()
            raise
        except BaseException:
            conversation.abort()
            raise
        return Session(conversation, _in_words(way.policy, conversation))

    def _not_offered(self, way: Way, address: str) -> None:
        self._note_failure(way, address, "starttls-not-supported")
        if way.policy.mandatory:
            raise Unusable(
                f"{way.host} offers no TLS, without which nothing may be sent there", "4.7.4"
            )

    async def _start_tls(self, way: Way, address: str, conversation: Conversation) -> bool:
        """False when there is none, and need not be; the conversation may be over then."""
        try:
            await conversation.start_tls(self.creator(way.policy))
        except SessionError as error:
            result = "starttls-not-supported" if error.reply is not None else "validation-failure"
            self._note_failure(way, address, result)
            if way.policy.mandatory:
                raise Unusable(f"no TLS with {way.host}: {_reason(error)}", "4.7.5") from error
            return False
        return True

    def _judge(self, way: Way, address: str, conversation: Conversation) -> None:
        policy = way.policy
        if policy.level >= Level.VERIFIED:
            verdict = self._verdict(policy, conversation)
            if not verdict.good:
                self._note_failure(way, address, verdict.result)
                raise Unusable(f"{way.host} is not trusted: {verdict.reason}", "4.7.5")
        elif policy.testing is not None:
            # RFC 8461 section 5: nothing but a report comes of it
            result = "validation-failure"
            if policy.testing.names(way.host):
                would = replace(policy, level=Level.VERIFIED, names=(way.host,))
                result = self._verdict(would, conversation).result
            if result:
                self._note_failure(way, address, result)
                return
        if way.domain:
            self._results.success(way.domain, policy.kind, policy.text)

    def _verdict(self, policy: TlsPolicy, conversation: Conversation) -> Verdict:
        chain: Sequence[Any] = ()
        try:
            chain = conversation.peer_chain()
        except Exception as error:
            return unreadable(error)
        try:
            return judge(policy, chain, self._world.now(), self._authorities)
        except OSError as error:
            # Ours, not the peer's: the file of authorities.
            raise Unusable(f"no certificate can be judged here: {error}", "4.3.5") from error

    def _note_failure(self, way: Way, address: str, result: str) -> None:
        if way.domain:
            failure = Failure(result, way.host, address)
            self._results.failure(way.domain, way.policy.kind, failure, way.policy.text)


def _reason(error: SessionError) -> str:
    reply = error.reply
    return error.text if reply is None else f"it said {reply.code} {reply.text}"


def _in_words(policy: TlsPolicy, conversation: Conversation) -> str:
    tls = conversation.tls
    if not tls:
        return ""
    if policy.level is Level.DANE:
        return tls + " dane"
    return tls + " verified" if policy.level is Level.VERIFIED else tls
