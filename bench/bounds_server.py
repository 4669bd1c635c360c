"""The server of bench/bounds.py, in a process of its own that tells what it computed and how long its loop stood still.

    python bench/bounds_server.py DIRECTORY

It reads words as JSON, a line each, and answers each with a line: "add NAME" makes an account; "rest" is answered when
the server has nothing more to do; "mark" begins a measurement, and tells the memory before it (MB); "read" tells the
seconds of CPU, the longest gap (seconds) and the most memory (MB) since. All checks are on; SPF, DKIM and DMARC ask a
resolver in memory. `Server` is that process as the others see it.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

__all__ = ["PASSWORD", "Server"]

PASSWORD = "secret"
"""Of every account."""
_MAX_MESSAGE = 128 << 20


def serve(place: str) -> None:
    """Answer what comes on standard input until it ends."""
    from twisted.internet import reactor as _reactor  # noqa: TID251 - a program of its own
    from twisted.internet.defer import Deferred
    from twisted.internet.stdio import StandardIO
    from twisted.protocols.basic import LineOnlyReceiver

    from twisted_mail.processes import spare_the_collector
    from twisted_mail.testing import MailServer
    from twisted_mail.testing.dns import FakeResolver, Zone
    from twisted_mail.world import real_world

    reactor: Any = _reactor

    class Child(LineOnlyReceiver):
        delimiter = b"\n"
        server: Any = None

        def connectionMade(self) -> None:
            Deferred.fromCoroutine(self._start())

        async def _start(self) -> None:
            zone = Zone({"plain.example": {"A": ["127.0.0.1"]}})
            world = replace(real_world(reactor), resolver=FakeResolver(zone))
            self.server = await MailServer.start(
                world,
                users={"plain@bounds.test": PASSWORD, "begin@bounds.test": PASSWORD},
                directory=place,
                configuration={
                    "checks": {"exempt_networks": []},
                    "smtp": {"max_message_bytes": _MAX_MESSAGE},
                    "imap": {"max_sessions": 1000, "allow_plaintext_loopback": True},
                    "pop3": {"allow_plaintext_loopback": True},
                },
            )
            spare_the_collector()
            self._mark()
            self._turn()
            self._say(self.server.ports)

        def _turn(self) -> None:
            self._gap()
            reactor.callLater(0.001, self._turn)

        def _gap(self) -> None:
            now = time.perf_counter(), time.process_time()
            # Whoever holds the interpreter computes; what other programs take is none of it
            gap = min(now[0] - self.turn[0], now[1] - self.turn[1])
            self.worst = max(self.worst, gap)
            self.turn = time.perf_counter(), time.process_time()

        def _mark(self) -> None:
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
            self.worst = 0.0
            self.cpu = time.process_time()
            self.turn = time.perf_counter(), self.cpu

        def lineReceived(self, line: bytes) -> None:
            verb, *words = json.loads(line)
            if verb == "add":
                made = Deferred.fromCoroutine(self.server.add_user(words[0], PASSWORD))
                made.addCallback(self._say)
            elif verb == "rest":
                reactor.callLater(0.3, self._rest, time.process_time())
            elif verb == "mark":
                self._mark()
                self._say(memory()["VmRSS"])
            else:
                self._gap()
                self._say([time.process_time() - self.cpu, self.worst, memory()["VmHWM"]])

        def _rest(self, before: float) -> None:
            """Say so when what goes on behind is over: what a search has read is learned."""
            now = time.process_time()
            if now - before < 0.06:  # this look-out's own
                self._say(None)
            else:
                reactor.callLater(0.3, self._rest, now)

        def _say(self, answer: object) -> None:
            self.transport.write(json.dumps(answer).encode() + b"\n")  # type: ignore[attr-defined]

        def connectionLost(self, reason: object = None) -> None:
            reactor.stop()

    StandardIO(Child(), reactor=reactor)
    reactor.run()


def memory() -> dict[str, float]:
    """This process's, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    words = [line.split() for line in lines if line.endswith("kB")]
    return {name.rstrip(":"): int(size) / 1024 for name, size, _ in words}


class Server:
    """That process, as the others see it."""

    def __init__(self, place: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.ports: dict[str, int] = self._read()

    def ask(self, *words: object) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words).encode() + b"\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


if __name__ == "__main__":
    serve(sys.argv[1])
