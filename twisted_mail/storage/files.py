"""Whole files, a block at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Final

from ..disk import Disk

__all__ = ["BLOCK", "file_blocks", "file_digest"]

BLOCK: Final = 256 * 1024
"""Octets that are read at once."""


def file_blocks(disk: Disk, fd: int) -> Iterator[bytes]:
    """What an open file holds, from its start."""
    at = 0
    while block := disk.pread(fd, BLOCK, at):
        yield block
        at += len(block)


def file_digest(disk: Disk, path: str) -> bytes:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    fd = disk.open(path, os.O_RDONLY)
    try:
        for block in file_blocks(disk, fd):
            digest.update(block)
    finally:
        disk.close(fd)
    return digest.digest()
