"""The resolver of production: `make_resolver` gives it.

It asks in threads of its own (`pool`, `query`), remembers what it was told (`cache`), and asks what is being asked
already only once. What it knows it answers without a Deferred. Not for two threads: it belongs to the reactor's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from .cache import Cache, Key, Outcome
from .interfaces import Answer, DnsError, Mx, Srv, Tlsa
from .pool import Pool

__all__ = ["StubResolver", "make_resolver", "parse_server"]

T = TypeVar("T")

_BACKLOG = 10_000  # questions under way or waiting for a thread


class Threads(Protocol):
    """What the resolver needs of `pool.Pool`."""

    def call(self, work: Callable[[], T]) -> Deferred[T]: ...

    def close(self) -> None: ...


class StubResolver:
    """An `interfaces.Resolver`.

    `ask` takes a kind and a name, blocks, and raises DnsError; it is called in `threads`. Who stops waiting
    (cancels) does not stop the question when others wait for it, too; one that nobody waits for any more when its
    turn comes is not asked. More than `backlog` questions at once are refused with DnsError.
    """

    def __init__(
        self,
        ask: Callable[[str, str], Answer[Any]],
        threads: Threads,
        cache: Cache,
        *,
        backlog: int = _BACKLOG,
    ) -> None:
        self._ask = ask
        self._threads = threads
        self._cache = cache
        self._backlog = backlog
        self._waiting: dict[Key, list[Deferred[Outcome]]] = {}
        self._closed = False

    async def mx(self, name: str) -> Answer[Mx]:
        return await self._find("MX", name)

    async def addresses(self, name: str, family: int) -> Answer[str]:
        return await self._find("A" if family == 4 else "AAAA", name)

    async def tlsa(self, name: str) -> Answer[Tlsa]:
        return await self._find("TLSA", name)

    async def txt(self, name: str) -> Answer[bytes]:
        return await self._find("TXT", name)

    async def srv(self, name: str) -> Answer[Srv]:
        return await self._find("SRV", name)

    async def alias(self, name: str) -> Answer[str]:
        return await self._find("CNAME", name)

    async def pointer(self, address: str) -> Answer[str]:
        ip = ipaddress.ip_address(address.partition("%")[0])
        # An IPv4 address that came in over an IPv6 socket is looked up as what it is.
        mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
        return await self._find("PTR", (mapped or ip).reverse_pointer)

    def close(self) -> None:
        """Whoever waits gets DnsError now, and so does who asks later. Questions under way end by themselves."""
        self._closed = True
        self._threads.close()
        waiting, self._waiting = self._waiting, {}
        for (kind, name), waiters in waiting.items():
            _answer(waiters, f"{kind} of {name}: the resolver is closed")

    async def _find(self, kind: str, name: str) -> Answer[Any]:
        key = kind, name.lower().removesuffix(".")
        outcome = self._cache.get(key)
        if outcome is None:
            outcome = await self._wait_for(key)
        if isinstance(outcome, str):
            raise DnsError(outcome)
        return outcome

    def _wait_for(self, key: Key) -> Deferred[Outcome]:
        """What is asked already, or is asked now."""
        waiters = self._waiting.get(key)
        first = waiters is None
        if waiters is None:
            if self._closed or len(self._waiting) >= self._backlog:
                why = "the resolver is closed" if self._closed else "too many questions at once"
                raise DnsError(f"{key[0]} of {key[1]}: {why}")
            waiters = self._waiting[key] = []
        waiter: Deferred[Outcome] = Deferred(waiters.remove)
        waiters.append(waiter)
        if first:
            asked = waiters
            self._threads.call(lambda: self._in_thread(key, asked)).addBoth(self._over, key)
        return waiter

    def _in_thread(self, key: Key, waiters: list[Deferred[Outcome]]) -> Outcome | None:
        if not waiters:  # from another thread: at worst it is asked for nobody
            return None
        try:
            return self._ask(*key)
        except DnsError as error:
            return str(error)

    def _over(self, outcome: Outcome | Failure | None, key: Key) -> None:
        waiters = self._waiting.pop(key, [])
        if isinstance(outcome, Failure):  # a fault of ours; temporary, as what is unknown is
            outcome = f"{key[0]} of {key[1]}: {outcome.getErrorMessage()}"
        if outcome is None:
            # It was not asked because nobody waited; somebody may have come since.
            if waiters:
                self._ask_again(key, waiters)
            return
        outcome = self._cache.put(key, outcome)
        _answer(waiters, outcome)

    def _ask_again(self, key: Key, waiters: list[Deferred[Outcome]]) -> None:
        self._waiting[key] = waiters
        self._threads.call(lambda: self._in_thread(key, waiters)).addBoth(self._over, key)


def _answer(waiters: list[Deferred[Outcome]], outcome: Outcome) -> None:
    while waiters:
        waiters.pop(0).callback(outcome)


def parse_server(text: str) -> tuple[str, int]:
    """``192.0.2.1``, ``192.0.2.1:5301``, ``2001:db8::1`` or ``[2001:db8::1]:53`` → address and port (53).

    Raises ValueError with a text for people: host names are none, for who would look them up?
    """
    address, port = text, "53"
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is no address of a DNS server")
        port = rest[1:] if rest else port
    elif text.count(":") == 1:
        address, _, port = text.partition(":")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ValueError(
            f"{text!r} is no address of a DNS server: an IP address is needed, and perhaps a port"
        ) from None
    if not (port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536):
        raise ValueError(f"{text!r}: {port!r} is no port")
    return address, int(port)


def make_resolver(
    reactor: Any,
    *,
    servers: Sequence[str] = (),
    lifetime: float = 8.0,
    trust_ad: bool = False,
    threads: int = 128,
    entries: int = 20_000,
) -> StubResolver:
    """A resolver that asks `servers` (as `parse_server` reads them), by default those of ``/etc/resolv.conf``.

    `reactor` provides IReactorTime and IReactorFromThreads. `lifetime`: seconds for one question, once a thread has
    it. `trust_ad`: the servers validate DNSSEC, and nobody can change what they say on its way here: they are on this
    host. `threads`: the most there may be; a name whose servers are dead keeps one for `lifetime`, and all others
    must get past those. `entries`: of the cache.

    Nothing is read, started or imported before the first question. Close it at the end.
    """
    addresses = [parse_server(server) for server in servers]
    questions: Callable[[str, str], Answer[Any]] | None = None

    def ask(kind: str, name: str) -> Answer[Any]:
        nonlocal questions
        if questions is None:  # two threads may do this at once: then one of them stays
            from .query import Questions

            questions = Questions(addresses, lifetime=lifetime, trust_ad=trust_ad)
        return questions(kind, name)

    return StubResolver(
        ask, Pool(reactor.callFromThread, threads), Cache(reactor.seconds, entries=entries)
    )
