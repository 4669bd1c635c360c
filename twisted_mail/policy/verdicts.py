"""What is found out about who sent a message: the verdicts of SPF, DKIM, ARC and DMARC as values.

Results are the words that Authentication-Results has for them (RFC 8601 section 2.7). `reason` is for people: one line,
nothing in it that could be read as a header or a log field, "" when the result says it all. Domains are lower-case
A-labels without the last dot.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Arc", "Dkim", "Dmarc", "Spf", "Verdicts"]


class Spf(NamedTuple):
    """RFC 7208 section 2.6. `result`: none, neutral, pass, fail, softfail, temperror or permerror.

    `identity`: ``"mailfrom"`` or ``"helo"``; `domain`: the one whose record was asked for; `sender`: what was judged,
    such as ``alice@example.org``, or the HELO name; `mechanism`: what matched, such as ``ip4:192.0.2.0/24``, "" for
    none; `explanation`: the domain's own text for a fail (section 6.2), "" for none. `bare`: the record that makes it a
    fail has nothing but ``-all``: its domain sends no mail at all.
    """

    result: str
    identity: str
    domain: str
    sender: str = ""
    mechanism: str = ""
    reason: str = ""
    explanation: str = ""
    lookups: int = 0
    bare: bool = False


class Dkim(NamedTuple):
    """One signature (RFC 6376). `result`: pass, fail, policy, neutral, temperror or permerror (RFC 8601 section 2.7.1).

    `domain` is d=, `selector` s=, `identity` i= (its default filled in), `algorithm` a=, `bits` of an RSA key, `start`
    the first characters of b= (header.b, RFC 6008), `testing`: the key says t=y (section 3.6.1).
    """

    result: str
    domain: str = ""
    selector: str = ""
    identity: str = ""
    algorithm: str = ""
    bits: int = 0
    start: str = ""
    testing: bool = False
    reason: str = ""


class Arc(NamedTuple):
    """The chain (RFC 8617 section 5.2). `result`: none, pass or fail, or temperror when a key could not be had.

    `instances`: how many sets it has. When it passes, `sealers` are the d= of the seals from the first to the last, and
    `results` the ARC-Authentication-Results fields' values in the same order, unfolded, from the authserv-id on.
    """

    result: str
    instances: int = 0
    sealers: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    reason: str = ""


class Dmarc(NamedTuple):
    """RFC 7489, RFC 9989. `result`: none (no record), pass, fail, temperror or permerror.

    `domain` is that of From, `found` where the record stands, `organization` the organizational domain. `policy` is
    what the record asks for a message that fails (none, quarantine, reject), `sampled`: it did not ask it for this one
    (pct= of RFC 7489, t=y of RFC 9989), so one step less is asked. `aligned`: what passed and is aligned, such as
    ``"spf"``, ``"dkim example.org"``. `record`: the record's text, "" without one; `aggregate`: its rua= URIs.
    """

    result: str
    domain: str = ""
    found: str = ""
    organization: str = ""
    policy: str = "none"
    sampled: bool = False
    aligned: tuple[str, ...] = ()
    record: str = ""
    aggregate: tuple[str, ...] = ()
    reason: str = ""


class Verdicts(NamedTuple):
    """All of them, of one message. What was not asked for, or could not be, is None."""

    helo: Spf | None = None
    mail: Spf | None = None
    dkim: tuple[Dkim, ...] = ()
    arc: Arc | None = None
    dmarc: Dmarc | None = None
