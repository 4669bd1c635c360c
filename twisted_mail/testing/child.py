"""The child process of `process.running_server`: a `MailServer` that does what its standard input says.

A line of JSON asks for a method, a line of JSON on standard output answers. It ends when its input does. Nobody
imports this: it is run with ``python -m``.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from .server import MailServer


class _Child(LineOnlyReceiver):
    """Asks the server what each line asks for."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def __init__(self, reactor: Any) -> None:
        self.ended: Deferred[None] = Deferred()
        self.server: MailServer | None = None
        self._reactor = reactor

    def lineReceived(self, line: bytes) -> None:
        Deferred.fromCoroutine(self._say_answer(*json.loads(line)))

    async def _say_answer(self, verb: str, *words: Any) -> None:
        try:
            answer = {"value": await self._answer(verb, *words)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        assert self.transport is not None
        self.transport.write(json.dumps(answer).encode() + b"\n")

    async def _answer(self, verb: str, *words: Any) -> object:
        if verb == "start":
            place, users, hostname, configuration = words
            self.server = await MailServer.start(
                self._reactor,
                users=users,
                hostname=hostname,
                directory=place,
                configuration=configuration,
            )
            return self.server.ports
        assert self.server is not None
        if verb == "add_user":
            await self.server.add_user(*words)
            return None
        return [base64.b64encode(data).decode() for data in self.server.messages(*words)]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


async def _serve(reactor: Any) -> None:
    child = _Child(reactor)
    StandardIO(child, reactor=reactor)
    await child.ended
    if child.server is not None:
        await child.server.stop()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(_serve(reactor)))
