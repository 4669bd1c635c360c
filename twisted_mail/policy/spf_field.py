"""The Received-SPF field (RFC 7208 section 9.1): for sites whose filters still read it."""

from __future__ import annotations

import re
from typing import Final

from .verdicts import Spf
from .wording import one_line

__all__ = ["received_spf"]

# RFC 5322 section 3.2.3
_dot_atom = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
).fullmatch
_COMMENT: Final = str.maketrans("()\\", "[]/")
_SAYS: Final = {
    "pass": "{ip} may send for {domain}",
    "fail": "{domain} says that {ip} may not send for it",
    "softfail": "{domain} says that {ip} probably may not send for it",
    "neutral": "{domain} does not say whether {ip} may send for it",
    "none": "{domain} has no SPF record",
    "temperror": "no answer just now for {domain}",
    "permerror": "the SPF record of {domain} cannot be obeyed",
}


def received_spf(verdict: Spf, *, ip: str, helo: str, receiver: str) -> bytes:
    """A field with LF line ends, in ASCII: what is not becomes ``?``. `receiver`: our host's name."""
    says = _SAYS.get(verdict.result, "").format(ip=ip, domain=verdict.domain or "the sender")
    # Why there is no answer may name our own name servers
    reason = "" if verdict.result == "temperror" else verdict.reason
    if reason:
        says += f": {reason}"
    pairs = [("client-ip", ip), ("envelope-from", verdict.sender), ("helo", helo)]
    if verdict.identity == "helo":
        del pairs[1]
    pairs += [("receiver", receiver), ("identity", verdict.identity)]
    if verdict.mechanism:
        pairs.append(("mechanism", verdict.mechanism))
    if reason:
        pairs.append(("problem", reason))
    comment = one_line(f"{receiver}: {says}", 400).translate(_COMMENT)
    lines = [f"Received-SPF: {verdict.result} ({comment})"]
    lines += [f"{key}={_value(value)}" for key, value in pairs]
    return (lines[0] + "\n\t" + ";\n\t".join(lines[1:]) + "\n").encode("ascii")


def _value(text: str) -> str:
    """dot-atom / quoted-string."""
    text = one_line(text, 400)
    if _dot_atom(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
