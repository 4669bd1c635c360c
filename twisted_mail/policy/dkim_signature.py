"""What a DKIM-Signature, ARC-Message-Signature or ARC-Seal field says (RFC 6376 section 3.5, RFC 8617 section 4.1).

`parse_signature` reads as much as it can: also of a field that is wrong somewhere, domain and selector are known when
they could be read, and `problem` says what is wrong. Never raises for any bytes.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from ..address import normalize_domain
from ..message.tag_list import base64_value, colon_list, parse_tags
from .dkim_key import Problem, key_name

__all__ = ["Kind", "Signature", "parse_signature"]

MAX_FIELD: Final = 16_384
"""Octets of a signature field."""
MAX_NAMES: Final = 512
"""Names in h=."""
DRIFT: Final = 300
"""Seconds that a signer's clock may be wrong by (RFC 6376 section 3.5: a "fudge factor")."""

_NUMBER: Final = re.compile(r"[0-9]{1,20}")
_INSTANCE: Final = re.compile(r"[1-9][0-9]?")
_ALGORITHMS: Final = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}
_CANONICAL: Final = {"simple": False, "relaxed": True}
_MAX_NAME: Final = 253
_FIELD_NAME: Final = re.compile(r"[!-9<-~]*")


class Kind(Enum):
    """Which field."""

    DKIM = "DKIM-Signature"
    MESSAGE = "ARC-Message-Signature"
    SEAL = "ARC-Seal"


class Signature:
    """One field. What stands in no field of its kind keeps its default; with a `problem` anything may.

    `key_kind`: rsa or ed25519; `names` of h=, in lower case; `length` is l=; `instance` and `chain` (cv=) of ARC.
    """

    __slots__ = (
        "algorithm", "body_hash", "chain", "domain", "expires", "identity", "instance", "key_kind", "length", "names",
        "problem", "relaxed_body", "relaxed_header", "selector", "signature", "start",
    )  # fmt: skip

    def __init__(self) -> None:
        self.algorithm = ""
        self.key_kind = ""
        self.domain = ""
        self.selector = ""
        self.identity = ""
        self.start = ""
        self.signature = b""
        self.body_hash = b""
        self.names: tuple[bytes, ...] = ()
        self.relaxed_header = False
        self.relaxed_body = False
        self.length: int | None = None
        self.expires: int | None = None
        self.instance = 0
        self.chain = ""
        self.problem: Problem | None = None

    @property
    def key_name(self) -> str:
        return key_name(self.selector, self.domain)


class _Refused(Exception):
    """Its text is the reason; `result` as a verdict has it."""

    def __init__(self, reason: str, result: str = "neutral") -> None:
        super().__init__(reason)
        self.result = result


def parse_signature(value: bytes, kind: Kind, now: float) -> Signature:
    """`value`: what stands behind the field's colon; `now` in seconds since 1970."""
    found = Signature()
    try:
        if len(value) > MAX_FIELD:
            raise _Refused(f"the signature has more than {MAX_FIELD} octets", "policy")
        try:
            tags = parse_tags(value)
        except ValueError as error:
            raise _Refused(f"the signature cannot be read: {error}") from None
        _read(found, tags, kind, now)
    except _Refused as refused:
        # RFC 8601 section 2.7.1: syntax errors are neutral
        found.problem = Problem(refused.result, str(refused))
    return found


def _read(found: Signature, tags: dict[str, str], kind: Kind, now: float) -> None:
    found.domain = _domain(tags, "d")
    found.selector = _domain(tags, "s")
    if len(found.key_name) > _MAX_NAME:
        raise _Refused("d= and s= are too long together")
    found.algorithm = _needed(tags, "a")
    signature = _needed(tags, "b")
    # RFC 6008 section 3: header.b, enough of it to tell it from others
    found.start = "".join(signature.split())[:8]
    try:
        found.signature = base64_value(signature)
    except ValueError:
        found.start = ""
        raise _Refused("b= is no base64") from None
    if kind is Kind.DKIM:
        # RFC 6376 section 3.5: v=
        if _needed(tags, "v") != "1":
            raise _Refused("v= is not 1")
        _read_identity(found, tags)
    else:
        _read_instance(found, tags)
    if kind is Kind.SEAL:
        # RFC 8617 section 4.1.3: h= MUST make the chain fail
        if "h" in tags:
            raise _Refused("a seal with h=")
        found.chain = _needed(tags, "cv")
        found.relaxed_header = True
    else:
        _read_scope(found, tags, kind)
    _read_times(found, tags, now)
    if found.algorithm == "rsa-sha1":
        # RFC 8301 section 3.1
        raise _Refused("rsa-sha1 is no longer a signature", "policy")
    if found.algorithm not in _ALGORITHMS:
        raise _Refused("its algorithm is not known")
    found.key_kind = _ALGORITHMS[found.algorithm]


def _needed(tags: dict[str, str], name: str) -> str:
    value = tags.get(name)
    if not value:
        raise _Refused(f"the signature has no {name}=")
    return value


def _domain(tags: dict[str, str], name: str) -> str:
    """d= or s=; U-labels may stand there (RFC 8616 section 5)."""
    text = _needed(tags, name)
    try:
        domain = normalize_domain(text)
    except ValueError:
        raise _Refused(f"{name}= is no domain name") from None
    # RFC 6376 section 3.5: domain-name has a dot
    if domain[0] == "[" or (name == "d" and "." not in domain):
        raise _Refused(f"{name}= is no domain name")
    return domain


def _read_identity(found: Signature, tags: dict[str, str]) -> None:
    found.identity = "@" + found.domain
    text = "".join(tags.get("i", "").split())
    if not text:
        return
    local, at, name = text.rpartition("@")
    try:
        domain = normalize_domain(name)
    except ValueError:
        domain = ""
    # RFC 6376 section 3.5: i= is of the same domain as d=, or of one below it
    if not at or not (domain == found.domain or domain.endswith("." + found.domain)):
        raise _Refused("i= is not of the domain d=", "permerror")
    found.identity = f"{local}@{domain}"


def _read_instance(found: Signature, tags: dict[str, str]) -> None:
    text = tags.get("i", "")
    # RFC 8617 section 4.2.1
    if _INSTANCE.fullmatch(text) is None or int(text) > 50:
        raise _Refused("i= is no instance")
    found.instance = int(text)


def _read_scope(found: Signature, tags: dict[str, str], kind: Kind) -> None:
    """bh=, c=, h=, l= and q=."""
    try:
        found.body_hash = base64_value(_needed(tags, "bh"))
    except ValueError:
        raise _Refused("bh= is no base64") from None
    # RFC 8617 section 4.1.2 says "as DKIM"; the ARC test suite, and dkimpy, take relaxed for what has no c=
    usual = "simple" if kind is Kind.DKIM else "relaxed/relaxed"
    header, slash, body = tags.get("c", usual).partition("/")
    body = body if slash else "simple"
    if header not in _CANONICAL or body not in _CANONICAL:
        raise _Refused("its canonicalization is not known")
    found.relaxed_header, found.relaxed_body = _CANONICAL[header], _CANONICAL[body]
    if "h" not in tags:
        raise _Refused("the signature has no h=")
    names = colon_list(tags["h"].lower())
    if len(names) > MAX_NAMES:
        raise _Refused(f"h= names more than {MAX_NAMES} fields", "policy")
    if not all(map(_FIELD_NAME.fullmatch, names)):
        raise _Refused("h= has what is no name of a field")
    if kind is Kind.DKIM:
        # RFC 6376 section 5.4: From MUST be signed; section 6.1.1
        if "from" not in names:
            raise _Refused("From is not signed", "permerror")
    elif "arc-seal" in names:
        # RFC 8617 section 4.1.2
        raise _Refused("h= names ARC-Seal")
    found.names = tuple(name.encode() for name in names if name)
    if "l" in tags:
        found.length = _number(tags, "l")
    # RFC 6376 section 3.5: unknown methods are ignored
    if "q" in tags and "dns/txt" not in colon_list(tags["q"]):
        raise _Refused("its key is not in the DNS")


def _read_times(found: Signature, tags: dict[str, str], now: float) -> None:
    made = _number(tags, "t") if "t" in tags else None
    if "x" in tags:
        found.expires = _number(tags, "x")
        if made is not None and found.expires <= made:
            raise _Refused("x= is not after t=")
        if found.expires + DRIFT < now:
            raise _Refused("the signature has expired", "fail")


def _number(tags: dict[str, str], name: str) -> int:
    if _NUMBER.fullmatch(tags[name]) is None:
        raise _Refused(f"{name}= is no number")
    return int(tags[name])
