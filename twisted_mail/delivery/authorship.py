"""Whether a user may write what stands in the From field of a message that he submits (RFC 6409 section 6.1).

MAIL FROM is compared at once; readers see From. Its domains are judged when they are this site's, or below one, for it
is our key that would sign it. Of others' we know nothing: their own DMARC does. What can be read in two ways is refused
where a domain of ours may be meant.
"""

from __future__ import annotations

from collections.abc import Callable

from ..address import Address
from ..policy.dmarc_author import MAX_DOMAINS, author, from_fields, mailboxes
from ..status import MailError

__all__ = ["check_author"]


def check_author(
    header: bytes, is_ours: Callable[[str], bool], may_send_as: Callable[[Address], bool]
) -> None:
    """`header`: with LF line ends. Raises MailError 550 5.7.1 for an author that the user is not."""
    values = from_fields(header)
    if len(values) > 1:
        # RFC 5322 section 3.6
        raise _refused(f"the message has {len(values)} From fields")
    found = author(values)
    # Beyond so many they were not looked for.
    unknown = found.problem and (len(found.domains) == MAX_DOMAINS or "too long" in found.problem)
    if not unknown and not any(_is_under_ours(domain, is_ours) for domain in found.domains):
        return
    if found.problem:
        raise _refused(found.problem)
    authors = mailboxes(values[0])
    if not authors:
        raise _refused("the From field can be read in more than one way")
    for local, domain in authors:
        if not _is_under_ours(domain, is_ours):
            continue
        try:
            address = Address(local, domain)
        except ValueError:
            raise _refused("the From field is malformed") from None
        if not may_send_as(address):
            raise MailError(550, "5.7.1", f"You may not write as {address} in the From field")


def _is_under_ours(domain: str, is_ours: Callable[[str], bool]) -> bool:
    while domain:
        if is_ours(domain):
            return True
        domain = domain.partition(".")[2]
    return False


def _refused(why: str) -> MailError:
    return MailError(
        550, "5.7.1", f"{why[0].upper()}{why[1:]}: write your address into one From field"
    )
