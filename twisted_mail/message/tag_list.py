"""Tag lists: what DKIM signatures, DKIM keys, ARC and DMARC records are written in (RFC 6376 section 3.2).

    tag-list  =  tag-spec *( ";" tag-spec ) [ ";" ]
    tag-spec  =  [FWS] tag-name [FWS] "=" [FWS] [ tag-value [FWS] ]       ; erratum 5070
    tag-name  =  ALPHA *ALNUMPUNC
    tval      =  1*VALCHAR      ; %x21-3A / %x3C-7E, and UTF-8 by RFC 8616

Line ends are LF or CRLF. `parse_tags` raises nothing but ValueError, for any bytes.
"""

from __future__ import annotations

import binascii
import re

__all__ = ["base64_value", "colon_list", "parse_tags"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_CONTROL = re.compile(rb"[^\t\n\r -~\x80-\xff]")
_FWS = " \t\r\n"


def parse_tags(text: bytes) -> dict[str, str]:
    """Name → value, in the order of the text; both as they are written, less white space around them.

    Raises ValueError when it is no tag list, says a name twice, or is not UTF-8; its text is fit for a reason.
    """
    if _CONTROL.search(text) is not None:
        raise ValueError("a control character in the tags")
    specs = text.decode(errors="strict").split(";")
    if not specs[-1].strip(_FWS):
        specs.pop()
    tags: dict[str, str] = {}
    for spec in specs:
        name, equals, value = spec.partition("=")
        name = name.strip(_FWS)
        if not equals or _NAME.fullmatch(name) is None:
            raise ValueError("the tags are malformed")
        if name in tags:
            # RFC 6376 section 3.2: MUST NOT occur twice; then the whole list is invalid
            raise ValueError(f"the tag {name[:20]}= stands there twice")
        tags[name] = value.strip(_FWS)
    return tags


def colon_list(value: str) -> list[str]:
    """The items of ``a : b:c``, less white space around them. May hold empty ones."""
    return [item.strip(_FWS) for item in value.split(":")]


def base64_value(value: str) -> bytes:
    """A tag's value in base64, white space in it left out. Raises ValueError."""
    # RFC 6376 section 3.2: base64string may have FWS anywhere
    try:
        return binascii.a2b_base64(
            value.encode("ascii").translate(None, b" \t\r\n"), strict_mode=True
        )
    except ValueError:  # binascii.Error and UnicodeEncodeError are
        raise ValueError("no base64") from None
