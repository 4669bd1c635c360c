"""The base subject (RFC 5256 section 2.1): what the messages of a thread have in common. Pure; never raises."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_SUBJECT", "base_subject"]

MAX_SUBJECT: Final = 2000
"""Characters that are looked at."""

_WSP = r"[ \t]"
_BLOB = rf"\[[^\[\]]*\]{_WSP}*"
_leader = re.compile(rf"{_WSP}+|(?:{_BLOB})*(?:re|fwd?){_WSP}*(?:{_BLOB})?:", re.IGNORECASE)
_blob = re.compile(_BLOB)


def base_subject(text: str) -> tuple[str, bool]:
    """(base subject, whether it is one of a reply or a forwarded message), from the decoded subject in one line."""
    text = " ".join(text[:MAX_SUBJECT].split())
    reply = False
    while True:
        # RFC 5256 section 2.1, step 2
        while text:
            if text[-1] in " \t":
                text = text.rstrip(" \t")
            elif text[-5:].lower() == "(fwd)":
                text = text[:-5]
                reply = True
            else:
                break
        at = 0
        while True:
            # step 3
            found = _leader.match(text, at)
            if found is not None:
                # White space comes behind one of these only
                reply = True
                at = found.end()
                continue
            # step 4
            found = _blob.match(text, at)
            if found is None or not text[found.end() :].strip(" \t"):
                break
            at = found.end()
        text = text[at:]
        # step 6
        if text[:5].lower() == "[fwd:" and text.endswith("]"):
            text = text[5:-1]
            reply = True
            continue
        return text, reply
