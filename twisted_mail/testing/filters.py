"""Filters for tests: clamd, spamd and rspamd that answer what the test wants, and the place for a new body.

    rspamd = FakeRspamd({"action": "reject", "score": 15.0, "required_score": 15.0})
    world.at("192.0.2.50").reactor.listenTCP(11333, rspamd)
    ...
    assert rspamd.requests[0].fields["from"] == ["<alice@example.org>"]

The milter is in `filters_milter`.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

__all__ = ["FakeClamd", "FakeRspamd", "FakeSpamd", "MemorySource", "MemorySpill", "Request"]


class MemorySource:
    """Content that is bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def size(self) -> int:
        return len(self._content)

    async def read(self, offset: int, size: int) -> bytes:
        return self._content[offset : offset + size]


class MemorySpill(MemorySource):
    """A place for a new body, in memory."""

    def __init__(self) -> None:
        super().__init__(b"")
        self.discarded = False

    def write(self, block: bytes) -> None:
        self._content += block

    def discard(self) -> None:
        self._content = b""
        self.discarded = True


class Request(NamedTuple):
    """What a scanner was asked. `first`: its first line; `fields`: names in lower case → values; `content`."""

    first: str
    fields: dict[str, list[str]]
    content: bytes


class _Scanner(Factory):
    """`answer`: None: it hangs. `closes`: the connection is closed behind the answer."""

    noisy = False
    kind: type[_Connection]

    def __init__(self, answer: bytes | None, *, closes: bool = True) -> None:
        self.answer = answer
        self.closes = closes
        self.requests: list[Request] = []
        self.open = 0
        self.most = 0
        """Connections at once."""

    def buildProtocol(self, addr: Any) -> Protocol:
        return self.kind(self)


class _Connection(Protocol):
    def __init__(self, scanner: _Scanner) -> None:
        self.scanner = scanner
        self.buffer = b""
        self.answered = False

    def connectionMade(self) -> None:
        self.scanner.open += 1
        self.scanner.most = max(self.scanner.most, self.scanner.open)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.scanner.open -= 1

    def dataReceived(self, data: bytes) -> None:
        self.buffer += data
        if self.answered:
            return
        request = self.parse()
        if request is not None:
            self.scanner.requests.append(request)
            self.reply()

    def parse(self) -> Request | None:
        """The whole request, when it is there: a head of lines, and content of the length that it says."""
        head, found, content = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return None
        lines = head.decode().split("\r\n")
        fields: dict[str, list[str]] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            fields.setdefault(name.strip().lower(), []).append(value.strip())
        if len(content) < int(fields["content-length"][0]):
            return None
        return Request(lines[0], fields, content)

    def reply(self) -> None:
        self.answered = True
        transport: Any = self.transport
        if self.scanner.answer is not None:
            transport.write(self.scanner.answer)
            if self.scanner.closes:
                transport.loseConnection()


class FakeSpamd(_Scanner):
    """spamd. `answer` such as ``b"SPAMD/1.1 0 EX_OK\\r\\nSpam: True ; 15.0 / 5.0\\r\\n\\r\\nGTUBE"``."""

    kind = _Connection


class FakeRspamd(_Scanner):
    """rspamd. `answer`: what its JSON says; bytes are the HTTP answer itself."""

    kind = _Connection

    def __init__(self, answer: Any, *, closes: bool = True) -> None:
        if answer is not None and not isinstance(answer, bytes):
            body = json.dumps(answer).encode()
            answer = (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
        super().__init__(answer, closes=closes)


class _ClamdConnection(_Connection):
    def parse(self) -> Request | None:
        command, found, rest = self.buffer.partition(b"\0")
        if not found:
            return None
        content, scanner = b"", self.scanner
        assert isinstance(scanner, FakeClamd)
        while len(rest) >= 4:
            size = int.from_bytes(rest[:4])
            if size == 0 or (scanner.limit is not None and len(content) > scanner.limit):
                return Request(command.decode(), {}, content)
            if len(rest) < 4 + size:
                return None
            content, rest = content + rest[4 : 4 + size], rest[4 + size :]
        return None


class FakeClamd(_Scanner):
    """clamd. `answer` such as ``b"stream: OK\\0"``; with a `limit` it answers after so many bytes."""

    kind = _ClamdConnection

    def __init__(
        self, answer: bytes | None, *, closes: bool = True, limit: int | None = None
    ) -> None:
        super().__init__(answer, closes=closes)
        self.limit = limit
