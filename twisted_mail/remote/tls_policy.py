"""Which TLS a host must have before it gets mail: one decision of what was configured, DANE, MTA-STS and REQUIRETLS.

    configured      DANE usable    DANE unusable   MTA-STS enforces   nothing
    none            NONE           NONE            NONE               NONE
    opportunistic   DANE           REQUIRED (*)    VERIFIED           OPPORTUNISTIC
    required        DANE           REQUIRED (*)    VERIFIED           REQUIRED
    verified        DANE           VERIFIED        VERIFIED           VERIFIED
    verified, with names of its own: VERIFIED always

(*) VERIFIED when MTA-STS enforces, too. A TLSA look-up that fails, and an MX that a policy of MTA-STS does not name,
make the host unusable. REQUIRETLS (RFC 8689) wants a host whose name somebody vouches for, and VERIFIED or DANE.
DANE goes before MTA-STS: RFC 8461 section 2. Everything here is pure.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from ..delivery.routes import TlsLevel
from ..dns.interfaces import Tlsa
from .dane import ABSENT, Dane, DaneState
from .mta_sts import Mode, StsPolicy
from .settings import TlsRule

__all__ = ["Level", "Rules", "TlsPolicy", "Unusable", "decide"]


class Level(enum.IntEnum):
    """What TLS must be; each asks for more than the one before."""

    NONE = 0
    """In clear."""
    OPPORTUNISTIC = 1
    """Encrypted if that works, whoever it is."""
    REQUIRED = 2
    """Encrypted, whoever it is."""
    VERIFIED = 3
    """A certificate of somebody we believe, for the right name."""
    DANE = 4
    """A certificate that the TLSA records name."""


Kind = Literal["tlsa", "sts", "no-policy-found"]
"""RFC 8460 section 4.4, policy-type."""
_MAX_TOLD: Final = 20


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """`names`: one of them must be the certificate's. `server_name`: for SNI, "" for none.

    `kind`: whose wish it is, for reports (RFC 8460). `enforced`: the policy of MTA-STS that it is. `testing`: one that
    is only tried out: what it would have refused is noted.
    """

    level: Level
    names: tuple[str, ...] = ()
    tlsa: tuple[Tlsa, ...] = ()
    server_name: str = ""
    kind: Kind = "no-policy-found"
    testing: StsPolicy | None = None
    enforced: StsPolicy | None = None

    @property
    def text(self) -> tuple[str, ...]:
        """Its lines, for reports (RFC 8460 section 4.4, policy-string)."""
        if self.kind == "tlsa":
            # RFC 6698 section 2.2
            return tuple(
                f"{one.usage} {one.selector} {one.matching} {one.data.hex()}"
                for one in self.tlsa[:_MAX_TOLD]
            )
        sts = self.enforced or self.testing
        if sts is None or self.kind != "sts":
            return ()
        mx = [f"mx: {one}" for one in sts.mx[:_MAX_TOLD]]
        return ("version: STSv1", f"mode: {sts.mode.value}", *mx, f"max_age: {sts.max_age}")

    @property
    def mandatory(self) -> bool:
        """Whether nothing is sent in clear."""
        return self.level > Level.OPPORTUNISTIC


class Unusable(Exception):
    """A host must not get the mail. `permanent`: and never will get it.

    `result`: as RFC 8460 section 4.3 calls it, "" when it is nothing to report.
    """

    def __init__(
        self,
        text: str,
        enhanced: str,
        *,
        permanent: bool = False,
        result: str = "",
        kind: Kind = "no-policy-found",
    ) -> None:
        super().__init__(text)
        self.text = text
        self.enhanced = enhanced
        self.permanent = permanent
        self.result = result
        self.kind = kind


class Rules:
    """What is configured for destination domains: its own rule, else the longest ``*.above``, else the default."""

    def __init__(self, default: TlsLevel, rules: Iterable[TlsRule] = ()) -> None:
        self._default = TlsRule("*", default)
        self._rules: dict[str, TlsRule] = {}
        for rule in rules:
            self._rules.setdefault(rule.domain, rule)

    def of(self, domain: str) -> TlsRule:
        """The rule for a domain, or an address literal."""
        rule = self._rules.get(domain)
        if rule is None and self._rules:
            rest = domain
            while rule is None and domain[:1] != "[" and "." in rest:
                rest = rest.partition(".")[2]
                rule = self._rules.get("*." + rest)
            rule = rule or self._rules.get("*")
        return rule or self._default


def decide(
    rule: TlsRule,
    host: str,
    *,
    domains: tuple[str, ...] = (),
    dane: Dane = ABSENT,
    sts: StsPolicy | None = None,
    requiretls: bool = False,
    vouched: bool = False,
) -> TlsPolicy:
    """The policy for `host` (a name or an address). Raises Unusable.

    `domains`: the destination, and where its CNAMEs led; none when the host was configured itself.
    `vouched`: the configuration or DNSSEC says that this is the right host.
    """
    named = "" if host[:1] == "[" or _is_address(host) else host
    if rule.tls == "none":
        if requiretls:
            raise Unusable(
                f"the message requires TLS, and the configuration sends to {host} without",
                "5.7.10",
                permanent=True,
            )
        return TlsPolicy(Level.NONE)
    if rule.tls == "verified" and rule.match:
        if requiretls and not vouched and not _enforces(sts, host):
            raise _nobody_vouches(host)
        return TlsPolicy(Level.VERIFIED, rule.match, server_name=named)
    if dane.state is DaneState.FAILED:
        # RFC 7672 section 2.1.2: else who can disturb the DNS could switch it off.
        raise Unusable(
            f"the TLSA records of {host} cannot be had ({dane.text})",
            "4.7.5",
            result="dnssec-invalid",
            kind="tlsa",
        )
    if dane.state is DaneState.USABLE:
        # RFC 7672 section 3.2.2: the TLSA base domain, and with an MX that DNSSEC vouches for the domain itself.
        names = tuple(dict.fromkeys((dane.base, host, *domains)))
        return TlsPolicy(Level.DANE, names, dane.records, dane.base, "tlsa")
    if sts is not None and sts.mode is Mode.ENFORCE:
        if not sts.names(host):
            raise Unusable(
                f"{host} is not a mail server of {domains[0] if domains else host} "
                "by its MTA-STS policy",
                "4.7.5",
                result="validation-failure",
                kind="sts",
            )
        # RFC 8461 section 4.1: the certificate is the MX host's
        return TlsPolicy(Level.VERIFIED, (host,), server_name=named, kind="sts", enforced=sts)
    testing = sts if sts is not None and sts.mode is Mode.TESTING else None
    kind: Kind = "sts" if testing else "no-policy-found"
    if requiretls and not vouched:
        raise _nobody_vouches(host)
    if rule.tls == "verified" or requiretls:
        # The host's name may come of a DNS that nobody vouches for; `match` is for those who want more.
        return TlsPolicy(
            Level.VERIFIED, (host, *domains), server_name=named, kind=kind, testing=testing
        )
    level = Level.OPPORTUNISTIC
    if rule.tls == "required":
        level = Level.REQUIRED
    if dane.state is DaneState.UNUSABLE:
        # RFC 7672 section 2.2: the host says that it does TLS
        level, kind = Level.REQUIRED, "tlsa"
    return TlsPolicy(level, server_name=named, kind=kind, testing=testing)


def _enforces(sts: StsPolicy | None, host: str) -> bool:
    return sts is not None and sts.mode is Mode.ENFORCE and sts.names(host)


def _nobody_vouches(host: str) -> Unusable:
    # RFC 8689 section 4.2.1
    return Unusable(
        f"the message requires TLS, and neither DNSSEC nor MTA-STS says that {host} is the right mail server",
        "5.7.10",
        permanent=True,
    )


def _is_address(host: str) -> bool:
    return ":" in host or host.rpartition(".")[2].isdigit()
