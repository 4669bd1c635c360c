"""An account's mail for other programs: mbox files, or a Maildir++ as Dovecot has it, with UIDs, keywords and UIDLs.

A file is whole when it has its name; what was interrupted goes on where it was. At the end everything is read back and
compared with what the mailboxes held. Nothing of the account is changed.

    mbox      TARGET/INBOX.mbox, TARGET/Work/Plans.mbox … (mboxrd); TARGET/export.json while it is under way
    maildir   TARGET is a Maildir++: clients of the server that gets it download nothing again
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..disk import Disk, make_directories
from ..mailboxes import Mailboxes, Message, OpenMailbox
from ..message.headers import fields
from ..message.lines import LineNormalizer
from ..message.mbox import (
    Mbox,
    Quoter,
    envelope_line,
    flag_fields,
    split_header,
    without_flags,
)
from . import maildir
from .dovecot import UIDLIST, format_subscriptions
from .files import BLOCK, file_digest
from .flags import KEYWORDS_FILE, format_keywords, letters_of
from .mailbox import uidl_of
from .maildir import FileName
from .names import INBOX, directory_of
from .progress import Progress

__all__ = ["Exported", "RefusedExportError", "export_maildir", "export_mbox"]

LOG: Final = "export.json"
SYNC_EVERY: Final = 4 * 1024 * 1024
HEAD: Final = 2 * 1024 * 1024


class RefusedExportError(ValueError):
    """What was asked for cannot be made in this place: the same call again would be refused again."""


@dataclass(slots=True)
class Exported:
    """What became of a mailbox. `before`: of them, written by an earlier call. `wrong`: UIDs that did not compare."""

    name: str
    path: str
    messages: int = 0
    octets: int = 0
    before: int = 0
    gone: int = 0
    wrong: list[int] = field(default_factory=list)


async def _chosen(mailboxes: Mailboxes, names: Sequence[str]) -> list[str]:
    """Raises RefusedExportError for a name that is no mailbox."""
    there = [box.name for box in await mailboxes.list() if box.selectable]
    for name in names:
        if name not in there:
            raise RefusedExportError(f"there is no mailbox {name}; there are: {', '.join(there)}")
    return [name for name in there if not names or name in names]


async def _blocks(message: Message) -> Any:
    content = message.content
    if isinstance(content, bytes):
        yield content
        return
    try:
        at = 0
        while block := await content.read(at, HEAD if not at else BLOCK):
            yield block
            at += len(block)
    finally:
        content.close()


# -- mbox


class _MboxLog:
    """What of which mailbox is in its file: a line each few megabytes, written when the file is synced."""

    def __init__(self, disk: Disk, target: str) -> None:
        self._disk = disk
        self.path = os.path.join(target, LOG)
        self.done: dict[str, tuple[int, int, dict[int, str]]] = {}
        text = maildir.read_small(disk, self.path, 1 << 30) or b""
        size = 0
        for line in text.splitlines(keepends=True):
            try:
                one = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                one = None
            if one is None:
                break
            size += len(line)
            known = self.done.get(one["mailbox"], (0, 0, {}))[2]
            known.update(dict(one["items"]))
            self.done[one["mailbox"]] = (one["validity"], one["end"], known)
        self._fd = disk.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        if size != len(text):
            disk.truncate(self.path, size)

    def add(self, mailbox: str, validity: int, end: int, items: Sequence[tuple[int, str]]) -> None:
        line = {"mailbox": mailbox, "validity": validity, "end": end, "items": items}
        self._disk.write(self._fd, json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._disk.fdatasync(self._fd)

    def close(self) -> None:
        self._disk.close(self._fd)


async def export_mbox(
    mailboxes: Mailboxes, disk: Disk, target: str, names: Sequence[str], progress: Progress
) -> list[Exported]:
    """An mbox a mailbox, below the directory `target`. `names`: which; all when there are none.

    Raises RefusedExportError, OSError, MailError, InterruptedImportError.
    """
    chosen = await _chosen(mailboxes, names)
    make_directories(disk, target)
    log = _MboxLog(disk, target)
    try:
        total = octets = 0
        taken = []
        for name in chosen:
            status = await mailboxes.status(name)
            total, octets = total + status.messages, octets + status.size
            path = _path(target, name)
            if log.done.get(name, (0,))[0] != status.validity and disk.exists(path):
                taken.append(path)
        if taken:
            _refuse(disk, log, taken)
        progress.begin("exporting", total, octets)
        found = []
        for name in chosen:
            path = _path(target, name)
            opened = await mailboxes.open(name, read_only=True)
            try:
                found.append(await _export_one(disk, opened, name, path, log, progress))
            finally:
                await opened.close()
        progress.end()
        progress.begin("comparing", total, octets)
        for one in found:
            _compare_mbox(
                disk, one, log.done[one.name][2] if one.name in log.done else {}, progress
            )
        progress.end()
    finally:
        log.close()
    if not any(one.wrong for one in found):
        disk.unlink(log.path)
        disk.sync_directory(target)
    return found


def _path(target: str, name: str) -> str:
    return os.path.join(target, *(_file(part) for part in name.split("/"))) + ".mbox"


def _refuse(disk: Disk, log: _MboxLog, taken: list[str]) -> None:
    """Before anything is written: whoever exports a second time keeps the first one whole."""
    if not log.done:
        disk.unlink(log.path)
    more = f" and {len(taken) - 3} more" if len(taken) > 3 else ""
    raise RefusedExportError(
        f"there already, and an mbox is never overwritten: {', '.join(taken[:3])}{more}; "
        "an export that is finished, or another file. Give another directory, or move these away"
    )


def _file(part: str) -> str:
    """A level of a mailbox's name as a file's."""
    safe = part.replace("\0", "_")
    return f"_{safe}" if safe.startswith(".") else safe


async def _export_one(
    disk: Disk, opened: OpenMailbox, name: str, path: str, log: _MboxLog, progress: Progress
) -> Exported:
    snapshot = opened.snapshot
    report = Exported(name, path)
    validity, end, written = log.done.get(name, (0, 0, {}))
    if validity != snapshot.validity:
        if disk.exists(path):
            raise RefusedExportError(f"{path} is there already")
        end, written = 0, {}
        # From here on the file is ours to go on with.
        log.add(name, snapshot.validity, 0, ())
    make_directories(disk, os.path.dirname(path))
    fd = disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        if disk.fstat(fd).st_size < end:
            raise RefusedExportError(
                f"{path} has become shorter; delete it and {log.path}, and begin anew"
            )
        disk.truncate(path, end)
        log.done[name] = (snapshot.validity, end, written)
        report.before = report.messages = len(written)
        if written:
            progress.step(len(written), 0)
        top = max(written, default=0)
        uids = [uid for uid in snapshot.uids if uid > top]
        pending: list[tuple[int, str]] = []
        since = end
        async for messages in opened.contents(uids):
            for message in messages:
                if message.content is None:
                    report.gone += 1
                    continue
                at = snapshot.index(message.uid)
                flags = snapshot.names(snapshot.flags[at])
                digest, size = await _write_entry(disk, fd, message, flags, snapshot.dates[at])
                pending.append((message.uid, digest))
                written[message.uid] = digest
                end += size
                report.messages += 1
                report.octets += size
                progress.step(1, size)
                if end - since >= SYNC_EVERY:
                    disk.fdatasync(fd)
                    log.add(name, snapshot.validity, end, pending)
                    pending, since = [], end
        disk.fsync(fd)
        log.add(name, snapshot.validity, end, pending)
        disk.sync_directory(os.path.dirname(path))
        return report
    finally:
        disk.close(fd)


async def _write_entry(
    disk: Disk, fd: int, message: Message, flags: Sequence[str], date: int
) -> tuple[str, int]:
    """One message into the file: the digest of what a reader will find in it, and the octets written."""
    lines, quoter, digest = LineNormalizer(), Quoter(), hashlib.sha256()
    size = 0
    first, added = True, False

    def put(data: bytes) -> None:
        nonlocal size
        disk.write(fd, data)
        size += len(data)

    async for block in _blocks(message):
        plain = lines.feed(block)
        if first:
            first = False
            header, rest = split_header(plain)
            kept = without_flags(header)
            digest.update(kept)
            more = flag_fields(flags) if header or rest.startswith(b"\n") else b""
            # A header that is all of a message, and has no end of its last line
            added = bool(kept) and not kept.endswith(b"\n")
            put(envelope_line(_sender(header), date))
            put(quoter.feed(kept + (b"\n" if added else b"") + more))
            plain = rest
        digest.update(plain)
        put(quoter.feed(plain))
    plain = lines.finish()
    digest.update(plain)
    put(quoter.feed(b"" if added else plain) + quoter.finish() + b"\n")
    return digest.hexdigest(), size


def _sender(header: bytes) -> bytes:
    for name, start, end in fields(header):
        if name == b"return-path":
            return header[start:end].partition(b":")[2].strip().strip(b"<>")
    return b""


def _compare_mbox(disk: Disk, report: Exported, wanted: dict[int, str], progress: Progress) -> None:
    fd = disk.open(report.path, os.O_RDONLY)
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        block = disk.pread(fd, size, at)
        at += len(block)
        return block

    try:
        uids = iter(sorted(wanted))
        for entry in Mbox(read):
            digest = hashlib.sha256()
            for block in entry.blocks:
                digest.update(block)
            uid = next(uids, 0)
            if wanted.get(uid) != digest.hexdigest():
                report.wrong.append(uid)
            progress.step(1, 0)
        report.wrong += uids
    finally:
        disk.close(fd)


# -- Maildir++


async def export_maildir(
    mailboxes: Mailboxes,
    account: Any,
    disk: Disk,
    target: str,
    names: Sequence[str],
    progress: Progress,
) -> list[Exported]:
    """A Maildir++ in the directory `target`, as Dovecot would have it. `account`: an `AccountStore`; its methods
    block, and so does this. Raises as `export_mbox`.
    """
    chosen = await _chosen(mailboxes, names)
    foreign = [name for name in _others(disk, target) if name]
    if foreign:
        raise RefusedExportError(
            f"{target} holds something else: {', '.join(foreign[:5])}; give another directory"
        )
    total = octets = 0
    for name in chosen:
        status = await mailboxes.status(name)
        total, octets = total + status.messages, octets + status.size
    progress.begin("exporting", total, octets)
    found: list[Exported] = []
    written: list[list[tuple[int, str, str]]] = []
    for name in dict.fromkeys([INBOX, *chosen]):
        path = os.path.join(target, directory_of(name)).rstrip("/")
        for part in ("", "tmp", "new", "cur"):
            make_directories(disk, os.path.join(path, part) if part else path)
        if name not in chosen:
            continue
        opened = await mailboxes.open(name, read_only=True)
        try:
            report, files = await _export_folder(disk, opened, account, name, path, progress)
        finally:
            await opened.close()
        found.append(report)
        written.append(files)
    subscribed = [name for name in account.folders.subscriptions() if not names or name in chosen]
    maildir.write_small(
        disk, os.path.join(target, "subscriptions"), format_subscriptions(subscribed)
    )
    fd = disk.open(target, os.O_RDONLY)
    try:
        disk.syncfs(fd)
    finally:
        disk.close(fd)
    progress.end()
    progress.begin("comparing", total, 0)
    for report, files in zip(found, written, strict=True):
        for uid, path, digest in files:
            if file_digest(disk, path).hex() != digest:
                report.wrong.append(uid)
            progress.step(1, 0)
    progress.end()
    return found


def _others(disk: Disk, target: str) -> list[str]:
    """What lies in `target` that no export has left there."""
    if not disk.exists(target):
        return []
    ours = {"new", "cur", "tmp", "subscriptions", UIDLIST, KEYWORDS_FILE}
    return sorted(
        name
        for name in disk.names(target)
        if name not in ours and not name.startswith(".") and not name.endswith(".new")
    )


async def _export_folder(
    disk: Disk, opened: OpenMailbox, account: Any, name: str, path: str, progress: Progress
) -> tuple[Exported, list[tuple[int, str, str]]]:
    snapshot = opened.snapshot
    report = Exported(name, path)
    uidlist = maildir.read_small(disk, os.path.join(path, UIDLIST))
    if uidlist is not None and not uidlist.startswith(b"3 V%d " % snapshot.validity):
        raise RefusedExportError(f"{path} is another mailbox's already; give another directory")
    there = maildir.listing(disk, path)
    guid = hashlib.sha256(opened.mailbox_id.encode()).hexdigest()[:32]
    head = f"3 V{snapshot.validity} N{snapshot.uidnext} G{guid}"
    lines = [head]
    # So that who goes on finds the same mailbox.
    maildir.write_small(disk, os.path.join(path, UIDLIST), f"{head}\n".encode())
    files: list[tuple[int, str, str]] = []
    for uids in _pieces(list(snapshot.uids)):
        _, rows = account.found(opened.mailbox_id, uids)
        known = {row.uid: row for row in rows}
        async for messages in opened.contents(uids):
            for message in messages:
                row = known.get(message.uid)
                if message.content is None or row is None:
                    report.gone += 1
                    continue
                bits = snapshot.flags[snapshot.index(message.uid)]
                plain = _plain_name(row)
                final = os.path.join(path, "cur", f"{plain}:2,{letters_of(bits)}")
                old = there.get(row.base)
                if old is not None and os.path.join(path, *old) != final:
                    disk.rename(os.path.join(path, *old), final)
                scratch = os.path.join(path, "tmp", row.base) if old is None else None
                digest, size = await _write_file(disk, message, scratch)
                if scratch is not None:
                    disk.utime(scratch, snapshot.dates[snapshot.index(message.uid)])
                    disk.rename(scratch, final)
                else:
                    report.before += 1
                files.append((message.uid, final, digest))
                lines.append(f"{message.uid} {_uidl(name, row, snapshot.validity)}:{plain}")
                report.messages += 1
                report.octets += size
                progress.step(1, size)
    keywords = format_keywords(snapshot.keywords)
    if keywords:
        maildir.write_small(disk, os.path.join(path, KEYWORDS_FILE), keywords)
    maildir.write_small(disk, os.path.join(path, UIDLIST), ("\n".join(lines) + "\n").encode())
    if name != INBOX:
        maildir.write_small(disk, os.path.join(path, "maildirfolder"), b"")
    stale = set(there) - {maildir.base_of(os.path.basename(file)) for _, file, _ in files}
    for base in stale:
        # Written by an earlier call, and deleted since.
        disk.unlink(os.path.join(path, *there[base]))
    return report, files


def _pieces(uids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(uids), 1000):
        yield uids[start : start + 1000]


def _plain_name(row: Any) -> str:
    """As Dovecot names its files: without what only we understand."""
    return str(FileName(row.base, row.size, row.wire)).partition(",T=")[0]


def _uidl(name: str, row: Any, validity: int) -> str:
    """What POP3 has called it, unless Dovecot would call it so by itself."""
    uidl = row.uidl or uidl_of(row.base)
    usual = f"{row.uid:08x}{validity:08x}"
    return f"P{uidl} " if name == INBOX and uidl != usual else ""


async def _write_file(disk: Disk, message: Message, path: str | None) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0
    fd = -1 if path is None else disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        async for block in _blocks(message):
            digest.update(block)
            size += len(block)
            if fd >= 0:
                disk.write(fd, block)
    finally:
        if fd >= 0:
            disk.close(fd)
    return digest.hexdigest(), size
