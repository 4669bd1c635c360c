"""What a hostile peer tried on the SMTP client, and must not get."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_peer import Talk, greeted
from test_client_tls import SECURE_HELLO, Trust

from twisted_mail.connection.wire import Phase
from twisted_mail.smtp.client.interfaces import SessionError


def secured(trust: Trust, script: str) -> Talk:
    """A conversation over TLS, past EHLO."""
    made = Talk(
        greeted("STARTTLS") + "C: STARTTLS\nS: 220 go\nTLS\n" + SECURE_HELLO + script,
        tls=trust.server(),
    )
    made.hello()
    made.do(made.conversation.start_tls(trust.client()))
    made.hello()
    return made


def without_goodbye(made: Talk) -> None:
    """The peer does not answer the end of TLS with its own."""
    layer: Any = made.peer.transport.tls  # type: ignore[union-attr]
    read = made.peer.dataReceived

    def deaf(data: bytes) -> None:
        layer.dataReceived = lambda data: None
        read(data)

    made.peer.dataReceived = deaf  # type: ignore[method-assign]


def phase(made: Talk) -> Phase:
    channel: object = made.conversation._channel
    return channel.wire.phase  # type: ignore[attr-defined, no-any-return]


@pytest.fixture(scope="module")
def trust() -> Trust:
    return Trust()


def test_nobody_waits_for_the_goodbye_of_a_peer_over_tls(trust: Trust) -> None:
    """Who has a thousand names, and never says it, would hold ten seconds' worth of descriptors."""
    made = secured(trust, "C: QUIT\nS: 221 bye")
    without_goodbye(made)
    made.do(made.conversation.quit())
    made.finished()
    assert phase(made) is Phase.LOST


def test_nor_when_the_peer_refuses(trust: Trust) -> None:
    made = secured(trust, "C: EHLO me.example.org\nS: 421 busy")
    without_goodbye(made)
    with pytest.raises(SessionError):
        made.do(made.conversation.hello())
    made.finished()
    assert phase(made) is Phase.LOST


def test_the_last_word_over_tls_arrives(trust: Trust) -> None:
    made = secured(trust, "C: QUIT\nS: 221 bye")
    made.do(made.conversation.quit())
    made.finished()
    assert made.peer.closed
