"""IMAP URLs of messages and their sections, as CATENATE has them: relative, on this server (RFC 5092, RFC 4469).

``/Drafts;UIDVALIDITY=385759045/;UID=20/;SECTION=1.2/;PARTIAL=0.1024``, and ``;UID=20`` in the selected mailbox.
Names of mailboxes are percent-encoded UTF-8 there (RFC 5092 section 6.1). Whatever else a URL may be is none.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from .fetching import BodySection
from .grammar_fetch import fetch_item
from .names import mailbox_name
from .reader import Malformed, Reader

__all__ = ["ImapUrl", "parse"]

_URL: Final = re.compile(
    rb"(?P<mailbox>(?:/(?!/)[^;?#]+?|[^;/?#:][^;?#:]*?)(?:;UIDVALIDITY=(?P<validity>[1-9][0-9]{0,9}))?/?)?"
    rb";UID=(?P<uid>[1-9][0-9]{0,9})"
    rb"(?:/;SECTION=(?P<section>[^;?#]+?))?"
    rb"(?:/;PARTIAL=(?P<first>[0-9]{1,19})(?:\.(?P<count>[1-9][0-9]{0,18}))?)?",
    re.IGNORECASE,
)
_VALIDITY: Final = re.compile(rb";UIDVALIDITY=[0-9]+/?\Z", re.IGNORECASE)
_REST: Final = (1 << 63) - 1


class ImapUrl(NamedTuple):
    """`mailbox`: None for the selected one. `section`: of BODY[…], with the partial."""

    mailbox: str | None
    validity: int | None
    uid: int
    section: BodySection


def parse(url: bytes, base: str | None = None) -> ImapUrl:
    """What `url` means where `base` (its name, as the client has it) is selected. Raises ValueError."""
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError("not the relative URL of a message")
    name: str | None = None
    path = found["mailbox"]
    if path is not None:
        path = _VALIDITY.sub(b"", path).removesuffix(b"/")
        name = unquote_to_bytes(path).decode("utf-8")
        if name.startswith("/"):
            name = name[1:]
        elif base is not None:
            # RFC 3986 section 5.2.3: in place of the last level of the base
            name = base[: base.rfind("/") + 1] + name
        name = mailbox_name(name.encode(), True)
        if not name:
            raise ValueError("a URL without a mailbox")
    elif base is None:
        raise ValueError("no mailbox is selected")
    uid = int(found["uid"])
    validity = int(found["validity"]) if found["validity"] else None
    if max(uid, validity or 0) >= 1 << 32:
        raise ValueError("a number is out of range")
    return ImapUrl(name, validity, uid, _section(found))


def _section(found: re.Match[bytes]) -> BodySection:
    section = unquote_to_bytes(found["section"] or b"")
    if b"]" in section or b"{" in section:
        raise ValueError("not a section")
    try:
        reader = Reader(b"BODY.PEEK[%s]" % section)
        item = fetch_item(reader)
        reader.end()
    except Malformed as error:
        raise ValueError(str(error)) from None
    assert isinstance(item, BodySection)
    if not found["first"]:
        return item
    first, count = int(found["first"]), int(found["count"] or _REST)
    return item._replace(partial=(min(first, _REST), min(count, _REST)))
