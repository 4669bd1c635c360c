"""The SMTP client on the real reactor, against Debian's ``smtp-sink`` and its faults."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mailsite import DEADLINE

pytestmark = [pytest.mark.e2e, pytest.mark.needs("smtp-sink")]

CLIENT = """
import json, sys
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted_mail.content import BytesContent
from twisted_mail.smtp.client.interfaces import SessionError, Timeouts, Transaction
from twisted_mail.smtp.client.protocol import connect
from twisted_mail.storage.queued import Options, QueuedRecipient
from twisted_mail.world import real_world

where, port, lmtp, sizes = json.loads(sys.argv[1])

async def main(reactor):
    conversation = await connect(
        real_world(reactor), where, port, helo="me.example.org", name="sink", lmtp=lmtp,
        timeouts=Timeouts(command=120, data_end=120),
    )
    await conversation.hello()
    print(json.dumps(sorted(conversation.extensions)))
    for size in sizes:
        recipients = [QueuedRecipient(f"r{n}@example.net", "sink") for n in range(3)]
        transaction = Transaction("alice@example.org", recipients, Options(), size)
        line = b".a line of thirty-two octets...\\n"
        content = BytesContent(line * (size // 32))
        try:
            replies = await conversation.send(transaction, content)
        except SessionError as error:
            print(json.dumps(error.text))
            return
        print(json.dumps([reply.code for reply in replies]))
    await conversation.quit()

task.react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that another user may write to."""
    with tempfile.TemporaryDirectory() as made:
        os.chmod(made, 0o777)
        yield Path(made)


@contextmanager
def sink(directory: Path, *options: str, unix: bool = False) -> Iterator[tuple[str, int]]:
    """A running smtp-sink that writes what it gets to `directory`, which has to be empty."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    path = str(directory / "socket")
    where = f"unix:{path}" if unix else f"127.0.0.1:{port}"
    # As root it wants to become somebody, who has to reach the directory.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    running = subprocess.Popen(
        ["smtp-sink", *user, *options, "-d", str(directory / "%M."), where, "20"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as one:
                    one.connect(path if unix else ("127.0.0.1", port))
                break
            except OSError:
                if running.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"smtp-sink does not run: {running.wait()}")
                time.sleep(0.02)  # noqa: TID251  # the real clock
        yield (path if unix else "127.0.0.1"), port
    finally:
        running.kill()
        running.wait()


def sent(where: tuple[str, int], *sizes: int, lmtp: bool = False) -> list[Any]:
    """Send messages of these sizes in one conversation: extensions, then each one's codes or an error."""
    argument = json.dumps([*where, lmtp, sizes])
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, argument],
        capture_output=True,
        text=True,
        timeout=2 * DEADLINE,
    )
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def dumped(directory: Path) -> list[bytes]:
    """Sizes in order of what the sink was given."""
    return sorted((one.read_bytes() for one in directory.glob("*.*")), key=len)


@pytest.mark.parametrize(
    ("options", "pipelining"), [(["-4"], True), (["-4", "-p"], False), (["-4", "-8"], True)]
)
def test_messages_on_one_connection(directory: Path, options: list[str], pipelining: bool) -> None:
    with sink(directory, *options) as where:
        extensions, *codes = sent(where, 0, 32, 4096, 2_000_000, 4096)
    assert ("PIPELINING" in extensions) is pipelining
    assert codes == [[250] * 3] * 5
    longest = dumped(directory)[-1]
    assert longest.count(b"\n.a line of ") == 62_500


def test_helo_only(directory: Path) -> None:
    with sink(directory, "-4", "-f", "ehlo") as where:
        assert sent(where, 4096) == [[], [250] * 3]


@pytest.mark.parametrize(
    ("options", "result"),
    [
        (["-r", "rcpt"], [[450] * 3, [450] * 3]),
        (["-f", "rcpt"], [[500] * 3, [500] * 3]),
        (["-f", "mail"], [[500] * 3, [500] * 3]),
        (["-f", "data"], [[500] * 3, [500] * 3]),
        (["-r", "."], [[450] * 3, [450] * 3]),
        (["-q", "data"], ["sink closed the connection instead of answering DATA"]),
        (["-q", "."], ["sink closed the connection instead of answering the end of the message"]),
    ],
)
def test_faults(directory: Path, options: list[str], result: list[Any]) -> None:
    with sink(directory, "-4", *options) as where:
        assert sent(where, 4096, 70_000)[1:] == result


def test_lmtp_over_a_unix_socket(directory: Path) -> None:
    with sink(directory, "-L", unix=True) as where:
        _, *codes = sent(where, 4096, 4096, lmtp=True)
    assert codes == [[250] * 3] * 2
