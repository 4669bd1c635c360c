"""Verifying the DKIM signatures of one message, and its ARC chain, while its body streams by (RFC 6376 section 6).

    verification = Verification(header, keys, now=world.now())
    verification.fetch()                       # the keys are asked for while the body comes
    for text in body:                          # if verification.body_hashes: nobody else needs it
        verification.update(text)
    dkim, arc = await verification.results()

Promises: no bytes make it raise. At most `Limits.signatures` signatures are looked at, each with at most one key, a
header of at most `Limits.fields` fields; each key is asked for once, a body hashed at most twice, as simple and as
relaxed, whatever the message says. A signature that covers only a part of the body (l=) never passes.

It awaits nothing but the resolver, who has time limits of its own; who waits less calls `cancel`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NamedTuple

from twisted.internet.defer import Deferred

from ..message.dkim_body import BodyHash
from ..message.dkim_header import HeaderFields, relaxed_field, simple_field, without_signature
from .arc import Chain
from .dkim_key import Keys, Problem, PublicKey
from .dkim_signature import Kind, Signature, parse_signature
from .verdicts import Arc, Dkim

__all__ = ["Limits", "Verification", "has_signatures"]

_DKIM: Final = b"dkim-signature"
_ANY: Final = re.compile(rb"^(?:dkim-signature|arc-)", re.IGNORECASE | re.MULTILINE)
_LATE: Final = Problem("temperror", "the key did not come in time")


def has_signatures(header: bytes) -> bool:
    """Whether there is anything to verify: else a `Verification` finds no signature and no chain."""
    return _ANY.search(header) is not None


class Limits(NamedTuple):
    """`signatures` that are looked at, the topmost; more are told of in one verdict. `fields` of a header that is.

    RFC 6376 section 6.1: a verifier may limit how many it tries.
    """

    signatures: int = 8
    fields: int = 2000


class Verification:
    """The signatures of one message.

    `header`: the block as it came, LF line ends, each field with its end, before anything was put on top or changed.
    `keys` are shared by all messages; `now` in seconds since 1970.
    """

    def __init__(
        self, header: bytes, keys: Keys, *, now: float, limits: Limits | None = None
    ) -> None:
        limits = limits or Limits()
        self._keys = keys
        self._header = HeaderFields(header, limits.fields)
        self._answers: dict[str, PublicKey | Problem] = {}
        self._wanted: set[str] = set()
        self._asking: list[Deferred[None]] = []
        self._fetched = False
        self._all: Deferred[None] | None = None
        self._signatures: list[tuple[int, Signature]] = []
        self._rest: tuple[Dkim, ...] = ()
        self._chain = Chain(self._header, now)
        if not self._header.complete:
            self._give_up(header, limits)
        else:
            self._read(limits, now)
        scopes = [found for _, found in self._signatures if found.problem is None]
        if self._chain.message is not None:
            scopes.append(self._chain.message)
        self._wanted = {found.key_name for found in scopes} | self._chain.key_names
        self._bodies = {
            relaxed: BodyHash(relaxed) for relaxed in {found.relaxed_body for found in scopes}
        }

    @property
    def body_hashes(self) -> frozenset[str]:
        """Which of ``simple`` and ``relaxed`` are wanted of the body. When none is, `update` does nothing."""
        return frozenset("relaxed" if relaxed else "simple" for relaxed in self._bodies)

    @property
    def key_names(self) -> frozenset[str]:
        """The names that are asked for keys."""
        return frozenset(self._wanted)

    def update(self, text: bytes) -> None:
        """More of the body, what follows the empty line: LF line ends, cut anywhere.

        It touches nothing else of this object: a pool thread may call it, one at a time.
        """
        for body in self._bodies.values():
            body.update(text)

    def fetch(self) -> None:
        """Ask for all keys now, side by side. Done once; `results` does it when nobody has."""
        if self._fetched:
            return
        self._fetched = True
        for name in sorted(self._wanted):
            known = self._keys.known(name)
            if known is not None:
                self._answers[name] = known
            else:
                self._asking.append(Deferred.fromCoroutine(self._ask(name)))

    def cancel(self) -> None:
        """Wait for no key any longer: those that have not come are temporary errors."""
        self._fetched = True
        asking, self._asking = self._asking, []
        for one in asking:
            one.cancel()

    async def results(self) -> tuple[tuple[Dkim, ...], Arc]:
        """The verdicts, in the order of the signatures from the top. After the last `update`; once.

        When it is cancelled, nothing is asked any more.
        """
        self.fetch()
        if self._missing():
            self._all = Deferred()
            try:
                await self._all
            except BaseException:
                self._all = None
                self.cancel()
                raise
        arc = self._chain.judge(self._key, self._judge)
        return tuple(self._verdict(*one) for one in self._signatures) + self._rest, arc

    # -- keys

    def _missing(self) -> bool:
        return bool(self._asking) and len(self._answers) < len(self._wanted)

    async def _ask(self, name: str) -> None:
        try:
            self._answers[name] = await self._keys.find(name)
        except Exception:  # a resolver that fails as it should not, and our own cancel
            self._answers[name] = _LATE
        waiting = self._all
        if waiting is not None and not self._missing():
            self._all = None
            waiting.callback(None)

    def _key(self, name: str) -> PublicKey | Problem:
        return self._answers.get(name, _LATE)

    # -- signatures

    def _give_up(self, header: bytes, limits: Limits) -> None:
        """A flood: a header that nobody sends who wants it to be read."""
        reason = f"the header has more than {limits.fields} fields"
        if _ANY.search(header) is not None:
            self._rest = (Dkim("neutral", reason=reason),)
            self._chain = Chain(HeaderFields(b"", 0), 0)
            self._chain.verdict = Arc("fail", reason=reason)

    def _read(self, limits: Limits, now: float) -> None:
        numbers = self._header.positions.get(_DKIM, [])
        for number in numbers[: limits.signatures]:
            found = parse_signature(self._header.value(number), Kind.DKIM, now)
            self._signatures.append((number, found))
        left = len(numbers) - limits.signatures
        if left > 0:
            reason = f"{left} more signatures were not looked at"
            self._rest = (Dkim("neutral", reason=reason),)

    def _verdict(self, number: int, found: Signature) -> Dkim:
        problem = found.problem or self._judge(found, number)
        key = self._key(found.key_name) if found.problem is None else None
        known = key if isinstance(key, PublicKey) else None
        return Dkim(
            problem.result if problem is not None else "pass",
            found.domain,
            found.selector,
            found.identity,
            found.algorithm,
            known.bits if known is not None else 0,
            found.start,
            known.testing if known is not None else False,
            problem.reason if problem is not None else "",
        )

    def _judge(self, found: Signature, number: int) -> Problem | None:
        """Why a signature over body and header does not pass (RFC 6376 sections 6.1.2 and 6.1.3)."""
        key = self._key(found.key_name)
        if isinstance(key, Problem):
            return key
        if key.kind != found.key_kind:
            return Problem("permerror", "the key is of another kind than the signature")
        # RFC 6376 section 3.6.1: t=s
        if key.strict and found.identity and found.identity.rpartition("@")[2] != found.domain:
            return Problem("permerror", "i= is not of the very domain d=, as the key demands")
        body = self._bodies[found.relaxed_body]
        digest = body.digest()
        partial = found.length is not None and found.length != body.length
        if found.length is not None and found.length > body.length:
            # RFC 6376 section 3.4.5
            return Problem("fail", "l= is more than the body has")
        if not partial and digest != found.body_hash:
            return Problem("fail", "the body is not what was signed")
        if not key.verifies(found.signature, self._header_digest(found, number)):
            return Problem("fail", "the header is not what was signed")
        if partial:
            # RFC 6376 section 8.2: what stands behind it may be anybody's
            return Problem(
                "policy", f"only {found.length} of {body.length} octets of the body are signed"
            )
        return None

    def _header_digest(self, found: Signature, number: int) -> bytes:
        """What the signature signs (RFC 6376 section 3.7)."""
        own = without_signature(self._header.field(number))
        canonical = relaxed_field if found.relaxed_header else simple_field
        return hashlib.sha256(
            self._header.signed(found.names, found.relaxed_header, but=number)
            + canonical(own).removesuffix(b"\r\n")
        ).digest()
