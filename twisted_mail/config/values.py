"""The values of single keys: what is taken, in which spelling, and what is said otherwise.

Pydantic calls these; each raises the text that the author of the file reads. They look at nothing
outside the process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from ..address import Address, normalize_domain
from . import endpoints

__all__ = ["Account", "Checker", "Endpoint", "File", "Hostname", "Realm", "mistakes_in"]

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
    return Path(value) if directory is None else Path(directory, value)


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


Account = Annotated[str, AfterValidator(_account)]
Checker = Annotated[str, AfterValidator(_checker)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
File = Annotated[Path, BeforeValidator(_path)]
Hostname = Annotated[str, AfterValidator(_hostname)]
Realm = Annotated[str, AfterValidator(_realm)]
