"""One HTTP/1.1 answer (RFC 9112), bytes to status and body; for filters that are asked once a connection.

Content of a length, in chunks, or up to the end of the connection. `HttpError` for all else; nothing else is raised,
and what is kept is bounded by the caller's `limit` and `MAX_HEAD`.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["HttpAnswer", "HttpError", "request_head"]

MAX_HEAD: Final = 64 * 1024
MAX_LINE: Final = 4096
"""Of a chunk's size, or a trailer."""
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")


class HttpError(Exception):
    """It is no answer, or too large a one; in words fit for a log."""


class HttpAnswer:
    """Feed it with `receive` until `done`; at the end of the connection, `end`. `status` and `body` count then."""

    def __init__(self, limit: int) -> None:
        self.status = 0
        self.done = False
        self._limit = limit
        self._buffer = bytearray()
        self._body = bytearray()
        self._in_head = True
        self._heads = 0
        self._chunked = False
        self._length: int | None = None
        self._chunk_left = 0
        self._trailer = False

    @property
    def body(self) -> bytes:
        """The content."""
        return bytes(self._body)

    def receive(self, data: bytes) -> None:
        """Raises HttpError."""
        if self.done:
            return
        self._buffer += data
        while self._in_head:
            if not self._head():
                return
        if self._chunked:
            self._chunks()
            return
        if self._length is None:
            self._take(len(self._buffer))
            return
        # What comes behind it, in the same piece or later, does not count.
        self._take(min(len(self._buffer), self._length - len(self._body)))
        self.done = len(self._body) == self._length

    def end(self) -> None:
        """The connection is closed. Raises HttpError when that is too early."""
        if self.done:
            return
        if self._in_head or self._chunked or self._length is not None:
            raise HttpError("the answer is cut off")
        self.done = True

    def _head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        # A part of its end may be there
        if end > MAX_HEAD or (end < 0 and len(self._buffer) > MAX_HEAD + 3):
            raise HttpError("an answer with a head that does not end")
        if end < 0:
            return False
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        match = _STATUS.fullmatch(lines[0])
        if match is None:
            raise HttpError("no HTTP")
        self.status = int(match[1])
        if self.status < 200:
            # RFC 9110 section 15.2: interim answers come before the one that counts
            self._heads += 1
            if self._heads > 10:
                raise HttpError("no answer that counts")
            return True
        self._in_head = False
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            self._field(name.strip().lower(), value.strip())
        # RFC 9112 section 6.3: both is an attack
        if self._chunked and self._length is not None:
            raise HttpError("an answer of two lengths")
        if self.status in (204, 304):
            self._length = 0
        if self._length is not None and self._length > self._limit:
            raise HttpError(f"an answer of more than {self._limit} bytes")
        return True

    def _field(self, name: bytes, value: bytes) -> None:
        if name == b"content-length":
            if not value.isdigit() or len(value) > 12:
                raise HttpError("a length that is none")
            if self._length is not None and self._length != int(value):
                raise HttpError("an answer of two lengths")
            self._length = int(value)
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise HttpError("an unknown encoding")
            self._chunked = True
        elif name == b"content-encoding" and value.lower() not in (b"", b"identity"):
            raise HttpError("an unknown encoding")

    def _take(self, size: int) -> None:
        if len(self._body) + size > self._limit:
            raise HttpError(f"an answer of more than {self._limit} bytes")
        self._body += self._buffer[:size]
        del self._buffer[:size]

    def _chunks(self) -> None:
        while True:
            if self._chunk_left > 2:
                size = min(self._chunk_left - 2, len(self._buffer))
                self._take(size)
                self._chunk_left -= size
                if self._chunk_left > 2:
                    return
            if self._chunk_left == 2:
                if len(self._buffer) < 2:
                    return
                if self._buffer[:2] != b"\r\n":
                    raise HttpError("a chunk without its end")
                del self._buffer[:2]
                self._chunk_left = 0
            end = self._buffer.find(b"\r\n")
            if end > MAX_LINE or (end < 0 and len(self._buffer) > MAX_LINE + 1):
                raise HttpError("a line that does not end")
            if end < 0:
                return
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            if self._trailer:
                self._heads += 1
                if not line:
                    self.done = True
                    return
                if self._heads > 100:
                    raise HttpError("a trailer that does not end")
                continue
            match = _CHUNK.fullmatch(line)
            if match is None:
                raise HttpError("a chunk without its size")
            size = int(match[1], 16)
            if size == 0:
                self._trailer = True
            else:
                self._chunk_left = size + 2


def request_head(path: str, host: str, size: int, fields: list[tuple[str, str]]) -> bytes:
    """The head of a POST. Nothing in a value can begin another field; what is not ASCII goes as UTF-8."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {size}"]
    lines += [f"{name}: {_clean(value)}" for name, value in fields if value]
    lines += ["Connection: close", "", ""]
    return "\r\n".join(lines).encode("utf-8", "replace")


def _clean(value: str) -> str:
    return "".join(c for c in value if c >= " " and c != "\x7f")[:2000]
