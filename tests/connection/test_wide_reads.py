"""How much is read at once from who sends much."""

from __future__ import annotations

from typing import Any

import pytest
from toy import ToyFactory
from twisted.internet.abstract import FileDescriptor
from twisted.internet.testing import StringTransport

from twisted_mail.connection.wire import WIDE


class Socket(FileDescriptor):
    """One that nothing is written to but what it takes at once."""

    connected = 1

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.sent = b""

    def writeSomeData(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def stopReading(self) -> None: ...
    def startReading(self) -> None: ...


def test_more_while_much_comes() -> None:
    factory = ToyFactory()
    connection: Any = factory.buildProtocol(None)
    socket = Socket(factory.world.reactor)
    connection.makeConnection(socket)
    sizes = []
    for size in (10, 65_535, 65_536, 256 * 1024, 20_000, 65_536, 100, 65_536):
        connection.dataReceived(b"echo " + b"x" * (size - 6) + b"\n")
        sizes.append(socket.bufferSize)
    usual = FileDescriptor.bufferSize
    assert sizes == [usual, usual, WIDE, WIDE, WIDE, WIDE, usual, WIDE]
    connection.alarm.stop()


@pytest.mark.parametrize("size", [1, 100_000])
def test_other_transports_are_left_alone(size: int) -> None:
    connection: Any = ToyFactory().buildProtocol(None)
    transport = StringTransport()
    connection.makeConnection(transport)
    connection.dataReceived(b"echo " + b"x" * size + b"\n")
    assert not hasattr(transport, "bufferSize")
    connection.alarm.stop()
