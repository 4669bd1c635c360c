"""The order of system calls: what is answered with 250 was written to a file, that file was synced after the write, and
then came the answer. For every message of a run, small, large and queued, with one process and with workers.
"""

from __future__ import annotations

import os
import signal
import smtplib
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from mailsite import ALICE, BOB, DEADLINE, Site
from many import own_children
from system_calls import Call, calls, traced

pytestmark = [pytest.mark.e2e, pytest.mark.needs("strace")]

SYNCS = ("fdatasync", "fsync")
WRITES = ("write", "writev", "pwrite64", "pwritev")
SMALL, LARGE = 3_000, 700_000
SMALL_SEGMENTS = """
import twisted_mail.storage.segments as segments
segments.SEGMENT_SIZE = 1 << 13
from twisted.scripts.twistd import run
run()
"""


class Sent:
    """One message, and on which connection it came: two to different ports may have the same one at the client."""

    def __init__(self, token: str, size: int, server: int, client: int) -> None:
        self.size = size
        self.connection = f":{server}->127.0.0.1:{client}]"
        # one at each end and some in between: every part of a large one is known
        self.marks = [f"{token}-{part:04d}-" for part in range(4)]
        self.accepted = False

    def content(self) -> bytes:
        filler = ("x" * 68 + "\r\n") * (self.size // (len(self.marks) * 70) + 1)
        body = "".join(f"{mark}\r\n{filler}" for mark in self.marks[:-1])
        return f"Subject: order\r\n\r\n{body}{self.marks[-1]}\r\n".encode()


def send(site: Site, token: str, sent: list[Sent], user: str | None, to: list[str]) -> None:
    sizes = [SMALL, LARGE, SMALL, SMALL]
    for number, size in enumerate(sizes):
        with site.smtp(user) as session:
            assert session.sock is not None
            ports = session.sock.getpeername()[1], session.sock.getsockname()[1]
            one = Sent(f"{token}{number}", size, *ports)
            sent.append(one)
            session.sendmail(user or "carol@elsewhere.example", to, one.content())
            one.accepted = True


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_answered_was_synced_after_it_was_written(
    make_site: Callable[..., Site], tmp_path: Path, workers: int
) -> None:
    no_dns = '[dns]\nservers = ["127.0.0.1:9"]\n'
    site = make_site(extra=no_dns)
    site.top = f"workers = {workers}\n"
    site.write_configuration()
    output = tmp_path / "trace"
    # in one process with small segments, so that checkpoints come in the middle of it
    command = site.command if workers else [sys.executable, "-c", SMALL_SEGMENTS, *site.command[1:]]
    site.start(traced(output, command))
    sent: list[Sent] = []
    errors: list[BaseException] = []

    def client(name: str, user: str | None, to: list[str]) -> None:
        try:
            send(site, name, sent, user, to)
        except (OSError, smtplib.SMTPException) as error:
            errors.append(error)

    clients = [
        threading.Thread(target=client, args=(f"in{number}x", None, [ALICE, BOB]))
        for number in range(4)
    ]
    clients += [
        threading.Thread(target=client, args=(f"out{number}x", ALICE, ["dave@far.example"]))
        for number in range(2)
    ]
    for one in clients:
        one.start()
    for one in clients:
        one.join(4 * DEADLINE)
    assert not errors
    assert site.process is not None
    # strace keeps such a signal to itself
    (server,) = own_children(site.process.pid)
    os.kill(server, signal.SIGTERM)
    site.wait_until_ended()
    made = calls(output)
    assert len(sent) == 24 and all(one.accepted for one in sent)
    for one in sent:
        check(one, made)
    dropped = check_segments(made)
    assert workers or dropped > 2


def check(one: Sent, made: list[Call]) -> None:
    """The last write of each part, a sync of that file after it, and only then the reply on the client's connection."""
    writes = [
        call
        for call in made
        if call.what in WRITES and "/data/journal/" in call.name and any(map(call.has, one.marks))
    ]
    for mark in one.marks:
        assert any(call.has(mark) for call in writes), (
            f"{mark} was written to no file of the journal"
        )
    synced = []
    for path in {call.name for call in writes}:
        last = max(call.ended for call in writes if call.name == path)
        syncs = [
            call for call in made if call.what in SYNCS and call.name == path and call.began >= last
        ]
        assert syncs, f"{path} was not synced after {one.marks[0]} was written"
        synced.append(min(call.ended for call in syncs))
    replies = [
        call
        for call in made
        if call.what in ("sendto", "sendmsg", "write")
        and call.name.endswith(one.connection)
        and call.began >= min(call.ended for call in writes)
    ]
    assert replies, "the reply was not seen"
    assert replies[0].began >= max(synced), f"{one.marks[0]}: the reply came before the sync"
    if one.size == LARGE:
        # its name in the directory, too, and the record that names the file
        names = [
            call for call in made if call.what in SYNCS and call.name.endswith("/journal/spill")
        ]
        assert any(call.ended <= replies[0].began for call in names)
        spilled = next(Path(call.name).name for call in writes if "/spill/" in call.name)
        records = [
            call
            for call in made
            if call.what in WRITES and call.name.endswith(".log") and call.has(spilled)
        ]
        assert records, f"no record names {spilled}"
        assert any(
            call.what in SYNCS
            and call.name == records[0].name
            and records[0].ended <= call.began
            and call.ended <= replies[0].began
            for call in made
        )


def check_segments(made: list[Call]) -> int:
    """A segment is dropped only when the file system was synced after the last record in it. How many were."""
    dropped = [
        call
        for call in made
        if call.what in ("unlink", "unlinkat")
        and "/data/journal/" in call.arguments
        and ".log" in call.arguments
    ]
    assert dropped, "a clean stop drops the segment"
    for call in dropped:
        name = call.arguments.split('"')[1]
        last = max(
            (one.ended for one in made if one.what in WRITES and one.name == name), default=0
        )
        assert any(
            one.what == "syncfs" and last <= one.began and one.ended <= call.began for one in made
        ), f"{name} was dropped without a sync"
    return len(dropped)


def test_the_check_can_fail() -> None:
    """What it is told of a server that answers first."""
    one = Sent("tokenx", SMALL, 25, 5555)
    record = f'7</s/data/journal/1.log>, "{" ".join(one.marks)}"'
    write = Call(100, 110, "writev", record, 10)
    sync = Call(120, 130, "fdatasync", "7</s/data/journal/1.log>", 0)
    peer = '9<TCP:[127.0.0.1:25->127.0.0.1:5555]>, "250 2.0.0"'
    check(one, [write, sync, Call(140, 150, "sendto", peer, 9)])
    check(one, [write, sync, Call(130, 150, "sendto", peer, 9)])
    with pytest.raises(AssertionError, match="reply was not seen"):
        other = peer.replace(":25->", ":465->")
        check(one, [write, sync, Call(140, 150, "sendto", other, 9)])
    with pytest.raises(AssertionError, match="before the sync"):
        check(one, [write, Call(115, 116, "sendto", peer, 9), sync])
    with pytest.raises(AssertionError, match="was not synced after"):
        check(
            one,
            [Call(100, 110, "fdatasync", sync.arguments, 0), Call(105, 120, "writev", record, 9)],
        )
    with pytest.raises(AssertionError, match="written to no file"):
        check(one, [sync])
    with pytest.raises(AssertionError, match="dropped without a sync"):
        drop = Call(300, 310, "unlink", '"/s/data/journal/1.log"', 0)
        check_segments([write, Call(50, 60, "syncfs", "3</s/data>", 0), drop])
