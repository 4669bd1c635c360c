"""Password records: argon2id, and SCRAM-SHA-256 keys made at the same time.

Promises: `Hasher` never hashes on the reactor thread, never more than two at a time (in one of several processes of a
site: one, so that a site of as many as it has cores never fills them twice), and says 454
4.7.0 instead of letting the line of those who wait grow without bound. Who comes from where he is at home has a line of
his own, before the other one, and strangers leave one turn to them. Both hashes are of the same
prepared password (RFC 4013). `Remembered` holds keyed hashes only, in memory only, and forgets what
no longer fits the record, so a changed password counts at once.

It does not know users: `accounts.directory` keeps the records, `accounts.checkers` asks for them.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar

from argon2.exceptions import VerifyMismatchError
from argon2.low_level import ARGON2_VERSION, Type, hash_secret, verify_secret
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from ..sasl import ScramKeys, saslprep
from ..status import MailError
from ..world import World

__all__ = [
    "MAX_AT_ONCE",
    "Cost",
    "Hasher",
    "PasswordRecord",
    "Refused",
    "Remembered",
    "hash_password",
    "verify_password",
]

P = ParamSpec("P")
T = TypeVar("T")

MAX_AT_ONCE: Final = 2
MAX_WAITING: Final = 64
_SALT_SIZE: Final = 16
_HASH_SIZE: Final = 32
_MAX_NAME: Final = 320


@dataclass(frozen=True, slots=True)
class Cost:
    """What a guess shall cost. `memory` in KiB.

    Memory and passes are the second recommendation of RFC 9106 section 4 (64 MiB, 3 passes). One
    lane in place of its four: lanes only spread the same work over more cores, and those are for
    the reactor. With `MAX_AT_ONCE`, logins take at most two cores and 128 MiB; one takes 150 ms.

    SCRAM's iterations are paid by the client at each login, on a telephone too, so they cannot be
    as dear: 10 000 is over twice the least that RFC 7677 section 4 allows. Whoever steals the
    records guesses through them, not through argon2id; docs/realms.md says how to go without.
    """

    memory: int = 64 * 1024
    passes: int = 3
    lanes: int = 1
    scram_iterations: int = 10_000


@dataclass(frozen=True, slots=True, repr=False)
class PasswordRecord:
    """What is kept of one password: an argon2 string (PHC notation) and SCRAM keys."""

    argon2: str
    scram: ScramKeys

    def encode(self) -> str:
        """One line of ASCII."""
        return f"{self.argon2} {self.scram.encode()}"

    @classmethod
    def parse(cls, text: str) -> PasswordRecord:
        """Undo `encode`. Raises ValueError."""
        argon2, scram = text.split(" ")
        return cls(argon2, ScramKeys.parse(scram))


def hash_password(
    password: str, entropy: Callable[[int], bytes], cost: Cost | None = None
) -> PasswordRecord:
    """Make a record; blocks. ValueError for what cannot be a password."""
    cost = cost or Cost()
    try:
        prepared = saslprep(password)
    except ValueError as error:
        raise ValueError(f"the password cannot be used: {error}") from None
    if not prepared:
        raise ValueError("the password is empty")
    argon2 = hash_secret(
        prepared.encode(),
        entropy(_SALT_SIZE),
        time_cost=cost.passes,
        memory_cost=cost.memory,
        parallelism=cost.lanes,
        hash_len=_HASH_SIZE,
        type=Type.ID,
    )
    scram = ScramKeys.derive(prepared, entropy(_SALT_SIZE), cost.scram_iterations)
    return PasswordRecord(argon2.decode(), scram)


def verify_password(argon2: str, password: str) -> bool:
    """Whether `password` is the one of this argon2 string. Blocks.

    Takes its time also for a password that could never have been set.
    """
    try:
        prepared = saslprep(password, stored=False)
    except ValueError:
        # Prohibited, so never set: no prepared password holds a NUL.
        prepared = "\0"
    try:
        return verify_secret(argon2.encode(), prepared.encode(), Type.ID)
    except VerifyMismatchError:
        return False


class Hasher:
    """Hashes in threads: `at_once` at a time, each with the memory of its `Cost`, and `MAX_WAITING` in each line."""

    def __init__(
        self, world: World, cost: Cost | None = None, *, at_once: int = MAX_AT_ONCE
    ) -> None:
        self._world = world
        self._cost = cost or Cost()
        self._free = at_once
        # A core is left to those who are at home, and to everything else: who guesses can keep all others busy.
        self._most_strangers = max(1, at_once - 1)
        self._strangers = 0
        # Who goes first, and the others.
        self._lines: tuple[deque[Deferred[None]], deque[Deferred[None]]] = (deque(), deque())
        self.dummy = self._dummy_argon2()
        """An argon2 string of the same cost that no password fits: for names that do not exist."""

    @property
    def scram_iterations(self) -> int:
        return self._cost.scram_iterations

    async def make(self, password: str) -> PasswordRecord:
        """`hash_password` in a thread. MailError 454 4.7.0 when too many wait."""
        return await self._in_turn(True, hash_password, password, self._world.entropy, self._cost)

    async def verify(self, argon2: str, password: str, first: bool = False) -> bool:
        """`verify_password` in a thread, before those that are not `first`. MailError 454 4.7.0 when too many wait."""
        return await self._in_turn(first, verify_password, argon2, password)

    async def _in_turn(
        self, first: bool, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        line = self._lines[not first]
        if self._may(first):
            self._begin(first)
        elif len(line) >= MAX_WAITING:
            # RFC 4954 section 6
            raise MailError(454, "4.7.0", "Too many logins at once, try again later")
        else:
            mine: Deferred[None] = Deferred(line.remove)
            line.append(mine)
            await mine
        # Who waits may be cancelled; the thread works on, and its turn ends when it does.
        answer: Deferred[T] = Deferred()

        def end_turn(outcome: T | Failure) -> None:
            self._end(first)
            answer.callback(outcome)

        self._world.threads.call(work, *args, **kwargs).addBoth(end_turn)
        return await answer

    def _may(self, first: bool) -> bool:
        return self._free > 0 and (first or self._strangers < self._most_strangers)

    def _begin(self, first: bool) -> None:
        self._free -= 1
        self._strangers += not first

    def _end(self, first: bool) -> None:
        self._free += 1
        self._strangers -= not first
        for others, line in enumerate(self._lines):
            if line and self._may(not others):
                self._begin(not others)
                line.popleft().callback(None)
                return

    def _dummy_argon2(self) -> str:
        cost = self._cost
        salt, tag = (
            b64encode(self._world.entropy(size)).decode().rstrip("=")
            for size in (_SALT_SIZE, _HASH_SIZE)
        )
        parameters = f"m={cost.memory},t={cost.passes},p={cost.lanes}"
        return f"$argon2id$v={ARGON2_VERSION}${parameters}${salt}${tag}"


class Remembered:
    """Passwords that were right, for `keep` seconds, at most `size` of them.

    Clients that poll would pay for argon2id each time. What is held is a hash under a key of this
    process of password and record together. Nothing of it is told to other processes of a site: each
    pays once for a client it has not seen, and no password's hash leaves the memory it is in.
    """

    def __init__(self, world: World, *, keep: float = 300.0, size: int = 10_000) -> None:
        self._world = world
        self._keep = keep
        self._size = size
        self._key = world.entropy(32)
        self._known: dict[int, tuple[bytes, float]] = {}

    def knows(self, user: int, record: PasswordRecord, password: str) -> bool:
        """Whether this password of user id `user` was right lately, under this very record."""
        digest, until = self._known.get(user, (b"", 0.0))
        if until <= self._world.now():
            return False
        return hmac.compare_digest(digest, self.digest(record, password))

    def add(self, user: int, record: PasswordRecord, password: str) -> None:
        """It was right just now."""
        self._known.pop(user, None)
        if len(self._known) >= self._size:
            del self._known[next(iter(self._known))]
        self._known[user] = (self.digest(record, password), self._world.now() + self._keep)

    def digest(self, record: PasswordRecord, password: str) -> bytes:
        """What tells this password, under this record, from others; it means nothing to another process."""
        # surrogates: a str from anywhere shall not make it raise
        text = f"{record.argon2}\0{password}".encode(errors="surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()


class Refused:
    """Passwords that were wrong: the last `EACH` of each name, at most `size` names, under a key of this process.

    A telephone with an old password tries it for weeks; it costs no argon2id each time. A record that is changed has
    other hashes, so a password that is right from now on counts at once.
    """

    EACH: Final = 8

    def __init__(self, world: World, size: int = 10_000) -> None:
        self._key = world.entropy(32)
        self._size = size
        self._wrong: OrderedDict[str, deque[bytes]] = OrderedDict()

    def digest(self, argon2: str, name: str, password: str) -> bytes:
        """What tells it from others of this name, under this record."""
        text = f"{argon2}\0{name}\0{password}".encode(errors="surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=16).digest()

    def knows(self, name: str, digest: bytes) -> bool:
        """Whether it was wrong lately."""
        return digest in self._wrong.get(name[:_MAX_NAME], ())

    def add(self, name: str, digest: bytes) -> None:
        """It was wrong just now."""
        name = name[:_MAX_NAME]
        wrong = self._wrong.pop(name, None)
        if wrong is None:
            wrong = deque(maxlen=self.EACH)
        self._wrong[name] = wrong
        if len(self._wrong) > self._size:
            self._wrong.popitem(last=False)
        wrong.append(digest)
