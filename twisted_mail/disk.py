"""The disk as one argument: every file operation of storage goes through a `Disk`.

`OsDisk` is the real one and adds nothing but names. The faulty and the forgetful ones of
`twisted_mail.testing.disk` wrap it: they fail the Nth operation, or lose what was not synced.
Operations block; call them from a thread (`World.threads`), never from the reactor where they may wait.
SQLite opens its files itself: databases are caches here, or hold what `PRAGMA synchronous=FULL` syncs.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

__all__ = ["Disk", "OsDisk"]


class Disk(Protocol):
    """What storage needs of a disk. Every method raises `OSError` as the system call does."""

    def open(self, path: str, flags: int, mode: int = 0o600) -> int: ...
    def open_nameless(self, directory: str) -> int:
        """A writable file without a name (O_TMPFILE) on `directory`'s device."""

    def close(self, fd: int) -> None: ...
    def write(self, fd: int, data: bytes | memoryview) -> None:
        """Write all of `data`."""

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        """Write all of `data` there; the file's position stays."""

    def direct(self, fd: int, on: bool) -> bool:
        """Have what is written go past the page cache (O_DIRECT), or not; whether it does from now on.

        Then offsets, sizes and the memory that is written are to be aligned, to 4096 octets for every device.
        """

    def writev(self, fd: int, buffers: Sequence[bytes]) -> int:
        """One `writev`; the number of bytes written may be short."""

    def pread(self, fd: int, size: int, offset: int) -> bytes: ...
    def read_cached(self, fd: int, size: int, offset: int) -> bytes | None:
        """What `pread` gives if it need not wait for the device, else None. For the reactor thread."""

    def clock_ns(self) -> int:
        """The clock that stamps modification times, nanoseconds; it ticks coarsely (some ms)."""

    def writable(self, path: str) -> bool:
        """Whether names may be made in the directory `path` by us."""

    def stat(self, path: str) -> os.stat_result: ...
    def fstat(self, fd: int) -> os.stat_result: ...
    def fchmod(self, fd: int, mode: int) -> None: ...
    def utime(self, file: int | str, seconds: int) -> None:
        """Set when a file (a descriptor, or a path) was modified: seconds since 1970."""

    def statvfs(self, path: str) -> os.statvfs_result: ...
    def fdatasync(self, fd: int) -> None: ...
    def fsync(self, fd: int) -> None: ...
    def sync_directory(self, path: str) -> None: ...
    def syncfs(self, fd: int) -> None:
        """Everything of the file system that holds `fd` is on the disk afterwards.

        Raises OSError also for what could not be written at any time since `fd` was opened (Linux 5.8).
        """

    def reserve(self, fd: int, size: int) -> None:
        """Keep `size` bytes free for this file without changing its size (fallocate, KEEP_SIZE)."""

    def truncate(self, path: str, size: int) -> None: ...
    def link(self, source: str, target: str) -> None: ...
    def link_fd(self, fd: int, target: str) -> None:
        """Give an open file a (further) name."""

    def rename(self, source: str, target: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def mkdir(self, path: str, mode: int = 0o700) -> None: ...
    def rmdir(self, path: str) -> None: ...
    def names(self, directory: str) -> list[str]: ...
    def exists(self, path: str) -> bool: ...
    def flock(self, fd: int, operation: int) -> None:
        """`fcntl.flock`; with LOCK_NB raises BlockingIOError."""


class OsDisk:
    """The real disk (Linux)."""

    def open(self, path: str, flags: int, mode: int = 0o600) -> int:
        return os.open(path, flags | os.O_CLOEXEC, mode)

    def open_nameless(self, directory: str) -> int:
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def close(self, fd: int) -> None:
        os.close(fd)

    def write(self, fd: int, data: bytes | memoryview) -> None:
        written = os.write(fd, data)
        if written != len(data):
            view = memoryview(data)
            while written < len(data):
                written += os.write(fd, view[written:])

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        written = os.pwrite(fd, data, offset)
        if written != len(data):
            raise OSError(errno.ENOSPC, f"only {written} of {len(data)} bytes were written")

    def direct(self, fd: int, on: bool) -> bool:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_DIRECT
        try:
            fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT if on else flags)
        except OSError as error:
            if on and error.errno == errno.EINVAL:
                return False  # tmpfs, among others
            raise
        return on

    def writev(self, fd: int, buffers: Sequence[bytes]) -> int:
        return os.writev(fd, buffers)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def read_cached(self, fd: int, size: int, offset: int) -> bytes | None:
        buffer = bytearray(size)
        try:
            return bytes(memoryview(buffer)[: os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)])
        except OSError as error:
            if error.errno in _WOULD_WAIT:
                return None
            raise

    def clock_ns(self) -> int:
        return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)

    def writable(self, path: str) -> bool:
        return os.access(path, os.W_OK | os.X_OK)

    def stat(self, path: str) -> os.stat_result:
        return os.stat(path)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def fchmod(self, fd: int, mode: int) -> None:
        os.fchmod(fd, mode)

    def utime(self, file: int | str, seconds: int) -> None:
        os.utime(file, (seconds, seconds))

    def statvfs(self, path: str) -> os.statvfs_result:
        return os.statvfs(path)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def sync_directory(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def syncfs(self, fd: int) -> None:
        if _libc.syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def reserve(self, fd: int, size: int) -> None:
        if _libc.fallocate(fd, _FALLOC_FL_KEEP_SIZE, 0, size) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def truncate(self, path: str, size: int) -> None:
        os.truncate(path, size)

    def link(self, source: str, target: str) -> None:
        os.link(source, target)

    def link_fd(self, fd: int, target: str) -> None:
        # linkat(2): AT_SYMLINK_FOLLOW on the magic link. Python passes that flag only when a directory
        # descriptor is given; both paths being absolute, the kernel ignores it.
        os.link(f"/proc/self/fd/{fd}", target, src_dir_fd=fd, follow_symlinks=True)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str, mode: int = 0o700) -> None:
        os.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(path)

    def names(self, directory: str) -> list[str]:
        return os.listdir(directory)

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def flock(self, fd: int, operation: int) -> None:
        fcntl.flock(fd, operation)


_FALLOC_FL_KEEP_SIZE = 1
_CLOCK_REALTIME_COARSE = 5
# preadv2(2): not in the page cache, or a file system that cannot tell
_WOULD_WAIT = frozenset({errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL})
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def make_directories(disk: Disk, path: str, mode: int = 0o700) -> None:
    """Make `path` and what is missing above it; each new name is synced in its parent."""
    for part in reversed(list(_missing(disk, path))):
        try:
            disk.mkdir(part, mode)
        except FileExistsError:
            continue
        disk.sync_directory(os.path.dirname(part) or ".")


def _missing(disk: Disk, path: str) -> Iterator[str]:
    while path and not disk.exists(path):
        yield path
        path = os.path.dirname(path)
