"""The arguments of MAIL's and RCPT's extensions and of BDAT: octets to values, or the refusal.

Knows what each keyword may look like (RFC 1870, 3461, 4954, 6152, 6531, 8689, 3030), not whether it
is allowed now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from ..message.xtext import parse_envid, parse_orcpt
from ..status import MailError

__all__ = [
    "MailParameters",
    "RcptParameters",
    "chunk_arguments",
    "mail_parameters",
    "rcpt_parameters",
]

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
    ret: str = ""
    envid: str = ""
    requiretls: bool = False


_NO_PARAMETERS: Final = MailParameters()


@dataclass(slots=True)
class RcptParameters:
    """What stood behind the forward-path of RCPT, as `delivery.interfaces.Recipient` has it."""

    notify: str = ""
    orcpt: str = ""


def mail_parameters(text: bytes, *, auth: bool) -> MailParameters:
    """Read `text`; `auth` says whether AUTH= is known here. Raises MailError 501 or 555.

    What comes back may be shared: it is only to be read.
    """
    if not text:
        return _NO_PARAMETERS
    parameters = MailParameters()
    for keyword, value in _words(text):
        read = _OF_MAIL.get(keyword)
        if read is None or (keyword == b"AUTH" and not auth):
            # RFC 5321 section 4.1.1.11
            raise MailError(555, "5.5.4", "MAIL parameter not recognised")
        if not read(parameters, value):
            raise _malformed(keyword)
    return parameters


def rcpt_parameters(text: bytes, *, smtputf8: bool) -> RcptParameters:
    """Read `text`; `smtputf8` says whether MAIL asked for that. Raises MailError 501 or 555."""
    parameters = RcptParameters()
    for keyword, value in _words(text):
        read = _OF_RCPT.get(keyword)
        if read is None:
            # RFC 5321 section 4.1.1.11
            raise MailError(555, "5.5.4", "RCPT parameter not recognised")
        # RFC 6533 section 3: an address of type utf-8 is in ASCII, too, without SMTPUTF8
        if not (value is None or smtputf8 or value.isascii()) or not read(parameters, value):
            raise _malformed(keyword)
    return parameters


def _words(text: bytes) -> Iterator[tuple[bytes, bytes | None]]:
    """Keywords in upper case, with their values; each once (RFC 3461 section 5.1 says it aloud)."""
    seen = set()
    for word in text.split():
        keyword, equals, value = word.partition(b"=")
        keyword = keyword.upper()
        if keyword in seen:
            raise MailError(501, "5.5.4", "The same parameter twice")
        seen.add(keyword)
        yield keyword, value if equals else None


def _malformed(keyword: bytes) -> MailError:
    return MailError(501, "5.5.4", f"Malformed parameter {keyword.decode('ascii')}")


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


def _ret(parameters: MailParameters, value: bytes | None) -> bool:
    # RFC 3461 section 4.3
    word = (value or b"").upper()
    if word not in (b"FULL", b"HDRS"):
        return False
    parameters.ret = word.decode("ascii")
    return True


def _envid(parameters: MailParameters, value: bytes | None) -> bool:
    # RFC 3461 section 4.4
    try:
        parameters.envid = parse_envid((value or b"").decode("ascii"))
    except ValueError:
        return False
    return value is not None


def _requiretls(parameters: MailParameters, value: bytes | None) -> bool:
    # RFC 8689 section 2: without a value
    parameters.requiretls = True
    return value is None


def _notify(parameters: RcptParameters, value: bytes | None) -> bool:
    # RFC 3461 section 4.1: NEVER stands alone
    said = (value or b"").upper().split(b",")
    if said == [b"NEVER"]:
        parameters.notify = "NEVER"
        return True
    parameters.notify = ",".join(
        word for word in ("SUCCESS", "FAILURE", "DELAY") if word.encode() in said
    )
    return all(word in (b"SUCCESS", b"FAILURE", b"DELAY") for word in said)


def _orcpt(parameters: RcptParameters, value: bytes | None) -> bool:
    # RFC 3461 section 4.2, RFC 6533 section 3
    try:
        parameters.orcpt = parse_orcpt((value or b"").decode("utf-8"))
    except ValueError:
        return False
    return True


_OF_MAIL: Final[dict[bytes, Callable[[MailParameters, bytes | None], bool]]] = {
    b"SIZE": _size,
    b"BODY": _body,
    b"SMTPUTF8": _smtputf8,
    b"AUTH": _auth,
    b"RET": _ret,
    b"ENVID": _envid,
    b"REQUIRETLS": _requiretls,
}
_OF_RCPT: Final[dict[bytes, Callable[[RcptParameters, bytes | None], bool]]] = {
    b"NOTIFY": _notify,
    b"ORCPT": _orcpt,
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
