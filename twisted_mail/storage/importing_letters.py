"""Messages from elsewhere, in batches through the journal, into an account's mailboxes; and the sources they come from.

Each batch is announced in an `ImportLog` before it is committed, so who was killed goes on without a message twice or
missing. When all is done, what the mailboxes hold now is read and compared with what went in.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NamedTuple, Protocol

from ..disk import Disk
from ..mailboxes import Appending, Mailboxes, OpenMailbox
from ..message.lines import LineNormalizer
from ..message.mbox import Mbox, Quoting
from ..status import MailError
from . import maildir
from .files import BLOCK
from .flags import KEYWORDS_FILE, bits_of, names_of, parse_keywords
from .importing_dovecot import not_plain
from .importing_log import Batch, ImportLog
from .names import INBOX, name_of
from .progress import Progress

__all__ = ["Imported", "Importer", "Letter", "MaildirSource", "MboxSource", "Source", "digest_of"]

BATCH_BYTES: Final = 1024 * 1024
"""What stands in one record of the journal; a larger message goes alone."""
BATCH: Final = 500
HEAD: Final = 65_536


class Letter(NamedTuple):
    """One message. `key` names it in its source for ever. `blocks`: to be taken before the next letter is."""

    key: str
    mailbox: str
    flags: Sequence[str]
    date: int | None
    blocks: Iterable[bytes]


class Source(Protocol):
    """Where messages come from."""

    name: str
    messages: int
    octets: int
    left_out: list[tuple[str, str]]

    def mark(self) -> dict[str, Any]:
        """What it was when the import began."""

    def check(self, mark: dict[str, Any]) -> None:
        """Raises ValueError when it is another one now."""

    def letters(self, done: frozenset[str]) -> Iterator[Letter]:
        """All but those with these keys, always in the same order."""


class Imported(NamedTuple):
    """What became of it. `before`: done by earlier calls. `missing`: not in its mailbox any more, or another now."""

    messages: int
    octets: int
    before: int
    missing: dict[str, int]
    mailboxes: list[str]


class MboxSource:
    """One mbox. Only what lies in it when the import begins."""

    def __init__(
        self,
        disk: Disk,
        path: str,
        mailbox: str,
        *,
        quoting: Quoting = "mboxrd",
        flags: Sequence[str] = (),
        foreign: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._disk = disk
        self._mailbox = mailbox
        self._quoting = quoting
        self._flags = tuple(flags)
        with foreign():
            self._fd = disk.open(path, os.O_RDONLY)
        self.name = path
        self.messages = 0
        self.octets = disk.fstat(self._fd).st_size
        self.left_out: list[tuple[str, str]] = []

    def mark(self) -> dict[str, Any]:
        head = self._disk.pread(self._fd, min(HEAD, self.octets), 0)
        return {
            "size": self.octets,
            "head": hashlib.sha256(head).hexdigest(),
            "mailbox": self._mailbox,
            "quoting": self._quoting,
        }

    def check(self, mark: dict[str, Any]) -> None:
        head = self._disk.pread(self._fd, min(HEAD, mark["size"]), 0)
        now = self.mark()
        if self.octets < mark["size"] or hashlib.sha256(head).hexdigest() != mark["head"]:
            raise ValueError(f"{self.name} is another file now than when its import began")
        for name in ("mailbox", "quoting"):
            if now[name] != mark[name]:
                raise ValueError(f"{self.name} was begun with {name} {mark[name]}")

    def letters(self, done: frozenset[str]) -> Iterator[Letter]:
        at = start = max(map(int, done), default=0)

        def read(size: int) -> bytes:
            nonlocal at
            block = self._disk.pread(self._fd, min(size, self.octets - at), at)
            at += len(block)
            return block

        for entry in Mbox(read, start, self._quoting):
            if str(entry.offset) in done:
                continue
            if entry.internal:
                self.left_out.append((f"octet {entry.offset}", "deleted, or not a message"))
                continue
            flags = tuple(dict.fromkeys((*entry.flags, *self._flags)))
            yield Letter(str(entry.offset), self._mailbox, flags, entry.date, entry.blocks)

    def close(self) -> None:
        self._disk.close(self._fd)


class MaildirSource:
    """A Maildir or Maildir++ with all its folders, below `under` when that is given; flags and dates are kept."""

    def __init__(
        self,
        disk: Disk,
        directory: str,
        *,
        under: str = "",
        flags: Sequence[str] = (),
        foreign: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._disk = disk
        self._flags = tuple(flags)
        self._foreign = foreign
        self.name = directory
        self.octets = 0
        self.left_out: list[tuple[str, str]] = []
        self._work: list[tuple[str, str, tuple[str, ...], list[tuple[str, str, str]]]] = []
        with foreign():
            self._root = os.path.realpath(directory)
            if not maildir.is_maildir(disk, directory):
                raise ValueError(f"{directory}: not a Maildir, it has no new and cur")
            for path in maildir.folders(disk, directory):
                own = "" if path == directory else os.path.basename(path)
                name = name_of(own)
                if name is None:
                    self.left_out.append((own, "no name of a mailbox"))
                    continue
                if under:
                    name = under if name == INBOX else f"{under}/{name}"
                keywords = maildir.read_small(disk, os.path.join(path, KEYWORDS_FILE))
                found = sorted(
                    (base, sub, file) for base, (sub, file) in maildir.listing(disk, path).items()
                )
                self._work.append((name, path, parse_keywords(keywords or b""), found))
        self.messages = sum(len(found) for *_, found in self._work)

    @property
    def mailboxes(self) -> list[str]:
        """Also those without messages."""
        return [name for name, *_ in self._work]

    def mark(self) -> dict[str, Any]:
        return {"mailboxes": self.mailboxes}

    def check(self, mark: dict[str, Any]) -> None:
        missing = set(mark["mailboxes"]) - set(self.mailboxes)
        if missing:
            raise ValueError(
                f"{self.name} was begun with the mailboxes {', '.join(sorted(missing))}, too"
            )

    def letters(self, done: frozenset[str]) -> Iterator[Letter]:
        for name, path, keywords, found in self._work:
            for base, sub, file in found:
                key = ascii(f"{name}/{base}")[1:-1]
                if key in done:
                    continue
                try:
                    with self._foreign():
                        fd = maildir.open_below(
                            self._disk, os.path.join(path, sub, file), self._root
                        )
                except FileNotFoundError:
                    self.left_out.append((f"{name}: {file}", "moved or deleted meanwhile"))
                    continue
                except OSError as error:
                    if error.errno not in (errno.ELOOP, errno.EINVAL, errno.EXDEV):
                        raise
                    self.left_out.append((f"{name}: {file}", "a link, or no file"))
                    continue
                try:
                    reason = not_plain(self._disk.pread(fd, 16, 0))
                    if reason is not None:
                        self.left_out.append((f"{name}: {file}", reason))
                        continue
                    flags = dict.fromkeys((*names_of(bits_of(file), keywords), *self._flags))
                    date = int(self._disk.fstat(fd).st_mtime)
                    yield Letter(key, name, tuple(flags), date, self._blocks(fd))
                finally:
                    self._disk.close(fd)

    def _blocks(self, fd: int) -> Iterator[bytes]:
        at = 0
        while block := self._disk.pread(fd, BLOCK, at):
            yield block
            at += len(block)

    def close(self) -> None: ...


class Importer:
    """`source` into `mailboxes`. Reading the source blocks the reactor: this is for a command of its own."""

    def __init__(
        self, source: Source, mailboxes: Mailboxes, log: ImportLog, progress: Progress
    ) -> None:
        self._source = source
        self._mailboxes = mailboxes
        self._log = log
        self._progress = progress
        self._there: set[str] = set()
        self._batches: list[Batch] = []
        self._octets = self._messages = 0

    async def run(self) -> Imported:
        """Import what is not there yet. Raises MailError, OSError, ValueError, InterruptedImportError; the next call
        goes on then."""
        mark, self._batches = self._log.open(self._source.mark())
        try:
            if mark is not None:
                self._source.check(mark)
            await self._settle()
            done = frozenset(key for batch in self._batches for key, _ in batch.items)
            self._there = {box.name for box in await self._mailboxes.list() if box.selectable}
            self._progress.begin("importing", self._source.messages, self._source.octets)
            if done:
                self._progress.step(len(done), 0)
            await self._import(done)
            self._progress.end()
            missing = await self._verify()
        except (MailError, ValueError):
            if self._batches:
                self._log.close()
            else:
                # Nothing was imported, and certainly nothing is under way.
                self._log.finished()
            raise
        except BaseException:
            self._log.close()
            raise
        if missing:
            self._log.close()
        else:
            self._log.finished()
        names = list(dict.fromkeys(batch.mailbox for batch in self._batches))
        return Imported(self._messages, self._octets, len(done), missing, names)

    async def _settle(self) -> None:
        """The last batch may have been committed, or not."""
        if not self._batches:
            return
        last = self._batches[-1]
        wanted = {digest for _, digest in last.items}
        found = await self._digests(last.mailbox, last.validity, last.uidnext)
        if not any(digest in wanted for digest in found):
            self._log.drop_last(self._batches.pop())

    async def _import(self, done: frozenset[str]) -> None:
        messages: list[Appending] = []
        items: list[tuple[str, str]] = []
        mailbox, size = "", 0
        try:
            for letter in self._source.letters(done):
                if messages and (
                    letter.mailbox != mailbox or len(messages) >= BATCH or size >= BATCH_BYTES
                ):
                    batch, messages = messages, []
                    await self._commit(mailbox, batch, items, size)
                    items, size = [], 0
                mailbox = letter.mailbox
                appending, digest = await self._written(letter)
                octets = appending.content.size
                if not octets:
                    appending.content.discard()
                    continue
                if messages and size + octets > BATCH_BYTES:
                    batch, messages = messages, []
                    await self._commit(mailbox, batch, items, size)
                    items, size = [], 0
                messages.append(appending)
                items.append((letter.key, digest))
                size += octets
            if messages:
                batch, messages = messages, []
                await self._commit(mailbox, batch, items, size)
        finally:
            for message in messages:
                message.content.discard()

    async def _written(self, letter: Letter) -> tuple[Appending, str]:
        writing = self._mailboxes.write()
        try:
            digest = hashlib.sha256()
            lines = LineNormalizer()
            for block in letter.blocks:
                plain = lines.feed(block)
                digest.update(plain)
                waiting = writing.write(plain)
                if waiting is not None:
                    await waiting
            if writing.size:
                plain = lines.finish()
                digest.update(plain)
                waiting = writing.write(plain)
                if waiting is not None:
                    await waiting
        except BaseException:
            writing.discard()
            raise
        return Appending(writing, letter.flags, letter.date), digest.hexdigest()

    async def _commit(
        self, mailbox: str, messages: list[Appending], items: list[tuple[str, str]], size: int
    ) -> None:
        try:
            if mailbox not in self._there:
                await self._mailboxes.create(mailbox)
                await self._mailboxes.subscribe(mailbox, True)
                self._there.add(mailbox)
            status = await self._mailboxes.status(mailbox)
            batch = Batch(mailbox, status.validity, status.uidnext, items)
            self._log.add(batch)
        except BaseException:
            for message in messages:
                message.content.discard()
            raise
        try:
            await self._mailboxes.append(mailbox, messages)
        except MailError as error:
            raise MailError(
                error.code, error.enhanced, f"{mailbox}: {error.text}", error.cause, imap=error.imap
            ) from error
        self._batches.append(batch)
        self._messages += len(messages)
        self._octets += size
        self._progress.step(len(messages), size)

    # -- afterwards

    async def _verify(self) -> dict[str, int]:
        """What went in and is not there: by mailbox."""
        wanted: dict[tuple[str, int], Counter[str]] = {}
        since: dict[tuple[str, int], int] = {}
        for batch in self._batches:
            place = (batch.mailbox, batch.validity)
            wanted.setdefault(place, Counter()).update(digest for _, digest in batch.items)
            since[place] = min(since.get(place, batch.uidnext), batch.uidnext)
        missing: dict[str, int] = {}
        self._progress.begin("comparing", sum(counts.total() for counts in wanted.values()), 0)
        for (mailbox, validity), counts in wanted.items():
            found = await self._digests(mailbox, validity, since[mailbox, validity], told=True)
            counts.subtract(Counter(found))
            left = sum(count for count in counts.values() if count > 0)
            if left:
                missing[mailbox] = missing.get(mailbox, 0) + left
        self._progress.end()
        return missing

    async def _digests(
        self, mailbox: str, validity: int, uidnext: int, *, told: bool = False
    ) -> list[str]:
        """Of the messages of a mailbox from a UID on; none when it is not the mailbox of then."""
        try:
            opened = await self._mailboxes.open(mailbox, read_only=True)
        except MailError as error:
            if error.imap != "NONEXISTENT":
                raise
            return []
        try:
            snapshot = opened.snapshot
            if snapshot.validity != validity:
                return []
            found: list[str] = []
            async for digest in digests(opened, [uid for uid in snapshot.uids if uid >= uidnext]):
                found.append(digest)
                if told:
                    self._progress.step(1, 0)
            return found
        finally:
            await opened.close()


async def digests(opened: OpenMailbox, uids: Sequence[int]) -> Any:
    """The digest of each of these messages that is there, in their order."""
    async for messages in opened.contents(uids):
        for message in messages:
            if message.content is not None:
                yield await digest_of(message.content)


async def digest_of(content: Any) -> str:
    """SHA-256 of a message as stored, in hexadecimal. What is open is closed."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    try:
        at = 0
        while block := await content.read(at, BLOCK):
            digest.update(block)
            at += len(block)
    finally:
        content.close()
    return digest.hexdigest()
