"""SPF records (RFC 7208 sections 4.6, 5, 6 and 12): text → terms, looked at once and remembered.

The whole record is checked before any of it is used (section 4.6). A `Spec` is text to expand: domain-spec,
macro-string or explain-string. No text makes it raise anything but ValueError, whose text is for people.

    record           = version terms *SP
    directive        = [ qualifier ] mechanism
    modifier         = redirect / explanation / unknown-modifier
    domain-spec      = macro-string domain-end
    domain-end       = ( "." toplabel [ "." ] ) / macro-expand
    macro-expand     = ( "%{" macro-letter transformers *delimiter "}" ) / "%%" / "%_" / "%-"
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final, NamedTuple

from .wording import one_line

__all__ = [
    "MAX_RECORD",
    "MAX_TERMS",
    "Macro",
    "Record",
    "Spec",
    "Term",
    "domain_spec",
    "explain_string",
    "parse",
    "select",
]

MAX_RECORD: Final = 8192
"""Octets; section 3.4 asks for fewer than 450, and real ones have up to 4 000."""
MAX_TERMS: Final = 1000
"""Of one record; one of addresses alone has no room for more than 700."""
_REMEMBERED: Final = 1024  # octets of a record that is remembered: nearly all are shorter

_VERSION: Final = b"v=spf1"
_RESULTS: Final = {"": "pass", "+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
# Section 4.6.1: "=" immediately after the name makes a modifier
_term = re.compile(r"([-+?~]?)([A-Za-z][A-Za-z0-9._-]*)(=?)(.*)", re.DOTALL).fullmatch
_CIDR4: Final = "(?:/(0|[1-9][0-9]?))?"
_CIDR6: Final = "(?:/(0|[1-9][0-9]{0,2}))?"
# Section 5.3: dual-cidr-length
_host = re.compile(f"(?::(.+?))?{_CIDR4}(?:/{_CIDR6[3:]}", re.DOTALL).fullmatch
_ip4 = re.compile(f":([0-9.]{{7,15}}){_CIDR4}").fullmatch
_ip6 = re.compile(f":([0-9A-Fa-f:.]{{2,45}}){_CIDR6}").fullmatch
_macro = re.compile(r"%\{([slodiphcrtv])([0-9]*)(r?)([-.+,/_=]*)\}", re.IGNORECASE).match
# Section 7.1: toplabel; not all digits, no hyphen at an end
_domain_end = re.compile(r"\.(?![0-9]+\.?\Z)[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.?\Z").search
_visible = re.compile(r"[!-~]*").fullmatch
_explaining = re.compile(r"[ -~]*").fullmatch


class Macro(NamedTuple):
    """Section 7.1. `letter` in lower case; `escaped`: it was upper-case; `parts` 0 is all of them."""

    letter: str
    parts: int
    reverse: bool
    delimiters: str
    escaped: bool


Spec = str | tuple[str | Macro, ...]
"""A str has no macros; a domain-spec in it is in lower case, without the last dot."""


class Term(NamedTuple):
    """A mechanism. `kind`: its name; `result`: what a match means; `text` as it stands there, fit for a header.

    `spec`: None is the domain itself. `network`: of ip4 and ip6, shifted right by `bits`; of a and mx `bits` and
    `bits6` are how many on the right do not count.
    """

    kind: str
    result: str
    text: str
    spec: Spec | None = None
    network: int = 0
    bits: int = 0
    bits6: int = 0


class Record(NamedTuple):
    terms: tuple[Term, ...]
    redirect: Spec | None = None
    explanation: Spec | None = None


def select(texts: tuple[bytes, ...]) -> list[bytes]:
    """Those of a name's TXT records that are SPF records (section 4.5)."""
    return [
        text
        for text in texts
        if text[:6].lower() == _VERSION and (len(text) == 6 or text[6] == 0x20)
    ]


def parse(text: bytes) -> Record:
    """One that `select` has chosen. Raises ValueError."""
    if len(text) > MAX_RECORD:
        raise ValueError(f"the record has {len(text)} octets")
    record = _known(text) if len(text) <= _REMEMBERED else _parsed(text)
    if isinstance(record, str):
        raise ValueError(record)
    return record


def domain_spec(text: str) -> Spec:
    """Section 7.1. Raises ValueError."""
    if "%" not in text:
        # RFC 7208 section 7.1: what stands before the last label may be any visible characters
        if not _visible(text) or not _domain_end(text):
            raise ValueError(f"{one_line(text, 80)} is no domain")
        return text.lower().removesuffix(".")
    parts = _parts(text, "slodiphv")
    last = parts[-1]
    if isinstance(last, str) and not (_domain_end(last) or text[-2:] in ("%%", "%_", "%-")):
        raise ValueError(f"{one_line(text, 80)} is no domain")
    return parts


def explain_string(text: str) -> Spec:
    """Section 6.2: what an exp= leads to. Raises ValueError."""
    if not _explaining(text):
        raise ValueError("the explanation has control characters, or octets that are not ASCII")
    return _parts(text, "slodiphvcrt") if "%" in text else text


def _parsed(text: bytes) -> Record | str:
    try:
        return _read(text)
    except ValueError as error:
        return str(error)


_known = lru_cache(maxsize=1024)(_parsed)


def _read(text: bytes) -> Record:
    try:
        words = text[6:].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise ValueError("the record is not ASCII") from None
    if len(words) > MAX_TERMS:
        raise ValueError(f"the record has more than {MAX_TERMS} terms")
    terms: list[Term] = []
    modifiers: dict[str, Spec] = {}
    for word in words:
        if not word:
            continue
        found = _term(word)
        if found is None:
            raise ValueError(f"{one_line(word, 80)} is no term")
        qualifier, name, equals, rest = found.groups()
        name = name.lower()
        if not equals:
            terms.append(_mechanism(name, _RESULTS[qualifier], rest, word))
        elif qualifier:
            raise ValueError(f"{one_line(word, 80)} is no term")
        elif name in ("redirect", "exp"):
            # RFC 7208 section 6
            if name in modifiers:
                raise ValueError(f"{name} stands there twice")
            modifiers[name] = domain_spec(rest)
        elif "%" in rest:
            _parts(rest, "slodiphvcrt")
        elif not _visible(rest):
            raise ValueError(f"{one_line(word, 80)} is no term")
    return Record(tuple(terms), modifiers.get("redirect"), modifiers.get("exp"))


def _mechanism(name: str, result: str, rest: str, word: str) -> Term:
    text = one_line(word)
    if name == "all":
        if not rest:
            return Term(name, result, text)
    elif name in ("ip4", "ip6"):
        return _address(name, result, rest, text)
    elif name in ("a", "mx"):
        found = _host(rest)
        if found is not None:
            spec, bits, bits6 = found.groups()
            shift, shift6 = 32 - int(bits or 32), 128 - int(bits6 or 128)
            if shift >= 0 and shift6 >= 0:
                domain = None if spec is None else domain_spec(spec)
                return Term(name, result, text, domain, 0, shift, shift6)
    elif name in ("include", "exists", "ptr"):
        if rest[:1] == ":":
            return Term(name, result, text, domain_spec(rest[1:]))
        if name == "ptr" and not rest:
            return Term(name, result, text)
    else:
        raise ValueError(f"unknown mechanism {one_line(name, 80)}")
    raise ValueError(f"{one_line(word, 80)} is malformed")


def _address(name: str, result: str, rest: str, text: str) -> Term:
    found = (_ip4 if name == "ip4" else _ip6)(rest)
    width = 32 if name == "ip4" else 128
    if found is not None:
        try:
            network = int(
                (ipaddress.IPv4Address if name == "ip4" else ipaddress.IPv6Address)(found[1])
            )
        except ValueError:
            raise ValueError(f"{one_line(text, 80)} is malformed") from None
        bits = width - int(found[2] or width)
        if bits >= 0:
            return Term(name, result, text, None, network >> bits, bits)
    raise ValueError(f"{one_line(text, 80)} is malformed")


def _parts(text: str, letters: str) -> tuple[str | Macro, ...]:
    """Macros and what stands between them, two texts never side by side. Raises ValueError."""
    parts: list[str | Macro] = []
    literal = ""
    at = 0
    while True:
        percent = text.find("%", at)
        plain = text[at:percent] if percent >= 0 else text[at:]
        if not _explaining(plain) or (" " in plain and "c" not in letters):
            raise ValueError(f"{one_line(text, 80)} is malformed")
        literal += plain
        if percent < 0:
            break
        sign = _SIGNS.get(text[percent + 1 : percent + 2])
        if sign is not None:
            literal += sign
            at = percent + 2
            continue
        found = _macro(text, percent)
        if found is None or found[1].lower() not in letters:
            raise ValueError(f"{one_line(text[percent:], 80)} is no macro")
        if literal:
            parts.append(literal)
            literal = ""
        parts.append(_macro_of(found))
        at = found.end()
    if literal:
        parts.append(literal)
    return tuple(parts)


def _macro_of(found: re.Match[str]) -> Macro:
    letter, digits, reverse, delimiters = found.groups()
    count = digits.lstrip("0")
    if digits and not count:
        raise ValueError(f"{found[0][:80]}: no parts are left")  # RFC 7208 section 7.3
    # a domain has at most 127 labels, a local part fewer pieces than that or they are not counted
    parts = int(count[:4] or 0)
    return Macro(letter.lower(), parts, bool(reverse), delimiters or ".", letter.isupper())


_SIGNS: Final = {"%": "%", "_": " ", "-": "%20"}
