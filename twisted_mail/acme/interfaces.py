"""What issuing and renewal see of a CA: `Authority`, and the values that it answers with.

`client` speaks ACME (RFC 8555) over HTTPS; `twisted_mail.testing.authority` is a CA in memory. Methods block: they are
called in a thread, one at a time. They raise AuthorityError for whatever a CA can do wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

__all__ = [
    "Authority",
    "AuthorityError",
    "Authorization",
    "Challenge",
    "Connect",
    "Order",
    "Window",
    "said",
]

_MAX_SAID = 300


class AuthorityError(Exception):
    """The CA said no, or nothing that can be understood. The text is for the operator.

    `retry_after`: seconds that the CA wants us to wait, as it says; None when it does not. `account_gone`: it does not
    know our account any more.
    """

    def __init__(
        self, text: str, *, retry_after: float | None = None, account_gone: bool = False
    ) -> None:
        super().__init__(said(text))
        self.retry_after = retry_after
        self.account_gone = account_gone


class Challenge(NamedTuple):
    """RFC 8555 section 8. `url` is what is told that it may be looked at."""

    kind: str
    url: str
    token: str


class Authorization(NamedTuple):
    """RFC 8555 section 7.1.4: what the CA thinks of one name. `error`: why a challenge failed, or ""."""

    name: str
    status: str
    challenges: tuple[Challenge, ...]
    error: str = ""
    retry_after: float | None = None


class Order(NamedTuple):
    """RFC 8555 section 7.1.3. `certificate`: its URL, "" until it is there."""

    url: str
    status: str
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str = ""
    error: str = ""
    retry_after: float | None = None


class Window(NamedTuple):
    """RFC 9773 section 4.2: when the CA suggests to renew, seconds since 1970; `check_after`: seconds until it
    wants to be asked again."""

    start: float
    end: float
    explanation: str = ""
    check_after: float | None = None


class Authority(Protocol):
    """An account at a CA."""

    def account(self, known: str) -> str:
        """The URL of our account, made when there is none. `known`: the one of last time, or ""."""

    def key_authorization(self, token: str) -> str:
        """RFC 8555 section 8.1."""

    def new_order(self, names: tuple[str, ...], replaces: str) -> Order:
        """`replaces`: what `certificates.renewal_id` says of the certificate that is to be renewed, or ""."""

    def order(self, url: str) -> Order: ...
    def authorization(self, url: str) -> Authorization: ...
    def answer(self, url: str) -> None:
        """The challenge at `url` may be looked at."""

    def finalize(self, order: Order, csr: bytes) -> Order:
        """`csr` is DER."""

    def certificate(self, url: str) -> bytes:
        """PEM, the whole chain, not looked at."""

    def renewal_window(self, renewal_id: str) -> Window | None:
        """None: this CA has no such thing."""


Connect = Callable[[bytes], Authority]
"""Makes one, for the account with this key (PEM). Blocks. Raises AuthorityError."""


def said(text: str) -> str:
    """What somebody else said, fit for a line of the log: printable, and not too long."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text[:4096]).split())
    return line if len(line) <= _MAX_SAID else f"{line[:_MAX_SAID]}…"
