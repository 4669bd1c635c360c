"""Sender Rewriting Scheme: the envelope sender of forwarded mail, so that SPF holds and bounces find their way back.

    SRS0=HHHHHH=TT=domain=local@here          the first forwarder
    SRS1=HHHHHH=domain==HHH=TT=…@here         every further one: `domain` is the first one's, what follows the
                                              equals sign behind it is the first one's own, kept as it stands

(M. Weisman, "Sender Rewriting Scheme", 2004; shapes as in libsrs2 and PostSRSd.) ``TT`` is the day modulo 1024 in two
base32 digits, ``HHHHHH`` 30 bits of an HMAC. Both, and all of an address, may come back in other letter case: some
servers lower local parts. What comes back then has the case they gave it.

Promises: `forward` always gives a valid address (RFC 5321 section 4.5.3.1); whatever it rewrote, `reverse` gives back
within `max_age_days`; nobody without the secret can make an address that `reverse` accepts, but by trying 2**30.

A sender too long to be wrapped into 64 octets stays as it is, as Exchange has it: a receiver that insists on SPF then
refuses the message, and the sender learns of it. A null or shortened sender would lose his bounces silently.
"""

from __future__ import annotations

import hmac
import re
from base64 import b32encode
from collections.abc import Callable, Sequence
from typing import Final

from ..address import MAX_LOCAL, MAX_PATH, Address, normalize_domain
from ..status import MailError

__all__ = ["MAX_AGE_DAYS", "Srs"]

MAX_AGE_DAYS: Final = 21
"""A message may wait in two queues for five days each, and its bounce as long; as libsrs2 has it."""

_DAY: Final = 86_400
_SLOTS: Final = 1024
_HASH: Final = 6
_BASE32: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_SHAPE: Final = re.compile(r"SRS[01][=+-]", re.IGNORECASE | re.ASCII)
_SRS0: Final = re.compile(
    r"SRS0[=+-]([A-Z2-7]{6})=([A-Z2-7]{2})=([^=]+)=(.*)", re.IGNORECASE | re.ASCII | re.DOTALL
)
_SRS1: Final = re.compile(
    r"SRS1[=+-]([A-Z2-7]{6})=([^=]+)=([=+-].+)", re.IGNORECASE | re.ASCII | re.DOTALL
)
# SRS1 of any implementation: hashes differ in length and letters
_FOREIGN_SRS1: Final = re.compile(
    r"SRS1[=+-][^=]+=([^=]+)=([=+-].+)", re.IGNORECASE | re.ASCII | re.DOTALL
)


class Srs:
    """Rewrites with `secret` (bytes nobody else has, at least 16); takes back what the `former` ones made, too.

    `now`: seconds since 1970. `separator` stands behind SRS0 and SRS1 in new addresses: "=", "+" or "-".
    """

    __slots__ = ("_max_age", "_now", "_secrets", "_separator")

    def __init__(
        self,
        secret: bytes,
        now: Callable[[], float],
        max_age_days: int = MAX_AGE_DAYS,
        *,
        former: Sequence[bytes] = (),
        separator: str = "=",
    ) -> None:
        if len(secret) < 16:
            raise ValueError("the secret of SRS has less than 16 octets")
        if separator not in ("=", "+", "-"):
            raise ValueError("the separator of SRS is one of = + -")
        if not 1 <= max_age_days < _SLOTS - 1:
            raise ValueError("an SRS address is valid for 1 to 1022 days")
        self._secrets = (secret, *former)
        self._now = now
        self._max_age = max_age_days
        self._separator = separator

    def forward(self, sender: Address, domain: str) -> Address:
        """The sender under which mail of `sender` is forwarded from `domain`, which is ours.

        The same as `sender` when that is of `domain` already, has no domain, or is too long to be rewritten.
        """
        if sender.domain in ("", domain):
            return sender
        local = self._rewritten(sender)
        rewritten = Address(local, domain)
        # RFC 5321 sections 4.5.3.1.1 and 4.5.3.1.3; quoting and angle brackets count
        text = str(rewritten).encode()
        if len(text) - len(domain) - 1 > MAX_LOCAL or len(text) > MAX_PATH - 2:
            return sender
        return rewritten

    def reverse(self, address: Address) -> Address | None:
        """Whom mail to `address` of ours goes back to; None when it is no SRS address.

        Raises MailError 550 when it is one, but not from here, or too old.
        """
        local = address.local
        if _SHAPE.match(local) is None:
            return None
        if found := _SRS0.fullmatch(local):
            given, stamp, host, rest = found.groups()
            back = _address(rest, host)
            self._check(given, _signed("0", stamp, back))
            self._check_age(stamp)
            return back
        if found := _SRS1.fullmatch(local):
            given, host, rest = found.groups()
            back = _address("SRS0" + rest, host)
            # No age: whoever is behind it checks his own
            self._check(given, _signed("1", "", back))
            return back
        return None

    def _rewritten(self, sender: Address) -> str:
        local = sender.local
        if found := _FOREIGN_SRS1.fullmatch(local):
            # The way back leads past the forwarder before us, straight to the first one
            host, rest = found.groups()
            try:
                return self._guarded(_normal(host), rest)
            except ValueError:
                pass
        elif _SHAPE.match(local) and local[3] == "0" and len(local) > 5:
            return self._guarded(sender.domain, local[4:])
        stamp = self._stamp()
        hashed = _hash(self._secrets[0], _signed("0", stamp, sender))
        return f"SRS0{self._separator}{hashed}={stamp}={sender.domain}={local}"

    def _guarded(self, host: str, rest: str) -> str:
        hashed = _hash(self._secrets[0], _signed("1", "", Address("SRS0" + rest, host)))
        return f"SRS1{self._separator}{hashed}={host}={rest}"

    def _stamp(self) -> str:
        day = int(self._now() // _DAY) % _SLOTS
        return _BASE32[day >> 5] + _BASE32[day & 31]

    def _check(self, given: str, signed: bytes) -> None:
        hashed = given.upper().encode()
        # Every secret is tried, whichever fits: the time it takes tells nothing
        fits = [
            hmac.compare_digest(hashed, _hash(secret, signed).encode()) for secret in self._secrets
        ]
        if not any(fits):
            raise MailError(550, "5.1.1", "This forwarding address is not from here")

    def _check_age(self, stamp: str) -> None:
        high, low = (_BASE32.index(digit) for digit in stamp.upper())
        age = (int(self._now() // _DAY) - (high << 5 | low)) % _SLOTS
        # Another host's clock may be past midnight already
        if age > self._max_age and age != _SLOTS - 1:
            raise MailError(550, "5.1.1", "This forwarding address has expired")


def _signed(kind: str, stamp: str, address: Address) -> bytes:
    return f"{kind}{stamp.upper()}\0{address.key}".encode("utf-8", "surrogatepass")


def _hash(secret: bytes, signed: bytes) -> str:
    return b32encode(hmac.digest(secret, signed, "sha256")[:5]).decode("ascii")[:_HASH]


def _address(local: str, host: str) -> Address:
    try:
        return Address(local, _normal(host))
    except ValueError:
        raise MailError(550, "5.1.1", "This forwarding address is not from here") from None


def _normal(host: str) -> str:
    if not host.isascii():
        raise ValueError("the domain is not in its A-label form")
    return normalize_domain(host)
