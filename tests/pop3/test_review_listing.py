"""LIST and UIDL of a large maildrop come in pieces; the count of errors; USER without a name."""

from __future__ import annotations

import asyncio

import pytest
from fake_pop3 import Dialogue

from twisted_mail.pop3.engine import Command
from twisted_mail.pop3.maildrop import PIECE


async def pieces_of(client: Dialogue, verb: bytes) -> list[bytes]:
    answer = await client.session.handle(Command(verb, b""))
    return [answer.data, *([piece async for piece in answer.body] if answer.body else [])]


@pytest.mark.parametrize("verb", [b"LIST", b"UIDL"])
@pytest.mark.parametrize("count", [0, 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 7])
def test_a_listing_is_whole_and_in_pieces(verb: bytes, count: int) -> None:
    client = Dialogue(*[b"x\n"] * count).log_in()
    pieces = asyncio.run(pieces_of(client, verb))
    first, *lines, last = b"".join(pieces).split(b"\r\n")[:-1]
    assert first.startswith(b"+OK")
    value = b"3" if verb == b"LIST" else b"id-%d"
    assert lines == [
        b"%d " % (n + 1) + (value % n if b"%" in value else value) for n in range(count)
    ]
    assert last == b"."
    assert max(piece.count(b"\r\n") for piece in pieces) <= PIECE + 2


def test_a_long_listing_leaves_out_what_is_marked() -> None:
    client = Dialogue(*[b"x\n"] * (PIECE + 3)).log_in()
    client.say("DELE 1", f"DELE {PIECE + 1}")
    heard = client.say("LIST").split(b"\r\n")
    assert heard[1] == b"2 3"
    assert heard[-5:] == [b"%d 3" % PIECE, *(b"%d 3" % (PIECE + n) for n in (2, 3)), b".", b""]


def test_the_last_allowed_error_is_the_end_as_in_smtp() -> None:
    client = Dialogue(max_errors=1)
    assert client.say("FOO", "CAPA") == b"-ERR Unknown command\r\n-ERR Too many errors\r\n"
    assert client.closed


def test_user_wants_a_name() -> None:
    client = Dialogue()
    assert client.say("USER", "USER  ") == b"-ERR A name is expected\r\n" * 2
    assert client.say("PASS open sésame") == b"-ERR USER comes first\r\n"
