"""The IMAP suite: the same mail, linked into the Maildirs of each server, read and changed over one connection.

Each round starts every server once. What a case answers is looked at: how many there are, which, and their bytes; the
servers must agree with what was put there. A time is from the command to the last octet of its answer.
"""

from __future__ import annotations

import hashlib
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import idle_memory
from harness import PASSWORD, Peer
from imap_client import Client, beside, fetched, many
from imap_mail import NEEDLE, Letter, big, letters, maildir, small
from imap_peer import ImapPeer
from measure import cpu_seconds, memory, pause
from rounds import Job, Watch, opened, ready, repeated, running
from table import Row

__all__ = ["PEERS", "Sizes", "rounds"]

PEERS = ("dovecot-imap", "ours-imap")
_LARGE = 10 * 1024 * 1024
_BOXES = 100
_BOXED = 20
_NOTICES = 12
_APPENDED = 4096
_QUIET = 0.02
_AT_REST = 4.0
_LEARNING = 300.0
_FLUSHED = 1.0
_SETTLED = 3.0
_ROOM = 128 * 1024 * 1024


@dataclass(frozen=True)
class Sizes:
    """How many messages the mailboxes have, how often each case is repeated in a round."""

    huge: int = 100_000
    mail: int = 10_000
    small: int = 1000
    appended: int = 800
    times: int = 7
    idle: int = 300
    cases: str = ""
    """Some of them, comma-separated; all when empty."""


USERS = ("huge", "fresh", "mail", "small", "big", "work", "append", "boxes", "idle")


def rounds(
    turns: Iterable[int],
    sizes: Sizes,
    names: Sequence[str],
    directory: Path,
    rows: list[Row],
) -> bool:
    """All rounds into `rows`; True when a peer failed."""
    directory = opened(directory / "imap")
    peers = [one for one in ready(names, USERS, directory) if isinstance(one, ImapPeer)]
    mail = Mail(directory, sizes)
    for one in peers:
        mail.link(one, directory / one.name)
    jobs = [Job(one, partial(_round, one, directory / one.name, mail, sizes)) for one in peers]
    return repeated(turns, jobs, rows)


def _round(one: ImapPeer, place: Path, mail: Mail, sizes: Sizes, turn: int) -> Iterator[Row]:
    if turn == 0:
        # On a server that has done nothing else: what it has once had for other work would do
        with running(one, place):
            yield from Round(one, place, mail, sizes, turn).rows(idle=True)
    with running(one, place):
        yield from Round(one, place, mail, sizes, turn).rows()


class Mail:
    """What is put into the mailboxes, and what is known of it."""

    def __init__(self, directory: Path, sizes: Sizes) -> None:
        self.sizes = sizes
        self.letters = letters(directory / "letters", sizes.mail)
        self.small = small(directory / "small", sizes.small)
        self.big = big(directory / "big", _LARGE)
        self.agreed: dict[str, object] = {}
        """What the first server answered."""

    def link(self, one: Peer, place: Path) -> None:
        """Fill the mailboxes of `one`, which has never run."""
        assert isinstance(one, ImapPeer)
        place.mkdir()
        path = partial(one.maildir, place)
        maildir(path("huge"), self.small, self.sizes.huge)
        maildir(path("fresh"), self.small, self.sizes.huge // 5)
        maildir(path("mail"), self.letters)
        maildir(path("small"), self.small)
        maildir(path("big"), [self.big])
        maildir(path("work"), self.small)
        maildir(path("append"), [])
        maildir(path("idle"), [])
        maildir(path("boxes"), [])
        for number in range(_BOXES):
            maildir(path("boxes") / f".B{number:03}", self.small, _BOXED)

    def content(self, letter: Letter) -> bytes:
        """As IMAP gives it."""
        return letter.path.read_bytes().replace(b"\n", b"\r\n")


class Wrong(RuntimeError):
    """An answer that is not right."""


def check(right: bool, what: str, answer: object = "") -> None:
    if not right:
        raise Wrong(f"{what}: {str(answer)[-300:]}")


class Round:
    """One server that has just been started."""

    def __init__(self, one: ImapPeer, place: Path, mail: Mail, sizes: Sizes, turn: int) -> None:
        self._one = one
        self._place = place
        self._mail = mail
        self._sizes = sizes
        self._turn = turn
        self._only = sizes.cases.split(",") if sizes.cases else []

    def rows(self, *, idle: bool = False) -> Iterator[Row]:
        """Each case, in an order in which none leaves work for the next; `idle`: those of an idle server."""
        cases: list[tuple[str, Callable[[], Iterator[Row]]]] = [
            ("base", self._base),
            ("sessions", self._sessions),
        ]
        if not idle:
            cases = [
                ("huge", self._huge),
                ("mail", self._read),
                ("search", self._search),
                ("small", self._small),
                ("big", self._big),
                ("status", self._status),
                ("change", self._change),
                ("append", self._append),
                ("idle", self._notices),
                ("gaps", self._gaps),
                ("changes", self._gaps_of_changes),
            ]
        for name, case in cases:
            if not self._only or name in self._only:
                yield from case()

    def _client(self, user: str, room: int = 65_536) -> Client:
        client = Client(self._one.imap, room=room)
        client.login(self._one.login(user), PASSWORD)
        return client

    def _timed(
        self,
        name: str,
        work: Callable[[], float],
        times: int = 0,
        *,
        rate: int = 0,
        most: bool = False,
    ) -> Row:
        """The median (or the most) of `work`, in seconds; with `rate`, so many things a second."""
        times = times or self._sizes.times
        with Watch(self._one, self._place) as watch:
            own = time.process_time()
            each = [work() for _ in range(times)]
            watch.not_others += time.process_time() - own
        seconds = max(each) if most else median(each)
        value = {"1/s": rate / seconds} if rate else {"ms": seconds * 1000}
        cost = {"cpu": watch.cpu * 1000 / times, "memory": memory(self._one.roots)}
        return Row(self._one.name, name, value | cost, watch.noise())

    def _value(self, name: str, value: dict[str, float]) -> Row:
        with Watch(self._one, self._place) as watch:
            pass
        cost = {"cpu": 0.0, "memory": memory(self._one.roots)}
        return Row(self._one.name, name, value | cost, watch.noise())

    def _agree(self, what: str, answer: object) -> None:
        """All servers say the same, whoever was asked first."""
        known = self._mail.agreed.setdefault(what, answer)
        check(known == answer, f"{what}: another answer than the first server's")

    def _first(self, first: str, warm: str) -> str:
        return f"{first}, {'taken over' if self._turn == 0 else 'first after start'}: {warm}"

    # -- the cases

    def _base(self) -> Iterator[Row]:
        yield self._value("process, nobody there", {"MB": memory(self._one.roots)})

    def _huge(self) -> Iterator[Row]:
        count = self._sizes.huge

        def opened(client: Client) -> float:
            taken, answer = client.timed("SELECT INBOX")
            check(b"* %d EXISTS" % count in answer, "SELECT", answer)
            client.command("UNSELECT")
            return taken

        def anew() -> float:
            with self._client("huge") as client:
                taken = opened(client)
                client.command("LOGOUT")
            return taken

        yield self._timed(self._first("SELECT", f"{count}"), anew, 1)
        # what was changed a moment ago may change again unseen: both look at it once more
        pause(_SETTLED)
        anew()
        yield self._timed(f"SELECT of {count}, new connection", anew)
        with self._client("huge") as client:
            opened(client)
            yield self._timed(f"SELECT of {count}, warm", partial(opened, client))
            client.command("SELECT INBOX")
            looked = False

            def flags() -> float:
                nonlocal looked
                taken, answer = client.timed("FETCH 1:* (UID FLAGS)")
                check(answer.count(b" FETCH (") == count, "FETCH", answer)
                if not looked:
                    self._agree("flags", _flags(answer))
                    looked = True
                return taken

            yield self._timed(f"FETCH 1:* (UID FLAGS) of {count}", flags)

    def _read(self) -> Iterator[Row]:
        count = self._sizes.mail
        with self._client("mail") as client:
            client.command("SELECT INBOX")

            def envelopes() -> float:
                taken, answer = client.timed("FETCH 1:* ENVELOPE")
                check(fetched(answer) == list(range(1, count + 1)), "ENVELOPE", answer)
                ids = re.findall(rb'"<([^">]*)@bench.test>"', answer)
                self._agree("ids", hashlib.sha256(b"".join(ids)).digest())
                check(len(ids) == count, "Message-IDs")
                return taken

            yield self._timed(self._first("ENVELOPE", f"{count}"), envelopes, 1)
            yield self._timed(f"FETCH 1:* ENVELOPE of {count}, warm", envelopes)

            def subjects() -> float:
                taken, answer = client.timed(f'SEARCH SUBJECT "{NEEDLE}"')
                check(_found(answer) == list(range(51, count + 1, 100)), "SEARCH", answer)
                return taken

            yield self._timed(self._first("SEARCH SUBJECT", f"{count}"), subjects, 1)
            yield self._timed(f"SEARCH SUBJECT in {count}, warm", subjects)

    def _search(self) -> Iterator[Row]:
        count = self._sizes.mail
        right = sorted([*range(51, count + 1, 100), *range(52, count + 1, 100)])
        with self._client("mail") as client:
            client.command("SELECT INBOX")

            def texts() -> float:
                taken, answer = client.timed(f'SEARCH TEXT "{NEEDLE}"')
                check(_found(answer) == right, "SEARCH TEXT", answer)
                return taken

            def none() -> float:
                taken, answer = client.timed('SEARCH TEXT "nowhereisthat"')
                check(_found(answer) == [], "SEARCH TEXT", answer)
                return taken

            yield self._timed(self._first("SEARCH TEXT", f"{count}"), texts, 1)
            # In the background now, perhaps: it is over when the server has nothing to do
            began = ended = time.monotonic()
            while time.monotonic() - ended < _AT_REST and ended - began < _LEARNING:
                before = cpu_seconds(self._one.roots)
                pause(0.25)
                if cpu_seconds(self._one.roots) - before > _QUIET:
                    ended = time.monotonic()
            building = ended - began
            yield self._value(
                self._first("index of texts complete after", f"{count}"), {"s": building}
            )
            yield self._timed(f"SEARCH TEXT in {count}, 2 % found", texts)
            yield self._timed(f"SEARCH TEXT in {count}, nothing found", none)

    def _small(self) -> Iterator[Row]:
        count = self._sizes.small
        contents = [self._mail.content(one) for one in self._mail.small]
        octets = sum(map(len, contents))
        with self._client("small") as client:
            client.command("SELECT INBOX")

            def bodies() -> float:
                taken, answer = client.timed("FETCH 1:* BODY.PEEK[]")
                literals = sum(map(int, re.findall(rb"BODY\[\] \{(\d+)\}\r\n", answer)))
                check(literals == octets, "BODY[]", answer)
                check(all(one in answer for one in contents[::97]), "BODY[]: other bytes")
                return taken

            yield self._timed(f"BODY[] of {count} small ones", bodies, rate=count)

    def _big(self) -> Iterator[Row]:
        content = self._mail.content(self._mail.big)
        with self._client("big") as client:
            client.command("SELECT INBOX")

            def body() -> float:
                taken, answer = client.timed("FETCH 1 BODY.PEEK[]")
                at = answer.index(b"}\r\n") + 3
                check(answer[at : at + len(content)] == content, "BODY[]: other bytes")
                return taken

            body()
            yield self._timed("BODY[] of 10 MiB", body)

    def _status(self) -> Iterator[Row]:
        one = "STATUS B{:03} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"
        commands = [one.format(number) for number in range(_BOXES)]
        with self._client("boxes") as client:

            def status() -> float:
                began = time.perf_counter()
                client.socket.sendall("".join(f"S {c}\r\n" for c in commands[:-1]).encode())
                answer = client.command(commands[-1])
                taken = time.perf_counter() - began
                check(answer.count(b"MESSAGES %d " % _BOXED) == _BOXES, "STATUS", answer)
                return taken

            def listed() -> float:
                taken, answer = client.timed('LIST "" "B*" RETURN (STATUS (MESSAGES UNSEEN))')
                check(answer.count(b"(MESSAGES %d " % _BOXED) == _BOXES, "LIST-STATUS", answer)
                return taken

            yield self._timed(self._first("STATUS", f"of {_BOXES}"), status, 1)
            yield self._timed(f"STATUS of {_BOXES} mailboxes, pipelined", status)
            yield self._timed(f"LIST with STATUS of {_BOXES} mailboxes", listed)

    def _change(self) -> Iterator[Row]:
        count = self._sizes.small
        with self._client("work") as client:
            suffix = f"{self._turn}"
            client.command("SELECT INBOX")
            wanted = iter(range(1000))

            def store() -> float:
                sign = "+-"[next(wanted) % 2]
                taken, answer = client.timed(f"STORE 1:* {sign}FLAGS (\\Draft)")
                check(answer.count(b" FETCH (") == count, "STORE", answer)
                return taken

            yield self._timed(f"STORE of a flag in {count}", store, 6)
            copies, moves, expunges = [], [], []
            with Watch(self._one, self._place) as watch:
                own = time.process_time()
                for number in range(3):
                    one, other = f"C{suffix}x{number}", f"M{suffix}x{number}"
                    client.command(f"CREATE {one}")
                    client.command(f"CREATE {other}")
                    client.command("SELECT INBOX")
                    taken, answer = client.timed(f"COPY 1:* {one}")
                    check(b"COPYUID" in answer, "COPY", answer)
                    copies.append(taken)
                    answer = client.command(f"SELECT {one}")
                    check(b"* %d EXISTS" % count in answer, "COPY", answer)
                    taken, answer = client.timed(f"MOVE 1:* {other}")
                    check(answer.count(b" EXPUNGE\r\n") == count, "MOVE", answer)
                    moves.append(taken)
                    answer = client.command(f"SELECT {other}")
                    check(b"* %d EXISTS" % count in answer, "MOVE", answer)
                    client.command("STORE 1:* +FLAGS.SILENT (\\Deleted)")
                    taken, answer = client.timed("EXPUNGE")
                    check(answer.count(b" EXPUNGE\r\n") == count, "EXPUNGE", answer)
                    expunges.append(taken)
                watch.not_others += time.process_time() - own
            for name, each in (("COPY", copies), ("MOVE", moves), ("EXPUNGE", expunges)):
                values = {"ms": median(each) * 1000, "cpu": watch.cpu * 1000 / 3}
                values["memory"] = memory(self._one.roots)
                yield Row(self._one.name, f"{name} of {count}", values, watch.noise())

    def _append(self) -> Iterator[Row]:
        message = self._mail.content(self._mail.small[0])
        message += b"x" * (_APPENDED - len(message) - 2) + b"\r\n"
        for connections in (1, 8):
            clients = [self._client("append") for _ in range(connections)]
            box = f"A{self._turn}x{connections}"
            clients[0].command(f"CREATE {box}")
            count = self._sizes.appended * (1 if connections == 1 else 2)

            def send(client: Client, box: str = box) -> None:
                client.append(box, message)

            many(clients, send, 20)
            work = partial(many, clients, send, count)
            yield self._timed(f"APPEND of 4 KiB, {connections} connections", work, 1, rate=count)
            answer = clients[0].command(f"STATUS {box} (MESSAGES)")
            check(b"(MESSAGES %d)" % (count + 20) in answer, "APPEND", answer)
            for client in clients:
                client.socket.close()

    def _notices(self) -> Iterator[Row]:
        letter = self._mail.small[0].path.read_bytes().replace(b"\n", b"\r\n")
        with self._client("idle") as client, self._one.deliverer() as deliverer:
            client.command("SELECT INBOX")
            client.idle()
            user = self._one.login("idle")
            deliverer.ehlo_or_helo_if_needed()

            def notice() -> float:
                deliverer.mail("a@bench.test")
                deliverer.rcpt(user)
                deliverer.putcmd("DATA")
                deliverer.getreply()
                deliverer.send(letter + b".\r\n")
                began = time.perf_counter()
                while b" EXISTS" not in client.line():
                    pass
                taken = time.perf_counter() - began
                code, text = deliverer.getreply()
                check(code == 250, "delivery", text)
                # Dovecot gathers notices for a while after one: a mail that comes alone is what is asked about
                pause(_FLUSHED)
                return taken

            yield self._timed("IDLE: notice of a mail delivered", notice, _NOTICES)
            client.done()

    def _gaps(self) -> Iterator[Row]:
        """The longest wait of a NOOP on another connection while a long answer is made."""
        for user, line in (
            ("huge", "FETCH 1:* (UID FLAGS)"),
            ("huge", "SELECT INBOX"),
            ("huge", "SEARCH UNSEEN"),
            ("mail", "FETCH 1:* ENVELOPE"),
            ("mail", "FETCH 1:* BODYSTRUCTURE"),
            ("mail", f'SEARCH TEXT "{NEEDLE}"'),
            ("mail", "FETCH 1:* BODY.PEEK[]"),
            ("mail", "STORE 1:* FLAGS.SILENT (\\Seen)"),
            ("big", "FETCH 1 BODY.PEEK[]"),
        ):
            with self._client(user, _ROOM) as client, self._client("idle") as other:
                other.command("NOOP")
                client.command("SELECT INBOX")
                name = f"longest NOOP beside {line.replace(NEEDLE, '…')}"
                yield self._timed(
                    name, lambda c=client, n=line, o=other: beside(c, n, o)[1], 3, most=True
                )

    def _gaps_of_changes(self) -> Iterator[Row]:
        """The same while many messages are changed, once each."""
        count = self._sizes.mail
        if not self._turn:
            yield self._gap("fresh", f"SELECT INBOX, {self._sizes.huge // 5} taken over")
        with self._client("mail") as client:
            for name in ("Copied", "Moved"):
                client.command(f"CREATE {name}{self._turn}")
        for mailbox, line in (
            ("INBOX", f"COPY 1:* Copied{self._turn}"),
            (f"Copied{self._turn}", f"MOVE 1:* Moved{self._turn}"),
            (f"Moved{self._turn}", "STORE 1:* +FLAGS (\\Deleted)"),
            (f"Moved{self._turn}", "EXPUNGE"),
        ):
            yield self._gap("mail", f"{line.rstrip('0123456789')} of {count}", mailbox, line)
        with self._client("huge") as client:
            client.append("INBOX", b"Subject: one\r\n\r\ntext\r\n")
            while not client.receive():
                pass
            client.command("SELECT INBOX")
            client.command("STORE * +FLAGS.SILENT (\\Deleted)")
        yield self._gap("huge", f"EXPUNGE of 1 in {self._sizes.huge}", "INBOX", "EXPUNGE")

    def _gap(self, user: str, name: str, mailbox: str = "", line: str = "SELECT INBOX") -> Row:
        with self._client(user, _ROOM) as client, self._client("idle") as other:
            other.command("NOOP")
            if mailbox:
                client.command(f"SELECT {mailbox}")
            return self._timed(
                f"longest NOOP beside {name}", lambda: beside(client, line, other)[1], 1
            )

    def _sessions(self) -> Iterator[Row]:
        for name, port, secure in (
            ("clear", self._one.imap, lambda connection: connection),
            ("TLS", self._one.imaps, _secured),
        ):
            size = idle_memory.bytes_per_connection(
                port,
                self._one.roots[0],
                partial(self._idle, secure),
                self._sizes.idle,
            )
            yield self._value(f"memory of an IDLE session, {name}", {"KiB": size / 1024})
            pause(2.0)

    def _idle(self, secure: Callable[[socket.socket], socket.socket], plain: socket.socket) -> Any:
        connection = secure(plain)
        login = f'L LOGIN "{self._one.login("small")}" "{PASSWORD}"\r\n'
        for line, end in (
            (b"", b"\n"),
            (login.encode(), b"L OK"),
            (b"S SELECT INBOX\r\n", b"S OK"),
            (b"I IDLE\r\n", b"+ "),
        ):
            connection.sendall(line)
            got = b""
            while end not in got:
                more = connection.recv(65_536)
                if not more:
                    raise RuntimeError("connection closed")
                got += more
        return connection


def _secured(plain: socket.socket) -> socket.socket:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(plain)


def _found(answer: bytes) -> list[int]:
    line = answer[answer.index(b"* SEARCH") + 8 :].partition(b"\r\n")[0]
    return [int(number) for number in line.split()]


def _flags(answer: bytes) -> bytes:
    """What the answer says, in whatever order."""
    digest = hashlib.sha256()
    for number, inside in re.findall(rb"^\* (\d+) FETCH \((.*)\)\r$", answer, re.MULTILINE):
        uid = re.search(rb"UID (\d+)", inside)
        flags = re.search(rb"FLAGS \(([^)]*)\)", inside)
        assert uid is not None and flags is not None
        names = sorted(name for name in flags[1].split() if name != b"\\Recent")
        digest.update(b"%b %b %b;" % (number, uid[1], b" ".join(names)))
    return digest.digest()
