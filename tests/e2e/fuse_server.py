"""A file system of `volatile.Volatile`, mounted by FUSE: the kernel's own protocol (linux/fuse.h), no library.

A process of its own, ``python fuse_server.py DIRECTORY SEED CHANCE``: whoever looks into a file system that he serves
himself waits for ever. On its standard input it is told, a line each, and answers each with one line:

    mount DEVICE    answers "mounted". It is a ``fuseblk`` on that block device: since Linux 6.18 that is asked to sync
                    itself (syncfs), which FUSE otherwise never is. The device is not used, but each mount has its own
    syncs           how many times somebody synced
    cut SEED KEPT   the power goes: from this moment on nothing is answered but EIO; what was unsynced is there
                    afterwards with probability KEPT. Answers what was lost. Then "mount" again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct
import sys
import time
from collections.abc import Callable

from volatile import Node, Refused, Volatile

_libc = ctypes.CDLL(None, use_errno=True)

IN = struct.Struct("<IIQQIIIHH")
OUT = struct.Struct("<IiQ")
ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
ENTRY = struct.Struct("<QQQQII")
LARGEST = 128 * 1024
BLOCKS = 1 << 20  # of 4096 octets: so much is free, always
FOR_EVER = (
    1 << 20
)  # seconds for which the kernel may believe what it was told: nobody else changes anything

LOOKUP, FORGET, GETATTR, SETATTR, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK = (
    *(1, 2, 3, 4, 8, 9, 10, 11, 12, 13),
)
OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT, OPENDIR, READDIR = (
    *(14, 15, 16, 17, 18, 20, 25, 26, 27, 28),
)
RELEASEDIR, FSYNCDIR, ACCESS, CREATE, INTERRUPT, DESTROY, BATCH_FORGET = 29, 30, 34, 35, 36, 38, 42
FALLOCATE, RENAME2, SYNCFS, TMPFILE = 43, 45, 50, 51
# INIT: reads side by side, large writes, as many pages as LARGEST needs
WANTED = 1 << 0 | 1 << 5 | 1 << 22
KEEP_CACHE = 2
MODE, OWNER, GROUP, SIZE, MODIFIED, MODIFIED_NOW = 1, 2, 4, 8, 32, 256
KEEP_SIZE = 1
NO_REPLACE = 1


class Server:
    """`disk` at `directory`."""

    def __init__(self, disk: Volatile, directory: str) -> None:
        self.disk = disk
        self.fd = -1
        self._directory = directory
        self._dead = False
        self._open: dict[int, int] = {}
        self._listed = 0
        self._lists: dict[int, list[tuple[bytes, int]]] = {}
        self._answers: dict[int, Callable[[int, bytes], bytes]] = {
            LOOKUP: lambda node, body: self._entry(self.disk.lookup(node, _name(body))),
            GETATTR: lambda node, _: self._attributes(self.disk.node(node)),
            SETATTR: self._set_attributes,
            MKNOD: self._mknod,
            MKDIR: self._mkdir,
            CREATE: self._create,
            TMPFILE: self._tmpfile,
            UNLINK: lambda node, body: _done(self.disk.unlink(node, _name(body))),
            RMDIR: lambda node, body: _done(self.disk.rmdir(node, _name(body))),
            RENAME: lambda node, body: self._rename(node, body, 8),
            RENAME2: lambda node, body: self._rename(node, body, 16),
            LINK: self._link,
            OPEN: self._opened,
            OPENDIR: self._open_directory,
            READ: self._read,
            WRITE: self._write,
            STATFS: lambda *_: struct.pack(
                "<5Q4I24x", 2 * BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, 4096, 255, 4096, 0
            ),
            RELEASE: self._release,
            RELEASEDIR: self._close_directory,
            FSYNC: lambda node, _: _done(self.disk.sync(node)),
            FSYNCDIR: lambda node, _: _done(self.disk.sync_directory(node)),
            SYNCFS: lambda *_: _done(self.disk.sync_all()),
            FLUSH: lambda *_: b"",
            ACCESS: lambda *_: b"",
            READDIR: self._names,
            FALLOCATE: self._fallocate,
            DESTROY: lambda *_: b"",
        }

    def mount(self, device: str) -> None:
        self.unmount()
        self._dead = False
        self._open.clear()
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        words = f"fd={self.fd},rootmode=40755,user_id=0,group_id=0,default_permissions,allow_other,blksize=4096"
        nosuid_nodev = 2 | 4
        source, target = os.fsencode(device), os.fsencode(self._directory)
        if _libc.mount(source, target, b"fuseblk", nosuid_nodev, words.encode()):
            number = ctypes.get_errno()
            os.close(self.fd)
            self.fd = -1
            raise OSError(number, f"it cannot be mounted: {os.strerror(number)}")

    def unmount(self) -> None:
        if self.fd >= 0:
            detach = 2
            os.close(self.fd)  # what waits for an answer has none any more
            self.fd = -1
            _libc.umount2(os.fsencode(self._directory), detach)

    def cut(self, seed: int, kept: float) -> str:
        self._dead = True
        self.disk, lost = self.disk.cut(seed, kept)
        return f"{lost.names} {lost.kept_names} {lost.files} {lost.pages} {lost.kept_pages}"

    def serve(self) -> None:
        """Answer one request."""
        try:
            request = os.read(self.fd, LARGEST + 65536)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                return  # it was taken back meanwhile
            if error.errno == errno.ENODEV:
                os.close(self.fd)
                self.fd = -1
                return
            raise
        _, what, unique, node, uid, gid, *_ = IN.unpack_from(request)
        body = request[IN.size :]
        self._owner = (uid, gid)
        if what in (FORGET, BATCH_FORGET, INTERRUPT):
            return
        number, answer = 0, b""
        try:
            if what == INIT:
                answer = self._init(body)
            elif self._dead:
                raise Refused(errno.EIO)
            elif what in self._answers:
                answer = self._answers[what](node, body)
            else:
                raise Refused(errno.ENOSYS)
        except Refused as refused:
            number = refused.number
        try:
            os.write(self.fd, OUT.pack(OUT.size + len(answer), -number, unique) + answer)
        except OSError as error:
            if error.errno != errno.ENOENT:  # who asked is dead
                raise

    # Answers

    def _init(self, body: bytes) -> bytes:
        major, minor, ahead, flags = struct.unpack_from("<4I", body)
        return struct.pack(
            *("<4IHHIIHHIIH22x", major, min(minor, 38), ahead, flags & WANTED, 64, 48, LARGEST),
            *(1, LARGEST // 4096, 0, 0, 0, 0),
        )

    def _packed(self, node: Node) -> bytes:
        kept = node.now
        seconds, nanoseconds = divmod(kept.modified, 1_000_000_000)
        return ATTRIBUTES.pack(
            *(node.number, kept.size, (kept.size + 511) // 512),
            *(seconds, seconds, seconds, nanoseconds, nanoseconds, nanoseconds),
            *(kept.mode, max(node.links, 0), *kept.owner, 0, 4096, 0),
        )

    def _entry(self, node: Node) -> bytes:
        return ENTRY.pack(node.number, 0, FOR_EVER, FOR_EVER, 0, 0) + self._packed(node)

    def _attributes(self, node: Node) -> bytes:
        return struct.pack("<QII", FOR_EVER, 0, 0) + self._packed(node)

    def _set_attributes(self, number: int, body: bytes) -> bytes:
        valid, _, size, _, _, modified = struct.unpack_from("<I4xQQQQQ", body)
        nanoseconds, _, mode, _, uid, gid = struct.unpack_from("<6I", body, 60)
        node = self.disk.node(number)
        if valid & SIZE:
            self.disk.truncate(number, size, time.time_ns())
        when = None
        if valid & MODIFIED:
            when = (
                time.time_ns() if valid & MODIFIED_NOW else modified * 1_000_000_000 + nanoseconds
            )
        owner = (
            uid if valid & OWNER else node.now.owner[0],
            gid if valid & GROUP else node.now.owner[1],
        )
        self.disk.change_attributes(number, mode if valid & MODE else None, when, owner)
        return self._attributes(node)

    def _make(self, directory: int, name: bytes | None, mode: int) -> Node:
        return self.disk.make(directory, name, mode, self._owner, time.time_ns())

    def _mknod(self, directory: int, body: bytes) -> bytes:
        (mode,) = struct.unpack_from("<I", body)
        return self._entry(self._make(directory, _name(body[16:]), mode))

    def _mkdir(self, directory: int, body: bytes) -> bytes:
        (mode,) = struct.unpack_from("<I", body)
        return self._entry(self._make(directory, _name(body[8:]), stat.S_IFDIR | mode))

    def _create(self, directory: int, body: bytes) -> bytes:
        return self._create_as(directory, body, _name(body[16:]))

    def _tmpfile(self, directory: int, body: bytes) -> bytes:
        return self._create_as(directory, body, None)

    def _create_as(self, directory: int, body: bytes, name: bytes | None) -> bytes:
        _, mode = struct.unpack_from("<II", body)
        made = self._make(directory, name, stat.S_IFREG | stat.S_IMODE(mode))
        return self._entry(made) + self._opened(made.number, b"")

    def _opened(self, number: int, _: bytes) -> bytes:
        self._open[number] = self._open.get(number, 0) + 1
        return struct.pack("<QII", 0, KEEP_CACHE, 0)

    def _release(self, number: int, _: bytes) -> bytes:
        self._open[number] = self._open.get(number, 1) - 1
        if self._open[number] <= 0:
            del self._open[number]
            self.disk.forget(number)
        return b""

    def _rename(self, directory: int, body: bytes, head: int) -> bytes:
        target, flags = (
            struct.unpack_from("<QI", body) if head == 16 else (*struct.unpack_from("<Q", body), 0)
        )
        if flags & ~NO_REPLACE:
            raise Refused(errno.EINVAL)
        old, new = body[head:].split(b"\0")[:2]
        self.disk.rename((directory, old), (target, new), not flags & NO_REPLACE)
        return b""

    def _link(self, directory: int, body: bytes) -> bytes:
        (number,) = struct.unpack_from("<Q", body)
        return self._entry(self.disk.link(number, directory, _name(body[8:])))

    def _read(self, number: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        return self.disk.read(number, offset, size)

    def _write(self, number: int, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        self.disk.write(number, offset, body[40 : 40 + size], time.time_ns())
        return struct.pack("<II", size, 0)

    def _open_directory(self, number: int, _: bytes) -> bytes:
        # as it is now: a name that goes meanwhile must not make another one be skipped
        self._listed += 1
        self._lists[self._listed] = list(self.disk.node(number).names.items())
        return struct.pack("<QII", self._listed, 0, 0)

    def _close_directory(self, _: int, body: bytes) -> bytes:
        self._lists.pop(struct.unpack_from("<Q", body)[0], None)
        return b""

    def _names(self, _: int, body: bytes) -> bytes:
        handle, offset, size = struct.unpack_from("<QQI", body)
        answer = bytearray()
        for place, (name, child) in enumerate(self._lists[handle][offset:], offset + 1):
            node = self.disk.nodes.get(child)
            kind = 0 if node is None else stat.S_IFMT(node.now.mode) >> 12
            one = struct.pack("<QQII", child, place, len(name), kind) + name
            one += bytes(-len(one) % 8)
            if len(answer) + len(one) > size:
                break
            answer += one
        return bytes(answer)

    def _fallocate(self, number: int, body: bytes) -> bytes:
        _, _, _, mode = struct.unpack_from("<QQQI", body)
        if mode != KEEP_SIZE:
            raise Refused(errno.EOPNOTSUPP)
        return b""


def _name(body: bytes) -> bytes:
    return body.partition(b"\0")[0]


def _done(_: object) -> bytes:
    return b""


def main() -> None:
    directory, seed, chance = sys.argv[1:]
    server = Server(Volatile(int(seed), float(chance)), directory)
    commands = os.fdopen(0, "rb", buffering=0)
    while True:
        waiting = select.select([commands, *([server.fd] if server.fd >= 0 else [])], [], [])[0]
        if commands in waiting:
            words = commands.readline().decode().split()
            if not words:
                break
            answer = "?"
            if words[0] == "mount":
                try:
                    server.mount(words[1])
                    answer = "mounted"
                except OSError as error:
                    answer = str(error)
            elif words[0] == "cut":
                answer = server.cut(int(words[1]), float(words[2]))
            elif words[0] == "syncs":
                answer = str(server.disk.syncs)
            print(answer, flush=True)
        elif server.fd in waiting:
            server.serve()
    server.unmount()


if __name__ == "__main__":
    main()
