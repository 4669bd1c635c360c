"""DMARC policy records (RFC 9989 sections 4.7 and 4.8; RFC 7489 section 6.3): text → `DmarcRecord`.

Read as RFC 9989 says: v=DMARC1 comes first, unknown tags count for nothing, what is malformed counts as not being
there; of a tag that stands there twice, the first. pct= and ri=, which RFC 9989 has dropped, are read still: many
records have them. No bytes make it raise.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from .wording import one_line

__all__ = ["MAX_RECORD", "MAX_URIS", "DmarcRecord", "parse", "parse_uris", "select"]

MAX_RECORD: Final = 4096
"""Octets of a record; a longer one counts as none."""
MAX_URIS: Final = 10
"""Of rua= and of ruf= each; RFC 7489 section 6.2 asks for two at least."""

_is_record = re.compile(rb"[ \t]*v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)").match
_uri = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:[!-~]+?)(?:![0-9]{1,12}[kmgtKMGT]?)?").fullmatch
_mailbox = re.compile(r"[^@\s]+@([A-Za-z0-9._-]+|\[[0-9A-Fa-f.:]+\])(?:\?.*)?").fullmatch
_POLICIES: Final = frozenset(("none", "quarantine", "reject"))
_FAILURES: Final = frozenset("01ds")


class DmarcRecord(NamedTuple):
    """`p`, `sp`, `np`: none, quarantine or reject, "" when they are not there or not valid; `asked` gives the one that
    counts. `adkim`, `aspf`: r or s; `pct` 0 to 100; `t`: testing; `psd`: y, n or u; `fo`: of 0, 1, d, s.

    `rua`, `ruf`: URIs as they stand there without a size limit; `ri` in seconds; `text`: the record, in one line of
    ASCII. `valid`: p= is right and sp= and np= are not wrong.
    """

    text: str
    p: str = ""
    sp: str = ""
    np: str = ""
    adkim: str = "r"
    aspf: str = "r"
    pct: int = 100
    t: bool = False
    psd: str = "u"
    fo: tuple[str, ...] = ("0",)
    rua: tuple[str, ...] = ()
    ruf: tuple[str, ...] = ()
    ri: int = 86400
    valid: bool = True

    def asked(self, below: bool, exists: bool = True) -> str | None:
        """The policy for a domain that is the record's own, or is `below` it and `exists` or not. None: DMARC does not
        apply, for the record asks neither for a policy nor for reports.
        """
        if not self.valid:
            # RFC 9989 section 4.10.1, RFC 7489 section 6.6.3 step 6
            return "none" if self.rua else None
        if below and not exists and self.np:
            return self.np
        return self.sp if below and self.sp else self.p


def select(texts: tuple[bytes, ...]) -> list[bytes]:
    """Those of a name's TXT records that are DMARC records."""
    return [text for text in texts if len(text) <= MAX_RECORD and _is_record(text)]


@lru_cache(maxsize=512)
def parse(text: bytes) -> DmarcRecord:
    """One that `select` has chosen."""
    tags: dict[str, str] = {}
    for part in text.decode("latin-1").split(";"):
        name, equals, value = part.partition("=")
        if equals:
            tags.setdefault(name.strip(" \t").lower(), value.strip(" \t"))
    p, sp, np = (_policy(tags.get(name, "")) for name in ("p", "sp", "np"))
    failures = tuple(one.strip().lower() for one in tags.get("fo", "0").split(":"))
    return DmarcRecord(
        one_line(text.decode("latin-1"), MAX_RECORD),
        p,
        sp,
        np,
        "s" if tags.get("adkim", "").lower() == "s" else "r",
        "s" if tags.get("aspf", "").lower() == "s" else "r",
        min(_number(tags.get("pct", ""), 100), 100),
        tags.get("t", "").lower() == "y",
        tags["psd"].lower() if tags.get("psd", "").lower() in ("y", "n") else "u",
        failures if len(failures) <= 4 and _FAILURES.issuperset(failures) else ("0",),
        parse_uris(tags.get("rua", "")),
        parse_uris(tags.get("ruf", "")),
        _number(tags.get("ri", ""), 86400),
        bool(p) and bool(sp or "sp" not in tags) and bool(np or "np" not in tags),
    )


def parse_uris(text: str) -> tuple[str, ...]:
    """RFC 9989 section 4.8: dmarc-urilist. What is no URI is left out, and mailto: without a mailbox."""
    out: list[str] = []
    for one in text.split(",")[: 4 * MAX_URIS]:
        found = _uri(one.strip(" \t"))
        if found is None or len(found[1]) > 500:
            continue
        scheme, _, rest = found[1].partition(":")
        if scheme.lower() == "mailto" and _mailbox(rest) is None:
            continue
        if found[1] not in out:
            out.append(found[1])
    return tuple(out[:MAX_URIS])


def _policy(text: str) -> str:
    text = text.lower()
    return text if text in _POLICIES else ""


def _number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else default
