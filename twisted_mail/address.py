"""Addresses: one mailbox of RFC 5321, and the paths of MAIL and RCPT.

Promises: what comes out of here is free of control characters and within the limits of RFC 5321
section 4.5.3.1; a domain is written in one way only (lower case, A-labels, canonical address
literals), so equal domains are equal strings; ``Address.parse(str(a)) == a``. Every refusal is a
ValueError whose text is fit for the peer and holds nothing the peer wrote. Local parts are kept as
given; whoever compares them uses `Address.key`.

It does not say whether a mailbox exists, and reads no header fields (comments, folding, display
names).

    Path           = "<" [ A-d-l ":" ] Mailbox ">"
    A-d-l          = At-domain *( "," At-domain )
    Mailbox        = Local-part "@" ( Domain / address-literal )
    Local-part     = Dot-string / Quoted-string
    Quoted-string  = DQUOTE *QcontentSMTP DQUOTE
    QcontentSMTP   = qtextSMTP / quoted-pairSMTP

RFC 5321 section 4.1.2, with atext, qtextSMTP and sub-domain extended by RFC 6531 section 3.3. An
underscore in a domain is taken, because such hosts exist.
"""

from __future__ import annotations

import ipaddress
import re
import string
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

import idna

__all__ = ["Address", "Path", "forward_path", "normalize_domain", "reverse_path"]

MAX_LOCAL: Final = 64  # RFC 5321 section 4.5.3.1.1
MAX_DOMAIN: Final = 255  # RFC 5321 section 4.5.3.1.2
MAX_PATH: Final = 256  # RFC 5321 section 4.5.3.1.3
MAX_LABEL: Final = 63  # RFC 1035 section 2.3.4

_ATEXT: Final = string.ascii_letters + string.digits + "!#$%&'*+-/=?^_`{|}~"
_DOT_STRING_OCTETS: Final = (_ATEXT + ".").encode("ascii")
_DOT_STRING: Final = frozenset(_ATEXT + ".")
# RFC 6531 section 3.3: and all that is not ASCII
_DOT_STRING_TEXT: Final = re.compile(f"[{re.escape(_ATEXT)}.\\x80-\\U0010ffff]+")
_DOMAIN_CHARACTERS: Final = frozenset(string.ascii_lowercase + string.digits + "-_.")
_CONTROLS: Final = frozenset(("Cc", "Cs", "Zl", "Zp"))


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox: `local` without quoting, `domain` as `normalize_domain` writes it.

    `domain` is "" for the ``postmaster`` of this site only (RFC 5321 section 2.3.5). The
    constructor refuses control characters and nothing else; what comes from outside goes through
    `parse` or a path.
    """

    local: str
    domain: str
    _text: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.local.isprintable() and _has_control(self.local):
            raise ValueError("control character in the local part")
        if not (self.domain.isascii() and self.domain.isprintable()):
            raise ValueError("the domain is not in its A-label form")

    @classmethod
    def parse(cls, text: str) -> Address:
        """One mailbox without angle brackets, the whole of `text`: for configuration and command
        lines.
        """
        if _has_control(text):
            raise ValueError("control character in the address")
        address, end = _mailbox(text, 0)
        if end != len(text):
            raise ValueError("text behind the address")
        return address

    @property
    def key(self) -> str:
        """What two spellings of one mailbox share: case folded, NFC. For look-ups, never for the
        wire.
        """
        local = self.local
        if local.isascii():
            return f"{local.lower()}@{self.domain}"
        folded = unicodedata.normalize("NFD", local).casefold()
        return f"{unicodedata.normalize('NFC', folded)}@{self.domain}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether it can be written only under SMTPUTF8: a domain can always be written as
        A-labels.
        """
        return not self.local.isascii()

    def __str__(self) -> str:
        return self._text or self._written()

    def _written(self) -> str:
        local = self.local
        # RFC 5321 section 4.1.2: quoted only where it must be
        if not _is_dot_string(local):
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        text = f"{local}@{self.domain}" if self.domain else local
        # A message's trace, story and lines in the log have it a dozen times.
        object.__setattr__(self, "_text", text)
        return text


class Path(NamedTuple):
    """What stood behind MAIL FROM: or RCPT TO:.

    `address` is None for ``<>``. `rest` is what follows: b"" or a space and parameters. `utf8`
    tells that the path held octets over 127, in its domain or its local part, which RFC 6531 allows
    only after SMTPUTF8.
    """

    address: Address | None
    rest: bytes
    utf8: bool


def reverse_path(data: bytes, *, strict: bool = False) -> Path:
    """Read the path of MAIL, ``<>`` included, off the start of `data`. Raises ValueError."""
    if data[:2] == b"<>":
        return Path(None, _parameters(data[2:]), False)
    path = _path(data, strict)
    if path.address is None:
        return path
    if not path.address.domain:
        raise ValueError("the address has no domain")
    return path


def forward_path(data: bytes, *, strict: bool = False) -> Path:
    """Read the path of RCPT, ``<postmaster>`` included, off `data`'s start. Raises ValueError."""
    path = _path(data, strict)
    if path.address is None:
        raise ValueError("the address is empty")
    return path


def _path(data: bytes, strict: bool) -> Path:
    # What nearly every path is, without the scanner.
    if data[:1] == b"<" and (end := data.find(b">")) > 0 and end < MAX_PATH:
        address = _plain(data[1:end])
        if address is not None:
            return Path(address, _parameters(data[end + 1 :]), False)
    return _scanned_path(data, strict)


@lru_cache(maxsize=1024)
def _plain(mailbox: bytes) -> Address | None:
    """A mailbox in ASCII without quotes and literals; None for others. Those of a site come again and again."""
    local, at, domain = mailbox.partition(b"@")
    if (
        at
        and 0 < len(local) <= MAX_LOCAL
        and not local.translate(None, _DOT_STRING_OCTETS)
        and local[0] != 0x2E
        and local[-1] != 0x2E
        and b".." not in local
        and domain.isascii()
        and domain[:1] != b"["
    ):
        return Address(local.decode("ascii"), normalize_domain(domain.decode("ascii")))
    return None


def _scanned_path(data: bytes, strict: bool) -> Path:
    try:
        text = data.decode("utf-8")  # RFC 6531 section 3.3
    except UnicodeDecodeError:
        raise ValueError("the address is not UTF-8") from None
    if not strict:
        text = text.lstrip(" \t")
    if _has_control(text):
        raise ValueError("control character in the address")
    if not text:
        raise ValueError("an address is missing")
    if text[0] != "<":
        if strict:
            raise ValueError("the address is not in angle brackets")
        address, end = _mailbox(text, 0)
    elif text[:2] == "<>":
        return Path(None, _parameters(text[2:].encode()), False)
    else:
        start = _after_source_route(text) if text[1:2] == "@" else 1
        address, end = _mailbox(text, start)
        if text[end : end + 1] != ">":
            raise ValueError("the closing angle bracket is missing")
        end += 1
    used = text[:end]
    if len(used.encode()) > MAX_PATH:
        raise ValueError("the path is too long")
    return Path(address, _parameters(text[end:].encode()), not used.isascii())


def _parameters(rest: bytes) -> bytes:
    if rest and rest[0] != 0x20:
        raise ValueError("no space behind the address")
    return rest


def _after_source_route(text: str) -> int:
    """Where the mailbox begins in ``<@a,@b:mailbox>``; the route is checked and dropped."""
    # RFC 5321 section 4.1.1.3: accepted, and ignored. An IPv6 literal as a hop is refused.
    end = text.find(":")
    if end < 0:
        raise ValueError("the source route has no end")
    for hop in text[1:end].split(","):
        if hop[:1] != "@":
            raise ValueError("malformed source route")
        normalize_domain(hop[1:])
    return end + 1


def _mailbox(text: str, start: int) -> tuple[Address, int]:
    """A Mailbox, or a lone ``postmaster``, at `start`; and where it ends."""
    local, end = (_quoted if text[start : start + 1] == '"' else _dot_string)(text, start)
    if len(local.encode()) > MAX_LOCAL:
        raise ValueError("the local part is too long")
    if text[end : end + 1] == "@":
        domain, end = _domain(text, end + 1)
        address = Address(local, domain)
        # As it is written: A-labels are longer than U-labels, and what has to be quoted is longer, too
        if len(str(address).encode()) > MAX_PATH - 2:
            raise ValueError("the path is too long")
        return address, end
    if local.lower() == "postmaster":  # RFC 5321 section 4.1.1.3
        return Address(local, ""), end
    raise ValueError("the address has no domain")


def _dot_string(text: str, start: int) -> tuple[str, int]:
    end = start
    while end < len(text) and (text[end] in _DOT_STRING or text[end] > "\x7f"):
        end += 1
    local = text[start:end]
    if not local:
        raise ValueError("the local part is empty")
    if not _is_dot_string(local):
        raise ValueError("misplaced dot in the local part")
    return local, end


def _quoted(text: str, start: int) -> tuple[str, int]:
    content = []
    end = start + 1
    while (character := text[end : end + 1]) != '"':
        if character == "\\":
            end += 1
            character = text[end : end + 1]
            if character > "\x7e":  # RFC 6531 section 3.3: quoted-pairSMTP stays ASCII
                raise ValueError("malformed quoted local part")
        if not character:
            raise ValueError("the quoted local part has no end")
        content.append(character)
        end += 1
    return "".join(content), end + 1


def _domain(text: str, start: int) -> tuple[str, int]:
    end = start
    if text[start : start + 1] == "[":
        end = text.find("]", start) + 1
        if not end:
            raise ValueError("the address literal has no end")
    else:
        while end < len(text) and text[end] not in "> ":
            end += 1
    return normalize_domain(text[start:end]), end


@lru_cache(maxsize=1024)
def normalize_domain(text: str) -> str:
    """The one spelling of a domain: lower-case A-labels (RFC 5890 section 2.3.2.1), or a canonical
    address literal.

    Raises ValueError for what is neither. A U-label and its A-label give the same string.
    """
    if not text:
        raise ValueError("the domain is empty")
    if len(text) > MAX_DOMAIN:
        raise ValueError("the domain is too long")
    if text[0] == "[":
        return _literal(text)
    if text.isascii():
        domain = text.lower()
    else:
        try:
            domain = idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
        except UnicodeError:  # idna.IDNAError is one, also for an A-label form that is too long
            raise ValueError("not an internationalised domain name") from None
    if not _DOMAIN_CHARACTERS.issuperset(domain):
        raise ValueError("forbidden character in the domain")
    for label in domain.split("."):
        if not label or label[0] == "-" or label[-1] == "-" or len(label) > MAX_LABEL:
            raise ValueError("malformed label in the domain")
    return domain


def _literal(text: str) -> str:
    """RFC 5321 section 4.1.3; no tag but IPv6 was ever registered."""
    if text[-1] != "]" or "%" in text:
        raise ValueError("malformed address literal")
    content = text[1:-1]
    try:
        if content[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(content[5:]).compressed}]"
        return f"[{ipaddress.IPv4Address(content)}]"
    except ValueError:
        raise ValueError("malformed address literal") from None


@lru_cache(maxsize=1024)
def _is_dot_string(local: str) -> bool:
    return (
        bool(local)
        and local[0] != "."
        and local[-1] != "."
        and ".." not in local
        and _DOT_STRING_TEXT.fullmatch(local) is not None
    )


def _has_control(text: str) -> bool:
    """Whether anything in it would break a line, a log or a header: C0, C1, line and paragraph
    separators.
    """
    if text.isprintable():
        return False
    return any(unicodedata.category(character) in _CONTROLS for character in text)
