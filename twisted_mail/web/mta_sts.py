"""The MTA-STS policy that this site publishes for its domains: RFC 8461 section 3.2.

`remote.mta_sts` reads those of others.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

__all__ = ["PREFIX", "StsHosting"]

PREFIX = "mta-sts."
"""RFC 8461 section 3.3: the host of a domain's policy."""


class StsHosting(NamedTuple):
    """`domains`: who has a policy, lower case. `mx`: names of MX hosts. `max_age` in seconds."""

    domains: frozenset[str] = frozenset()
    mode: str = "testing"
    mx: tuple[str, ...] = ()
    max_age: int = 604_800

    def policy_for(self, domain: str) -> str | None:
        """The text at ``https://mta-sts.<domain>/.well-known/mta-sts.txt``; None for a domain that has none."""
        if domain.lower().rstrip(".") not in self.domains:
            return None
        lines = ["version: STSv1", f"mode: {self.mode}"]
        lines += [f"mx: {name}" for name in self.mx]
        lines.append(f"max_age: {self.max_age}")
        return "".join(f"{line}\r\n" for line in lines)

    def id_for(self, domain: str) -> str | None:
        """What the TXT record ``_mta-sts.<domain>`` says as `id` (RFC 8461 section 3.1): another for another policy."""
        policy = self.policy_for(domain)
        if policy is None:
            return None
        return hashlib.sha256(policy.encode("ascii")).hexdigest()[:32]
