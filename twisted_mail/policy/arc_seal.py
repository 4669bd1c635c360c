"""Sealing what is forwarded: one more set of an Authenticated Received Chain (RFC 8617 section 5.1).

The three fields are made over the bytes that leave, after every other change, DKIM signatures too. It knows no clock
and no file: key and time are arguments. RSA keys only, as RFC 8617 knows no other.
"""

from __future__ import annotations

from typing import Final

from ..message.dkim_header import HeaderFields
from .arc import MAX_INSTANCES, Chain, highest_instance, instance_of
from .dkim_sign import SigningKey, complete, fold, scope_words, signed_names
from .verdicts import Arc

__all__ = ["seal"]

_MAX_FIELDS: Final = 100_000
_ORDER: Final = (b"arc-authentication-results", b"arc-message-signature", b"arc-seal")


def seal(
    header: bytes, body_hash: bytes, results: str, chain: Arc, key: SigningKey, *, now: int
) -> bytes:
    """ARC-Seal, ARC-Message-Signature and ARC-Authentication-Results, LF line ends: to be put on top of the message.

    `header`: the block as it leaves; `body_hash`: ``BodyHash(relaxed=True).digest()``; `results`: what our
    Authentication-Results field says, from the authserv-id on; `chain`: the verdict of validation when it arrived,
    which cv= repeats; `now` in seconds since 1970.

    b"" when nothing may be added: the chain had ended in cv=fail, has 50 sets, is not the one that was judged, or its
    verdict is no verdict (temperror).
    """
    fields = HeaderFields(header, _MAX_FIELDS)
    last = highest_instance(fields)
    # RFC 8617 section 5.1, step 2, and section 4.2.1
    if chain.result not in ("none", "pass", "fail") or last >= MAX_INSTANCES:
        return b""
    if chain.result == "fail" and Chain(fields, now).ended:
        return b""
    if (chain.result == "none") != (last == 0) or (
        chain.result == "pass" and chain.instances != last
    ):
        # what leaves is not what was judged
        return b""
    instance = last + 1
    mark = f"i={instance};".encode()
    who = f"d={key.domain}; s={key.selector}; t={now};".encode("ascii").split()
    algorithm = f"a={key.algorithm};".encode("ascii")
    about = fold(b"ARC-Authentication-Results", [mark, *results.encode().split()])
    # RFC 8617 section 4.1.2: DKIM signatures are covered, fields of ARC and Authentication-Results are not
    names = signed_names(fields, (b"dkim-signature",))
    message = complete(
        b"ARC-Message-Signature",
        [mark, algorithm, b"c=relaxed/relaxed;", *who, *scope_words(names, body_hash)],
        key,
        fields.signed(names, relaxed=True),
    )
    whole = HeaderFields(about + message + header, _MAX_FIELDS)
    own = [whole.relaxed(0), whole.relaxed(1)]
    # RFC 8617 section 5.1.2: a broken chain is sealed as if this set were the only one
    before = [] if chain.result == "fail" else _sets(fields)
    status = f"cv={chain.result};".encode()
    top = complete(b"ARC-Seal", [mark, algorithm, status, *who], key, b"".join([*before, *own]))
    return top + message + about


def _sets(fields: HeaderFields) -> list[bytes]:
    """The sets of a chain that passes, in their order (RFC 8617 section 5.1.1)."""
    numbered = []
    for place, name in enumerate(_ORDER):
        for number in fields.positions.get(name, ()):
            numbered.append((instance_of(fields, number), place, fields.relaxed(number)))
    return [relaxed for _, _, relaxed in sorted(numbered)]
