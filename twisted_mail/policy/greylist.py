"""Greylisting (RFC 6647): who was never here is asked to come again, and mail servers do.

A triplet is the client's network (/24, /64), MAIL FROM without what changes from message to message (`sender_key`), and
RCPT. The first time it is put off; after `delay`, and within `window` of the first time, it passes, and then for
`lifetime` from its last use. A network whose mail has passed `learn` times in different triplets is known, and so is a
domain that SPF vouches for: nothing of theirs is put off any more, until it was silent for `lifetime`.

Never put off: clients on an allow list, what comes from ``<>`` (unless `bounces`), and what is known. A bounce is
awaited by somebody here, and a server that asks whether a sender exists (a callout) asks with ``<>``: put off, it holds
back our own users' mail at the other side. Spam from ``<>`` is little, and other signs are left for it.

Everything is answered from memory: some microseconds a RCPT. What is worth keeping is given by `take` to be written
later, and comes back by `load`; a crash costs what was not written: somebody is put off once more.

Where several processes serve a site (`join`), each knows all: what changes in one is told to the others as the row that
it is now. Two rows for one key become one: the earlier first time, the later use, the greater number.

Bounded: `size` triplets that wait, as many that passed, as many networks and domains, 3 x `size` in all, at most 400
bytes each (50 000 that wait: 20 MB); the one that waits longest goes first. A network has no more than `PER_NETWORK`
that wait: beyond that they count as one, so that a flood from there puts off itself only. What waits to be written is
as many at most.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import blake2b
from math import isfinite
from typing import Any, Final, NamedTuple

from ..address import Address
from ..siblings import News, Siblings
from ..status import MailError
from .rates import Row, time_text, wider_network

__all__ = ["Grey", "Greylist", "GreylistSettings", "sender_key"]

KINDS: Final = ("grey-wait", "grey-pass", "grey-known")
PER_NETWORK: Final = 500
CHANGED: Final = "grey"
"""News: which of `KINDS`, the key (hexadecimal, of a triplet), the time (0: it is forgotten), network or number."""
_PAIR: Final = struct.Struct("<dd")


class GreylistSettings(NamedTuple):
    """Times in seconds. `learn`: triplets that must pass until a network or domain is known; 0: none ever is."""

    delay: float = 300
    window: float = 2 * 86_400
    lifetime: float = 36 * 86_400
    learn: int = 5
    bounces: bool = False
    size: int = 50_000


class Grey(NamedTuple):
    """`wait`: seconds until it will pass; 0: it passes. `why` is one line for the story of the message."""

    wait: float
    why: str

    @property
    def error(self) -> MailError:
        """What the client is told (RFC 6647 section 5: a 4xx at RCPT)."""
        text = f"Greylisted: this server does not know you yet; try again in {time_text(self.wait)}"
        return MailError(451, "4.7.1", text, self.why)


class Greylist:
    """What is known of networks, senders and recipients. `now`: seconds since 1970; `salt`: bytes of the site's own,
    the same after a restart and in all processes; `remembers`: whether somebody will `take` what changed."""

    def __init__(
        self,
        settings: GreylistSettings,
        now: Callable[[], float],
        salt: bytes = b"",
        *,
        remembers: bool = True,
    ) -> None:
        self._settings = settings
        self._now = now
        self._salt = salt[:16]
        # When it came first; in that order
        self._waiting: dict[bytes, tuple[float, str]] = {}
        self._crowd: dict[str, int] = {}
        # When it was used last; in that order
        self._passed: dict[bytes, float] = {}
        # How often, and when last; in that order
        self._known: dict[str, tuple[int, float]] = {}
        self._changed: dict[tuple[int, bytes | str], None] = {}
        self._remembers = remembers
        self._siblings: Siblings | None = None

    def join(self, siblings: Siblings) -> None:
        """From now on tell the other processes what changes, and hear it from them."""
        self._siblings = siblings
        siblings.hear(CHANGED, self._hear)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._passed) + len(self._known)

    def check(
        self,
        ip: str,
        sender: Address | None,
        recipient: Address,
        *,
        spf_domain: str = "",
        allowed: bool = False,
    ) -> Grey:
        """At RCPT. `sender` None: ``<>``; `spf_domain`: MAIL FROM's when SPF says pass, else ""; `allowed`: an allow
        list has the client. Each call counts as a visit."""
        if allowed:
            return _ALLOWED
        if sender is None and not self._settings.bounces:
            return _BOUNCE
        network = wider_network(ip, 24, 64)
        now = self._now()
        if self._is_known(network, now):
            return _KNOWN
        vouched = f"@{spf_domain}" if spf_domain else ""
        if vouched and self._is_known(vouched, now):
            return _VOUCHED
        who = "" if sender is None else sender_key(sender)
        key = self._key(network, who, recipient.key)
        last = self._passed.get(key)
        if last is not None:
            if now - last < self._settings.lifetime:
                self._use(key, last, now)
                return _PASSED
            self._drop_passed(key)
        if key not in self._waiting and self._crowd.get(network, 0) >= PER_NETWORK:
            key = self._key(network, "", "")
        waits = self._waiting.get(key)
        if waits is not None:
            elapsed = now - waits[0]
            # A clock that was set back: begin anew
            if 0 <= elapsed < self._settings.delay:
                return Grey(self._settings.delay - elapsed, "greylisted: it came again too early")
            self._drop_waiting(key)
            if 0 <= elapsed <= self._settings.window:
                self._pass(key, now)
                self._learn(network, now)
                if vouched:
                    self._learn(vouched, now)
                return Grey(
                    0.0,
                    f"greylisting: it came again after {elapsed:.0f} seconds, as mail servers do",
                )
        self._put_off(key, network, now)
        return Grey(
            self._settings.delay,
            "greylisted: the first time from there, with this sender and recipient",
        )

    def take(self, most: int = 1000) -> list[Row]:
        """What changed and was not taken yet, at most `most` rows."""
        rows: list[Row] = []
        for change in list(self._changed)[:most]:
            del self._changed[change]
            rows.append(self._row(*change))
        return rows

    def load(self, rows: Iterable[Row]) -> None:
        """What was kept, those that are over soonest first; what is not understood is passed over."""
        now = self._now()
        size = self._settings.size
        for kind, raw, until, value in rows:
            if kind not in KINDS or len(value) < _PAIR.size or until <= now:
                continue
            first, second = _PAIR.unpack_from(value)
            # What comes from the future would never be over
            if not (isfinite(first) and isfinite(second) and 0 <= first <= now):
                continue
            if kind == KINDS[0] and len(self._waiting) < size:
                network = value[_PAIR.size :].decode("utf-8", "replace")
                if raw not in self._waiting:
                    self._waiting[raw] = (first, network)
                    self._crowd[network] = self._crowd.get(network, 0) + 1
            elif kind == KINDS[1] and len(self._passed) < size:
                self._passed[raw] = first
            elif kind == KINDS[2] and len(self._known) < size and 0 <= second < 2**31:
                self._known[raw.decode("utf-8", "replace")] = (int(second), first)

    def _key(self, network: str, who: str, recipient: str) -> bytes:
        text = f"{network}\0{who}\0{recipient}".encode("utf-8", "surrogateescape")
        return blake2b(text, digest_size=16, key=self._salt).digest()

    def _is_known(self, name: str, now: float) -> bool:
        entry = self._known.get(name)
        if entry is None:
            return False
        count, last = entry
        if now - last >= self._settings.lifetime:
            del self._known[name]
            self._change(2, name)
            return False
        if not self._settings.learn or count < self._settings.learn:
            return False
        if abs(now - last) > self._settings.lifetime / 32:
            self._seen(name, count, now)
        return True

    def _learn(self, name: str, now: float) -> None:
        self._seen(name, self._known.get(name, (0, 0.0))[0] + 1, now)

    def _seen(self, name: str, count: int, now: float) -> None:
        self._known.pop(name, None)
        self._known[name] = (min(count, 1_000_000), now)
        self._change(2, name)
        if len(self._known) > self._settings.size:
            gone = next(iter(self._known))
            del self._known[gone]
            self._change(2, gone)

    def _use(self, key: bytes, last: float, now: float) -> None:
        # Written at most thirty times in its life
        if abs(now - last) > self._settings.lifetime / 32:
            del self._passed[key]
            self._passed[key] = now
            self._change(1, key)

    def _pass(self, key: bytes, now: float) -> None:
        self._passed[key] = now
        self._change(1, key)
        # Two are looked at for one that comes: what is over goes without a sweep
        for _ in range(2):
            oldest = next(iter(self._passed))
            over = now - self._passed[oldest] >= self._settings.lifetime
            if not over and len(self._passed) <= self._settings.size:
                break
            self._drop_passed(oldest)

    def _put_off(self, key: bytes, network: str, now: float) -> None:
        self._waiting[key] = (now, network)
        self._crowd[network] = self._crowd.get(network, 0) + 1
        self._change(0, key)
        for _ in range(2):
            oldest = next(iter(self._waiting))
            over = now - self._waiting[oldest][0] > self._settings.window
            if not over and len(self._waiting) <= self._settings.size:
                break
            self._drop_waiting(oldest)

    def _drop_passed(self, key: bytes) -> None:
        del self._passed[key]
        self._change(1, key)

    def _drop_waiting(self, key: bytes) -> None:
        self._forget_waiting(key)
        self._change(0, key)

    def _forget_waiting(self, key: bytes) -> None:
        network = self._waiting.pop(key)[1]
        left = self._crowd.get(network, 0) - 1
        if left > 0:
            self._crowd[network] = left
        else:
            self._crowd.pop(network, None)

    def _change(self, kind: int, key: bytes | str) -> None:
        self._note(kind, key)
        if self._siblings is not None:
            self._siblings.tell(CHANGED, self._news(kind, key))

    def _news(self, kind: int, key: bytes | str) -> News:
        """What is so now."""
        if isinstance(key, str):
            count, last = self._known.get(key, (0, 0.0))
            return kind, key, last, count
        if kind == 1:
            return kind, key.hex(), self._passed.get(key, 0.0), 0
        first, network = self._waiting.get(key, (0.0, ""))
        return kind, key.hex(), first, network

    def _hear(self, news: News) -> None:
        kind, text, when, more = int(news[0]), str(news[1]), float(news[2]), news[3]
        if kind == 2:
            self._hear_known(text, when, int(more))
            return
        key = bytes.fromhex(text)
        if kind == 1:
            last = self._passed.pop(key, 0.0)
            if when:
                self._passed[key] = max(when, last)
            self._trim(self._passed)
            self._note(kind, key)
            return
        before = self._waiting.get(key)
        if not when:
            if before is not None:
                self._forget_waiting(key)
        elif before is None:
            network = str(more)
            self._waiting[key] = (when, network)
            self._crowd[network] = self._crowd.get(network, 0) + 1
            if len(self._waiting) > self._settings.size:
                self._forget_waiting(next(iter(self._waiting)))
        else:
            self._waiting[key] = (min(when, before[0]), before[1])
        self._note(kind, key)

    def _hear_known(self, name: str, when: float, number: int) -> None:
        count, last = self._known.pop(name, (0, 0.0))
        if when:
            self._known[name] = (max(number, count), max(when, last))
        self._trim(self._known)
        self._note(2, name)

    def _trim(self, some: dict[Any, Any]) -> None:
        # Who had it first tells when it goes there; here the bound must hold, too
        if len(some) > self._settings.size:
            del some[next(iter(some))]

    def _note(self, kind: int, key: bytes | str) -> None:
        """It is to be taken."""
        if not self._remembers:
            return
        changed = self._changed
        changed[kind, key] = None
        if len(changed) > 3 * self._settings.size:
            del changed[next(iter(changed))]

    def _row(self, kind: int, key: bytes | str) -> Row:
        """What is so now; what is there no more is to be forgotten."""
        settings = self._settings
        raw = key.encode("utf-8", "surrogateescape") if isinstance(key, str) else key
        gone = (KINDS[kind], raw, 0.0, b"")
        if kind == 2:
            entry = self._known.get(str(key)) if isinstance(key, str) else None
            if entry is None:
                return gone
            count, last = entry
            return KINDS[2], raw, last + settings.lifetime, _PAIR.pack(last, float(count))
        if kind == 1:
            used = self._passed.get(raw)
            if used is None:
                return gone
            return KINDS[1], raw, used + settings.lifetime, _PAIR.pack(used, 0.0)
        waits = self._waiting.get(raw)
        if waits is None:
            return gone
        first, network = waits
        value = _PAIR.pack(first, 0.0) + network.encode("utf-8", "replace")
        return KINDS[0], raw, first + settings.window, value


_ALLOWED: Final = Grey(0.0, "not greylisted: an allow list has the client")
_BOUNCE: Final = Grey(0.0, "not greylisted: it is a bounce")
_KNOWN: Final = Grey(0.0, "not greylisted: mail from that network has come before")
_VOUCHED: Final = Grey(
    0.0, "not greylisted: mail of that domain has come before, and SPF says that it is the domain's"
)
_PASSED: Final = Grey(0.0, "not greylisted: it came again before, as mail servers do")

# Shapes of what servers put around a sender: the hash and day of SRS, the tag of BATV
_SRS0 = re.compile(r"srs0[=+-][^=]*=[^=]*=(.+)", re.DOTALL)
_SRS1 = re.compile(r"srs1[=+-][^=]*=([^=]+)=[=+-][^=]*=[^=]*=(.+)", re.DOTALL)
_BATV = re.compile(r"(?:prvs|btv1|msprvs1)=+[^=/]*=+(.+)", re.DOTALL)
_BATV_BEHIND = re.compile(r"prvs=(.+)/[0-9a-f]{8,12}", re.DOTALL)
_WORD = re.compile(r"[^\W_]+")
_MARKS = re.compile(r"#(?:[^\w\s#]?#)+")
_HEX = frozenset("0123456789abcdef")


@lru_cache(maxsize=4096)
def sender_key(sender: Address) -> str:
    """A sender without what changes from one message to the next: case, tags of SRS and BATV, numbers of VERP.

    ``bounce-4711-7f3a@lists.example`` gives ``bounce-#@lists.example``. Two senders of one domain may come out the
    same; that costs nothing but a chance to be put off.
    """
    local, _, domain = sender.key.rpartition("@")
    if found := _SRS1.fullmatch(local):
        local = f"{found[1]}={found[2]}"
    else:
        for shape in (_SRS0, _BATV_BEHIND, _BATV):
            if found := shape.fullmatch(local):
                local = found[1]
                break
    head = local.partition("+")[0]
    return f"{_MARKS.sub('#', _WORD.sub(_mark, head))}@{domain}"


def _mark(found: re.Match[str]) -> str:
    word = found[0]
    if any(one.isdecimal() for one in word) or (len(word) > 3 and _HEX.issuperset(word)):
        return "#"
    return word
