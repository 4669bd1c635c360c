"""SASL in SMTP (RFC 4954): the session's side of a login, and what it sees of the portal.

Base64 on the wire, octets towards the exchange. Who may log in, and how long a failure takes, is
the authenticator's business.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from typing import Protocol

from ..connection.interfaces import Answer
from ..interfaces import IAccount
from ..status import MailError
from .engine import RESPONSE

__all__ = ["Authenticator", "Exchange", "Login", "challenge", "initial_response", "response"]


class Login(Protocol):
    """Somebody who has logged in."""

    @property
    def account(self) -> IAccount: ...

    def logout(self) -> object:
        """To be called once, at the end."""


class Exchange(Protocol):
    """One run of a SASL mechanism."""

    async def step(self, response: bytes | None) -> bytes | Login:
        """The client's next message (None: it sent no initial response), and the next challenge or
        the login.

        Raises MailError (535 5.7.8, 454 4.7.0, 501 5.5.2 …), and is over then.
        """


class Authenticator(Protocol):
    """The portal as sessions see it."""

    def mechanisms(self) -> Sequence[str]:
        """What can be offered now, in upper case, best first."""

    def exchange(self, mechanism: str, client_ip: str) -> Exchange:
        """Begin; `mechanism` is one of `mechanisms`."""


def challenge(data: bytes) -> Answer:
    """The 334 that asks for the next response."""
    return Answer(b"334 " + binascii.b2a_base64(data, newline=False) + b"\r\n", expect=RESPONSE)


def response(line: bytes) -> bytes:
    """The octets of a response. Raises MailError 501."""
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        # RFC 4954 section 4
        raise MailError(501, "5.5.2", "Cannot decode the BASE64 response") from None


def initial_response(words: Sequence[bytes]) -> bytes | None:
    """What stood behind the mechanism in AUTH, or None. Raises MailError 501."""
    if not words:
        return None
    if len(words) > 1:
        raise MailError(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
    # RFC 4954 section 4: a single "=" stands for an empty initial response
    return b"" if words[0] == b"=" else response(words[0])
