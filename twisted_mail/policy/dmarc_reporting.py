"""Whether a domain may have its reports sent somewhere else (RFC 9990, RFC 7489 section 7.1): the other side is asked.

Without this anybody could have the reports of the world sent to a victim.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from ..address import normalize_domain
from ..dns.interfaces import Resolver
from . import dmarc_record
from .organization import Organizations

__all__ = ["destination", "permitted"]


def destination(uri: str) -> str:
    """The domain that gets what is sent to `uri` (mailto:, https:); "" when there is none."""
    scheme, _, rest = uri.partition(":")
    if scheme.lower() == "mailto":
        mailbox, _, host = rest.partition("?")[0].rpartition("@")
        host = host if mailbox else ""
    else:
        try:
            host = urlsplit(uri).hostname or ""
        except ValueError:
            return ""
    try:
        return normalize_domain(host)
    except ValueError:
        return ""


async def permitted(
    resolver: Resolver, organizations: Organizations, domain: str, uri: str, *, tag: str = "rua"
) -> tuple[str, ...]:
    """Where reports for `domain`, where the record stands, go instead of `uri`: mostly `uri` itself; () is nowhere.

    `tag`: rua or ruf. Raises DnsError: ask again later.
    """
    host = destination(uri)
    if not host or host[0] == "[":
        return ()
    if host == domain or await organizations.of(host) == await organizations.of(domain):
        return (uri,)
    name = f"{domain}._report._dmarc.{host}"
    if len(name) > 253:
        return ()
    found = dmarc_record.select((await resolver.txt(name)).records)
    if not found:
        return ()
    for text in found:
        record = dmarc_record.parse(text)
        # RFC 7489 section 7.1 step 7: it may name another address, at the same host
        instead = record.ruf if tag == "ruf" else record.rua
        if instead:
            return tuple(one for one in instead if destination(one) == host)
    return (uri,)
