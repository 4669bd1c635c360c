"""The values of single keys: what is taken, in which spelling, and what is said otherwise.

Pydantic calls these; each raises the text that the author of the file reads. They look at nothing
outside the process.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from ..address import Address, normalize_domain
from . import endpoints, via
from .secrets import placed

__all__ = [
    "Account",
    "Checker",
    "Endpoint",
    "File",
    "Hostname",
    "NameServer",
    "OwnName",
    "Pattern",
    "Realm",
    "Source4",
    "Source6",
    "StorageLimit",
    "Text",
    "ViaText",
    "mistakes_in",
    "parse_storage",
    "said",
]

_MAX_TEXT: Final = 512
_MAX_STORAGE: Final = 1 << 62

_REALM: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def mistakes_in(found: Iterable[tuple[tuple[str | int, ...], str]]) -> None:
    """Raise all that is `found`, pairs of a path below the model and what is allowed, as one."""
    mistakes = list(found)
    if mistakes:
        raise PydanticCustomError("mistakes", "several mistakes", {"mistakes": mistakes})


def _path(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, (str, Path)):
        return value
    if not str(value) or "\0" in str(value):
        raise PydanticCustomError("allowed", "must be the name of a file or directory")
    directory = (info.context or {}).get("directory")
    path = placed(str(value))
    return Path(path) if directory is None else Path(directory, path)


def _hostname(value: str) -> str:
    try:
        domain = normalize_domain(value)
    except ValueError as error:
        raise PydanticCustomError(
            "allowed",
            'must be a domain name such as "mail.example.org" ({why})',
            {"why": str(error)},
        ) from None
    if domain.startswith("["):
        raise PydanticCustomError("allowed", "must be a domain name, not an address literal")
    return domain


def _account(value: str) -> str:
    if not value:
        return value
    try:
        address = Address.parse(value)
    except ValueError as error:
        raise PydanticCustomError(
            "allowed", 'must be an account such as "alice@example.org" ({why})', {"why": str(error)}
        ) from None
    if not address.domain:
        raise PydanticCustomError("allowed", "must be an account with its domain")
    return str(address)


def _endpoint(value: str) -> str:
    try:
        endpoints.check(value)
    except ValueError as error:
        raise PydanticCustomError("allowed", "{why}", {"why": str(error)}) from None
    return value


def _checker(value: str) -> str:
    name = value.partition(":")[0]
    if not name or name != name.strip():
        raise PydanticCustomError(
            "allowed", 'must be "directory" or a strcred string such as "file:/etc/mail/passwd"'
        )
    return value


def _realm(value: str) -> str:
    if value and not _REALM.fullmatch(value):
        raise PydanticCustomError("allowed", 'must be "" or "package.module:callable"')
    return value


def said(parse: Callable[[str], str]) -> Callable[[str], str]:
    """`parse`, whose ValueErrors are fit for the author of the file."""

    def checked(value: str) -> str:
        try:
            return parse(value)
        except ValueError as error:
            raise PydanticCustomError("allowed", "{why}", {"why": str(error)}) from None

    return checked


def _text(value: str) -> str:
    if len(value) > _MAX_TEXT or not (value.isprintable() or not value):
        raise ValueError(f"must be one line of at most {_MAX_TEXT} characters")
    return value


def _name_server(value: str) -> str:
    host, port = via.parse_name_server(value)
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}"


def _source(
    kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address],
) -> Callable[[str], str]:
    example = "192.0.2.25" if kind is ipaddress.IPv4Address else "2001:db8::25"

    def checked(value: str) -> str:
        if not value:
            return value
        try:
            return str(kind(value))
        except ValueError:
            raise ValueError(f'must be an address of this machine such as "{example}"') from None

    return checked


_UNITS: Final[dict[str, int]] = {
    "": 1,
    "b": 1,
    # A letter alone counts as `ls`, `du` and other servers' quotas do.
    **{
        f"{letter}{end}": 1 << 10 * n
        for n, letter in enumerate("kmgtp", 1)
        for end in ("", "i", "ib")
    },
    **{f"{letter}b": 1000**n for n, letter in enumerate("kmgtp", 1)},
}
_STORAGE: Final = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,6}))? ?([A-Za-z]{0,3})", re.ASCII)


def parse_storage(text: str) -> int | None:
    """Octets that ``"1.5 GiB"``, ``"500 MB"``, ``"2g"`` (GiB) or ``"20480"`` means, in any case of letters; None for
    ``"none"``. Raises ValueError."""
    if text.lower() == "none":
        return None
    found = _STORAGE.fullmatch(text)
    unit = _UNITS.get(found[3].lower()) if found else None
    if found is None or unit is None:
        raise ValueError('must be a size such as "1 GiB" or "500 MB", or "none"')
    fraction = found[2] or ""
    octets = int(found[1] + fraction) * unit // int("1" + "0" * len(fraction))
    if not 0 < octets <= _MAX_STORAGE:
        raise ValueError('must be a size of at least one octet, or "none"')
    return octets


def _storage(value: str) -> str:
    parse_storage(value)
    return value


Account = Annotated[str, AfterValidator(_account)]
Checker = Annotated[str, AfterValidator(_checker)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
File = Annotated[Path, BeforeValidator(_path)]
Hostname = Annotated[str, AfterValidator(_hostname)]
NameServer = Annotated[str, AfterValidator(said(_name_server))]
OwnName = Annotated[str, AfterValidator(lambda value: _hostname(value) if value else "")]
Pattern = Annotated[str, AfterValidator(said(via.parse_pattern))]
Realm = Annotated[str, AfterValidator(_realm)]
Source4 = Annotated[str, AfterValidator(said(_source(ipaddress.IPv4Address)))]
Source6 = Annotated[str, AfterValidator(said(_source(ipaddress.IPv6Address)))]
StorageLimit = Annotated[str, AfterValidator(said(_storage))]
Text = Annotated[str, AfterValidator(said(_text))]
ViaText = Annotated[str, AfterValidator(said(lambda value: via.parse_via(value).text))]
