"""Signs of spam as points: what was found out about a client or a sender → `Score`s, and nothing of what follows.

The scale is that of SpamAssassin: 5 points are junk for most people, 15 nobody wants to see; a negative score speaks
for the client. No sign here is enough by itself, as each has honest clients that show it. `decide` adds them up.

Nothing a peer wrote gets into a reason but through `wording.one_line`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from .verdicts import Verdicts
from .wording import one_line

__all__ = ["Score", "Weights", "authentication_scores", "early_talker", "listed", "total"]


class Score(NamedTuple):
    """One sign. `rule` is its name, `reason` one line for people: what was seen."""

    rule: str
    points: float
    reason: str


class Weights(NamedTuple):
    """Points for each sign; 0 leaves it out.

    `helo_mismatch` is 0: a name that leads elsewhere is what large senders behind NAT have, and RFC 5321 section 4.1.4
    wants nothing refused for it. Nor is the lack of SPF or DKIM a sign by itself.
    """

    early_talker: float = 4.0
    """It spoke before the greeting (RFC 5321 section 4.3.1 wants it to wait): hardly a mail server at all."""
    helo_malformed: float = 3.0
    helo_own: float = 6.0
    helo_bare: float = 1.0
    helo_address: float = 2.5
    helo_literal: float = 1.0
    helo_foreign_literal: float = 3.0
    helo_unknown: float = 1.5
    helo_mismatch: float = 0.0
    no_pointer: float = 2.0
    pointer_mismatch: float = 0.5
    generic_pointer: float = 1.5
    spf_fail: float = 3.0
    spf_softfail: float = 1.0
    spf_permerror: float = 0.5
    helo_spf_fail: float = 2.0
    dmarc_fail: float = 1.5
    """Of a domain whose record asks for nothing (p=none)."""
    dkim_broken: float = 0.0


_NONE: Final[tuple[Score, ...]] = ()


def early_talker(weights: Weights) -> tuple[Score, ...]:
    """Of a client that sent something before it was greeted."""
    if not weights.early_talker:
        return _NONE
    return (Score("early_talker", weights.early_talker, "the client spoke before it was greeted"),)


def listed(zone: str, code: str, points: float, reason: str = "") -> Score:
    """Of a client or domain that a DNS list has."""
    what = f"listed by {one_line(zone, 100)} ({one_line(code, 40)})"
    return Score(
        "dnsbl " + one_line(zone, 100), points, f"{what}: {one_line(reason)}" if reason else what
    )


def authentication_scores(verdicts: Verdicts, weights: Weights) -> tuple[Score, ...]:
    """What SPF, DKIM and DMARC add. Nothing that DMARC passes is held against the message (RFC 7489 section 6.7)."""
    if verdicts.dmarc is not None and verdicts.dmarc.result == "pass":
        return _NONE
    scores: list[Score] = []
    if (mail := verdicts.mail) is not None and (points := _spf_points(weights, mail.result)):
        domain = one_line(mail.domain, 100)
        scores.append(Score(f"spf_{mail.result}", points, _SPF_WORDS[mail.result].format(domain)))
    helo = verdicts.helo
    if helo is not None and helo.result == "fail" and weights.helo_spf_fail:
        reason = (
            f"this client may not call itself {one_line(helo.domain, 100)}, says that domain's SPF"
        )
        scores.append(Score("helo_spf_fail", weights.helo_spf_fail, reason))
    dmarc = verdicts.dmarc
    if dmarc is not None and dmarc.result == "fail" and weights.dmarc_fail:
        reason = f"nothing shows that it comes from {one_line(dmarc.domain, 100)} (DMARC)"
        scores.append(Score("dmarc_fail", weights.dmarc_fail, reason))
    broken = [one for one in verdicts.dkim if one.result == "fail"]
    if broken and weights.dkim_broken and all(one.result != "pass" for one in verdicts.dkim):
        reason = f"the signature of {one_line(broken[0].domain, 100)} does not fit"
        scores.append(Score("dkim_broken", weights.dkim_broken, reason))
    return tuple(scores)


_SPF_WORDS: Final = {
    "fail": "this client may not send for {}, says that domain's SPF",
    "softfail": "this client probably may not send for {}, says that domain's SPF",
    "permerror": "the SPF record of {} cannot be understood",
}


def _spf_points(weights: Weights, result: str) -> float:
    if result == "fail":
        return weights.spf_fail
    if result == "softfail":
        return weights.spf_softfail
    return weights.spf_permerror if result == "permerror" else 0.0


def total(scores: Iterable[Score]) -> float:
    """Their sum, to a hundredth: adding tenths must not miss a threshold by a rounding error."""
    return round(sum(one.points for one in scores), 2)
