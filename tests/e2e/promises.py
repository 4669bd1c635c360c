"""What clients were promised by a server that dies under them, and whether it was kept.

`Traffic` is people who send, move, copy, delete and fetch at the same time, until they are told to stop; `Promises` is
what they were answered. Each thing that somebody asks for is noted before it is asked and after it was answered:
between the two it may have happened or not.
"""

from __future__ import annotations

import contextlib
import imaplib
import poplib
import re
import smtplib
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random

from imapsite import imap, listed
from mailsite import ALICE, BOB, DEADLINE, Site, letter, subject_of

from twisted_mail.disk import OsDisk
from twisted_mail.storage.spool import Spool
from twisted_mail.storage.spool_view import Filter, View

SMALL, LARGE = 2_500, 400_000
INBOX, ARCHIVE = "", ".Archive"
GONE = (OSError, smtplib.SMTPException, imaplib.IMAP4.error, poplib.error_proto, EOFError)


@dataclass
class Fate:
    """One message for one user. Where it may be, and where it has to be."""

    delivered: bool = False  # 250, or tagged OK
    moving: bool = False
    moved: bool = False
    removing: bool = False
    removed: bool = False
    copying: bool = False
    copied: bool = False


@dataclass
class Promises:
    """All that was asked of a site, over all its lives."""

    site: Site
    fates: dict[tuple[str, str], Fate] = field(default_factory=dict)
    queued: dict[str, bool] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    told: dict[tuple[str, int, int], str] = field(default_factory=dict)
    """Folder, UIDVALIDITY, UID → the message that a client was told to be there."""
    renumbered: int = 0
    checks: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: count[int] = field(default_factory=count)

    def answered(self) -> int:
        """Messages that somebody was told to be there, or in the queue."""
        with self._lock:
            return sum(fate.delivered for fate in self.fates.values()) + sum(self.queued.values())

    def removed(self) -> int:
        with self._lock:
            return sum(fate.removed for fate in self.fates.values())

    def moved(self) -> int:
        with self._lock:
            return sum(fate.moved for fate in self.fates.values())

    def sent_out(self) -> int:
        with self._lock:
            return sum(self.queued.values())

    def token(self, size: int) -> str:
        with self._lock:
            token = f"token{next(self._numbers)}"
            self.sizes[token] = size
        return token

    def begin(self, token: str, *users: str) -> list[Fate]:
        with self._lock:
            made = [Fate() for _ in users]
            self.fates.update({(user, token): one for user, one in zip(users, made, strict=True)})
        return made

    def fate(self, user: str, token: str) -> Fate:
        with self._lock:
            return self.fates[user, token]

    def seen(self, folder: str, validity: int, uid: int, token: str) -> None:
        """A client was told; what it was told before has to agree."""
        with self._lock:
            before = self.told.setdefault((folder, validity, uid), token)
        assert before == token, f"UID {uid} of {folder!r} was {before}, and is {token}"

    # What is there

    def check(self) -> None:
        """Nothing lost, nothing doubled, nothing back; every octet. The server is up, and has nothing to do."""
        self.checks += 1
        wrong: list[str] = []
        for user in (ALICE, BOB):
            there = self._files(user, wrong)
            mine = {token: fate for (owner, token), fate in self.fates.items() if owner == user}
            wrong += [f"{user}: {token} was never sent" for token in there if token not in mine]
            for token, fate in mine.items():
                wrong += [f"{user}: {token} {what}" for what in _amiss(fate, there.get(token, []))]
        self._check_queue(wrong)
        assert not wrong, "\n".join(wrong[:40])
        self._check_clients()

    def _files(self, user: str, wrong: list[str]) -> dict[str, list[str]]:
        """Message → the folders in which it is."""
        for _ in range(100):
            before = self._paths(user)
            amiss: list[str] = []
            found: dict[str, list[str]] = {}
            try:
                for folder, path in before:
                    found.setdefault(self._token_of(path, amiss), []).append(folder)
            except FileNotFoundError:
                continue
            # a file that is renamed while they are listed (it gets its UID) may be missed, or be there twice
            if self._paths(user) == before:
                break
        else:
            raise AssertionError(f"the files of {user} are renamed without end")
        wrong += amiss
        return found

    def _paths(self, user: str) -> list[tuple[str, Path]]:
        """Each message's folder and file."""
        box = self.site.maildir(user)
        return sorted(
            (folder, path)
            for folder in (INBOX, ARCHIVE)
            for part in ("new", "cur")
            for path in (box / folder / part).glob("*")
        )

    def _token_of(self, path: Path, wrong: list[str]) -> str:
        content = path.read_bytes()
        match = re.search(rb"^Subject: (.*)$", content[:8192], re.MULTILINE)
        token = match[1].decode() if match else ""
        if token not in self.sizes:
            wrong.append(f"{path} has no subject of ours: {content[:80]!r}")
        else:
            sent = letter(token, size=self.sizes[token]).replace(b"\r\n", b"\n")
            if content.partition(b"\n\n")[2] != sent.partition(b"\n\n")[2]:
                wrong.append(f"{path} has other octets than {token}")
        return token

    def _check_queue(self, wrong: list[str]) -> None:
        root = self.site.data / "queue"
        there = Counter(
            self._token_of(path, wrong)
            for path in root.rglob("*")
            if re.fullmatch(r"[0-9a-f]{12}", path.name)
        )
        for token, promised in self.queued.items():
            if there[token] != 1 and (promised or there[token]):
                wrong.append(f"{token} is {there[token]} times in the queue")
        rows = set()
        spool = Spool(OsDisk(), str(self.site.data))
        try:
            spool.prepare()
            after = None
            while page := View(spool).page(Filter(), after, 500):
                rows.update(row.id for row in page)
                after = page[-1].seq, page[-1].number
        finally:
            spool.close()
        if len(rows) != sum(there.values()):
            wrong.append(f"{sum(there.values())} files in the queue, and rows of {len(rows)}")

    def _check_clients(self) -> None:
        """They see what lies there, and what they were told before."""
        for folder, name in ((INBOX, "INBOX"), (ARCHIVE, "Archive")):
            for left in reversed(range(10)):
                with imap(self.site, ALICE, name) as session:
                    validity = _validity(session)
                    now = {uid: token for uid, (_, token) in listed(session).items()}
                wrong: list[str] = []
                there = self._files(ALICE, wrong)
                seen = Counter(now.values())
                lies = Counter(
                    token for token, folders in there.items() for one in folders if one == folder
                )
                # one may have come to its folder after we asked for it, and before we looked into that
                if (seen == lies and not wrong) or not left:
                    break
            assert seen == lies and not wrong, (name, seen - lies, lies - seen, wrong)
            before = {
                token: uid
                for (of, v, uid), token in self.told.items()
                if (of, v) == (folder, validity)
            }
            for uid, token in now.items():
                self.renumbered += before.get(token, uid) != uid
                self.seen(folder, validity, uid, token)
        with self.site.pop(BOB) as session:
            number = session.stat()[0]
        wrong = []
        assert number == sum(map(len, self._files(BOB, wrong).values()))


def _amiss(fate: Fate, where: list[str]) -> Iterable[str]:
    """What is wrong with a message that lies in these folders."""
    inbox, archive = where.count(INBOX), where.count(ARCHIVE)
    if inbox > 1 or archive > 1:
        yield f"is doubled: {where}"
    if fate.removed and inbox + archive:
        yield f"was deleted, and is back in {where}"
    if fate.copied and archive != 1:
        yield f"was copied, and its copy is in {where}"
    if fate.copying:
        if inbox != 1:
            yield f"was copied, and is lost: {where}"
        return
    if fate.moved and where != [ARCHIVE]:
        yield f"was moved, and is in {where}"
    if fate.delivered and not fate.removing and len(where) != 1:
        yield f"was answered, and is in {where}"
    if not fate.moving and archive:
        yield f"was never moved, and is in {where}"


def _validity(session: imaplib.IMAP4) -> int:
    (said,) = session.response("UIDVALIDITY")[1]
    assert said is not None
    return int(said)


def _yes(answer: tuple[str, list]) -> None:
    """NO is no promise: a disk without power gives an error to whoever is still asked."""
    if answer[0] != "OK":
        raise imaplib.IMAP4.error(answer)


class Traffic:
    """Everybody at once. `stop` waits for them, and raises what they found wrong."""

    def __init__(self, promises: Promises, seed: int) -> None:
        self._promises = promises
        self._site = promises.site
        self._stop = threading.Event()
        self._wrong: list[BaseException] = []
        random = Random(seed)
        doing = [self._receive, self._receive, self._submit, self._file, self._fetch]
        self._threads = [
            threading.Thread(target=self._run, args=(what, Random(random.random())))
            for what in doing
        ]
        for one in self._threads:
            one.start()

    def stop(self) -> None:
        self._stop.set()
        for one in self._threads:
            one.join(4 * DEADLINE)
        if self._wrong:
            raise self._wrong[0]

    def _run(self, what: Callable[[Random], None], random: Random) -> None:
        while not self._stop.is_set():
            try:
                what(random)
            except GONE:
                self._stop.wait(0.01)
            except BaseException as error:
                self._wrong.append(error)
                return

    def _sizes(self, random: Random) -> int:
        return LARGE if random.random() < 0.08 else SMALL

    def _receive(self, random: Random) -> None:
        """Mail from elsewhere, for both."""
        with self._site.smtp() as session:
            while not self._stop.is_set():
                token = self._promises.token(self._sizes(random))
                text = letter(token, size=self._promises.sizes[token])
                fates = self._promises.begin(token, ALICE, BOB)
                session.sendmail("carol@elsewhere.example", [ALICE, BOB], text)
                for fate in fates:
                    fate.delivered = True
                self._stop.wait(0.005)

    def _submit(self, random: Random) -> None:
        """Alice's mail to somebody elsewhere, whose site is not to be found: it stays in the queue."""
        with self._site.smtp(ALICE) as session:
            while not self._stop.is_set():
                token = self._promises.token(self._sizes(random))
                text = letter(token, size=self._promises.sizes[token], sender=ALICE)
                self._promises.queued[token] = False
                session.sendmail(ALICE, ["dave@far.example"], text)
                self._promises.queued[token] = True
                self._stop.wait(0.02)

    def _file(self, random: Random) -> None:
        """Alice appends, moves, copies and expunges."""
        promises = self._promises
        with imap(self._site, ALICE) as session:
            with contextlib.suppress(imaplib.IMAP4.error):
                session.create("Archive")
            while not self._stop.is_set():
                _yes(session.select("INBOX"))
                validity = _validity(session)
                try:
                    mail = [(uid, token) for uid, (_, token) in listed(session).items()]
                except AssertionError as error:  # NO
                    raise imaplib.IMAP4.error(*error.args) from error
                for uid, token in mail:
                    promises.seen(INBOX, validity, uid, token)
                mine = [
                    (uid, token) for uid, token in mail if not promises.fate(ALICE, token).copying
                ]
                for uid, token in random.sample(mine, min(len(mine), 8)):
                    if self._stop.is_set():
                        return
                    self._one(session, random, uid, promises.fate(ALICE, token))
                token = promises.token(SMALL)
                (fate,) = promises.begin(token, ALICE)
                _yes(session.append("INBOX", r"(\Seen)", None, letter(token, size=SMALL)))
                fate.delivered = True

    def _one(self, session: imaplib.IMAP4, random: Random, uid: int, fate: Fate) -> None:
        what = random.random()
        if what < 0.4:
            fate.moving = True
            _yes(session.uid("MOVE", str(uid), "Archive"))
            fate.moved = True
        elif what < 0.55:
            fate.moving = fate.copying = True
            _yes(session.uid("COPY", str(uid), "Archive"))
            fate.copied = True
        else:
            _yes(session.uid("STORE", str(uid), "+FLAGS.SILENT", r"(\Deleted)"))
            fate.removing = True
            _yes(session.uid("EXPUNGE", str(uid)))
            fate.removed = True

    def _fetch(self, random: Random) -> None:
        """Bob fetches his mail, and deletes half of what he saw."""
        promises = self._promises
        self._stop.wait(0.1)
        deleted = []
        with self._site.pop(BOB) as session:
            many = session.stat()[0]
            for number in range(1, min(many, 30) + 1):
                if random.random() < 0.5:
                    token = subject_of(session, number)
                    session.dele(number)
                    fate = promises.fate(BOB, token)
                    deleted.append(fate)
            for fate in deleted:
                fate.removing = True
        for fate in deleted:
            fate.removed = True
