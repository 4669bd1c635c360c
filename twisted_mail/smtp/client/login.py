"""The client's side of SASL: SCRAM-SHA-256, PLAIN and LOGIN as messages, before base64.

Pure but for `ScramClient.answer`, whose key derivation takes milliseconds: call it in a thread. No text of an error
holds a secret.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode, b64encode
from typing import Final

from ...sasl import SaslError, saslprep

__all__ = ["MAX_ITERATIONS", "MIN_ITERATIONS", "ScramClient", "best_of", "plain"]

MIN_ITERATIONS: Final = 4096
"""RFC 7677 section 4. Fewer are asked for by somebody who wants to guess."""
MAX_ITERATIONS: Final = 2_000_000
"""About a second of a processor."""

_KNOWN: Final = ("SCRAM-SHA-256", "PLAIN", "LOGIN")


def best_of(offered: str) -> str | None:
    """The mechanism to use of those that EHLO's AUTH names; None when we know none of them."""
    names = offered.upper().split()
    return next((known for known in _KNOWN if known in names), None)


def plain(username: str, password: str) -> bytes:
    """The one message of PLAIN (RFC 4616 section 2). Raises SaslError."""
    if "\0" in username or "\0" in password:
        raise SaslError("a name or password with NUL")
    return f"\0{username}\0{password}".encode()


class ScramClient:
    """One exchange of SCRAM-SHA-256 (RFC 5802, 7677): `first`, `answer`, `verify`. `nonce`: printable, never used."""

    __slots__ = ("_bare", "_nonce", "_password", "_server_signature")

    def __init__(self, username: str, password: str, nonce: str) -> None:
        # RFC 5802 section 5.1: SASLprep, then "," and "=" are written otherwise
        name = _prepared(username).replace("=", "=3D").replace(",", "=2C")
        self._bare = f"n={name},r={nonce}"
        self._nonce = nonce
        self._password = _prepared(password)
        self._server_signature = b""

    def first(self) -> bytes:
        """The client-first-message, without channel binding."""
        return f"n,,{self._bare}".encode()

    def answer(self, challenge: bytes) -> bytes:
        """The client-final-message for the server-first-message. Raises SaslError when that is none."""
        try:
            text = challenge.decode()
            nonce, salt64, count = text.split(",")[:3]
            if (nonce[:2], salt64[:2], count[:2]) != ("r=", "s=", "i="):
                raise ValueError
            salt = b64decode(salt64[2:], validate=True)
            iterations = int(count[2:]) if len(count) <= 12 else 0
        except ValueError:
            raise SaslError("the server's challenge is not SCRAM's") from None
        # RFC 5802 section 5.1: the client's part first, then the server's
        if not nonce[2:].startswith(self._nonce) or len(nonce) - 2 == len(self._nonce):
            raise SaslError("the server's nonce does not go on with ours")
        if not MIN_ITERATIONS <= iterations <= MAX_ITERATIONS:
            raise SaslError(f"the server asks for {iterations} iterations")
        # RFC 5802 section 3
        salted = hashlib.pbkdf2_hmac("sha256", self._password.encode(), salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,{nonce}"
        signed = f"{self._bare},{text},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = int.from_bytes(client_key) ^ int.from_bytes(signature)
        self._server_signature = hmac.digest(
            hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256"
        )
        return f"{without_proof},p={b64encode(proof.to_bytes(32)).decode()}".encode()

    def verify(self, final: bytes) -> None:
        """The server-final-message: does it know the password, too? Raises SaslError."""
        expected = b"v=" + b64encode(self._server_signature)
        if not self._server_signature or not hmac.compare_digest(final.split(b",")[0], expected):
            raise SaslError("the server does not know the password")


def _prepared(text: str) -> str:
    try:
        return saslprep(text, stored=False)
    except ValueError:
        return text
