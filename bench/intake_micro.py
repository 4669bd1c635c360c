"""Where each microsecond of one message goes, from MAIL to the line in the log, without a disk, a socket, a thread.

    python bench/intake_micro.py [--messages 20] [--rounds 300] [--size 4096] [--recipients 1] [--checked]
    python bench/intake_micro.py --instructions [--checked]

The intake, its guard, the directory, the store up to the journal, the stories and the log are those of production. The
journal writes nothing and answers when it is told to, pool threads run nothing. Of each stage the cheapest round's
mean. The client is one of `checks.exempt_networks`, as benchmarks, relays of one's own and tests of applications are;
``--checked``: one that is asked about, whose answers are known (SPF, a DKIM signature, DMARC, HELO and PTR).

``--instructions`` counts the whole by callgrind (Debian's valgrind): what 2 N messages take more than N.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Coroutine
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from load import message
from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import PasswordRecord
from twisted_mail.address import Address, forward_path, reverse_path
from twisted_mail.delivery.guard import SiteGuard
from twisted_mail.delivery.header import HeaderEditor, HeaderRules
from twisted_mail.delivery.inspecting import message_id_of
from twisted_mail.delivery.intake import IntakeSettings, MailIntake
from twisted_mail.delivery.interfaces import Client, Envelope, Recipient
from twisted_mail.delivery.parts import Checks, Parts
from twisted_mail.delivery.telling import Teller
from twisted_mail.disk import OsDisk
from twisted_mail.dns.cache import Cache
from twisted_mail.dns.interfaces import Answer
from twisted_mail.dns.resolver import StubResolver
from twisted_mail.log import Logger, make_observer
from twisted_mail.message import trace
from twisted_mail.message.dkim_body import BodyHash
from twisted_mail.message.downgrade import ascii_saving
from twisted_mail.message.lines import LineNormalizer
from twisted_mail.policy.dkim_key import Keys
from twisted_mail.policy.dkim_sign import sign
from twisted_mail.sasl import ScramKeys
from twisted_mail.storage.dkim_keys import DkimKey, record_text
from twisted_mail.storage.store import MailStore
from twisted_mail.storage.stories import Stories, _in_milliseconds, _json
from twisted_mail.testing.dns import Zone
from twisted_mail.testing.watch import SimulatedWatcher
from twisted_mail.world import World

_log = Logger("twisted_mail.smtp.transaction")

DOMAIN = "bench.test"
IP = "192.0.2.7"
HELO = "mail.sender.test"
USERS = 20
KEPT = 20
"""Sessions whose commands come in turn, as those of many clients do."""


class StillReactor:
    """The time is real, nothing else happens."""

    seconds = staticmethod(time.time)  # noqa: TID251  # what the real one is

    def callLater(self, _delay: float, _work: Callable[..., object], *_args: object) -> Any:
        return _Call()


class _Call:
    def active(self) -> bool:
        return True

    def cancel(self) -> None:
        return


class StillThreads:
    """What is to run in a thread never runs."""

    def call(self, _work: Callable[..., Any], *_args: Any, **_named: Any) -> Deferred[Any]:
        return Deferred()

    def lane(self, _name: str) -> Any:
        return None

    def back(self, _work: Callable[..., Any], *_args: Any) -> None:
        return


class StillJournal:
    """In place of the store's: `answer` is what the disk's answer is."""

    spill = scratch = "nowhere"

    def __init__(self) -> None:
        self.waiting: list[Deferred[None]] = []

    def commit(self, _entry: object) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.waiting.append(done)
        return done

    def answer(self) -> None:
        self.waiting.pop().callback(None)


class AtOnce:
    """Threads of the resolver."""

    def call(self, work: Callable[[], Any]) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        done.callback(work())
        return done

    def close(self) -> None:
        return


class Nowhere:
    """A log file that is written and not kept."""

    written = 0

    def write(self, line: str) -> None:
        self.written += len(line)

    def flush(self) -> None:
        return


class Site(NamedTuple):
    intake: MailIntake
    journal: StillJournal
    stories: Stories
    content: bytes


def make_site(folder: str, *, size: int, key: bytes | None) -> Site:
    """A site with `USERS` users, and the message that they get. `key`: who sends it signs with that, and is checked."""
    reactor, disk = StillReactor(), OsDisk()
    threads: Any = StillThreads()
    world = World(reactor, threads, disk, SimulatedWatcher(reactor, disk))
    directory = Directory(f"{folder}/accounts.sqlite3", now=world.now, entropy=world.entropy)
    directory.add_domain(DOMAIN)
    record = PasswordRecord("none", ScramKeys(4096, b"salt", b"", b""))
    for number in range(USERS):
        directory.add_user(Address(f"user{number}", DOMAIN), record)
    store = MailStore(
        world, folder, host=f"mx.{DOMAIN}", boot="b", limits=lambda key: directory.quota(key)
    )
    journal = StillJournal()
    store._journal = journal  # type: ignore[assignment]  # the one thing that is not production's
    stories = Stories(world, Path(folder, "stories.sqlite3"))
    signing = None
    if key is not None:
        private = load_pem_private_key(key, None)
        assert isinstance(private, RSAPrivateKey)
        signing = DkimKey("sender.test", "s1", "rsa-sha256", private)
    zone = Zone(
        {
            "sender.test": {"TXT": [f"v=spf1 ip4:{IP} -all"]},
            HELO: {"A": [IP], "TXT": ["v=spf1 a -all"]},
            "7.2.0.192.in-addr.arpa": {"PTR": [HELO]},
            "s1._domainkey.sender.test": {
                "TXT": [] if signing is None else [record_text(signing.private)]
            },
            "_dmarc.sender.test": {"TXT": ["v=DMARC1; p=reject"]},
        }
    )

    def ask(kind: str, name: str) -> Answer[Any]:
        found = zone.find(kind, name)
        records = tuple(one.encode() if kind == "TXT" else one for one in found.records)
        return Answer(found.name, records, found.exists, False, 86_400.0)

    resolver = StubResolver(ask, AtOnce(), Cache(reactor.seconds))
    parts = Parts(
        world,
        f"mx.{DOMAIN}",
        f"mx.{DOMAIN}",
        store.draft,
        Teller(stories, world.now),
        lambda: resolver,
        Checks(exempt=() if signing is not None else (ip_network(f"{IP}/32"),)),
        Keys(resolver, world.now),
    )
    intake = MailIntake(
        world,
        IntakeSettings(f"mx.{DOMAIN}"),
        store,
        directory,
        guard=SiteGuard(parts),
        teller=parts.teller,
    )
    content = message(size, "sender.test").replace(b"\r\n..", b"\r\n.")
    if signing is not None:
        head, _, body = content.replace(b"\r\n", b"\n").partition(b"\n\n")
        hashed = BodyHash(relaxed=True)
        hashed.update(body)
        signature = sign([signing], head + b"\n", hashed.digest(), now=int(world.now()))
        content = signature.replace(b"\n", b"\r\n") + content
    return Site(intake, journal, stories, content)


def now_or_never(work: Coroutine[Any, Any, Any]) -> Any:
    """What it returns, as nothing is waited for."""
    try:
        work.send(None)
    except StopIteration as over:
        return over.value
    raise RuntimeError("something was waited for")


class Session:
    """One client, as the SMTP session of production asks the intake for it."""

    def __init__(self, site: Site, number: int, recipients: int, blocks: list[bytes]) -> None:
        self._site = site
        self._blocks = blocks
        name = f"session{number}"
        visit = site.intake.visit(IP, name, submission=False)
        assert visit is not None
        visit.helo(HELO)
        self._client = Client(IP, HELO, "ESMTP", None, None, name, visit)
        self._mail = b"<load@sender.test>"
        self._rcpt = [
            b"<user%d@%s>" % ((number + n) % USERS, DOMAIN.encode()) for n in range(recipients)
        ]

    def message(self, took: list[int]) -> None:
        """One message; its stages' nanoseconds are added to `took`."""
        clock, intake, client = time.perf_counter_ns, self._site.intake, self._client
        t0 = clock()
        envelope = Envelope(reverse_path(self._mail).address)
        now_or_never(intake.check_sender(client, envelope))
        t1 = clock()
        for rcpt in self._rcpt:
            address = forward_path(rcpt).address
            assert address is not None
            now_or_never(intake.route(client, envelope, address))
            envelope.recipients.append(Recipient(address))
        t2 = clock()
        incoming = intake.begin(client, envelope)
        t3 = clock()
        for block in self._blocks:
            now_or_never(incoming.write(block))
        t4 = clock()
        end = incoming.commit()
        end.send(None)
        t5 = clock()
        self._site.journal.answer()
        now_or_never(end)
        t6 = clock()
        _log.info(
            "message accepted",
            connection=client.connection,
            message=incoming.message_id,
            sender=str(envelope.reverse_path or ""),
            recipients=len(envelope.recipients),
            to=" ".join([str(one.address) for one in envelope.recipients[:5]]),
            size=4096,
        )
        t7 = clock()
        for stage, nanoseconds in enumerate(
            (t1 - t0, t2 - t1, t3 - t2, t4 - t3, t5 - t4, t6 - t5, t7 - t6)
        ):
            took[stage] += nanoseconds


STAGES = (
    "MAIL",
    "RCPT",
    "DATA: message begun",
    "content written",
    "end of data, to the journal",
    "its answer, and the story",
    "line in the log",
)


def work(site: Site, messages: int, recipients: int, block: int) -> list[int]:
    """Nanoseconds of each stage, of all messages together."""
    content = site.content
    blocks = [content[at : at + block] for at in range(0, len(content), block)]
    sessions = [Session(site, number, recipients, blocks) for number in range(KEPT)]
    took = [0] * len(STAGES)
    for number in range(messages):
        sessions[number % KEPT].message(took)
        if not number % 1000:
            site.stories._pending.clear()  # as when they have been written
    return took


def parts(site: Site, times: int) -> dict[str, float]:
    """Microseconds of what is within the stages, by itself."""
    content = site.content
    text = content.replace(b"\r\n", b"\n")
    address = Address("user1", DOMAIN)
    sender = Address("load", "sender.test")
    directory = site.intake._directory
    story = site.stories._pending[-1]
    rules = HeaderRules(50)
    log = Logger("twisted_mail.smtp.transaction", observer=make_observer("text", Nowhere()))
    json_log = Logger("twisted_mail.smtp.transaction", observer=make_observer("json", Nowhere()))

    def line(log: Logger) -> Callable[[], object]:
        return lambda: log.info(
            "message accepted",
            connection="mzxw6ytb",
            message="0123456789ab",
            sender="load@sender.test",
            recipients=1,
            to="user1@bench.test",
            size=4096,
        )

    works: dict[str, Callable[[], object]] = {
        "path of MAIL": lambda: reverse_path(b"<load@sender.test>"),
        "path of RCPT": lambda: forward_path(b"<user1@bench.test>"),
        "text of an address": lambda: str(address),
        "directory's answer": lambda: directory.expand(address),
        "line ends": lambda: LineNormalizer().feed(content),
        "header edited": lambda: HeaderEditor(rules).feed(text),
        "Received": lambda: trace.received(
            helo=HELO,
            ip=IP,
            by=f"mx.{DOMAIN}",
            protocol="ESMTP",
            tls=None,
            message_id="0123456789ab",
            recipient=address,
            seconds=1.8e9,
        ),
        "Return-Path, Delivered-To": lambda: (
            trace.return_path(sender) + trace.delivered_to(address)
        ),
        "header to be downgraded?": lambda: ascii_saving(text[:400]),
        "Message-ID found": lambda: message_id_of(text[:400]),
        "LFs counted": lambda: text.count(b"\n"),
        "CRC-32": lambda: zlib.crc32(text),
        "all ASCII?": text.isascii,
        "6 random octets": lambda: os.urandom(6).hex(),
        "line of text in the log": line(log),
        "line of JSON in the log": line(json_log),
        "story's text (in a thread)": lambda: _json([(*story[:5], _in_milliseconds(story.lines))]),
    }
    found = {}
    for name, one in works.items():
        best = float("inf")
        for _ in range(9):
            began = time.perf_counter_ns()
            for _ in range(times):
                one()
            best = min(best, (time.perf_counter_ns() - began) / times)
        found[name] = best / 1000
    return found


def make_key() -> bytes:
    """A signer's, as PEM."""
    private = generate_private_key(65537, 2048)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def instructions(options: list[str], messages: int, key: bytes | None) -> float:
    """Of one message, in user space."""
    totals = []
    with tempfile.TemporaryDirectory() as folder:
        if key is not None:
            # the same one in both runs
            Path(folder, "key").write_bytes(key)
            options = [*options, "--key", f"{folder}/key"]
        for number in (messages, 2 * messages):
            out = Path(folder, "callgrind.out")
            command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
            command += [sys.executable, __file__, "--only", "--messages", str(number), *options]
            environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": ":".join(sys.path)}
            subprocess.run(command, check=True, capture_output=True, env=environment, timeout=600)
            found = re.search(r"^(?:totals|summary): (\d+)", out.read_text(), re.M)
            assert found is not None
            totals.append(int(found[1]))
    return (totals[1] - totals[0]) / messages


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--block", type=int, default=65_536)
    parser.add_argument("--recipients", type=int, default=1)
    parser.add_argument("--checked", action="store_true")
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--key", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    key = options.key.read_bytes() if options.key else make_key() if options.checked else None
    if options.instructions:
        more = [f"--{name}={getattr(options, name)}" for name in ("size", "block", "recipients")]
        print(f"{instructions(more, 500, key):,.0f} instructions a message")
        return
    observer = make_observer("text", Nowhere())
    globalLogBeginner.beginLoggingTo([observer], discardBuffer=True, redirectStandardIO=False)
    with tempfile.TemporaryDirectory() as folder:
        site = make_site(folder, size=options.size, key=key)
        work(site, 20 * KEPT, options.recipients, options.block)
        if options.only:
            work(site, options.messages, options.recipients, options.block)
            return
        rounds = [
            work(site, options.messages, options.recipients, options.block)
            for _ in range(options.rounds)
        ]
        best = [min(stage) / options.messages / 1000 for stage in zip(*rounds, strict=True)]
        for name, microseconds in zip(STAGES, best, strict=True):
            print(f"{name:34}{microseconds:8.1f} µs")
        print(f"{'together':34}{sum(best):8.1f} µs\n")
        for name, microseconds in parts(site, 500).items():
            print(f"  {name:32}{microseconds:8.2f} µs")


if __name__ == "__main__":
    main()
