"""SASL as grammar and arithmetic: PLAIN, LOGIN, SCRAM-SHA-256, and the SASLprep of passwords.

Promises: pure functions over bytes already freed of base64; no bytes make them raise anything but
`SaslError`. A SCRAM exchange is a chain of values, `ScramFirst` → `ScramChallenge` → `ScramProof`,
each made from the one before, so no step can be taken out of order.

They do not look up users, draw nonces or wait: `accounts.authenticate` does. Channel binding
(SCRAM-SHA-256-PLUS) is not offered.
"""

from __future__ import annotations

import hashlib
import hmac
import stringprep
import unicodedata
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final

__all__ = [
    "ForeignIdentity",
    "Password",
    "SaslError",
    "ScramChallenge",
    "ScramFirst",
    "ScramKeys",
    "ScramProof",
    "login_text",
    "plain",
    "saslprep",
]

_KEY_SIZE: Final = hashlib.sha256().digest_size


class SaslError(ValueError):
    """The client's message is not what its mechanism's grammar says. The text holds none of it."""


class ForeignIdentity(SaslError):
    """Well formed, but the client asks to act as somebody else than who logs in."""


@dataclass(frozen=True, slots=True, repr=False)
class Password:
    """What PLAIN and LOGIN end in. Has no repr: it must not get into a log."""

    username: str
    password: str


def plain(response: bytes) -> Password:
    """Read the one message of PLAIN.

    message = [authzid] UTF8NUL authcid UTF8NUL passwd        RFC 4616 section 2
    """
    parts = _utf8(response).split("\0")
    if len(parts) != 3:
        raise SaslError("PLAIN wants three parts")
    authzid, authcid, password = parts
    if not authcid or not password:
        raise SaslError("PLAIN wants a name and a password")
    if authzid and authzid != authcid:
        raise ForeignIdentity("the authorization identity is another's")
    return Password(authcid, password)


def login_text(response: bytes) -> str:
    """Read one answer of LOGIN, to either prompt (draft-murchison-sasl-login-00)."""
    text = _utf8(response)
    if not text or "\0" in text:
        raise SaslError("LOGIN wants a text")
    return text


@dataclass(frozen=True, slots=True, repr=False)
class ScramKeys:
    """What a server keeps of a password for SCRAM-SHA-256 (RFC 5802 section 3).

    Whoever has them can pretend to be the server and can guess passwords offline; they do not let
    anybody log in. `encode` is the notation of RFC 5803 section 2.
    """

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    @classmethod
    def derive(cls, password: str, salt: bytes, iterations: int) -> ScramKeys:
        """From a prepared password. Takes milliseconds: not on the reactor thread."""
        # RFC 5802 section 3
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        stored_key = hashlib.sha256(client_key).digest()
        return cls(iterations, salt, stored_key, hmac.digest(salted, b"Server Key", "sha256"))

    def encode(self) -> str:
        salt, stored, server = (
            b64encode(part).decode() for part in (self.salt, self.stored_key, self.server_key)
        )
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"

    @classmethod
    def parse(cls, text: str) -> ScramKeys:
        """Undo `encode`. Raises ValueError."""
        scheme, information, keys = text.split("$")
        iterations, salt = information.split(":")
        stored, server = (b64decode(part, validate=True) for part in keys.split(":"))
        if scheme != "SCRAM-SHA-256" or len(stored) != _KEY_SIZE or len(server) != _KEY_SIZE:
            raise ValueError("not SCRAM-SHA-256 keys")
        return cls(int(iterations), b64decode(salt, validate=True), stored, server)


@dataclass(frozen=True, slots=True)
class ScramFirst:
    """The client-first-message: who wants in.

    client-first-message = gs2-cbind-flag "," [authzid] "," username "," nonce ["," extensions]
                                                               RFC 5802 section 7
    """

    username: str
    _nonce: str
    _gs2_header: str
    _bare: str

    @classmethod
    def parse(cls, message: bytes) -> ScramFirst:
        parts = _utf8(message).split(",")
        if len(parts) < 4:
            raise SaslError("the first message of SCRAM is too short")
        flag, authzid, name, nonce = parts[:4]
        # RFC 5802 section 6: "y" says: I could, and you offer none. True: we offer none.
        if flag not in ("n", "y"):
            raise SaslError("channel binding is not offered")
        # RFC 5802 section 5.1: a mandatory extension stands first, as "m="
        username = _saslname(_attribute(name, "n"))
        if authzid and _saslname(_attribute(authzid, "a")) != username:
            raise ForeignIdentity("the authorization identity is another's")
        try:
            prepared = saslprep(username, stored=False)
        except ValueError:
            raise SaslError("the name has forbidden characters") from None
        if not prepared:
            raise SaslError("the name is empty")
        nonce = _attribute(nonce, "r")
        if not nonce or not all("!" <= character <= "~" for character in nonce):
            raise SaslError("malformed nonce")
        return cls(prepared, nonce, f"{flag},{authzid},", ",".join(parts[2:]))

    def challenge(self, keys: ScramKeys, server_nonce: str) -> ScramChallenge:
        """Answer it. `server_nonce`: printable ASCII without a comma, never used before."""
        nonce = self._nonce + server_nonce
        salt = b64encode(keys.salt).decode()
        text = f"r={nonce},s={salt},i={keys.iterations}"
        binding = b64encode(self._gs2_header.encode()).decode()
        return ScramChallenge(self.username, text, nonce, binding, self._bare)


@dataclass(frozen=True, slots=True)
class ScramChallenge:
    """The server-first-message: salt and iteration count."""

    username: str
    _text: str
    _nonce: str
    _binding: str
    _client_first_bare: str

    @property
    def data(self) -> bytes:
        """The bytes for the client, before base64."""
        return self._text.encode()

    def proof(self, message: bytes) -> ScramProof:
        """Read the client-final-message.

        client-final-message = channel-binding "," nonce ["," extensions] "," proof
                                                               RFC 5802 section 7
        """
        without_proof, comma, last = _utf8(message).rpartition(",")
        attributes = without_proof.split(",")
        if not comma or len(attributes) < 2:
            raise SaslError("the last message of SCRAM is too short")
        # RFC 5802 section 5.1: the GS2 header again, so that nobody has changed it on its way
        if _attribute(attributes[0], "c") != self._binding:
            raise SaslError("the channel binding has changed")
        if _attribute(attributes[1], "r") != self._nonce:
            raise SaslError("the nonce has changed")
        try:
            proof = b64decode(_attribute(last, "p"), validate=True)
        except ValueError:
            raise SaslError("the proof is not base64") from None
        if len(proof) != _KEY_SIZE:
            raise SaslError("the proof has a wrong size")
        signed = f"{self._client_first_bare},{self._text},{without_proof}"
        return ScramProof(self.username, signed.encode(), proof)


@dataclass(frozen=True, slots=True, repr=False)
class ScramProof:
    """The client's proof that it knows the password; nothing is checked yet."""

    username: str
    _auth_message: bytes
    _proof: bytes

    def matches(self, keys: ScramKeys) -> bool:
        """Whether it was made with the password of these keys."""
        # RFC 5802 section 3: ClientKey := ClientProof XOR ClientSignature
        signature = hmac.digest(keys.stored_key, self._auth_message, "sha256")
        client_key = int.from_bytes(signature) ^ int.from_bytes(self._proof)
        stored_key = hashlib.sha256(client_key.to_bytes(_KEY_SIZE)).digest()
        return hmac.compare_digest(stored_key, keys.stored_key)

    def server_final(self, keys: ScramKeys) -> bytes:
        """The server-final-message: our own proof. To be said only when `matches`."""
        signature = hmac.digest(keys.server_key, self._auth_message, "sha256")
        return b"v=" + b64encode(signature)


def saslprep(text: str, *, stored: bool = True) -> str:
    """Prepare a name or password for comparison (RFC 4013). Raises ValueError for what it forbids.

    `stored`: for keeping, where code points that Unicode 3.2 does not know are forbidden too.
    """
    # RFC 4013 section 2.1
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)  # RFC 4013 section 2.2
    for character in prepared:
        if any(forbids(character) for forbids in _FORBIDDEN):  # RFC 4013 section 2.3
            raise ValueError("forbidden character")
        if stored and stringprep.in_table_a1(character):  # RFC 4013 section 2.5
            raise ValueError("character unknown to Unicode 3.2")
    # RFC 3454 section 6: right-to-left text begins and ends with it, and holds nothing else
    if any(map(stringprep.in_table_d1, prepared)) and (
        not stringprep.in_table_d1(prepared[0])
        or not stringprep.in_table_d1(prepared[-1])
        or any(map(stringprep.in_table_d2, prepared))
    ):
        raise ValueError("left-to-right and right-to-left characters together")
    return prepared


_FORBIDDEN: Final = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SaslError("not UTF-8") from None


def _attribute(text: str, name: str) -> str:
    if text[:2] != name + "=":
        raise SaslError(f"the attribute {name} is missing")
    return text[2:]


def _saslname(text: str) -> str:
    """RFC 5802 section 5.1: "," and "=" are written =2C and =3D; "=" has no other meaning."""
    first, *rest = text.split("=")
    if any(part[:2] not in ("2C", "3D") for part in rest):
        raise SaslError("malformed name")
    return first + "".join(("," if part[0] == "2" else "=") + part[2:] for part in rest)
