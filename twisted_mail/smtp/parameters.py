"""The arguments of MAIL's extensions and of BDAT: octets to values, or the refusal.

Knows what each keyword may look like (RFC 1870, 4954, 6152, 6531, 3030), not whether it is allowed
now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..status import MailError

__all__ = ["MailParameters", "chunk_arguments", "mail_parameters"]

MAX_CHUNK: Final = (1 << 31) - 1
"""Octets. RFC 3030 has no bound; whatever announces more in one piece makes a mistake, or an
attack.
"""


@dataclass(slots=True)
class MailParameters:
    """What stood behind the reverse-path of MAIL."""

    size: int | None = None
    body: str = "7BIT"
    smtputf8: bool = False


def mail_parameters(text: bytes, *, auth: bool) -> MailParameters:
    """Read `text`; `auth` says whether AUTH= is known here. Raises MailError 501 or 555."""
    parameters = MailParameters()
    seen = set()
    for word in text.split():
        keyword, equals, value = word.partition(b"=")
        keyword = keyword.upper()
        read = _KEYWORDS.get(keyword)
        if read is None or (keyword == b"AUTH" and not auth):
            # RFC 5321 section 4.1.1.11
            raise MailError(555, "5.5.4", "MAIL parameter not recognised")
        if keyword in seen or not read(parameters, value if equals else None):
            raise MailError(501, "5.5.4", f"Malformed parameter {keyword.decode('ascii')}")
        seen.add(keyword)
    return parameters


def _size(parameters: MailParameters, value: bytes | None) -> bool:
    # RFC 1870 section 3: up to 20 digits
    if value is None or not value.isdigit() or len(value) > 20:
        return False
    parameters.size = int(value)
    return True


def _body(parameters: MailParameters, value: bytes | None) -> bool:
    # RFC 6152 section 2
    word = (value or b"").upper()
    if word not in (b"7BIT", b"8BITMIME"):
        return False
    parameters.body = word.decode("ascii")
    return True


def _smtputf8(parameters: MailParameters, value: bytes | None) -> bool:
    # RFC 6531 section 3.4: without a value
    parameters.smtputf8 = True
    return value is None


def _auth(parameters: MailParameters, value: bytes | None) -> bool:
    """RFC 4954 section 5: checked, then treated as ``AUTH=<>``, since no client is trusted that
    far.
    """
    if not value:
        return False
    if value == b"<>":
        return True
    # RFC 3461 section 4: xtext
    if not all(0x21 <= octet <= 0x7E and octet != 0x3D for octet in value):
        return False
    return all(
        len(part) >= 2 and not part[:2].translate(None, b"0123456789ABCDEF")
        for part in value.split(b"+")[1:]
    )


_KEYWORDS: Final[dict[bytes, Callable[[MailParameters, bytes | None], bool]]] = {
    b"SIZE": _size,
    b"BODY": _body,
    b"SMTPUTF8": _smtputf8,
    b"AUTH": _auth,
}


def chunk_arguments(argument: bytes) -> tuple[int, bool, bool] | None:
    """Size, whether it is the last, and whether that was all, of BDAT. None for an impossible size.

    RFC 3030 section 2. When the size is known the octets can be dropped, whatever else is wrong;
    when it is not, nobody knows where the next command begins.
    """
    size, *rest = argument.split() or [b""]
    if not size.isdigit() or len(size) > 20 or int(size) > MAX_CHUNK:
        return None
    last = bool(rest) and rest[0].upper() == b"LAST"
    return int(size), last, len(rest) == last
