"""The Authentication-Results field of this server: `Verdicts` in the words of RFC 8601.

One line a method; for DKIM one a signature. What a domain or a peer chose is quoted or cut by `message.authres`. Why
something could not be found out just now stays in the log: it may name our own name servers.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..message.authres import Result, field
from .dmarc import requested
from .verdicts import Arc, Dkim, Dmarc, Spf, Verdicts
from .wording import one_line

__all__ = ["authentication_results", "iprev", "results"]

_MAX_SIGNATURES = 20  # that are told of; those that pass first


def authentication_results(
    authserv_id: str,
    verdicts: Verdicts,
    *,
    more: Iterable[Result] = (),
    disposition: str = "",
    utf8: bool = False,
    name: str = "Authentication-Results",
) -> bytes:
    """The field with LF line ends. `more` comes first: `iprev`, ``Result("auth", "pass", …)``.

    `disposition`: what was done for DMARC's sake (none, quarantine, reject), told as dis=; `utf8` as `authres.field`
    has it. With no verdict and no `more` it says ``none``.
    """
    return field(authserv_id, [*more, *results(verdicts, disposition)], name=name, utf8=utf8)


def results(verdicts: Verdicts, disposition: str = "") -> list[Result]:
    """HELO, MAIL, signatures, ARC, DMARC: those that were asked for. No signature at all is not told here."""
    out = [_spf(verdict) for verdict in (verdicts.mail, verdicts.helo) if verdict is not None]
    signatures = verdicts.dkim
    if len(signatures) > _MAX_SIGNATURES:
        signatures = tuple(sorted(signatures, key=lambda one: one.result != "pass"))
    out += map(_dkim, signatures[:_MAX_SIGNATURES])
    if verdicts.arc is not None:
        out.append(_arc(verdicts.arc))
    if verdicts.dmarc is not None:
        out.append(_dmarc(verdicts.dmarc, disposition))
    return out


def iprev(result: str, ip: str, name: str = "") -> Result:
    """RFC 8601 section 3: whether the client's address has a `name` that has this address. `result`: pass, fail,
    temperror or permerror.
    """
    return Result("iprev", result, (("policy.iprev", ip),), comment=name)


def _spf(verdict: Spf) -> Result:
    # RFC 8601 section 2.7.2
    if verdict.identity == "helo":
        place, value = "smtp.helo", verdict.domain
    else:
        place, value = "smtp.mailfrom", verdict.sender or verdict.domain
    return Result(
        "spf",
        verdict.result,
        ((place, value),) if value else (),
        _reason(verdict),
        f"matched {verdict.mechanism}" if verdict.mechanism else "",
    )


def _dkim(signature: Dkim) -> Result:
    # RFC 8601 section 2.7.1; header.a and header.s: RFC 8601 section 2.7.1, header.b: RFC 6008
    named = (
        ("header.d", signature.domain),
        ("header.i", signature.identity),
        ("header.s", signature.selector),
        ("header.a", signature.algorithm),
        ("header.b", signature.start),
    )
    comment = f"{signature.bits}-bit key" if signature.bits else ""
    if signature.testing:
        comment = f"{comment}, testing" if comment else "testing"
    return Result(
        "dkim",
        signature.result,
        tuple((key, value) for key, value in named if value),
        _reason(signature),
        comment,
    )


def _arc(chain: Arc) -> Result:
    comment = ""
    if chain.instances:
        comment = f"i={chain.instances}"
        if chain.sealers:
            comment += ", sealed by " + ", ".join(chain.sealers[-5:])
    return Result("arc", chain.result, (), _reason(chain), comment)


def _dmarc(verdict: Dmarc, disposition: str) -> Result:
    said = []
    properties = [("header.from", verdict.domain)] if verdict.domain else []
    if verdict.found:
        said.append(f"p={verdict.policy}")
        if verdict.sampled:
            said.append("not for this one")
        if verdict.found != verdict.domain:
            said.append(f"by {verdict.found}")
    if disposition:
        said.append(f"dis={disposition}")
    if verdict.aligned:
        said.append("aligned: " + ", ".join(verdict.aligned[:5]))
    if verdict.found and verdict.result == "fail":
        # RFC 9989 section 9: the policy to be applied
        properties.append(("policy.dmarc", disposition or requested(verdict)))
    return Result(
        "dmarc", verdict.result, tuple(properties), _reason(verdict), one_line(" ".join(said), 300)
    )


def _reason(verdict: Spf | Dkim | Arc | Dmarc) -> str:
    return "" if verdict.result == "temperror" else verdict.reason
