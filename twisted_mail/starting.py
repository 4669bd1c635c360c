"""Clients who come while the server starts: after a power cut the journal is replayed first, which may take seconds.

For `PATIENCE` seconds they wait in the kernel's queue, so that an ordinary start turns nobody away. Who still waits
then, or comes later, is greeted at once with the words for "later" (SMTP: 421), and the connection is closed; over TLS
where the port begins with it. Nobody is refused, and nobody waits for longer than a client has patience.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.logger import Logger

from .config import LISTENERS, Config
from .connection.deadlines import Bounds
from .connection.factory import MailFactory
from .connection.interfaces import NEED_DATA, Answer, Signal, Then
from .connection.limits import ConnectionLimits
from .connection.tls import ServerTls
from .world import World

__all__ = ["PATIENCE", "Starting"]

_log = Logger()
PATIENCE: Final = 3.0
"""Seconds. RFC 5321 section 4.5.3.2.1 has clients wait five minutes, but people's programs give up after some ten."""
SECONDS: Final = 10.0
"""What a client has for a TLS handshake, and for taking a line."""
AT_ONCE: Final = 1000
"""Clients that are being told, in all, and of one address: more are closed without a word."""
_IMPLICIT: Final = frozenset({"submissions", "pop3s", "imaps"})


class Starting:
    """What tells clients of `config`'s listeners that the server starts. `tell` gets the factories, after a while."""

    def __init__(
        self,
        config: Config,
        world: World,
        tls: ServerTls,
        tell: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._config = config
        self._world = world
        self._tls = tls
        self._tell = tell
        self._factories: dict[str, MailFactory] = {}
        self._timer: Any = world.reactor.callLater(PATIENCE, self._begin)

    def _begin(self) -> None:
        self._timer = None
        _log.info("still starting: clients are told to come again later")
        limits = ConnectionLimits(AT_ONCE, AT_ONCE)
        self._factories = {
            name: _Later(name, _words(name, self._config.hostname), self._world, limits, self._tls)
            for name in LISTENERS
        }
        self._tell(self._factories)

    def over(self) -> bool:
        """The start is over, one way or the other. Whether anybody may have been told."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return bool(self._factories)

    def abort_all(self) -> None:
        """Cut who is still being told."""
        for factory in self._factories.values():
            factory.abort_all()


def _words(name: str, host: str) -> bytes:
    if name.startswith("pop3"):
        # RFC 3206 section 4
        text = "-ERR [SYS/TEMP] The server is starting, try again soon"
    elif name.startswith("imap"):
        # RFC 9051 section 7.1.5, with RFC 5530 section 3
        text = "* BYE [UNAVAILABLE] The server is starting, try again soon"
    else:
        # RFC 5321 section 3.8; RFC 3463 section 3.4: "system not accepting network messages"
        text = f"421 4.3.2 {host} The server is starting, try again soon"
    return text.encode("ascii") + b"\r\n"


class _Later(MailFactory):
    """Says `words` in place of a greeting."""

    def __init__(
        self, name: str, words: bytes, world: World, limits: ConnectionLimits, tls: ServerTls
    ) -> None:
        super().__init__(
            world,
            name,
            bounds=Bounds(idle_seconds=SECONDS),
            limits=limits,
            tls=tls,
            implicit_tls=name in _IMPLICIT,
        )
        self.too_many = b""
        self._words = words

    def make(self, ip: str, connection: str) -> tuple[_Deaf, _Sorry]:
        return _Deaf(), _Sorry(self._words)


class _Deaf:
    """Hears nothing."""

    buffered = 0
    midway = False

    def receive(self, data: bytes) -> None:
        pass

    def next_event(self) -> Signal:
        return NEED_DATA

    def resume(self, expect: object = None) -> None:
        pass

    def start_tls(self) -> bool:
        return False


class _Sorry:
    """Greets with its words, and goodbye."""

    starttls_refused = b""

    def __init__(self, words: bytes) -> None:
        self._words = words

    def greeting(self) -> bytes:
        return self._words

    async def greet(self, spoken: Callable[[], bool]) -> Answer:
        return Answer(self._words, Then.CLOSE)

    async def handle(self, event: Any) -> Answer:
        return Answer(then=Then.CLOSE)

    def tls_started(self, description: str) -> None:
        pass

    def too_many_errors(self) -> bytes | None:
        return None

    def timed_out(self) -> bytes:
        return b""

    def closing_down(self) -> bytes:
        return b""

    def lost(self) -> None:
        pass
