"""A CA in memory, for tests of renewal: it issues, refuses, lies and hangs as it is told.

`FakeAuthority.connect` is an `acme.interfaces.Connect`. It looks at challenges through `look`, as http-01 does.
Certificates are real, for `lifetime` seconds by the clock `now`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ..acme.certificates import load_key
from ..acme.challenges import HTTP, TLS_ALPN
from ..acme.interfaces import Authorization, Challenge, Order, Window

__all__ = ["FakeAuthority"]


class FakeAuthority:
    """`look`: what is at this token (http-01). What it was asked is in `asked`, a word each time.

    Set `fails` to an exception and every question raises it; `refuses` to a text and every challenge is invalid;
    `window` to what renewalInfo says; `sends` to what comes in place of the chain; `polls`: how often it is pending.
    """

    def __init__(
        self, now: Callable[[], float], look: Callable[[str], bytes | None], lifetime: float
    ) -> None:
        self.now = now
        self.look = look
        self.lifetime = lifetime
        self.asked: list[str] = []
        self.orders: list[tuple[tuple[str, ...], str]] = []
        self.issued: list[x509.Certificate] = []
        self.accounts = 0
        self.fails: Exception | None = None
        self.refuses = ""
        self.window: Window | None = None
        self.sends: Callable[[bytes], bytes] | None = None
        self.polls = 0
        self.kinds = (HTTP, TLS_ALPN)
        self.extra_names: tuple[str, ...] = ()
        self.order_status = ""
        self._answered: dict[str, int] = {}
        self._csr: bytes | None = None
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fake CA")])
        self.root = self._certificate(name, name, self._key, self._key, ca=True, names=())
        self._name = name

    @property
    def times_asked(self) -> int:
        """Orders that were asked for."""
        return self.asked.count("order")

    def connect(self, account_key: bytes) -> FakeAuthority:
        self._hear("directory")
        load_key(account_key)
        return self

    def account(self, known: str) -> str:
        self._hear("account")
        if known:
            return known
        self.accounts += 1
        return f"https://ca.example/account/{self.accounts}"

    def key_authorization(self, token: str) -> str:
        return f"{token}.thumbprint"

    def new_order(self, names: tuple[str, ...], replaces: str) -> Order:
        self._hear("order")
        self.orders.append((names, replaces))
        self._csr = None
        self._answered = {}
        return self._order()

    def order(self, url: str) -> Order:
        self._hear("poll")
        return self._order()

    def authorization(self, url: str) -> Authorization:
        self._hear("authorization")
        name = url.rpartition("/")[2]
        challenges = tuple(
            Challenge(kind, f"{url}?{kind}", f"token-of-{name.replace('.', '-')}")
            for kind in self.kinds
        )
        if url not in self._answered:
            return Authorization(name, "pending", challenges)
        self._answered[url] += 1
        if self._answered[url] <= self.polls:
            return Authorization(name, "pending", challenges)
        token = challenges[0].token
        if self.refuses or self.look(token) != self.key_authorization(token).encode():
            return Authorization(name, "invalid", challenges, self.refuses or "not what I expect")
        return Authorization(name, "valid", challenges)

    def answer(self, url: str) -> None:
        self._hear("answer")
        self._answered[url.partition("?")[0]] = 0

    def finalize(self, order: Order, csr: bytes) -> Order:
        self._hear("finalize")
        self._csr = csr
        return self._order()

    def certificate(self, url: str) -> bytes:
        self._hear("certificate")
        assert self._csr is not None
        csr = x509.load_der_x509_csr(self._csr)
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        made = self._certificate(
            x509.Name([]),
            self._name,
            csr.public_key(),
            self._key,
            ca=False,
            names=tuple(names.get_values_for_type(x509.DNSName)),
        )
        self.issued.append(made)
        chain = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (made, self.root))
        return chain if self.sends is None else self.sends(chain)

    def renewal_window(self, renewal_id: str) -> Window | None:
        self._hear(f"window {renewal_id}")
        return self.window

    def _hear(self, what: str) -> None:
        self.asked.append(what)
        if self.fails is not None:
            raise self.fails

    def _order(self) -> Order:
        names = (*self.orders[-1][0], *self.extra_names)
        urls = tuple(f"https://ca.example/authz/{name}" for name in names)
        if self.order_status:
            status = self.order_status
        elif self._csr is not None:
            status = "valid"
        else:
            status = "ready" if set(urls) <= self._answered.keys() else "pending"
        certificate = "https://ca.example/cert" if status == "valid" else ""
        return Order(
            "https://ca.example/order", status, urls, "https://ca.example/final", certificate
        )

    def _certificate(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        key: object,
        by: ec.EllipticCurvePrivateKey,
        *,
        ca: bool,
        names: tuple[str, ...],
    ) -> x509.Certificate:
        public = key.public_key() if isinstance(key, ec.EllipticCurvePrivateKey) else key
        assert isinstance(public, ec.EllipticCurvePublicKey)
        start = self.now()
        length = self.lifetime * 10 if ca else self.lifetime
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.fromtimestamp(start, UTC))
            .not_valid_after(datetime.fromtimestamp(start + length, UTC))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
            )
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
            )
        return builder.sign(by, hashes.SHA256())
