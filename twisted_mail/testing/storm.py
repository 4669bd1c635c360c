"""A site's worst days, at random from a seed, and what must be true all the while.

    storm = Storm(directory, seed=7)
    storm.run(200)          # so many happenings
    storm.end()             # the weather clears: what is queued leaves, what is open is closed

The whole server runs, with its queue and its three protocols, on a simulated clock, network and disk, with several
users and a server elsewhere. Letters come, clients read, copy, move and delete, several of them at once; meanwhile
lines are slow, cut or dead, clients go in the middle of a command or do not read, names are not found, or false, the
disk says EIO, ENOSPC or EMFILE, the clock is set forward and back, the process is killed and the power is cut, at any
operation of the disk, after which any part of what was not synced may be lost.

It promises, or raises `truth.Wrong`:

- every letter answered with 250 (or OK) is where it belongs, once, its bytes unchanged, or on its way, or bounced; one
  that was refused is nowhere; one whose answer was lost is whole, with all of its recipients, or not at all;
- what was deleted, copied or moved with an OK is so after any crash;
- no UID is another message's, or goes backwards; UIDVALIDITY stays, and what POP3 calls a message;
- what an IMAP client was told of a folder, or comes back to by QRESYNC, is what is in it;
- after a stop no descriptor, connection, timer or Deferred is left, no temporary file, and in the queue's directory
  what waits and nothing else; no coroutine has failed unheard.

One seed is one run: `happenings` says what was done, up to what went wrong. With `configuration` (as `mail.toml` would
say it, as a dictionary) it is your hooks and your realm that stand in it. What happens stands in `storm_people.PEOPLE`
and `storm_weather.WEATHER`; add what is to happen to what is yours.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

from .client import Client
from .dns import FakeResolver, Zone
from .elsewhere import Elsewhere
from .follower import Follower
from .leavings import Unheard, deferreds, left_open, temporary_files
from .server import MailServer
from .storm_people import PEOPLE
from .storm_weather import WEATHER, heal
from .stormy_disk import StormyDisk
from .talk import Imap, Pop3
from .truth import Box, Letter, Truth, Wrong, token_of
from .world import SimulatedWorld, simulated_world

__all__ = ["Storm"]

FOLDERS: Final = ("INBOX", "Keep", "Later")
USERS: Final = ("ann", "ben", "cid")
DAY: Final = 86_400.0
HOME: Final = "home.example"
LOOPBACK: Final = "127.0.0.1"

Happening = Callable[["Storm"], None]


class Storm:
    """In `directory`, from `seed`. The server is up when this returns. `happenings`: each with how often it comes.

    For happenings: `random`, the one source of chance; `say`, what is told of a run; `pass_`, time; `connect`, `dial`
    and `imap`; `disk`, `zone`, `root` (the world of everybody) and what `root.network` has for each address; `truth`,
    to be told what was done.
    """

    password: Final = "secret"
    away: Final = "away.example"
    here, there, liar = "192.0.2.10", "192.0.2.30", "192.0.2.40"
    addresses: Final = ("198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4")
    """Where users are."""

    def __init__(
        self,
        directory: Path,
        *,
        seed: int,
        configuration: Mapping[str, object] | None = None,
        happenings: Sequence[tuple[Happening, int]] = (*PEOPLE, *WEATHER),
    ) -> None:
        self.seed = seed
        self.happenings: list[str] = []
        self.counts: Counter[str] = Counter()
        """How often each happening has happened, by its name."""
        self.truth = Truth([f"{user}@{HOME}" for user in USERS], FOLDERS)
        self.cuts = self.kills = self.stops = 0
        self.bounces: dict[str, set[bytes]] = {user: set() for user in self.truth.users}
        """By user: reports that were found in a mailbox, at any time."""
        self.followers = {
            (user, folder): Follower(folder, quick=True)
            for user in self.truth.users
            for folder in FOLDERS
        }
        self.sessions: list[tuple[Imap, str, Follower]] = []
        """Those that stay: each with its user, and what it has been told."""
        self.random = Random(seed)
        self._happenings = list(happenings)
        self._directory = directory
        self._configuration = dict(configuration or {})
        self.zone = Zone(self.names())
        self.root: SimulatedWorld = simulated_world(seed=seed, resolver=FakeResolver(self.zone))
        self.elsewhere = Elsewhere(self.root.at(self.there), seed)
        self._liar = Elsewhere(self.root.at(self.liar), seed)
        self._epoch = 0
        self._boot = 0
        self._letters = 0
        self._world = self.root
        self.begun = self.root.now()
        self._set_back = self._jumped = 0.0
        self._unheard = Unheard()
        (directory / "0").mkdir(parents=True)
        self.start(dict.fromkeys(self.truth.users, self.password))
        # Certificates and accounts are written, and synced, past the disk of a `World`.
        self.disk.after("syncfs", (str(directory / "0"),))
        for user in self.truth.users:
            with self.imap(user) as imap:
                for folder in FOLDERS[1:]:
                    assert imap.command(f"CREATE {folder}"), imap.text

    @property
    def days(self) -> float:
        """Simulated, by a clock that nobody sets."""
        return (self.root.now() - self.begun - self._jumped) / DAY

    def names(self) -> dict[str, dict[str, list[Any]]]:
        """What the DNS says when all is well."""
        exchange = f"mx.{self.away}"
        return {self.away: {"MX": [(10, exchange)]}, exchange: {"A": [self.there]}}

    def run(self, count: int) -> None:
        """So many happenings, and a look at everything after each that can have changed something."""
        for _ in range(count):
            self.step()

    def step(self) -> None:
        """One of them."""
        (happening,) = self.random.choices(
            [one for one, _ in self._happenings], [often for _, often in self._happenings]
        )
        self.happenings.append(happening.__name__)
        self.counts[happening.__name__] += 1
        with self._told():
            happening(self)
            self.pass_(self.random.choice((0.0, 0.1, 3.0, 40.0, 900.0)) * self.random.random())
            self.look()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong says where it was."""
        try:
            yield
        except BaseException as error:
            self._unheard.end()
            error.add_note(
                f"in the storm of seed {self.seed}, at happening {len(self.happenings)}:"
            )
            for happening in self.happenings[-10:]:
                error.add_note(f"  {happening}")
            raise

    def end(self) -> None:
        """Heal what is ill, let the queue come to its end, look once more, and stop."""
        self.happenings.append("end")
        with self._told():
            self._end()
        self._unheard.end()

    def _end(self) -> None:
        heal(self)
        self._close_sessions()
        # What is due by a clock that was set back since waits for that time to come again.
        for _ in range(9 * 24 + int(self._set_back / 3600)):
            self.pass_(3600.0)
            if not self.waiting():
                break
        if waiting := self.waiting():
            raise Wrong(f"still in the queue: {waiting}")
        self.look()
        for user in self.truth.users:
            self.look_by_pop3(user)
        self._look_elsewhere()
        self.stop()

    # -- for happenings

    def say(self, words: str) -> None:
        """Add to what is told of the happening."""
        self.happenings[-1] += f"; {words}"

    def pass_(self, seconds: float) -> None:
        self.root.reactor.advance(seconds)

    def jump(self, seconds: float) -> None:
        """Set the clock."""
        self._jumped += seconds
        self._set_back += max(0.0, -seconds)
        self.root.reactor.jump(seconds)

    def line(self) -> str:
        """Where a user is just now."""
        return self.random.choice((LOOPBACK, *self.addresses))

    def connect(self, port: int, address: str = LOOPBACK) -> Client:
        """To the site, from `address`. The faults of the line are not on loopback."""
        return self._world.reactor.connect(port, address=address)

    def dial(self, port: int, address: str = LOOPBACK) -> Client:
        """With TLS."""
        client = self.connect(port, address)
        client.start_tls(self.server.ca.read_bytes(), f"mx.{HOME}")
        return client

    def imap(self, user: str, address: str = LOOPBACK) -> _LoggedIn:
        """A session for a moment: ``with``."""
        return _LoggedIn(Imap(self.dial(993, address), self.pass_), user, self.password)

    def letter(self, sender: str, recipients: Sequence[str]) -> Letter:
        """A new one, of any size."""
        self._letters += 1
        token = f"s{self.seed}-{self._letters}"
        size = self.random.choice((10, 500, 5000, 60_000, 300_000))
        lines = self.random.randbytes(size // 2).hex()
        body = "\r\n".join(lines[at : at + 70] for at in range(0, len(lines), 70))
        dots = self.random.choice(("", ".\r\n", "..\r\n.end\r\n"))
        content = (
            f"X-Token: {token}\r\nFrom: <{sender}>\r\nTo: somebody\r\nSubject: {token}\r\n"
            f"Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{token}@{HOME}>\r\n"
            f"\r\n{dots}{body}\r\n"
        ).encode()
        return Letter(token, content, sender, recipients)

    def accept_failure(self, what: str, address: str = LOOPBACK) -> None:
        """Nobody on a good line fails on a day when all is well."""
        if self.disk.alive and not self.disk.ill and address == LOOPBACK:
            raise Wrong(f"{what} refused, and nothing was wrong")

    def waiting(self) -> list[Any]:
        """What is in the queue."""
        from ..storage.spool_view import Filter

        rooms: Any = self.server._service.rooms
        return list(rooms.store.queue.view.page(Filter()))

    # -- looking

    def look(self) -> None:
        """At all mailboxes of everybody, as a client. A disk that is ill is healed for it."""
        self.disk.heal()
        for user in self.truth.users:
            with self.imap(user) as imap:
                boxes: dict[str, Box] = {}
                for folder in FOLDERS:
                    box = imap.look(folder)
                    if box is None:
                        raise Wrong(f"{user} {folder}: cannot be looked at: {imap.text[-200:]!r}")
                    boxes[folder] = box
                    self.bounces[user].update(filter(_is_report, box.messages.values()))
                self.truth.look(user, boxes)
                for session, owner, follower in list(self.sessions):
                    if owner == user:
                        self._look_again(session, follower, imap)
        if self._unheard.words:
            raise Wrong(f"failed unheard: {self._unheard.words}")

    def _look_again(self, session: Imap, follower: Follower, fresh: Imap) -> None:
        """What a session that stayed was told is what is there."""
        folder = follower.folder
        seen: dict[int, frozenset[bytes]] = {}
        there = seen
        for _ in range(3):
            # A report may have come between the two.
            if not session.open or not follower.catch_up(session):
                # By a bad line, or the site was not up all the while.
                session.abort()
                self.sessions = [one for one in self.sessions if one[0] is not session]
                return
            box = fresh.look(folder)
            if box is None:
                raise Wrong(f"{folder}: cannot be looked at: {fresh.text[-200:]!r}")
            seen = follower.seen()
            there = {uid: flags - {rb"\Recent"} for uid, flags in box.flags.items()}
            if seen == there:
                return
        raise Wrong(f"a session in {folder} has {seen}, and there is {there}")

    def look_by_pop3(self, user: str) -> None:
        """What POP3 calls the messages of an inbox: always the same, whatever happens."""
        pop = Pop3(self.dial(995), self.pass_)
        if pop.login(user, self.password):
            names = pop.unique()
            with self.imap(user) as imap:
                box = imap.look("INBOX")
                if names is None or box is None:
                    raise Wrong(f"{user}: the inbox cannot be looked at")
                self.truth.unique(user, sorted(box.messages), names)
        pop.abort()

    def _look_elsewhere(self) -> None:
        """What was to go elsewhere is there, or has come back; what was refused is not there."""
        taken = self.elsewhere.taken + self._liar.taken
        for letter, recipient in self.truth.abroad():
            back = any(letter.token.encode() in one for one in self.bounces[letter.sender])
            if not taken[recipient, letter.token] and not back:
                raise Wrong(f"letter {letter.token} to {recipient} is neither there nor bounced")
        for site in (self.elsewhere, self._liar):
            for token, contents in site.contents.items():
                letter = self.truth.letters[token]
                if letter.answered is False:
                    raise Wrong(f"letter {token} was refused, and sent")
                if not all(content.endswith(letter.content) for content in contents):
                    raise Wrong(f"letter {token} is not what was sent, elsewhere")

    # -- the process

    def start(self, users: Mapping[str, str] | None = None) -> None:
        """On what is there."""
        root = self._directory / str(self._epoch)
        # What one that was killed waited for is nobody's any more: held, as the collector would wake its coroutines.
        self._deferreds = deferreds(collect=False)
        self._opened = left_open(root)
        self.disk = StormyDisk(str(root), self._boot, lambda: self._world.kill())
        self._world = self.root.at(self.here, disk=self.disk)
        # Nobody else changes anything: it is for nothing, and days are long.
        self._world.watcher.every = 5.0
        self.server = self.root.run(
            MailServer.start(
                self._world,
                users=users,
                hostname=f"mx.{HOME}",
                directory=root,
                configuration={
                    "listen": {
                        "smtp": ["tcp:25"],
                        "submissions": ["tcp:465"],
                        "pop3s": ["tcp:995"],
                        "imaps": ["tcp:993"],
                    },
                    **self._configuration,
                },
            )
        )

    def stop(self) -> None:
        """In good order: nothing is left."""
        self._close_sessions()
        self.disk.heal()
        self.stops += 1
        queued = {str(one.id) for one in self.waiting()}
        self.root.run(self.server.stop())
        process = self._world.reactor.process
        if calls := self._world.reactor.getDelayedCalls():
            raise Wrong(f"still due after the stop: {[str(call) for call in calls]}")
        if process.listeners or process.wires:
            raise Wrong(f"still connected: {process.listeners}, {list(process.wires)}")
        self.disk.close_all()
        root = self._directory / str(self._epoch)
        if opened := left_open(root) - self._opened:
            raise Wrong(f"still open after the stop: {sorted(path for _, path in opened)}")
        if left := temporary_files(root / "data", queued):
            raise Wrong(f"left behind: {left}")
        if waited := deferreds() - self._deferreds:
            raise Wrong(f"still waited for after the stop: {[vars(one) for one in waited]}")

    def die(self) -> None:
        """As by ``kill -9``."""
        self.sessions.clear()
        self.kills += 1
        self.server.kill()
        self.disk.close_all()
        self.pass_(1)

    def power_cut(self) -> None:
        """What is on the disk now is some of what was written, at least all that was synced; and up again."""
        self.sessions.clear()
        self.cuts += 1
        self.disk.power_off()
        self.server.kill()
        after = self._directory / str(self._epoch + 1)
        luck = Random(self.random.random()) if self.random.random() < 0.8 else None
        self.disk.after_cut(str(after), luck=luck)
        self.disk.close_all()
        shutil.rmtree(self._directory / str(self._epoch))
        self._epoch += 1
        self._boot += 1
        self.pass_(5)
        self.start()

    def _close_sessions(self) -> None:
        for session, _, _ in self.sessions:
            session.abort()
        self.sessions.clear()


class _LoggedIn:
    def __init__(self, imap: Imap, user: str, password: str) -> None:
        self._imap = imap
        self._user = user
        self._password = password

    def __enter__(self) -> Imap:
        self._imap.login(self._user, self._password)
        return self._imap

    def __exit__(self, *exception: object) -> None:
        # Without a word.
        self._imap.abort()


def _is_report(content: bytes) -> bool:
    return token_of(content) is None and b"\r\nContent-Type: multipart/report" in content
