"""What the driver does with any engine and session: order, bounds, back-pressure, ends."""

from __future__ import annotations

from toy import ToyFactory


def test_greets_and_answers() -> None:
    client = ToyFactory().connect()
    assert client.read() == b"hello\n"
    assert client.ask(b"echo 1\n") == b"1\n"
    assert client.ask(b"echo") == b""
    assert client.ask(b" 2\necho 3\n") == b"2\n3\n"


def test_pipelined_commands_are_answered_in_order_when_the_first_waits() -> None:
    factory = ToyFactory()
    client = factory.connect()
    client.read()
    assert client.ask(b"wait 1\necho 2\nwait 3\necho 4\n") == b""
    session = factory.sessions[0]
    assert len(session.waits) == 1
    session.waits[0].callback(b"done")
    assert client.read() == b"1 done\n2\n"
    session.waits[1].callback(b"done")
    assert client.read() == b"3 done\n4\n"


def test_ten_thousand_pipelined_commands_of_both_kinds() -> None:
    client = ToyFactory().connect()
    client.read()
    commands = [f"{'thread' if n % 7 == 0 else 'echo'} {n}\n".encode() for n in range(10000)]
    client.send(b"".join(commands))
    expected = b"".join(b"%d\n" % n for n in range(10000))
    received = b""
    while len(received) < len(expected):
        more = client.read()
        assert more
        received += more
    assert received == expected
