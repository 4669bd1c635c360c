"""The tables about who may send what: `[checks]`, `[reputation]`, `[greylist]`, `[rates]`, `[signing]`, `[reports]`,
`[stories]`; see `model`, and `filtering` for `[[filters]]`.

Lists of the DNS and rates are strings in a grammar of their own, which the code that obeys them parses.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from ..policy.dnsbl import DnsList, parse_list
from ..policy.rates import Limit
from ..policy.scores import Weights
from .section import Section
from .values import Account, Hostname, OwnName, Text, mistakes_in, said

__all__ = [
    "Checks",
    "Greylist",
    "Rates",
    "Reports",
    "Reputation",
    "Signing",
    "Stories",
    "parse_rate",
]

_WEIGHTS: Final = frozenset(Weights._fields)
_PERIODS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError('must be an address or a network such as "192.0.2.0/24"') from None


def _dns_list(value: str) -> str:
    parse_list(value)
    return value


def parse_rate(text: str) -> Limit | None:
    """``"100/hour"``, ``"100/hour burst 20"``; "" is None. Raises ValueError."""
    if not text:
        return None
    words = text.split()
    count, _, period = words[0].partition("/")
    burst = words[2] if len(words) == 3 else count
    right = len(words) == 1 or (len(words) == 3 and words[1] == "burst")
    if not right or period not in _PERIODS:
        raise ValueError(
            f'must be such as "100/hour" or "100/hour burst 20" ({", ".join(_PERIODS)})'
        )
    if not (_is_count(count) and _is_count(burst)):
        raise ValueError("must count from 1 to 1000000000")
    return Limit(int(count), _PERIODS[period], int(burst))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and 1 <= len(text) <= 10 and 0 < int(text) <= 10**9


def _rate(value: str) -> str:
    parse_rate(value)
    return value


Network = Annotated[str, AfterValidator(said(_network))]
ListText = Annotated[str, AfterValidator(said(_dns_list))]
Rate = Annotated[str, AfterValidator(said(_rate))]


class Checks(Section):
    """What is found out about mail from other servers, on `listen.smtp`, and what follows. The verdicts stand in one
    Authentication-Results field on top of the message; whatever came with our name in such a field is removed.
    """

    enabled: bool = Field(
        default=True,
        description="Whether anything is. `false`: everybody is taken as he says he is, nobody asks the DNS about him.",
    )
    exempt_networks: tuple[Network, ...] = Field(
        default=("127.0.0.0/8", "::1/128"),
        strict=False,
        max_length=1000,
        description="Clients that are neither checked nor counted: this machine, a backup MX, a gateway of one's own.",
    )
    authserv_id: OwnName = Field(
        default="",
        description='The name in Authentication-Results (RFC 8601). `""` is `hostname`.',
    )
    spf: bool = Field(default=True, description="SPF (RFC 7208), of HELO and of MAIL FROM.")
    spf_fail: Literal["score", "junk", "refuse"] = Field(
        default="score",
        description="What follows when SPF says fail and DMARC does not say otherwise: points "
        "([reputation]), the folder for junk, or 550 5.7.23. Forwarded mail fails SPF, so refusing it loses some. A "
        "domain that says it sends no mail at all (`v=spf1 -all`) is refused in any case.",
    )
    received_spf: bool = Field(
        default=False, description="Also write a Received-SPF field (RFC 7208 section 9.1)."
    )
    dkim: bool = Field(default=True, description="DKIM signatures (RFC 6376, RFC 8463).")
    arc: bool = Field(default=True, description="ARC chains (RFC 8617).")
    trusted_sealers: tuple[Hostname, ...] = Field(
        default=(),
        strict=False,
        max_length=10_000,
        description="Domains whose ARC seals are believed: mail that they forwarded, and that passed when it reached "
        "them, is not refused for DMARC. Mailing lists and providers that users forward from.",
    )
    mailing_lists: tuple[Hostname, ...] = Field(
        default=(),
        strict=False,
        max_length=10_000,
        description="Domains of mailing lists that change what they pass on, and break signatures with it: what SPF or "
        "DKIM shows to be theirs is not refused for its author's DMARC.",
    )
    dmarc: Literal["enforce", "record", "off"] = Field(
        default="enforce",
        description="DMARC (RFC 9989). `enforce`: what the domain asks for is done: 550 5.7.26 for `reject`, the "
        "folder for junk for `quarantine`. `record`: the verdict is written down and nothing follows.",
    )
    dmarc_discovery: Literal["tree", "psl"] = Field(
        default="tree",
        description="How the organizational domain is found: by the tree walk of RFC 9989, or by the public suffix "
        "list as RFC 7489 had it.",
    )
    temporary_failure: Literal["defer", "accept"] = Field(
        default="defer",
        description="What follows when the DNS does not answer what DMARC has to know: 451, and the other server tries "
        "again, or the message is taken as if there were no policy.",
    )
    exceptions: dict[str, Literal["none", "quarantine", "reject"]] = Field(
        default={},
        max_length=10_000,
        description="What DMARC asks for, by domain of From, in place of its record: "
        '`exceptions = { "broken.example" = "none" }`. Subdomains too.',
    )
    seconds: float = Field(
        default=20,
        ge=1,
        le=120,
        description="Time for the questions about one message; what is not answered then is a temporary failure.",
    )


class Reputation(Section):
    """Signs of spam as points, on the scale of SpamAssassin: no sign is enough by itself. Filters have a word of their
    own ([[filters]]).
    """

    junk_score: float = Field(
        default=5,
        ge=0.1,
        le=1000,
        description="From so many points on it goes to the folder for junk.",
    )
    refuse_score: float = Field(
        default=15,
        ge=0.1,
        le=1000,
        description="From so many points on it is refused with 550 5.7.1.",
    )
    lists: tuple[ListText, ...] = Field(
        default=(),
        strict=False,
        max_length=100,
        description="Lists in the DNS of clients' addresses, written as Postfix has them: `zone=pattern*points`, such "
        'as `"zen.spamhaus.org=127.0.0.[2..11]*6"`; without `*points` it is 1 point; negative ones are for '
        "lists of the good. Most want to be asked by "
        "a resolver of one's own, and by few without payment: read their terms.",
    )
    helo_lists: tuple[ListText, ...] = Field(
        default=(),
        strict=False,
        max_length=100,
        description="Lists of domains, asked for the name in HELO.",
    )
    sender_lists: tuple[ListText, ...] = Field(
        default=(),
        strict=False,
        max_length=100,
        description="Lists of domains, asked for the domain of MAIL FROM.",
    )
    names: bool = Field(
        default=True,
        description="Look at the client's names: does the name in HELO make sense, has its address a name that leads "
        "back.",
    )
    greet_delay_seconds: float = Field(
        default=0,
        ge=0,
        le=30,
        description="Wait before the greeting, to see who speaks first: only programs that are no mail servers do. 0: "
        "who speaks before it can only be seen when a list is asked meanwhile.",
    )
    weights: dict[str, float] = Field(
        default={},
        description="Points of single signs in place of ours, by name: "
        + ", ".join(sorted(_WEIGHTS))
        + ".",
    )

    @model_validator(mode="after")
    def _known(self) -> Reputation:
        found: list[tuple[tuple[str | int, ...], str]] = [
            (("weights", name), "is no sign; there are " + ", ".join(sorted(_WEIGHTS)))
            for name in self.weights
            if name not in _WEIGHTS
        ]
        if self.refuse_score < self.junk_score:
            found.append((("refuse_score",), "must be at least junk_score"))
        mistakes_in(found)
        return self

    @property
    def dns_lists(self) -> tuple[DnsList, ...]:
        """All of them, as they are asked."""
        of = (("client", self.lists), ("helo", self.helo_lists), ("sender", self.sender_lists))
        return tuple(parse_list(text, kind) for kind, texts in of for text in texts)


class Greylist(Section):
    """The first mail from a stranger is deferred: who is a mail server tries again. Networks and domains that did are
    known from then on.
    """

    enabled: bool = Field(
        default=False,
        description="Whether it is done. It delays the first mail of everybody by minutes, or hours.",
    )
    delay_seconds: float = Field(
        default=300, ge=1, le=86_400, description="Time before another try counts."
    )
    window_seconds: float = Field(
        default=86_400, ge=600, le=2_592_000, description="Time in which it has to come."
    )
    lifetime_seconds: float = Field(
        default=3_110_400,
        ge=86_400,
        le=31_536_000,
        description="How long who has come again stays known without mail. 36 days outlast a monthly newsletter.",
    )

    @model_validator(mode="after")
    def _can_pass(self) -> Greylist:
        if self.delay_seconds >= self.window_seconds:
            # Who is put off could come neither too early nor too late: all mail of strangers would be lost.
            allowed = (
                f"must be less than window_seconds ({self.window_seconds:g}), or nobody comes again in time: "
                "make it smaller, or window_seconds larger"
            )
            mistakes_in([(("delay_seconds",), allowed)])
        return self


class Rates(Section):
    """How often somebody may. `"100/hour"`, or with how much at once `"100/hour burst 20"`; `""` is no limit. Who is
    faster is told 451 4.7.1 (421 when connecting), and when to come again.
    """

    address_connections: Rate = Field(
        default="", description="Connections of one client address (IPv6: /64)."
    )
    address_messages: Rate = Field(default="", description="Messages of one client address.")
    address_recipients: Rate = Field(default="", description="Recipients of one client address.")
    address_unknown: Rate = Field(
        default="200/hour burst 50",
        description="Recipients that do not exist, of one client address, from which on it is told 421. A list with "
        "some that are gone is none; each recipient of a message that is taken makes good for one.",
    )
    network_connections: Rate = Field(
        default="", description="Connections of one network (/24, IPv6: /48)."
    )
    network_messages: Rate = Field(default="", description="Messages of one network.")
    network_recipients: Rate = Field(default="", description="Recipients of one network.")
    network_unknown: Rate = Field(
        default="1000/hour burst 250",
        description="Recipients that do not exist, of one network: of who has many addresses.",
    )
    domain_messages: Rate = Field(default="", description="Messages of one domain of MAIL FROM.")
    domain_recipients: Rate = Field(
        default="", description="Recipients of one domain of MAIL FROM."
    )
    account_messages: Rate = Field(
        default="2000/day burst 500", description="Messages that one user sends elsewhere."
    )
    account_recipients: Rate = Field(
        default="5000/day burst 1000",
        description="Recipients elsewhere of one user; those here count for nothing.",
    )
    watch_senders: bool = Field(
        default=True,
        description="Slow down an account that turns into a source of spam (many refusals, very many different "
        "recipients, far more than it ever sent), and tell its owner and the postmaster once.",
    )


class Signing(Section):
    """Signatures on what leaves. A domain is signed for when it has keys: `mailctl dkim add`."""

    dkim: bool = Field(
        default=True,
        description="Sign users' mail and our own notices (RFC 6376, RFC 8463), once, when it is accepted.",
    )
    arc: bool = Field(
        default=True,
        description="Seal what aliases forward (RFC 8617), so that the next server can tell that it passed here.",
    )


class Reports(Section):
    """Reports to and from other sites."""

    dmarc: bool = Field(
        default=False,
        description="Send daily aggregate reports to domains whose DMARC record asks for them (RFC 9990).",
    )
    tls: bool = Field(
        default=False,
        description="Send daily reports about TLS to domains that ask for them (RFC 8460).",
    )
    sender: Account = Field(
        default="", description='Their sender. `""` is `noreply-reports@` our hostname.'
    )
    organization: Text = Field(default="", description='Who reports. `""` is `hostname`.')
    contact: Text = Field(default="", description="Whom to ask about them: an address, or nothing.")


class Stories(Section):
    """What `mailctl explain` tells of messages."""

    days: float = Field(
        default=7, ge=0, le=366, description="How long they are kept. 0: there are none."
    )
    most: int = Field(default=200_000, ge=100, le=10_000_000, description="How many are kept.")
