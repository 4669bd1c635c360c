"""What follows from what was found out about a message: accept it, file it as junk, refuse it, put it off; and why.

Pure: verdicts, scores and settings in, a `Decision` out. Several things may speak; the hardest wins: a refusal, then a
temporary failure (451), then junk.

- DMARC: what the author's domain asks for a message that fails (RFC 7489 section 6.6.2), unless an exception for the
  domain says otherwise, or a forwarder we trust saw it pass (ARC, RFC 8617 section 7.2), or a mailing list we know sent
  it. What is sampled out gets one step less.
- SPF by itself refuses only where the domain says that it sends no mail at all (``v=spf1 -all``): any other fail may be
  a forwarder's, and forwarders are no spammers (RFC 7208 appendix D). Nothing that DMARC passes is refused for SPF.
- What the DNS could not tell just now puts a message off only when it would have decided.
- The sum of all signs against two thresholds.

May be asked before the message is there, with the verdicts that there are. Nothing a peer chose gets into a reply or a
story but as one line of printable ASCII.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from ..message.authres import read
from ..status import MailError
from .scores import Score, Weights, authentication_scores, total
from .verdicts import Arc, Dmarc, Spf, Verdicts
from .wording import one_line

__all__ = ["Decision", "DecisionSettings", "decide", "trusted_chain"]

MAX_TOLD: Final = 10
"""Signatures, and signs, that the story tells of."""
MAX_REPLY: Final = 400
"""Characters of a reply (RFC 5321 section 4.5.3.1.5: 512 octets in a line)."""
_STEPS: Final = ("none", "quarantine", "reject")
_HARDNESS: Final = {"accept": 0, "junk": 1, "defer": 2, "refuse": 3}


class DecisionSettings(NamedTuple):
    """What a site wants.

    `dmarc`: whether DMARC's policies are obeyed at all. `exceptions`: From's domain (it holds for what is below, too) →
    ``none``, ``quarantine`` or ``reject``: what is done instead of what its record asks. `trusted_sealers`: domains
    whose ARC seals are believed, with all below. `mailing_lists`: domains of lists that break signatures: mail that SPF
    or DKIM shows to be theirs is not held against the author.

    `dns_failure`, when DMARC could not be found out, and `spf_dns_failure`, when only SPF could not: ``defer`` or
    ``accept``. `spf_fail` and `spf_no_mail` (a fail of a domain that sends none): ``score``, ``junk`` or ``refuse``.

    `junk_score`, `reject_score`: points; None: never. `weights`: of what SPF, DKIM and DMARC add.
    """

    dmarc: bool = True
    exceptions: Mapping[str, str] = MappingProxyType({})
    trusted_sealers: Collection[str] = frozenset()
    mailing_lists: Collection[str] = frozenset()
    dns_failure: str = "defer"
    spf_dns_failure: str = "accept"
    spf_fail: str = "score"
    spf_no_mail: str = "refuse"
    junk_score: float | None = 5.0
    reject_score: float | None = 15.0
    weights: Weights = Weights()


class Decision(NamedTuple):
    """`action`: accept, junk, refuse or defer; `error` is what the client is told for the last two.

    `rule`: what decided: dmarc, spf, dns or score, "" when nothing spoke against it. `story`: lines for people, in
    order, the last one says what was done. `disposition`: what was done for DMARC's sake (none, quarantine, reject),
    `override`: the type of the reason when that is not what the record asks (RFC 7489 appendix C: trusted_forwarder,
    mailing_list, local_policy, sampled_out), else "".
    """

    action: str
    rule: str
    error: MailError | None
    score: float
    scores: tuple[Score, ...]
    story: tuple[str, ...]
    disposition: str = "none"
    override: str = ""


class _Word(NamedTuple):
    """What one of those who may speak says. `why` ends the story when it wins."""

    action: str
    rule: str
    why: str
    error: MailError | None = None


def decide(
    verdicts: Verdicts,
    scores: Iterable[Score] = (),
    settings: DecisionSettings = DecisionSettings(),  # noqa: B008  # immutable
) -> Decision:
    """`scores`: those of the client, of lists and filters; those of SPF, DKIM and DMARC are added here."""
    story = _heard(verdicts)
    words: list[_Word] = []
    dmarc = verdicts.dmarc
    excuse, override = _excuse(verdicts, settings)
    disposition = "none"
    if dmarc is not None:
        word, disposition, override = _dmarc(verdicts, dmarc, settings, override)
        if word is not None:
            words.append(word)
    if excuse:
        story.append(excuse)
    passed = dmarc is not None and dmarc.result == "pass"
    if verdicts.mail is not None and not passed and not excuse:
        words += _spf(verdicts.mail, settings)
    every = tuple(scores)
    if not excuse:
        every += authentication_scores(verdicts, settings.weights)
    points = total(every)
    story += [f"{one.points:+g}: {one.reason}" for one in every[:MAX_TOLD]]
    words += _points(points, every, settings)
    won = max(words, key=lambda word: _HARDNESS[word.action], default=None)
    if won is None:
        sum_of_it = f"; {points:g} points" if every else ""
        won = _Word("accept", "", f"accepted: nothing decides against it{sum_of_it}")
    told = (*story, won.why)
    return Decision(won.action, won.rule, won.error, points, every, told, disposition, override)


def trusted_chain(arc: Arc | None, dmarc: Dmarc, trusted: Collection[str]) -> str:
    """The sealer we trust who saw the message pass, "" for none.

    Read from the last seal back: what a trusted sealer says of the chain before it (arc=pass is in what it sealed) is
    believed, so the next one may speak; at the first one that is not trusted it ends (RFC 8617 section 7.2).
    """
    if arc is None or arc.result != "pass" or not trusted:
        return ""
    for sealer, value in zip(reversed(arc.sealers), reversed(arc.results), strict=False):
        if not _within(sealer, trusted):
            return ""
        if _saw_pass(value, dmarc):
            return sealer
    return ""


def _saw_pass(value: str, dmarc: Dmarc) -> bool:
    """Whether results of a forwarder say that the message was the author's when it came there."""
    found = read(value.encode("utf-8", "surrogateescape"))
    if found is None:
        return False
    organization = dmarc.organization or dmarc.domain
    for result in found.results:
        if result.result != "pass":
            continue
        if result.method == "dmarc":
            # Of another author: the forwarder has changed the From field
            author = result.value("header.from").rpartition("@")[2].lower().removesuffix(".")
            if author in ("", dmarc.domain):
                return True
        elif result.method == "spf":
            if _below(result.value("smtp.mailfrom").rpartition("@")[2], organization):
                return True
        elif result.method == "dkim":
            signer = result.value("header.d") or result.value("header.i").rpartition("@")[2]
            if _below(signer, organization):
                return True
    return False


def _excuse(verdicts: Verdicts, settings: DecisionSettings) -> tuple[str, str]:
    """Why a failure of the author's domain is not held against the message, and DMARC's word for that."""
    dmarc = verdicts.dmarc
    if dmarc is None or not _fails(dmarc):
        return "", ""
    if sealer := trusted_chain(verdicts.arc, dmarc, settings.trusted_sealers):
        return (
            f"{one_line(sealer, 100)}, whom we trust, saw it pass before forwarding it (ARC)",
            "trusted_forwarder",
        )
    for domain in _shown(verdicts):
        if settings.mailing_lists and _within(domain, settings.mailing_lists):
            return (
                f"it comes by the mailing list {one_line(domain, 100)}, which we know",
                "mailing_list",
            )
    return "", ""


def _fails(dmarc: Dmarc) -> bool:
    """Whether it is treated as one that fails: also one whose From can be read in several ways, when a domain named
    there asks for something that was not met.
    """
    return dmarc.result == "fail" or (dmarc.result == "permerror" and dmarc.policy != "none")


def _shown(verdicts: Verdicts) -> list[str]:
    """The domains that the message is shown to come from, whoever its author is."""
    shown = [one.domain for one in verdicts.dkim if one.result == "pass"]
    if verdicts.mail is not None and verdicts.mail.result == "pass":
        shown.append(verdicts.mail.domain)
    return shown


def _dmarc(
    verdicts: Verdicts, dmarc: Dmarc, settings: DecisionSettings, excused: str
) -> tuple[_Word | None, str, str]:
    """What DMARC says, the disposition, and the type of the reason why that is not what the record asks."""
    domain = one_line(dmarc.domain, 100)
    if dmarc.result == "temperror" and settings.dmarc and settings.dns_failure == "defer":
        return (
            _try_again("4.4.3", f"the DNS does not tell just now whether it comes from {domain}"),
            "none",
            "",
        )
    if not _fails(dmarc):
        return None, "none", ""
    exception = _exception(dmarc.domain, settings.exceptions)
    asked = dmarc.policy if dmarc.policy in _STEPS else "none"
    done, override = asked, ""
    if exception or not settings.dmarc:
        done = exception if settings.dmarc else "none"
        override = "local_policy" if done != asked else ""
    elif dmarc.sampled and asked != "none":
        done, override = _STEPS[_STEPS.index(asked) - 1], "sampled_out"
    if done == "none":
        return None, "none", override
    if excused:
        return None, "none", excused
    if settings.dns_failure == "defer" and (why := _unknown(verdicts, dmarc, settings)):
        return _try_again("4.7.24" if "SPF" in why else "4.4.3", why), "none", ""
    whose = "this site" if exception else domain
    if done == "quarantine":
        why = f"junk: nothing shows that it comes from {domain}; {whose} wants such mail in the junk folder"
        return _Word("junk", "dmarc", why), done, override
    # RFC 7372 section 3.3
    error = MailError(
        550,
        "5.7.26",
        _reply(
            f"Nothing shows that this message comes from {domain}: neither SPF nor DKIM passes for it, and {whose}"
            " wants such mail refused (DMARC)"
        ),
        dmarc.reason or None,
    )
    why = f"refused: nothing shows that it comes from {domain}; {whose} wants such mail refused (DMARC)"
    return _Word("refuse", "dmarc", why, error), done, override


def _unknown(verdicts: Verdicts, dmarc: Dmarc, settings: DecisionSettings) -> str:
    """What would have decided, but could not be found out just now; "" for nothing."""
    organization = dmarc.organization or dmarc.domain
    mail = verdicts.mail
    if mail is not None and mail.result == "temperror" and _below(mail.domain, organization):
        return f"the DNS does not tell just now who may send for {one_line(mail.domain, 100)} (SPF)"
    for one in verdicts.dkim:
        if one.result == "temperror" and _below(one.domain, organization):
            return f"the DNS does not give the key of {one_line(one.domain, 100)} just now (DKIM)"
    if settings.trusted_sealers and verdicts.arc is not None and verdicts.arc.result == "temperror":
        return "the DNS does not give the key of a forwarder just now (ARC)"
    return ""


def _spf(mail: Spf, settings: DecisionSettings) -> list[_Word]:
    domain = one_line(mail.domain, 100)
    if mail.result == "temperror" and settings.spf_dns_failure == "defer":
        return [
            _try_again("4.7.24", f"the DNS does not tell just now who may send for {domain} (SPF)")
        ]
    if mail.result != "fail":
        return []
    action = settings.spf_no_mail if mail.bare else settings.spf_fail
    why = f"{domain} sends no mail" if mail.bare else f"this client may not send for {domain}"
    why += ", says its SPF record"
    if action == "junk":
        return [_Word("junk", "spf", f"junk: {why}")]
    if action != "refuse":
        return []
    # RFC 7208 section 6.2: whose words these are is to be seen
    said = f"; {domain} explains: {one_line(mail.explanation)}" if mail.explanation else ""
    # RFC 7372 section 3.2
    error = MailError(550, "5.7.23", _reply(f"Refused: {why}{said}"), mail.reason or None)
    return [_Word("refuse", "spf", f"refused: {why}", error)]


def _points(points: float, scores: tuple[Score, ...], settings: DecisionSettings) -> list[_Word]:
    if settings.reject_score is not None and points >= settings.reject_score:
        worst = sorted(scores, key=lambda one: -one.points)[:2]
        because = "; ".join(one.reason for one in worst if one.points > 0)
        error = MailError(
            550,
            "5.7.1",
            _reply(f"Too many signs of spam: {because}"),
            f"{points:g} points",
        )
        why = f"refused: {points:g} points, {settings.reject_score:g} are too many"
        return [_Word("refuse", "score", why, error)]
    if settings.junk_score is not None and points >= settings.junk_score:
        return [
            _Word(
                "junk", "score", f"junk: {points:g} points, with {settings.junk_score:g} it is junk"
            )
        ]
    return []


def _try_again(enhanced: str, why: str) -> _Word:
    error = MailError(451, enhanced, _reply(f"Try again later: {why}"))
    return _Word("defer", "dns", f"put off: {why}", error)


def _heard(verdicts: Verdicts) -> list[str]:
    """What was found out, a line each."""
    story: list[str] = []
    for spf in (verdicts.helo, verdicts.mail):
        if spf is not None:
            what = "HELO" if spf.identity == "helo" else "MAIL FROM"
            story.append(
                f"SPF of {what} {one_line(spf.domain, 100)}: {spf.result}{_because(spf.mechanism, spf.reason)}"
            )
    for one in verdicts.dkim[:MAX_TOLD]:
        story.append(
            f"DKIM of {one_line(one.domain, 100) or '?'}: {one.result}{_because(one.selector, one.reason)}"
        )
    if verdicts.arc is not None and verdicts.arc.result != "none":
        sealers = ", ".join(one_line(one, 60) for one in verdicts.arc.sealers[-MAX_TOLD:])
        story.append(f"ARC: {verdicts.arc.result}{_because(sealers, verdicts.arc.reason)}")
    if (dmarc := verdicts.dmarc) is not None:
        asks = f"asks for {dmarc.policy}" if _fails(dmarc) else ", ".join(dmarc.aligned)
        story.append(
            f"DMARC of {one_line(dmarc.domain, 100) or '?'}: {dmarc.result}{_because(asks, dmarc.reason)}"
        )
    return story


def _because(*parts: str) -> str:
    said = "; ".join(one_line(part) for part in parts if part)
    return f" ({said})" if said else ""


def _exception(domain: str, exceptions: Mapping[str, str]) -> str:
    """The one for the domain itself, or the nearest above it."""
    if not exceptions:
        return ""
    while domain:
        if (found := exceptions.get(domain)) in _STEPS:
            return str(found)
        domain = domain.partition(".")[2]
    return ""


def _within(domain: str, those: Collection[str]) -> bool:
    return any(_below(domain, one) for one in those)


def _below(domain: str, parent: str) -> bool:
    domain = domain.lower().removesuffix(".")
    return bool(parent) and (domain == parent or domain.endswith("." + parent))


def _reply(text: str) -> str:
    return one_line(text, MAX_REPLY)
