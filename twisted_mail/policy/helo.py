"""What a client calls itself, and what the DNS calls it: HELO and the pointer of its address, as findings and `Score`s.

`helo_shape` and `is_generic` look at text alone; `check_helo` and `check_pointer` ask the DNS. RFC 5321 section 4.1.4:
no message is refused because a name does not lead back to the client; so these are signs among others, and the name
that leads elsewhere has no points unless somebody gives it some.

Bounded: `MAX_NAMES` pointers are followed, as RFC 7208 section 4.6.4 has it, all within the time given.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Collection
from functools import lru_cache
from typing import Any, Final, NamedTuple

from ..address import normalize_domain
from ..dns.interfaces import Answer, DnsError, Resolver
from .asking import all_of, answered
from .scores import Score, Weights
from .wording import one_line

__all__ = [
    "Helo",
    "Pointer",
    "Shape",
    "check_helo",
    "check_pointer",
    "helo_scores",
    "helo_shape",
    "is_generic",
    "pointer_scores",
]

MAX_NAMES: Final = 10

IP = ipaddress.IPv4Address | ipaddress.IPv6Address


class Shape(enum.Enum):
    """What stands behind HELO (RFC 5321 section 4.1.1.1: a domain, or an address literal of who has none)."""

    DOMAIN = "domain"
    LITERAL = "literal"
    """``[192.0.2.7]``, the client's own address."""
    FOREIGN_LITERAL = "foreign literal"
    ADDRESS = "address"
    """``192.0.2.7``: an address without the brackets."""
    BARE = "bare"
    """One word, such as ``localhost``."""
    OWN = "own"
    """Our name, or our address."""
    MALFORMED = "malformed"


class Helo(NamedTuple):
    """`leads`: whether a domain leads to the client: pass, fail (elsewhere), none (nowhere), temperror; "" unasked."""

    name: str
    shape: Shape
    leads: str = ""


class Pointer(NamedTuple):
    """RFC 8601 section 3, "iprev". `result`: pass, fail, temperror or permerror (there is no pointer).

    `name`: the one that leads back to the address; without such, the first there is, "" for none. `generic`: it looks
    like one that a provider gives to all of its lines.
    """

    result: str
    name: str = ""
    generic: bool = False
    reason: str = ""


def helo_shape(helo: str, ip: str, own: Collection[str] = ()) -> Shape:
    """`own`: our names (A-labels, lower case) and addresses (as `ipaddress` writes them)."""
    client = _ip(ip)
    if helo[:1] == "[":
        try:
            literal = _ip(normalize_domain(helo)[1:-1].removeprefix("IPv6:"))
        except ValueError:
            return Shape.MALFORMED
        if literal is not None and literal == client:
            return Shape.LITERAL
        return Shape.OWN if str(literal) in own else Shape.FOREIGN_LITERAL
    text = helo.removesuffix(".")
    if (address := _ip(text)) is not None:
        return Shape.OWN if str(address) in own and address != client else Shape.ADDRESS
    try:
        name = normalize_domain(text)
    except ValueError:
        return Shape.MALFORMED
    if name in own:
        return Shape.OWN
    labels = name.split(".")
    # All digits: an address of which somebody lost a part; no such top-level domain can be (RFC 3696 section 2)
    if labels[-1].isdecimal():
        return Shape.MALFORMED
    return Shape.DOMAIN if len(labels) > 1 else Shape.BARE


async def check_helo(
    resolver: Resolver,
    clock: Any,
    helo: str,
    ip: str,
    own: Collection[str] = (),
    *,
    seconds: float = 5.0,
) -> Helo:
    """`helo_shape`, and for a domain whether it leads to the client. Never raises; `clock` provides IReactorTime."""
    shape = helo_shape(helo, ip, own)
    client = _ip(ip)
    if shape is not Shape.DOMAIN or client is None:
        return Helo(helo, shape)
    name = normalize_domain(helo.removesuffix("."))
    try:
        leads = await answered(clock, seconds, _leads(resolver, name, client))
    except DnsError:
        leads = "temperror"
    return Helo(name, shape, leads)


async def _leads(resolver: Resolver, name: str, client: IP) -> str:
    answer = await resolver.addresses(name, client.version)
    if str(client) in answer.records:
        return "pass"
    if answer.records:
        return "fail"
    if not answer.exists:
        return "none"
    other = await resolver.addresses(name, 10 - client.version)
    return "fail" if other.records else "none"


async def check_pointer(
    resolver: Resolver, clock: Any, ip: str, *, seconds: float = 5.0
) -> Pointer:
    """Which name the client's address has, and whether that name has the address. Never raises."""
    client = _ip(ip)
    if client is None:
        return Pointer("permerror", reason="the client has no address")
    try:
        return await answered(clock, seconds, _pointer(resolver, client))
    except DnsError as error:
        return Pointer("temperror", reason=one_line(str(error)))


async def _pointer(resolver: Resolver, client: IP) -> Pointer:
    answer = await resolver.pointer(str(client))
    names: list[str] = []
    for record in answer.records:
        try:
            name = normalize_domain(record)
        except ValueError:
            continue
        # RFC 7208 section 4.6.4: the rest is not looked at
        if name[0] != "[" and name not in names and len(names) < MAX_NAMES:
            names.append(name)
    if not names:
        # RFC 8601 section 2.7.3: no data published is permerror
        why = "no name that could be one" if answer.records else "no name"
        return Pointer("permerror", reason=f"{client} has {why}")
    found = await all_of([_addresses(resolver, name, client.version) for name in names])
    for name, addresses in zip(names, found, strict=True):
        if addresses is not None and str(client) in addresses.records:
            return Pointer("pass", name, is_generic(name, str(client)))
    generic = is_generic(names[0], str(client))
    if None in found:
        return Pointer(
            "temperror", names[0], generic, f"{one_line(names[0])} cannot be looked up now"
        )
    return Pointer(
        "fail", names[0], generic, f"{one_line(names[0])} does not lead back to {client}"
    )


async def _addresses(resolver: Resolver, name: str, family: int) -> Answer[str] | None:
    try:
        return await resolver.addresses(name, family)
    except DnsError:
        return None


# A word of its own, digits behind it allowed: what providers call their lines …
_LINE = re.compile(
    r"(?:^|[.\d-])(?:[avx]?dsl|broadband|cable|catv|cust(?:omer)?s?|dhcp|dial(?:up|in)?|dyn(?:amic)?(?:ip)?|fibre|fiber"
    r"|ftth|gprs|lte|mobile|nat|pool|ppp(?:oe)?|resid(?:ential)?|subs?(?:criber)?|unassigned|user|wifi|wlan)"
    r"(?=[.\d-]|$)"
)
# … and what they call machines that send mail
_MAIL = re.compile(
    r"(?:^|[.\d-])(?:e?mail(?:er|out|in)?|mx|smtps?(?:out|in)?|mta|outbound|out|outgoing|relay|bounces?|newsletters?"
    r"|lists?|postfix|exim|mailgw|mgw|send(?:er)?)(?=[.\d-]|$)"
)


@lru_cache(maxsize=1024)
def is_generic(name: str, ip: str) -> bool:
    """Whether `name` looks like one that is made from the address `ip`, or says that it is a customer's line.

    ``203-0-113-7.dyn.example.net`` and ``ppp7.example.net`` do; ``mail-203-0-113-7.example.net`` says what it is for.
    """
    address = _ip(ip)
    if address is None:
        return False
    # The provider's own domain says nothing about the line
    host = ".".join(name.lower().split(".")[:-2])
    if not host or _MAIL.search(host):
        return False
    return _holds(host, address) or _LINE.search(host) is not None


def _holds(host: str, address: IP) -> bool:
    """Whether most of the address stands in the name."""
    if isinstance(address, ipaddress.IPv4Address):
        octets = str(address).split(".")
        numbers = [one.lstrip("0") or "0" for one in re.findall(r"\d+", host)]
        there = 0
        for octet in octets:
            if octet in numbers:
                numbers.remove(octet)
                there += 1
        padded = "".join(one.zfill(3) for one in octets)
        return there >= 3 or address.packed.hex() in host or padded in re.sub(r"\D", "", host)
    digits = address.exploded.replace(":", "")
    groups = [one.lstrip("0") or "0" for one in address.exploded.split(":")]
    squeezed = re.sub("[.-]", "", host)
    return (
        digits in squeezed
        or digits[16:] in squeezed
        or "-".join(groups[4:]) in host
        or str(address).replace(":", "-") in host
    )


_HELO_SIGNS: Final = {
    Shape.MALFORMED: ("helo_malformed", "its HELO is no name at all"),
    Shape.OWN: ("helo_own", "it calls itself by our own name"),
    Shape.BARE: ("helo_bare", "its HELO is one word, not a full name"),
    Shape.ADDRESS: ("helo_address", "its HELO is an address without brackets"),
    Shape.LITERAL: ("helo_literal", "its HELO is its address, not a name"),
    Shape.FOREIGN_LITERAL: ("helo_foreign_literal", "its HELO is the address of somebody else"),
}
_LEADS_SIGNS: Final = {
    "none": ("helo_unknown", "the name in its HELO does not exist"),
    "fail": ("helo_mismatch", "the name in its HELO belongs to another address"),
}


def helo_scores(helo: Helo, weights: Weights) -> tuple[Score, ...]:
    """What a HELO says for or against the client: one sign at most."""
    sign = _HELO_SIGNS.get(helo.shape) or _LEADS_SIGNS.get(helo.leads)
    if sign is None:
        return ()
    points: float = getattr(weights, sign[0])
    return (Score(sign[0], points, f"{sign[1]} ({one_line(helo.name, 80)})"),) if points else ()


def pointer_scores(pointer: Pointer, weights: Weights) -> tuple[Score, ...]:
    """What the name of its address says. What could not be found out just now says nothing."""
    scores: list[Score] = []
    if pointer.result == "permerror" and weights.no_pointer:
        scores.append(Score("no_pointer", weights.no_pointer, "its address has no name in the DNS"))
    elif pointer.result == "fail" and weights.pointer_mismatch:
        scores.append(Score("pointer_mismatch", weights.pointer_mismatch, one_line(pointer.reason)))
    if pointer.generic and weights.generic_pointer:
        reason = f"its name is that of a customer's line ({one_line(pointer.name, 80)})"
        scores.append(Score("generic_pointer", weights.generic_pointer, reason))
    return tuple(scores)


@lru_cache(maxsize=1024)
def _ip(text: str) -> IP | None:
    """An IPv4 address that is mapped into IPv6 is itself."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
