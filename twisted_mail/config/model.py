"""The configuration as a value: every key, its default, what it allows, and why.

The descriptions here and in `outgoing` are the documentation: `reference` prints them. Models are frozen and strict
(TOML has types; a string is not a number). They look at nothing outside: whether files exist is for
`checks`. Validated with the context ``{"directory": Path}``, relative paths become absolute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, PrivateAttr, model_validator

from . import endpoints
from .filtering import Filter
from .imap import Imap, Quota
from .outgoing import Delivery, Dns, Queue, Route, route_mistakes
from .policy import Checks, Greylist, Rates, Reports, Reputation, Signing, Stories
from .section import Section
from .values import Account, Checker, Endpoint, File, Hostname, Realm, mistakes_in
from .web import WEB_LISTENERS, Acme, MtaSts, listen_by_default, web_mistakes

__all__ = [
    "LISTENERS",
    "WEB_LISTENERS",
    "Acme",
    "Auth",
    "CertificatePair",
    "Config",
    "Imap",
    "Limits",
    "Listen",
    "Log",
    "MtaSts",
    "Pop3",
    "Quota",
    "Section",
    "Smtp",
    "Tls",
]

LISTENERS: Final = ("smtp", "submission", "submissions", "pop3", "pop3s", "imap", "imaps")
"""The names of [listen] that serve mail, in the order they are shown."""


class CertificatePair(Section):
    """One certificate with its key. Any number of these tables, both keys in each."""

    certificate: File = Field(
        description="PEM file: the certificate, then the intermediate certificates of its chain."
    )
    key: File = Field(description="PEM file: the private key, without a passphrase.")


class Tls(Section):
    """Certificates. `acme = true` is all that a site on the internet needs: they are had from Let's Encrypt, and
    renewed. With neither, a development CA and certificate are made in `certs/` beside the
    configuration file. They are read again when the files change, and on SIGHUP; open connections
    stay. TLS 1.2 and newer, with forward secrecy and authenticated encryption alone.
    """

    acme: bool = Field(
        default=False,
        description="Get the certificate from a CA, and renew it in time; see [acme]. The CA asks "
        "for it on port 80: `listen.http`, which is there by itself when there is no [listen]. Until "
        "the first one has come the development certificate is served.",
    )
    certificate: File | None = Field(
        default=None,
        description="PEM file with the certificate chain for every client that names no other "
        "host.",
    )
    key: File | None = Field(default=None, description="PEM file with its private key.")
    sni: tuple[CertificatePair, ...] = Field(
        default=(),
        strict=False,
        max_length=1000,
        description="More certificates: tables `[[tls.sni]]` with `certificate` and `key`. The "
        "one whose names (wildcards too) match what the client asks for is used.",
    )
    cbc: bool = Field(
        default=False,
        description="Also offer CBC suites with SHA-2, after all others. For mail from servers of before 2016 that "
        "have no better ones for an RSA certificate, and would send in clear instead; scanners call it weak.",
    )

    @model_validator(mode="after")
    def _whole_pair(self) -> Tls:
        found: list[tuple[tuple[str | int, ...], str]] = []
        if self.key is None and self.certificate is not None:
            found.append((("key",), "must be there: tls.certificate needs its key"))
        if self.certificate is None and self.key is not None:
            found.append((("certificate",), "must be there: tls.key needs its certificate"))
        if self.acme and self.certificate is not None:
            found.append((("acme",), "must be false with tls.certificate: one of the two is used"))
        if self.certificate is None and self.key is None and self.sni and not self.acme:
            found.append((("certificate",), "must be there: [[tls.sni]] only adds to it"))
        mistakes_in(found)
        return self


class Listen(Section):
    """Where each service listens: lists of
    [Twisted endpoint strings](https://docs.twisted.org/en/stable/core/howto/endpoints.html),
    such as `"tcp:25"`, `"tcp:25:interface=192.0.2.1"`, `"tcp6:25"`. With this table, a name left
    out is not served; without it, the seven that serve mail listen on their standard ports.

    `"haproxy:tcp:25:interface=10.0.0.2"` is for a proxy that says who the client is (PROXY protocol, versions 1
    and 2): all limits and checks are of that client. Who can connect there is believed, so nobody but the proxy may.
    """

    smtp: tuple[Endpoint, ...] = Field(
        default=(),
        strict=False,
        description="Mail from other servers (RFC 5321), no login. STARTTLS.",
    )
    submission: tuple[Endpoint, ...] = Field(
        default=(), strict=False, description="Mail from users (RFC 6409): STARTTLS, then login."
    )
    submissions: tuple[Endpoint, ...] = Field(
        default=(), strict=False, description="Mail from users, TLS from the first byte (RFC 8314)."
    )
    pop3: tuple[Endpoint, ...] = Field(
        default=(), strict=False, description="Inboxes to users (RFC 1939): STLS, then login."
    )
    pop3s: tuple[Endpoint, ...] = Field(
        default=(),
        strict=False,
        description="Inboxes to users, TLS from the first byte (RFC 8314).",
    )
    imap: tuple[Endpoint, ...] = Field(
        default=(),
        strict=False,
        description="Mailboxes to users (RFC 9051): STARTTLS, then login.",
    )
    imaps: tuple[Endpoint, ...] = Field(
        default=(),
        strict=False,
        description="Mailboxes to users, TLS from the first byte (RFC 8314).",
    )
    http: tuple[Endpoint, ...] = Field(
        default=(),
        strict=False,
        description="A small web server: what the CA of `tls.acme` asks for, on port 80, and nothing else.",
    )
    https: tuple[Endpoint, ...] = Field(
        default=(),
        strict=False,
        description="The same with TLS, for MTA-STS policies ([mta_sts]), on port 443.",
    )

    @model_validator(mode="after")
    def _no_clash(self) -> Listen:
        seen: list[tuple[str, str]] = []
        found = []
        for name in (*LISTENERS, *WEB_LISTENERS):
            for index, text in enumerate(getattr(self, name)):
                for other, taken in seen:
                    if endpoints.clash(taken, text):
                        why = f"must be an address of its own: listen.{other} has it"
                        found.append(((name, index), why))
                        break
                seen.append((name, text))
        mistakes_in(found)
        return self


class Smtp(Section):
    """SMTP and submission."""

    max_message_bytes: int = Field(
        default=52_428_800,
        ge=65_536,  # RFC 5321 section 4.5.3.1.7
        le=1_073_741_824,
        description="Largest message taken, in octets as sent; announced as SIZE (RFC 1870). 50 "
        "MiB is what large providers take. RFC 5321 asks for at least 64 KiB.",
    )
    max_recipients: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Recipients of one message; the next one is told 452, and a client sends it "
        "in a second transaction. RFC 5321 asks for at least 100.",
    )
    bare_newline: Literal["normalize", "reject"] = Field(
        default="normalize",
        description="What happens to a message with a CR or LF that stands alone: LF becomes CR LF and "
        "CR a space, as with Postfix, or the message is refused with 550 5.6.0. Neither lets "
        "a message end early (SMTP smuggling).",
    )
    strict: bool = Field(
        default=False,
        description="Refuse what RFC 5321 forbids and many clients do: a space behind the colon "
        "of MAIL FROM: and RCPT TO:, addresses without angle brackets, HELO without a "
        "name.",
    )


class Pop3(Section):
    """POP3."""

    allow_plaintext_loopback: bool = Field(
        default=False,
        description="Let clients on this machine log in without TLS. For a webmail or a fetcher "
        "beside the server; never for a proxy, which would make all the world local.",
    )


class Limits(Section):
    """Bounds of what a client, or all of them, may take. None is fatal to the server."""

    connections: int = Field(
        default=500,
        ge=1,
        le=1_000_000,
        description="Open connections in all, of all `workers` together; the next one is answered "
        "421 or `-ERR [SYS/TEMP]`. From seven eighths on, who has neither logged in nor named a recipient "
        "makes room, the oldest first; the last sixteenth is for clients from networks where somebody has logged in "
        "within a month. It bounds memory, and files: a process takes connections for three quarters of those it may "
        "have open. It raises its soft limit itself; the hard one is systemd's `LimitNOFILE`.",
    )
    connections_per_address: int = Field(
        default=50,
        ge=1,
        le=1_000_000,
        description="Open connections from one client address (IPv6: one /64), to all `workers` "
        "together. One peer can not take all of `connections`; an office behind one address still can work.",
    )
    connects_per_minute: int = Field(
        default=600,
        ge=0,
        le=1_000_000,
        description="New connections from one client address (IPv6: one /64) in a minute, a third of them at "
        "once, to each of `workers`; more are refused as above, which costs little. A busy mail server makes some "
        "tens. `checks.exempt_networks` are not counted: a webmail on this machine makes one for each page. 0: no "
        "limit.",
    )
    smtp_idle_seconds: float = Field(
        default=300,
        ge=300,  # RFC 5321 section 4.5.3.2.7
        le=86_400,
        description="Silence after which an SMTP client is told 421; half a command is silence, too. RFC 5321 asks "
        "for at least 5 minutes.",
    )
    pop3_idle_seconds: float = Field(
        default=600,
        ge=600,  # RFC 1939 section 3
        le=86_400,
        description="Silence after which a POP3 client is cut off; nothing is deleted then. RFC "
        "1939 demands at least 10 minutes.",
    )
    imap_idle_seconds: float = Field(
        default=1800,
        ge=1800,  # RFC 9051 section 5.4
        le=86_400,
        description="Silence after which an IMAP client that has logged in is told BYE, in IDLE too; "
        "before the login it is a minute. RFC 9051 demands at least 30 minutes.",
    )
    message_seconds: float = Field(
        default=3600,
        ge=60,
        le=86_400,
        description="Time for one whole message, from DATA or the first BDAT to its end. A client "
        "that sends a byte now and then is never idle; 50 MiB at 128 kbit/s take 55 "
        "minutes.",
    )
    message_bytes_per_second: float = Field(
        default=500,
        ge=0,
        le=1_000_000,
        description="How fast a message has to come at least, five minutes apart; who sends it slower is told 421. "
        "500 is less than the slowest telephone does; a byte a minute holds a connection. 0: as slow as it likes.",
    )
    stranger_seconds: float = Field(
        default=600,
        ge=60,
        le=86_400,
        description="Time in which a client has to log in, or to name a recipient who is here; whatever it says "
        "meanwhile, then it is told 421. Twenty failed logins with the longest wait have room in it.",
    )
    errors: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Wrong commands and refusals in one session before it is ended. A client that "
        "works makes hardly any; a guesser of addresses makes many.",
    )
    command_bytes: int = Field(
        default=12_288,  # RFC 4954 section 4
        ge=2048,
        le=65_536,
        description="Longest SMTP command in octets, CR LF included. RFC 5321 needs 512 and the "
        "parameters of MAIL more; 12288 is what RFC 4954 asks for in AUTH.",
    )
    read_ahead_bytes: int = Field(
        default=65_536,
        ge=16_384,
        le=1_048_576,
        description="Octets of pipelined commands kept while one is being answered; then the "
        "server stops reading, and TCP slows the client down. With `connections` it bounds memory.",
    )
    login_failures: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Failed logins in one session before it is ended. A person who mistypes tries "
        "again; a guesser has to connect again, and waits.",
    )
    login_delay_seconds: float = Field(
        default=1,
        ge=0,
        le=60,
        description="Wait after a failed login before the next one from the same client address is judged. It "
        "doubles with each further failure, up to `login_max_delay_seconds`; what is tried meanwhile is judged one by "
        "one, and told 454 when a minute would not do. So are, after 30 failures, all of a network (/24, IPv6: /48), "
        "and after 20 all strangers who try one account; 15 minutes without a failure, and all is forgotten. "
        "A user who has logged in from that network (/24, IPv6: /64) within 30 days waits for nobody's failures "
        "but his own there, the first 10 of them not counted; the same wrong password counts once. 0 switches it off. "
        "All `workers` count together.",
    )
    login_max_delay_seconds: float = Field(
        default=30,
        ge=0,
        le=300,
        description="Longest such wait: 120 guesses in an hour, whoever guesses. More would only keep connections "
        "open, and lock out longer the user who is where he never was.",
    )
    received_hops: int = Field(
        default=100,
        ge=10,
        le=1000,
        description="Received header fields in a message, from which on it is taken for a loop "
        "and refused with 554 5.4.6. RFC 5321 asks for a large number, normally at "
        "least 100.",
    )
    drain_seconds: float = Field(
        default=10,
        ge=0,
        le=600,
        description="Time that running transactions get to finish after SIGTERM. Below systemd's "
        "90 seconds, after which it kills; what was answered 250 is safe either way.",
    )


class Auth(Section):
    """Who may log in, and what they get."""

    checkers: tuple[Checker, ...] = Field(
        default=("directory",),
        strict=False,
        min_length=1,
        max_length=100,
        repr=False,
        json_schema_extra={"secret": True},  # a strcred string may hold a password
        description='Asked in this order. `"directory"` is the accounts of `mailctl`; anything '
        'else is a twisted.cred strcred string, such as `"file:/etc/mail/passwd"` or '
        '`"unix"`. SCRAM is offered when a checker can do it. `"${NAME}"`: the string is in the '
        "environment, by that name.",
    )
    realm: Realm = Field(
        default="",
        description='`"package.module:callable"`: called without arguments, it gives the '
        "twisted.cred IRealm whose avatars provide IAccount, in place of ours.",
    )
    remember_seconds: float = Field(
        default=300,
        ge=0,
        le=86_400,
        description="How long a password that was right is remembered, as a keyed hash in memory. "
        "Hashing costs 0.1 s of CPU, and clients that poll would pay it each time. A "
        "changed password counts at once; 0 switches it off.",
    )


class Log(Section):
    """One line an event."""

    format: Literal["text", "json"] = Field(
        default="text", description="Lines for people, or JSON objects for machines."
    )
    level: Literal["debug", "info", "warn", "error"] = Field(
        default="info", description="The least important events that are written."
    )


_STANDARD_PORTS: Final = {
    "smtp": ("tcp:25",),
    "submission": ("tcp:587",),
    "submissions": ("tcp:465",),
    "pop3": ("tcp:110",),
    "pop3s": ("tcp:995",),
    "imap": ("tcp:143",),
    "imaps": ("tcp:993",),
}

_USUAL_PORTS: Final = frozenset((25, 465, 587, 110, 995, 143, 993))
_MOST_WORKERS: Final = 64


class Config(Section):
    """The whole of `mail.toml`. All keys are optional."""

    hostname: Hostname = Field(
        default="localhost",
        description="The name of this server: in greetings, in Received and Message-ID, and for "
        "`postmaster` without a domain. What the MX record says.",
    )
    data: File = Field(
        default=Path("mail-data"),
        description="Directory of all that is kept: mailboxes, journal, accounts. On one local "
        "file system.",
    )
    workers: int | None = Field(
        default=None,
        ge=0,
        le=_MOST_WORKERS,
        description="Processes that serve the clients; see [operating](operating.md). 0: one process does it all. "
        "Left out, as many as the machine has cores, when one of the ports of [listen] is a usual one of mail (25, "
        "465, 587, 110, 995, 143, 993); on one core, and on other ports, 0.",
    )
    postmaster: Account = Field(
        default="",
        description="Account that gets mail to postmaster@ and abuse@ of every domain, which must "
        'always be taken. `""` is the first user of the directory.',
    )
    tls: Tls = Tls()
    acme: Acme = Acme()
    listen: Listen = Listen(**_STANDARD_PORTS)
    mta_sts: MtaSts = MtaSts()
    smtp: Smtp = Smtp()
    pop3: Pop3 = Pop3()
    imap: Imap = Imap()
    quota: Quota = Quota()
    limits: Limits = Limits()
    auth: Auth = Auth()
    log: Log = Log()
    checks: Checks = Checks()
    reputation: Reputation = Reputation()
    greylist: Greylist = Greylist()
    rates: Rates = Rates()
    signing: Signing = Signing()
    reports: Reports = Reports()
    stories: Stories = Stories()
    queue: Queue = Queue()
    delivery: Delivery = Delivery()
    dns: Dns = Dns()
    routes: tuple[Route, ...] = Field(
        default=(),
        strict=False,
        max_length=10_000,
        description="Ways for single domains, or for all: tables `[[routes]]`.",
    )
    filters: tuple[Filter, ...] = Field(
        default=(),
        strict=False,
        max_length=20,
        description="Programs that look at mail: tables `[[filters]]`.",
    )

    _directory: Path = PrivateAttr(default_factory=Path)
    _file: Path | None = PrivateAttr(None)

    def model_post_init(self, context: Any, /) -> None:
        if context:
            self._directory = context["directory"]
            self._file = context.get("file")

    @model_validator(mode="before")
    @classmethod
    def _web_by_default(cls, data: Any) -> Any:
        if isinstance(data, dict) and "listen" not in data:
            acme = data.get("acme")
            challenge = acme.get("challenge", "") if isinstance(acme, dict) else ""
            if web := listen_by_default(data, challenge):
                return {**data, "listen": {**_STANDARD_PORTS, **web}}
        return data

    @model_validator(mode="after")
    def _tables_agree(self) -> Config:
        mistakes_in([*route_mistakes(self.routes), *web_mistakes(self)])
        return self

    @property
    def file(self) -> Path | None:
        """The file this was read from; None for the start without configuration."""
        return self._file

    def workers_on(self, cores: int) -> int:
        """How many processes serve the clients on a machine with so many cores."""
        if self.workers is not None:
            return self.workers
        usual = any(
            endpoints.tcp_port(text) in _USUAL_PORTS
            for name in LISTENERS
            for text in getattr(self.listen, name)
        )
        return min(cores, _MOST_WORKERS) if usual and cores > 1 else 0

    @property
    def certificates(self) -> Path:
        """Directory of the development CA and certificate."""
        return self._directory / "certs"

    @property
    def development(self) -> bool:
        """Whether the certificate is one of our own making: no [tls] was given."""
        return self.tls.certificate is None and not self.tls.acme
