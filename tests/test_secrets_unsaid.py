"""No password, token or content is ever said: not in the log at its most talkative, in a traceback, in a repr.

A busy site, whose every secret is marked, in all three protocols, with what goes wrong in them: wrong passwords,
commands that are none, sizes that lie, disks that fail in the middle, faults of our own. Whatever was logged is then
searched, in all forms of the log, field by field, with tracebacks at their most detailed.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.cred.credentials import IUsernamePassword
from twisted.logger import LogEvent, LogLevel, eventAsText, globalLogPublisher
from twisted.python.failure import Failure

from twisted_mail.accounts.checkers import DirectoryChecker
from twisted_mail.acme.client import CaSettings
from twisted_mail.config import default
from twisted_mail.config.outgoing import Route
from twisted_mail.delivery.routes import make_route
from twisted_mail.filters.rspamd import RspamdSettings
from twisted_mail.filters.scanning import ScannerSettings
from twisted_mail.log import discreet, make_observer
from twisted_mail.pop3 import engine as pop3_engine
from twisted_mail.sasl import Password, ScramFirst, ScramKeys
from twisted_mail.smtp import engine as smtp_engine
from twisted_mail.testing.client import Client
from twisted_mail.testing.disk import FaultyDisk
from twisted_mail.testing.dns import FakeResolver, Zone
from twisted_mail.testing.server import MailServer
from twisted_mail.testing.world import SimulatedWorld, simulated_world
from twisted_mail.workers.orders import LogPlace, Order

USER = "ann@home.example"
RIGHT = "Mark7-right-password"
WRONG = "Mark7-wrong-password"
TYPED = "Mark7-typed-password"
BODY = "Mark7-body-of-a-message"
RELAY = "Mark7-relay-password"
MARK = "Mark7"
HERE = "192.0.2.10"

_BASE64 = [
    # as it looks in base64, wherever in a text it stands: what of that is the mark's alone
    b64encode(b"\0" * before + MARK.encode())[(8 * before + 5) // 6 : (8 * before + 40) // 6]
    for before in range(3)
]


def betrayed(text: str) -> str | None:
    """What of a secret is in `text`, as it is or in another notation."""
    forms = [MARK, MARK.upper(), MARK.encode().hex(), *(one.decode() for one in _BASE64)]
    found = re.search("|".join(forms), text)
    return None if found is None else text[max(0, found.start() - 200) : found.end() + 200]


def whole(event: LogEvent) -> str:
    """As an observer does that writes whatever there is, tracebacks with values if there are any."""
    file = io.StringIO()
    file.write(eventAsText(event))
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        for detail in ("brief", "default", "verbose"):
            failure.printTraceback(file, detail=detail)
        file.write(failure.getErrorMessage() + repr(failure))
    return file.getvalue()


class Heard:
    """All events, and how they look in every form."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []
        self.lines = io.StringIO()
        self._forms = [
            make_observer("text", self.lines, level=LogLevel.debug),
            make_observer("json", self.lines, level=LogLevel.debug),
            # as twistd's for syslog does
            discreet(lambda event: self.lines.write(whole(event))),
        ]

    def __call__(self, event: LogEvent) -> None:
        self.events.append(event)
        for form in self._forms:
            form(event)
        for name, value in event.items():
            # of the failure itself what is written is above
            if name not in ("log_logger", "log_source", "log_failure", "failure"):
                self.lines.write(f"{name}: {value!r} {value!s}\n")

    @property
    def failures(self) -> list[str]:
        return [str(one["log_format"]) for one in self.events if "log_failure" in one]

    def check(self) -> None:
        said = betrayed(self.lines.getvalue())
        assert said is None, said


@pytest.fixture
def heard() -> Iterator[Heard]:
    one = Heard()
    globalLogPublisher.addObserver(one)
    yield one
    globalLogPublisher.removeObserver(one)


class Site:
    def __init__(self, directory: Path, **configuration: object) -> None:
        zone = Zone({"smart.example": {"A": ["192.0.2.30"]}})
        self.root = simulated_world(resolver=FakeResolver(zone))
        self.disk = FaultyDisk()
        self.world: SimulatedWorld = self.root.at(HERE, disk=self.disk)
        self.server = self.root.run(
            MailServer.start(
                self.world,
                users={USER: RIGHT},
                hostname="mx.home.example",
                directory=directory,
                configuration={
                    "listen": {
                        "smtp": ["tcp:25"],
                        "submissions": ["tcp:465"],
                        "pop3": ["tcp:110"],
                        "pop3s": ["tcp:995"],
                        "imap": ["tcp:143"],
                        "imaps": ["tcp:993"],
                    },
                    "limits": {"login_failures": 100, "errors": 1000, "login_delay_seconds": 0},
                    **configuration,
                },
            )
        )

    def dial(self, port: int) -> Client:
        client = self.world.reactor.connect(port)
        if port in (465, 995, 993):
            client.start_tls(self.server.ca.read_bytes(), "mx.home.example")
        client.read()
        return client

    def say(self, port: int, *lines: str | bytes) -> bytes:
        """On a connection of its own, a line at a time; what came back."""
        client, got = self.dial(port), b""
        for line in lines:
            if client.closed is not None:
                break
            client.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
            for _ in range(3):
                self.root.reactor.advance(0.05)
                got += client.read()
        if client.closed is None:
            client.abort()
        return got

    def scram(self, port: int, password: str, begin: str, framed: Callable[[str], str]) -> bytes:
        """SCRAM-SHA-256 in the protocol of `port`: `begin` with the first message."""
        client = self.dial(port)
        bare = "n=ann@home.example,r=clientsnonce"
        client.send(f"{begin} {_b64('n,,' + bare)}\r\n".encode())
        self.root.reactor.advance(0.05)
        answer = client.read().split()[-1]
        first = b64decode(answer).decode()
        nonce, salt, count = (part[2:] for part in first.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), b64decode(salt), int(count))
        key = hmac.digest(salted, b"Client Key", "sha256")
        final = f"c=biws,r={nonce}"
        signed = f"{bare},{first},{final}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        client.send((_b64(f"{final},p={b64encode(proof).decode()}") + "\r\n").encode())
        self.root.reactor.advance(0.05)
        got = client.read()
        client.send(b"\r\n")
        self.root.reactor.advance(0.05)
        got += client.read()
        if client.closed is None:
            client.abort()
        return got

    def stop(self) -> None:
        self.root.run(self.server.stop())


@pytest.fixture
def site(tmp_path: Path, heard: Heard) -> Iterator[Site]:
    one = Site(tmp_path / "site")
    yield one
    one.stop()
    heard.check()


def _b64(text: str) -> str:
    return b64encode(text.encode()).decode()


def plain(password: str) -> str:
    return _b64(f"\0{USER}\0{password}")


LETTER = f"Subject: {BODY}\r\nX: {BODY}\r\n\r\n{BODY}\r\n{BODY * 30}"


def smtp(site: Site) -> None:
    hello = "EHLO client.example"
    assert b"235" in site.say(465, hello, f"AUTH PLAIN {plain(RIGHT)}")
    assert b"535" in site.say(465, hello, f"AUTH PLAIN {plain(WRONG)}")
    assert b"235" in site.say(465, hello, "AUTH PLAIN", plain(RIGHT))
    assert b"235" in site.say(465, hello, "AUTH LOGIN", _b64(USER), _b64(RIGHT))
    assert b"535" in site.say(465, hello, f"AUTH LOGIN {_b64(USER)}", _b64(WRONG))
    assert b"535" in site.say(
        465, hello, f"AUTH PLAIN {_b64(f'boss{chr(0)}{USER}{chr(0)}{RIGHT}')}"
    )
    assert b"235" in site.scram(465, RIGHT, hello + "\r\nAUTH SCRAM-SHA-256", _b64)
    assert b"535" in site.scram(465, WRONG, hello + "\r\nAUTH SCRAM-SHA-256", _b64)
    # what is not as it should be
    site.say(25, hello, f"AUTH PLAIN {plain(RIGHT)}")
    site.say(25, f"AUTH PLAIN {plain(RIGHT)}")
    for port in (25, 465):
        site.say(
            port,
            hello,
            f"AUTH PLAIN {TYPED}",
            f"AUTH PLAIN {plain(TYPED)} {TYPED}",
            f"AUTH {TYPED}",
            f"AUTH {TYPED} {plain(TYPED)}",
            f"AUTH SCRAM-SHA-256 {_b64(TYPED)}",
            TYPED,
            plain(TYPED),
            f"PASS {TYPED}",
            f"{TYPED} {TYPED}",
            f"HELP {TYPED}",
            f"VRFY {TYPED}",
            f"MAIL {TYPED}",
            f"NOOP {TYPED}",
            f"QUIT {TYPED}",
            "AUTH LOGIN",
            TYPED,
            "AUTH LOGIN",
            _b64(USER),
            TYPED + "\0",
            "AUTH LOGIN",
            _b64(USER),
            "*",
            "AUTH PLAIN " + TYPED * 2000,
            TYPED * 2000,
            b"AUTH PLAIN \xff\xfe" + TYPED.encode(),
        )
    # content
    begin = (hello, "MAIL FROM:<far@away.example>", f"RCPT TO:<{USER}>")
    assert b"queued as" in site.say(25, *begin, "DATA", LETTER, ".")
    site.say(25, *begin, "DATA", f"{BODY}: {BODY}\n{BODY}\r{BODY}\0", ".")
    site.say(25, *begin, "DATA", "Received: x\r\n" * 200 + LETTER, ".")
    site.say(25, *begin, f"BDAT {len(LETTER)} LAST", LETTER)
    site.say(25, *begin, "BDAT 10 LAST", LETTER)  # the rest is taken for commands
    site.say(25, *begin, "DATA", LETTER)  # and gone
    site.say(25, hello, LETTER, f"MAIL FROM:<{BODY}", f"RCPT TO:<{USER}> {BODY}")


def pop3(site: Site) -> None:
    assert b"+OK" in site.say(995, f"USER {USER}", f"PASS {RIGHT}", "RETR 1", "TOP 1 9")
    assert b"-ERR" in site.say(995, f"USER {USER}", f"PASS {WRONG}")
    assert b"+OK" in site.say(995, f"AUTH PLAIN {plain(RIGHT)}", "RETR 1", f"RETR {TYPED}")
    site.say(995, "AUTH LOGIN", _b64(USER), _b64(WRONG))
    # a password where the name belongs
    site.say(995, f"USER {TYPED}", f"PASS {WRONG}", "AUTH LOGIN", _b64(TYPED), _b64(TYPED))
    assert b"-ERR" in site.scram(995, WRONG, "AUTH SCRAM-SHA-256", _b64)
    for port in (110, 995):
        site.say(
            port,
            f"PASS {TYPED}",
            f"APOP {USER} {TYPED}",
            f"USER {USER}",
            TYPED,
            f"PASS {TYPED} {TYPED}",
            f"USER {USER} {TYPED}",
            f"AUTH PLAIN {TYPED}",
            f"AUTH {TYPED}",
            "AUTH PLAIN",
            TYPED,
            "AUTH LOGIN",
            _b64(USER),
            "*",
            f"USER {USER}",
            "PASS " + TYPED * 1000,
            b"PASS \xff" + TYPED.encode(),
            f"PASS {TYPED}\0",
        )


def imap(site: Site) -> None:
    login = f"a LOGIN {USER} {RIGHT}"
    assert b"a OK" in site.say(993, login, "b SELECT INBOX", "c FETCH 1 (BODY[] ENVELOPE)")
    assert b"a NO" in site.say(993, f"a LOGIN {USER} {WRONG}")
    assert b"a OK" in site.say(993, f"a LOGIN {USER} {{{len(RIGHT)}}}", RIGHT)
    assert b"a OK" in site.say(993, f'a LOGIN "{USER}" {{{len(RIGHT)}+}}\r\n{RIGHT}')
    assert b"a OK" in site.say(993, "a AUTHENTICATE PLAIN", plain(RIGHT))
    assert b"a NO" in site.say(993, f"a AUTHENTICATE PLAIN {plain(WRONG)}")
    site.say(993, "a AUTHENTICATE LOGIN", _b64(USER), _b64(WRONG))
    site.say(
        993, f"a LOGIN {TYPED} {WRONG}", f"a AUTHENTICATE PLAIN {_b64(f'{chr(0)}{TYPED}{chr(0)}x')}"
    )
    assert b"a NO" in site.scram(993, WRONG, "a AUTHENTICATE SCRAM-SHA-256", _b64)
    for port in (143, 993):
        site.say(
            port,
            f"a LOGIN {USER} {TYPED} {TYPED}",
            f"a LOGIN {USER} ({TYPED})",
            f"a LOGIN {TYPED}",
            f'a LOGIN {USER} "{TYPED}',
            f"a XLOGIN {USER} {TYPED}",
            f"a {TYPED}",
            TYPED,
            f"{TYPED} {TYPED} {TYPED}",
            f"a AUTHENTICATE PLAIN {TYPED}",
            f"a AUTHENTICATE {TYPED} {TYPED}",
            "a AUTHENTICATE PLAIN",
            TYPED,
            "a AUTHENTICATE PLAIN",
            "*",
            f"a LOGIN {USER} " + TYPED * 10_000,
            f"a LOGIN {USER} {{9999999}}",
        )
    site.say(993, b"a LOGIN \xff " + TYPED.encode())
    size = f"{{{len(LETTER)}+}}\r\n{LETTER}"
    assert b"b OK" in site.say(993, login, f"b APPEND INBOX {size}")
    site.say(
        993,
        login,
        f"b APPEND {BODY} {size}",
        f"b APPEND INBOX (\\Nonsense{BODY}) {size}",
        f'b APPEND INBOX "{BODY}" {size}',
        f"b APPEND INBOX {{10+}}\r\n{LETTER}",
        "b SELECT INBOX",
        f"c SEARCH TEXT {BODY}",
        f"c SEARCH {BODY}",
        f"c FETCH 1 BODY[HEADER.FIELDS ({BODY})]",
        f'c SETMETADATA "" (/private/comment "{BODY}")',
        f"c STORE 1 FLAGS ({BODY})",
        f"c ID ({BODY} {BODY})",
        f"c {BODY}",
    )


@pytest.mark.parametrize("protocol", [smtp, pop3, imap])
def test_a_busy_site(site: Site, heard: Heard, protocol: Callable[[Site], None]) -> None:
    smtp(site) if protocol is not smtp else None
    protocol(site)
    assert len(heard.events) > 50
    assert not heard.failures
    heard.check()


@pytest.mark.parametrize("every", range(1, 12))
def test_disks_that_fail_in_the_middle(site: Site, heard: Heard, every: int) -> None:
    begin = ("EHLO x", "MAIL FROM:<far@away.example>", f"RCPT TO:<{USER}>", "DATA", LETTER, ".")
    append = f"b APPEND INBOX {{{len(LETTER)}+}}\r\n{LETTER}"
    site.say(25, *begin)
    for lines in (
        (25, *begin),
        (25, *begin[:-2], LETTER + (BODY * 40 + "\r\n") * 800, "."),
        (993, f"a LOGIN {USER} {RIGHT}", append, "c SELECT INBOX", "d COPY 1 Trash"),
        (995, f"USER {USER}", f"PASS {RIGHT}", "RETR 1", "DELE 1", "QUIT"),
    ):
        site.disk.count, site.disk.fail_at, site.disk.lasting = 0, every, every % 3 == 0
        site.say(*lines)
        site.disk.fail_at = 0
    site.root.reactor.advance(60)
    heard.check()


class Clumsy(Exception):
    """Says what it was about."""


@pytest.mark.parametrize(
    "fault",
    [
        lambda text: KeyError(text),
        lambda text: ValueError(f"invalid literal for int() with base 10: {text!r}"),
        lambda text: UnicodeEncodeError("ascii", text, 0, len(text), "ordinal not in range(128)"),
        lambda text: Clumsy(text, {"password": text}),
        lambda text: AssertionError(text),
        lambda text: RuntimeError(text),
    ],
)
def test_a_fault_in_a_login(
    site: Site,
    heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[str], Exception],
) -> None:
    """Of a checker that somebody else wrote, say, whose exceptions quote what they are given."""

    def fails(self: DirectoryChecker, credentials: IUsernamePassword) -> Any:
        try:
            raise Clumsy(credentials.password)
        except Clumsy:
            raise fault(credentials.password.decode())  # noqa: B904  # as most of the world does

    monkeypatch.setattr(DirectoryChecker, "requestAvatarId", fails)
    assert b"454" in site.say(465, "EHLO x", f"AUTH PLAIN {plain(RIGHT)}")
    assert b"SYS/TEMP" in site.say(995, f"USER {USER}", f"PASS {RIGHT}")
    assert b"SERVERBUG" in site.say(993, f"a LOGIN {USER} {RIGHT}")
    # what it was, and where, is there all the same
    assert len(heard.failures) == 3
    text = heard.lines.getvalue()
    assert type(fault("x")).__name__ in text
    assert "in fails" in text
    heard.check()


def test_a_fault_over_a_message(site: Site, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise ValueError(f"cannot read {LETTER!r}")

    monkeypatch.setattr("twisted_mail.storage.store.MailStore.accept", fails)
    begin = ("EHLO x", "MAIL FROM:<far@away.example>", f"RCPT TO:<{USER}>", "DATA", LETTER, ".")
    assert b"451" in site.say(25, *begin)
    append = f"b APPEND INBOX {{{len(LETTER)}+}}\r\n{LETTER}"
    site.say(993, f"a LOGIN {USER} {RIGHT}", append)
    assert heard.failures
    heard.check()


def test_what_is_searched_for_would_be_found() -> None:
    for text in (RIGHT, _b64(RIGHT), plain(RIGHT), _b64("x" + RIGHT), RIGHT.encode().hex()):
        assert betrayed(f"… {text} …"), text
    assert betrayed("a password, and so on") is None


def test_no_repr_has_a_secret(tmp_path: Path) -> None:
    keys = ScramKeys.derive(RIGHT, b"salt" * 4, 4096)
    route = Route(domain="*", via="smtp://h.example", username="me", password=RELAY)
    config = default(tmp_path)
    order = Order(1, "epoll", (), config, {tmp_path / "k": RIGHT.encode()}, (), (), 3, LogPlace())
    shown = [
        order,
        CaSettings("https://ca.example", eab=("kid", RIGHT)),
        RspamdSettings(ScannerSettings("r", "tcp:127.0.0.1:1"), RIGHT),
        Password(USER, RIGHT),
        keys,
        route,
        make_route("*", "smtp://h.example", username="me", password=RELAY),
        ScramFirst.parse(b"n,,n=ann,r=abc").challenge(keys, "def"),
        smtp_engine.Response(plain(RIGHT).encode()),
        smtp_engine.Command("AUTH", f"PLAIN {plain(RIGHT)}".encode()),
        smtp_engine.Block(BODY.encode()),
        pop3_engine.SaslResponse(plain(RIGHT).encode()),
        pop3_engine.Command(b"PASS", RIGHT.encode()),
        pop3_engine.Command(b"AUTH", f"PLAIN {plain(RIGHT)}".encode()),
    ]
    for one in shown:
        assert betrayed(repr(one)) is None, type(one)
        assert keys.stored_key.hex() not in repr(one)
