"""A real process that delivers on a store, on the real reactor: others do so beside it, and it is killed amid that."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, DeferredList
from twisted_mail.storage.store import MailStore
from twisted_mail.world import real_world

data, name, sessions, count, size, segment_size, *accounts = sys.argv[1:]
store = MailStore(real_world(reactor), data, host="test", boot="boot-1", segment_size=int(segment_size))

async def session(number):
    for n in range(int(count)):
        draft = store.draft()
        draft.write(f"Subject: {name}-{number}-{n}\\n\\n".encode() + b"x" * int(size) + b"\\n")
        await store.accept(draft, accounts, ascii_size=None, envelope={})
        print(f"{name}-{number}-{n}", flush=True)

async def main():
    await store.start()
    await DeferredList([ensureDeferred(session(n)) for n in range(int(sessions))], fireOnOneErrback=True)
    await store.stop()

done = ensureDeferred(main())
done.addErrback(lambda failure: failure.printTraceback(sys.stderr))
done.addBoth(lambda _: reactor.stop())
reactor.run()
"""


def delivering(
    data: str,
    name: str,
    *accounts: str,
    sessions: int,
    count: int,
    size: int,
    segment_size: int,
) -> subprocess.Popen[str]:
    """In each of so many sessions at once `count` messages of `size` octets; it prints the subject of each that was
    accepted, ``name-session-number``, and what goes wrong to stderr."""
    numbers = map(str, (sessions, count, size, segment_size))
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, data, name, *numbers, *accounts],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
