"""A site's worst days, at random from a seed, and what must be true all the while.

    storm = Storm(directory, seed=7)
    storm.run(200)          # so many happenings
    storm.end()             # the weather clears: what is queued leaves, what is open is closed

The whole server runs, with its queue and its three protocols, on a simulated clock, network and disk, with several
users and a server elsewhere. Letters come, clients read, copy, move and delete; meanwhile clients go in the middle of a
command or do not read, names are not found, the disk says EIO, ENOSPC or EMFILE, the clock jumps, the process is killed
and the power is cut, at any operation of the disk, after which any part of what was not synced may be lost.

It promises, or raises `truth.Wrong`:

- every letter answered with 250 (or OK) is where it belongs, once, its bytes unchanged, or on its way, or bounced; one
  that was refused is nowhere; one whose answer was lost is whole or not at all;
- what was deleted, copied or moved with an OK is so after any crash;
- no UID is another message's, or goes backwards; UIDVALIDITY stays;
- what a session was told of a folder is what is in it;
- after a stop nothing is open, due or left behind.

One seed is one run: `happenings` says what was done, up to what went wrong. With `configuration` (as `mail.toml` would
say it, as a dictionary) it is your hooks and your realm that stand in it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final

from .client import Client
from .dns import FakeResolver, Zone
from .elsewhere import Elsewhere
from .server import MailServer
from .stormy_disk import StormyDisk
from .talk import Imap, Pop3, Submission, stuffed
from .truth import Box, Letter, Truth, Wrong, token_of
from .world import SimulatedWorld, simulated_world

__all__ = ["Storm"]

HOME: Final = "home.example"
AWAY: Final = "away.example"
HERE, THERE = "192.0.2.10", "192.0.2.30"
PASSWORD: Final = "secret"
FOLDERS: Final = ("INBOX", "Keep", "Later")
USERS: Final = ("ann", "ben", "cid")
DAY: Final = 86_400.0


class Storm:
    """In `directory`, from `seed`. The server is up when this returns."""

    def __init__(
        self,
        directory: Path,
        *,
        seed: int,
        configuration: Mapping[str, object] | None = None,
    ) -> None:
        self.seed = seed
        self.happenings: list[str] = []
        self.truth = Truth([f"{user}@{HOME}" for user in USERS], FOLDERS)
        self.cuts = self.kills = 0
        self.bounces: dict[str, set[bytes]] = {user: set() for user in self.truth.users}
        """By user: reports that were found in a mailbox, at any time."""
        self._directory = directory
        self._random = Random(seed)
        self._configuration = dict(configuration or {})
        self._zone = Zone({AWAY: {"MX": [(10, f"mx.{AWAY}")]}, f"mx.{AWAY}": {"A": [THERE]}})
        self.root: SimulatedWorld = simulated_world(seed=seed, resolver=FakeResolver(self._zone))
        self.elsewhere = Elsewhere(self.root.at(THERE), seed)
        self._epoch = 0
        self._boot = 0
        self._letters = 0
        self._world = self.root
        self._begun = self.root.now()
        self._sessions: list[tuple[Imap, str]] = []
        (directory / "0").mkdir()
        self._start(dict.fromkeys(self.truth.users, PASSWORD))
        # Certificates and accounts are written, and synced, past the disk of a `World`.
        self._disk.after("syncfs", (str(directory / "0"),))
        for user in self.truth.users:
            with self._imap(user) as imap:
                for folder in FOLDERS[1:]:
                    assert imap.command(f"CREATE {folder}"), imap.text

    @property
    def days(self) -> float:
        """Simulated."""
        return (self.root.now() - self._begun) / DAY

    def run(self, count: int) -> None:
        """So many happenings, and a look at everything after each that can have changed something."""
        for _ in range(count):
            self.step()

    def step(self) -> None:
        happening = self._random.choices(
            [one for one, _ in self._weights], [weight for _, weight in self._weights]
        )[0]
        self.happenings.append(happening.__name__.lstrip("_"))
        happening(self)
        self._pass(self._random.choice((0.0, 0.1, 3.0, 40.0, 900.0)) * self._random.random())
        self.look()

    def end(self) -> None:
        """Heal what is ill, let the queue come to its end, look once more, and stop."""
        self.happenings.append("end")
        self._heal()
        self._close_sessions()
        for _ in range(9 * 24):
            self._pass(3600.0)
            if not self._waiting():
                break
        if waiting := self._waiting():
            raise Wrong(f"still in the queue: {waiting}")
        self.look()
        self._look_elsewhere()
        self._stop()

    # -- the weather

    def _fault(self) -> None:
        number = self._random.choice((errno.EIO, errno.ENOSPC, errno.EMFILE))
        after = self._random.randrange(40)
        lasting = self._random.random() < 0.5
        self._say(f"{errno.errorcode[number]} after {after}{', lasting' if lasting else ''}")
        self._disk.fail(after, number, lasting=lasting)

    def _network(self) -> None:
        host = self.root.network.host(THERE)
        name, value = self._random.choice(
            [
                ("silent", True),
                ("refuses", True),
                ("mute", True),
                ("latency", 3 * self._random.random()),
                ("bytes_per_second", 10 ** self._random.uniform(1, 4)),
                ("cut_after", self._random.randrange(3000)),
            ]
        )
        self._say(f"{name} {value}")
        setattr(host, name, value)

    def _names(self) -> None:
        kind = self._random.choice(("MX", "A"))
        ill = self._random.choice((self._zone.failing, self._zone.silent))
        ill |= {f"{kind} {one}" for one in self._zone}

    def _heal(self) -> None:
        self._disk.heal()
        self.root.network.host(THERE).heal()
        self._zone.failing.clear()
        self._zone.silent.clear()

    def _jump(self) -> None:
        seconds = self._random.choice((3600.0, DAY, 5 * DAY)) * self._random.random()
        self._say(f"{seconds:.0f} s")
        self._pass(seconds)

    def _restart(self) -> None:
        self._stop()
        self._pass(self._random.random() * 60)
        self._start()

    def _kill(self) -> None:
        self._die()
        self._start()

    def _cut(self) -> None:
        """The power goes, now or in the middle of something."""
        if self._random.random() < 0.3:
            self._power_cut()
            return
        after = self._random.randrange(60)
        self._say(f"after {after} operations")
        self._disk.cut_after(after)
        for _ in range(4):
            self._random.choice(
                (Storm._receive, Storm._submit, Storm._change, Storm._change, Storm._append)
            )(self)
            if not self._disk.alive:
                break
        self._power_cut()

    # -- what people do

    def _receive(self) -> None:
        """A letter from elsewhere, on port 25."""
        letter = self._letter(f"zoe@{AWAY}", self._some_users())
        smtp = Submission(self._connect(25), self._wait)
        smtp.hello()
        self._send(smtp, letter)

    def _submit(self) -> None:
        """A user's letter, to anybody."""
        sender = self._random.choice(self.truth.users)
        away = [f"{name}@{AWAY}" for name in ("yes", "later", "never")]
        recipients = self._some_users() + self._random.sample(away, self._random.randint(0, 2))
        smtp = Submission(self._dial(465), self._wait)
        if smtp.login(sender, PASSWORD):
            self._send(smtp, self._letter(sender, recipients))
        else:
            self._accept_failure("login")

    def _send(self, smtp: Submission, letter: Letter) -> None:
        if (begun := smtp.begin(letter.sender, letter.recipients)) is not True:
            letter.answered = False
        elif begun and self._random.random() < 0.15:
            # gone in the midst of it: there is no letter
            letter.answered = False
            cut = self._random.randrange(len(letter.content))
            smtp.client.send(stuffed(letter.content)[:cut])
        else:
            letter.answered = smtp.content(letter.content)
        self._say(f"{letter.token} to {len(letter.recipients)}: {letter.answered}")
        self.truth.sent(letter)
        smtp.abort()

    def _append(self) -> None:
        user, folder = self._random.choice(self.truth.users), self._random.choice(FOLDERS)
        letter = self._letter(user, ())
        with self._imap(user) as imap:
            letter.answered = imap.command(f"APPEND {folder}", letter.content)
        self._say(f"{letter.token} {folder}: {letter.answered}")
        self.truth.appended(user, letter, folder)

    def _change(self) -> None:
        """COPY, MOVE, EXPUNGE or STORE of some messages."""
        user = self._random.choice(self.truth.users)
        source, target = self._random.sample(FOLDERS, 2)
        with self._imap(user) as imap:
            box = imap.look(source)
            if box is None or not box.messages or not imap.command(f"SELECT {source}"):
                return
            there = {uid: token_of(content) for uid, content in box.messages.items()}
            uids = self._random.sample(sorted(there), min(len(there), self._random.randint(1, 4)))
            numbers = ",".join(map(str, uids))
            tokens = [token for uid in uids if (token := there[uid]) is not None]
            what = self._random.choice(("COPY", "MOVE", "EXPUNGE", "STORE"))
            if what == "STORE":
                imap.command(
                    rf"UID STORE {numbers} FLAGS (\Seen $Storm{self._random.randrange(3)})"
                )
                return
            if what == "EXPUNGE":
                if not imap.command(rf"UID STORE {numbers} +FLAGS (\Deleted)"):
                    return
                answered = imap.command(f"UID EXPUNGE {numbers}")
            else:
                answered = imap.command(f"UID {what} {numbers} {target}")
        self._say(f"{user} {what} {numbers} of {source}: {answered}")
        for token in tokens:
            if what == "COPY":
                self.truth.copied(user, token, target, answered)
            elif what == "MOVE":
                self.truth.moved(user, token, source, target, answered)
            else:
                self.truth.deleted(user, token, source, answered)

    def _fetch(self) -> None:
        """POP3: all is read, some is deleted, with a QUIT or without."""
        user = self._random.choice(self.truth.users)
        pop = Pop3(self._dial(995), self._wait)
        if not pop.login(user, PASSWORD):
            self._accept_failure("login")
            pop.abort()
            return
        messages = pop.retrieve()
        if messages is None:
            pop.abort()
            return
        numbers = self._random.sample(range(len(messages)), min(len(messages), 2))
        tokens = [
            token
            for number in numbers
            if pop.delete(number + 1) and (token := token_of(messages[number])) is not None
        ]
        # RFC 1939 section 6: who goes without a QUIT has deleted nothing
        answered = pop.quit() if self._random.random() < 0.7 else False
        pop.abort()
        self._say(f"{user} deletes {len(tokens)}: {answered}")
        for token in tokens:
            self.truth.deleted(user, token, "INBOX", answered)

    def _stay(self) -> None:
        """A session that stays, and is held against the folder from time to time; or one that does not read."""
        user, folder = self._random.choice(self.truth.users), self._random.choice(FOLDERS)
        imap = Imap(self._dial(993), self._wait)
        if not imap.login(user, PASSWORD) or not imap.command(f"SELECT {folder}"):
            imap.abort()
            return
        if self._random.random() < 0.3:
            imap.client.stop_reading()
            imap.client.send(b"x UID FETCH 1:* BODY.PEEK[]\r\n" * 3)
        else:
            self._sessions.append((imap, folder))

    _weights: Sequence[tuple[Callable[[Storm], None], int]] = (
        (_receive, 12),
        (_submit, 8),
        (_append, 4),
        (_change, 14),
        (_fetch, 4),
        (_stay, 3),
        (_fault, 5),
        (_network, 3),
        (_names, 2),
        (_heal, 6),
        (_jump, 3),
        (_restart, 2),
        (_kill, 3),
        (_cut, 5),
    )

    # -- looking

    def look(self) -> None:
        """At all mailboxes of everybody, as a client. A disk that is ill is healed for it."""
        self._disk.heal()
        for user in self.truth.users:
            with self._imap(user) as imap:
                boxes: dict[str, Box] = {}
                for folder in FOLDERS:
                    box = imap.look(folder)
                    if box is None:
                        raise Wrong(f"{user} {folder}: cannot be looked at: {imap.text[-200:]!r}")
                    boxes[folder] = box
                    self.bounces[user].update(filter(_is_report, box.messages.values()))
            self.truth.look(user, boxes)
        for session, folder in list(self._sessions):
            self._look_again(session, folder)

    def _look_again(self, session: Imap, folder: str) -> None:
        """What a session that stayed sees is what is there."""
        if not session.open:
            self._sessions.remove((session, folder))
            return
        if session.command("NOOP") is None:
            raise Wrong(f"a session in {folder} is not answered: {session.text[-200:]!r}")
        seen = session.uids()
        if seen is None or not session.command(f"STATUS {folder} (MESSAGES)"):
            raise Wrong(f"a session in {folder} is not answered: {session.text[-200:]!r}")
        if b"(MESSAGES %d)" % len(seen) not in session.text:
            raise Wrong(f"a session sees {len(seen)} messages in {folder}: {session.text!r}")

    def _look_elsewhere(self) -> None:
        """What was to go elsewhere is there, or has come back."""
        for letter, recipient in self.truth.abroad():
            arrived = self.elsewhere.taken.get((recipient, letter.token), 0)
            back = any(letter.token.encode() in one for one in self.bounces[letter.sender])
            if not arrived and not back:
                raise Wrong(f"letter {letter.token} to {recipient} is neither there nor bounced")

    def _waiting(self) -> list[Any]:
        rooms: Any = self.server._service.rooms
        from ..storage.spool_view import Filter

        return list(rooms.store.queue.view.page(Filter()))

    # -- the process

    def _start(self, users: Mapping[str, str] | None = None) -> None:
        root = self._directory / str(self._epoch)
        self._disk = StormyDisk(str(root), self._boot, lambda: self._world.kill())
        self._world = self.root.at(HERE, disk=self._disk)
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

    def _stop(self) -> None:
        self._close_sessions()
        self._disk.heal()
        self.root.run(self.server.stop())
        if calls := self._world.reactor.getDelayedCalls():
            raise Wrong(f"still due after the stop: {[str(call) for call in calls]}")
        left = self._world.disk._open  # type: ignore[attr-defined]
        if left:
            raise Wrong(f"still open after the stop: {[_path(fd) for fd in left]}")
        self._disk.close_all()

    def _die(self) -> None:
        self._forget_sessions()
        self.kills += 1
        self.server.kill()
        self._disk.close_all()
        self._pass(1)

    def _power_cut(self) -> None:
        """What is on the disk now is some of what was written, at least all that was synced."""
        self._forget_sessions()
        self.cuts += 1
        self._disk.power_off()
        self.server.kill()
        after = self._directory / str(self._epoch + 1)
        luck = Random(self._random.random()) if self._random.random() < 0.8 else None
        self._disk.after_cut(str(after), luck=luck)
        self._disk.close_all()
        shutil.rmtree(self._directory / str(self._epoch))
        self._epoch += 1
        self._boot += 1
        self._pass(5)
        self._start()

    def _close_sessions(self) -> None:
        for session, _ in self._sessions:
            session.abort()
        self._sessions.clear()

    def _forget_sessions(self) -> None:
        self._sessions.clear()

    # -- small things

    def _pass(self, seconds: float) -> None:
        self.root.reactor.advance(seconds)

    def _wait(self) -> None:
        self._pass(0.05)

    def _say(self, words: str) -> None:
        self.happenings[-1] += f"; {words}"

    def _connect(self, port: int) -> Client:
        # On loopback: the faults of the line are not between a user and the site.
        return self._world.reactor.connect(port, address="127.0.0.1")

    def _dial(self, port: int) -> Client:
        client = self._connect(port)
        client.start_tls(self.server.ca.read_bytes(), f"mx.{HOME}")
        return client

    def _imap(self, user: str) -> _LoggedIn:
        return _LoggedIn(Imap(self._dial(993), self._wait), user)

    def _accept_failure(self, what: str) -> None:
        """Nobody fails on a day when all is well."""
        if self._disk.alive and not self._disk.ill:
            raise Wrong(f"{what} refused, and nothing was wrong")

    def _some_users(self) -> list[str]:
        return self._random.sample(self.truth.users, self._random.randint(1, len(USERS)))

    def _letter(self, sender: str, recipients: Sequence[str]) -> Letter:
        self._letters += 1
        token = f"s{self.seed}-{self._letters}"
        size = self._random.choice((10, 500, 5000, 60_000, 300_000))
        lines = self._random.randbytes(size // 2).hex()
        body = "\r\n".join(lines[at : at + 70] for at in range(0, len(lines), 70))
        dots = self._random.choice(("", ".\r\n", "..\r\n.end\r\n"))
        content = (
            f"X-Token: {token}\r\nFrom: <{sender}>\r\nTo: somebody\r\nSubject: {token}\r\n"
            f"Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMessage-ID: <{token}@{HOME}>\r\n"
            f"\r\n{dots}{body}\r\n"
        ).encode()
        return Letter(token, content, sender, recipients)


class _LoggedIn:
    """A session for a moment: ``with`` logs in, and goes without a word."""

    def __init__(self, imap: Imap, user: str) -> None:
        self._imap = imap
        self._user = user

    def __enter__(self) -> Imap:
        self._imap.login(self._user, PASSWORD)
        return self._imap

    def __exit__(self, *exception: object) -> None:
        self._imap.abort()


def _is_report(content: bytes) -> bool:
    return token_of(content) is None and b"\r\nContent-Type: multipart/report" in content


def _path(fd: int) -> str:
    with suppress(OSError):
        return os.readlink(f"/proc/self/fd/{fd}")
    return str(fd)
