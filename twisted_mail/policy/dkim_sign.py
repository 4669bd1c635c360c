"""Signing what leaves: DKIM-Signature fields (RFC 6376, RFC 8463), relaxed/relaxed, over the bytes that leave.

Which fields are signed: those of `ALWAYS` once more than they are there, so that nobody can add one on the way; those
of `WHEN_THERE` likewise when there is one. A List-Id, for example, that a mailing list adds to a message without one
must not break the signature. What servers on the way add or remove (Received, Return-Path, Authentication-Results, ARC,
Bcc) is not signed.

It knows no clock and no file: keys and time are arguments.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256

from ..message.dkim_header import HeaderFields, relaxed_field

__all__ = [
    "ALWAYS", "WHEN_THERE", "PrivateKey", "SigningKey", "complete", "fold", "scope_words", "sign", "signed_names",
]  # fmt: skip

PrivateKey = RSAPrivateKey | Ed25519PrivateKey

# RFC 6376 section 5.4.1: what a message says of itself, and what a reader is shown
ALWAYS: Final = (
    *(b"from", b"to", b"cc", b"subject", b"date", b"message-id", b"reply-to", b"in-reply-to"),
    *(b"references", b"mime-version", b"content-type", b"content-transfer-encoding"),
)
WHEN_THERE: Final = (
    *(b"sender", b"list-id", b"list-help", b"list-unsubscribe", b"list-unsubscribe-post"),
    *(b"list-subscribe", b"list-post", b"list-owner", b"list-archive", b"content-disposition"),
    *(b"autocrypt", b"disposition-notification-to"),
)
_LINE: Final = 76
_MAX_FIELDS: Final = 100_000
_MAX_TIMES: Final = 16

_PADDING: Final = padding.PKCS1v15()
_DIGEST: Final = Prehashed(SHA256())


class SigningKey(Protocol):
    """A key that signs for a domain; `storage.dkim_keys.DkimKey` is one.

    `domain` and `selector` are A-labels; `algorithm` is ``rsa-sha256`` or ``ed25519-sha256``.
    """

    @property
    def domain(self) -> str: ...
    @property
    def selector(self) -> str: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def private(self) -> PrivateKey: ...


def sign(
    keys: Sequence[SigningKey],
    header: bytes,
    body_hash: bytes,
    *,
    now: int,
    lifetime: int | None = None,
) -> bytes:
    """A DKIM-Signature field for each key, in their order, LF line ends: to be put on top of the message.

    `header`: the block as it leaves, LF line ends; `body_hash`: ``BodyHash(relaxed=True).digest()`` of what follows the
    empty line; `now` in seconds since 1970 (t=); `lifetime` in seconds makes x=.
    """
    if not keys:
        return b""
    fields = HeaderFields(header, _MAX_FIELDS)
    names = signed_names(fields)
    signed = fields.signed(names, relaxed=True)
    scope = scope_words(names, body_hash)
    times = f"t={now};" if lifetime is None else f"t={now}; x={now + lifetime};"
    made = []
    for key in keys:
        tags = (
            f"v=1; a={key.algorithm}; c=relaxed/relaxed; d={key.domain}; s={key.selector}; {times}"
        )
        made.append(
            complete(b"DKIM-Signature", [*tags.encode("ascii").split(), *scope], key, signed)
        )
    return b"".join(made)


def signed_names(fields: HeaderFields, extra: Sequence[bytes] = ()) -> list[bytes]:
    """What h= is to name. `extra`: names of fields all of which are signed, and no more."""
    names: list[bytes] = []
    for name in ALWAYS:
        names += [name] * (min(len(fields.positions.get(name, ())), _MAX_TIMES) + 1)
    for name in WHEN_THERE:
        if name in fields.positions:
            names += [name] * (min(len(fields.positions[name]), _MAX_TIMES) + 1)
    for name in extra:
        names += [name] * min(len(fields.positions.get(name, ())), _MAX_TIMES)
    return names


def complete(name: bytes, words: list[bytes], key: SigningKey, signed: bytes) -> bytes:
    """The field `name` of `words` with its b=, folded; `signed`: the canonical text before it."""
    open_ = fold(name, words).removesuffix(b"\n") + b"\n\tb="
    digest = hashlib.sha256(signed + relaxed_field(open_).removesuffix(b"\r\n")).digest()
    private = key.private
    # RFC 8463 section 3: the hash is what is signed
    octets = (
        private.sign(digest, _PADDING, _DIGEST)
        if isinstance(private, RSAPrivateKey)
        else private.sign(digest)
    )
    # RFC 6376 section 3.7: b= was empty when this was signed; where it is folded makes no difference
    text = b"b=" + b64encode(octets)
    lines = [text[at : at + _LINE - 2] for at in range(0, len(text), _LINE - 2)]
    return open_.removesuffix(b"b=") + b"\n\t".join(lines) + b"\n"


def fold(name: bytes, words: Sequence[bytes]) -> bytes:
    """``name: word word …``, folded between words, LF line ends."""
    lines = [name + b":"]
    for word in words:
        if len(lines[-1]) + 1 + len(word) <= _LINE or lines[-1] == name + b":":
            lines[-1] += b" " + word
        else:
            lines.append(b"\t" + word)
    return b"\n".join(lines) + b"\n"


def scope_words(names: Sequence[bytes], body_hash: bytes) -> list[bytes]:
    """h= and bh=; h= in pieces between which a line may be folded."""
    pieces = []
    line = b"h="
    for number, name in enumerate(names):
        part = name + (b":" if number + 1 < len(names) else b";")
        if len(line) + len(part) > _LINE - 4:
            pieces.append(line)
            line = b""
        line += part
    return [*pieces, line, b"bh=" + b64encode(body_hash) + b";"]
