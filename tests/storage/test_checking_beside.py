"""`mailctl verify` beside a process that delivers, sends, reads and deletes all the while: no fault is seen in that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted_mail.disk import OsDisk
from twisted_mail.storage.checking import Account
from twisted_mail.storage.checking_site import Site, server_is_up
from twisted_mail.storage.problems import Problem

PROCESS = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, DeferredList
from twisted_mail.storage.queued import Attempt, Change, QueuedMessage, QueuedRecipient, State, Verdict
from twisted_mail.storage.store import MailStore
from twisted_mail.world import real_world

data, count = sys.argv[1], int(sys.argv[2])
world = real_world(reactor)
store = MailStore(world, data, host="test", boot="boot-1", segment_size=40_000)

async def put(text, accounts, queue=None):
    draft = store.draft()
    waiting = draft.write(text)
    if waiting is not None:
        await waiting
    await store.accept(draft, accounts, ascii_size=None, envelope={}, queue=queue)

async def session(number):
    for n in range(count):
        text = f"Subject: {number} {n}\\n\\n".encode() + b"x" * (300_000 if n == 5 else 700) + b"\\n"
        id_ = f"{number:02x}{n:06x}"
        to = (QueuedRecipient("b@other.example", "other.example"),)
        now = world.now()
        await put(text, [f"d/{number}"], QueuedMessage(id_, "a@here.example", to, now, now + 1e5))
        tried = Attempt(world.now(), "mx", "192.0.2.1", "", "250")
        if n % 3:
            await store.change([Change(id_, (Verdict(0, State.DELIVERED, 0.0, 0),), (tried,))])
        if n % 5 == 4:
            inbox = await store.open_inbox(f"d/{number}")
            await inbox.remove(range(0, len(inbox.messages), 2))
            await inbox.close()

async def main():
    await store.start()
    print("up", flush=True)
    await DeferredList([ensureDeferred(session(n)) for n in range(3)], fireOnOneErrback=True)
    print("done", flush=True)
    sys.stdin.readline()
    await store.stop()

done = ensureDeferred(main())
done.addErrback(lambda failure: failure.printTraceback(sys.stderr))
done.addBoth(lambda _: reactor.stop())
reactor.run()
"""


def nothing() -> None:
    """The second look comes at once."""


def looked(data: str) -> list[Problem]:
    """What one run of verify tells."""
    disk = OsDisk()
    site = Site(disk, data)
    found = list(site.check(nothing))
    for key in ("d/0", "d/1", "d/2"):
        home = os.path.join(data, "mail", key)
        if os.path.isdir(home):
            account = Account(
                disk, key, home, generation=site.generation(), refresh=lambda _: None, deep=True
            )
            found += account.check()
    return found


def test_nothing_that_happens_is_a_fault(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, data, "60"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    faults: list[Problem] = []
    looks = 0
    try:
        assert process.stdout.readline() == "up\n"
        os.set_blocking(process.stdout.fileno(), False)
        while not process.stdout.readline():
            faults += [problem for problem in looked(data) if not problem.note]
            looks += 1
        assert looks > 2
        assert faults == []
        assert server_is_up(OsDisk(), data)
        assert [problem for problem in looked(data) if not problem.note] == []
    finally:
        process.communicate("\n")
    assert process.returncode == 0
    assert not server_is_up(OsDisk(), data)
    assert looked(data) == []
