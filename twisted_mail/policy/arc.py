"""Validating an Authenticated Received Chain (RFC 8617 section 5.2).

`Chain` is made from the header and judges its structure at once, so that a chain that cannot pass asks for no key;
`judge` then needs the keys and the body's hash. Each field is canonicalized and hashed once, however long the chain is.
Never raises for any bytes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Final

from ..message.dkim_header import HeaderFields, relaxed_field, without_signature
from .dkim_key import Problem, PublicKey
from .dkim_signature import Kind, Signature, parse_signature
from .verdicts import Arc

__all__ = ["MAX_INSTANCES", "Chain", "Judge", "highest_instance", "instance_of"]

MAX_INSTANCES: Final = 50  # RFC 8617 section 4.2.1
_MAX_FIELD: Final = 65_536

_RESULTS: Final = b"arc-authentication-results"
_MESSAGE: Final = b"arc-message-signature"
_SEAL: Final = b"arc-seal"
_NAMES: Final = (_RESULTS, _MESSAGE, _SEAL)

# RFC 8617 section 4.1.1: arc-info, with a comment where CFWS may stand
_INFO: Final = re.compile(
    rb"\s*(?:\([^()]*\)\s*)?i\s*=\s*([1-9][0-9]?)\s*(?:\([^()]*\)\s*)?;", re.IGNORECASE
)
_ANY_INSTANCE: Final = re.compile(
    rb"(?:\A|;)\s*(?:\([^()]*\)\s*)?i\s*=\s*([1-9][0-9]?)\s*(?:\([^()]*\)\s*)?(?:;|\Z)"
)
_CONTROLS: Final = dict.fromkeys([*range(32), *range(127, 160), 0x2028, 0x2029], " ")

Judge = Callable[[Signature, int], Problem | None]
"""Of a signature over a body and the number of its field: why it does not pass."""


def highest_instance(header: HeaderFields) -> int:
    """The highest i= of any ARC field, 0 for none; what a sealer counts on from."""
    return max(
        (
            instance_of(header, number)
            for name in _NAMES
            for number in header.positions.get(name, ())[: 2 * MAX_INSTANCES]
        ),
        default=0,
    )


def instance_of(header: HeaderFields, number: int) -> int:
    """The i= of a field of ARC, 0 when it has none."""
    match = _ANY_INSTANCE.search(header.value(number)[:_MAX_FIELD])
    return int(match[1]) if match is not None else 0


class Chain:
    """The chain of a header.

    `verdict` is not None when nothing but the header was needed. `key_names`: of the keys that `judge` wants.
    `message`: the newest ARC-Message-Signature, when its body hash is wanted. `ended`: the newest seal says that the
    chain has failed before.
    """

    def __init__(self, header: HeaderFields, now: float) -> None:
        self._header = header
        self._seals: list[Signature] = []
        self._numbers: list[tuple[int, int, int]] = []
        self.verdict: Arc | None = None
        self.message: Signature | None = None
        self.ended = False
        self.count = 0
        try:
            self._collect(now)
        except _Broken as broken:
            self.message = None
            self.verdict = Arc("fail", self.count, reason=str(broken))

    @property
    def key_names(self) -> set[str]:
        if self.message is None:
            return set()
        return {self.message.key_name, *(seal.key_name for seal in self._seals)}

    def judge(self, keys: Callable[[str], PublicKey | Problem], judge: Judge) -> Arc:
        """The verdict. `judge` is that of DKIM, for the newest ARC-Message-Signature."""
        if self.verdict is None:
            problem = self._judge(keys, judge)
            if problem is None:
                self.verdict = Arc(
                    "pass",
                    self.count,
                    tuple(seal.domain for seal in self._seals),
                    tuple(self._results(number) for number, _, _ in self._numbers),
                )
            else:
                result = "temperror" if problem.result == "temperror" else "fail"
                self.verdict = Arc(result, self.count, reason=problem.reason)
        return self.verdict

    def _collect(self, now: float) -> None:
        found = [self._header.positions.get(name, []) for name in _NAMES]
        if not any(found):
            self.verdict = Arc("none")
            return
        if max(map(len, found)) > MAX_INSTANCES:
            raise _Broken(f"there are more than {MAX_INSTANCES} sets")
        self.count = max(map(len, found))
        seals = self._by_instance(
            (number, parse_signature(self._header.value(number), Kind.SEAL, now))
            for number in found[2]
        )
        # RFC 8617 section 5.2, step 2
        if seals and seals[max(seals)][1].chain == "fail":
            self.ended = True
            raise _Broken("the newest seal says that the chain has failed")
        messages = self._by_instance(
            (number, parse_signature(self._header.value(number), Kind.MESSAGE, now))
            for number in found[1]
        )
        results = self._by_instance((number, self._instance(number)) for number in found[0])
        # RFC 8617 section 5.2, step 3
        expected = set(range(1, self.count + 1))
        for what, these in (("seals", seals), ("signatures", messages), ("results", results)):
            if set(these) != expected:
                raise _Broken(f"the instances of the {what} are not 1 to {self.count}")
        for instance in sorted(expected):
            number, seal = seals[instance]
            if seal.problem is not None:
                raise _Broken(f"seal {instance}: {seal.problem.reason}")
            if seal.chain != ("none" if instance == 1 else "pass"):
                raise _Broken(f"seal {instance} has a wrong cv=")
            self._seals.append(seal)
            self._numbers.append((results[instance][0], messages[instance][0], number))
        message = messages[self.count][1]
        if message.problem is not None:
            raise _Broken(f"message signature {self.count}: {message.problem.reason}")
        self.message = message

    def _by_instance(
        self, found: Iterable[tuple[int, Signature]]
    ) -> dict[int, tuple[int, Signature]]:
        those: dict[int, tuple[int, Signature]] = {}
        for number, one in found:
            if not one.instance:
                reason = one.problem.reason if one.problem is not None else "i= is no instance"
                raise _Broken(f"a field of the chain: {reason}")
            if one.instance in those:
                raise _Broken(f"instance {one.instance} is there twice")
            those[one.instance] = number, one
        return those

    def _instance(self, number: int) -> Signature:
        found = Signature()
        match = _INFO.match(self._header.value(number))
        if match is not None and int(match[1]) <= MAX_INSTANCES:
            found.instance = int(match[1])
        return found

    def _judge(self, keys: Callable[[str], PublicKey | Problem], judge: Judge) -> Problem | None:
        assert self.message is not None
        # RFC 8617 section 5.2, step 4
        problem = judge(self.message, self._numbers[-1][1])
        if problem is not None:
            return Problem(problem.result, f"message signature {self.count}: {problem.reason}")
        # RFC 8617 section 5.2, step 6
        digests = self._seal_digests()
        for instance in range(self.count, 0, -1):
            seal = self._seals[instance - 1]
            key = keys(seal.key_name)
            if isinstance(key, Problem):
                return Problem(key.result, f"seal {instance}: {key.reason}")
            if key.kind != seal.key_kind:
                return Problem("fail", f"seal {instance}: the key is of another kind")
            if not key.verifies(seal.signature, digests[instance - 1]):
                return Problem("fail", f"seal {instance}: the signature is wrong")
        return None

    def _seal_digests(self) -> list[bytes]:
        """What each seal signs (RFC 8617 section 5.1.1): all sets up to its own, its own signature left out."""
        running = hashlib.sha256()
        digests = []
        for results, message, seal in self._numbers:
            running.update(self._header.relaxed(results) + self._header.relaxed(message))
            own = running.copy()
            own.update(
                relaxed_field(without_signature(self._header.field(seal))).removesuffix(b"\r\n")
            )
            digests.append(own.digest())
            running.update(self._header.relaxed(seal))
        return digests

    def _results(self, number: int) -> str:
        value = self._header.value(number)
        match = _INFO.match(value)
        text = value[match.end() :] if match is not None else value
        return " ".join(text.decode(errors="replace").translate(_CONTROLS).split())


class _Broken(Exception):
    """The chain cannot pass; its text is the reason."""
