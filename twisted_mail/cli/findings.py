"""What `mailctl check` finds in files: certificates and their dates, and who may read and write."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from ..acme.files import AcmeFiles
from ..certs import inspect_certificate
from ..config import CertificatePair, Config
from ..disk import OsDisk
from ..permissions import configuration_exposure, directory_exposure, file_exposure
from ..site import directory_path

__all__ = ["ERROR", "OK", "WARNING", "Finding", "certificates", "filters", "permissions", "private"]

OK: Final = "ok"
WARNING: Final = "warning"
ERROR: Final = "error"

_DAY: Final = 86_400
_SOON: Final = 14
"""Days before a certificate's end from which on somebody should renew it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the answer: an error keeps the server from serving, a warning does not."""

    state: Literal["ok", "warning", "error"]
    subject: str
    detail: str


def certificates(config: Config, *, now: float) -> Iterator[Finding]:
    """Each certificate: its key, its dates, whether it is for this host."""
    if config.tls.certificate is not None and config.tls.key is not None:
        first = CertificatePair(certificate=config.tls.certificate, key=config.tls.key)
        yield from _pair(first, now, config.hostname)
        for pair in config.tls.sni:
            yield from _pair(pair, now, None)
        return
    if config.tls.acme:
        yield from _acme(config, now)
        for pair in config.tls.sni:
            yield from _pair(pair, now, None)
        return
    stem = config.certificates / config.hostname
    pair = CertificatePair(certificate=Path(f"{stem}.pem"), key=Path(f"{stem}.key"))
    if pair.certificate.exists():
        yield from _pair(pair, now, config.hostname)
    else:
        yield Finding(OK, "certificate", "a development certificate is made at the first start")


def _acme(config: Config, now: float) -> Iterator[Finding]:
    """The certificate that the CA has sent, and how the last try went."""
    files = AcmeFiles(OsDisk(), config.data)
    if files.certificate_path.exists():
        path = files.certificate_path
        yield from _pair(CertificatePair(certificate=path, key=path), now, config.hostname)
    else:
        yield Finding(
            WARNING, "certificate", "none from the CA yet: a development certificate is served"
        )
    try:
        state = files.state()
    except OSError as error:
        yield Finding(ERROR, "renewal", str(error))
        return
    if state.failures:
        yield Finding(WARNING, "renewal", f"failed {state.failures} times in a row: {state.error}")


def _pair(pair: CertificatePair, now: float, hostname: str | None) -> Iterator[Finding]:
    subject = f"certificate {pair.certificate}"
    try:
        found = inspect_certificate(pair.certificate, pair.key)
    except (OSError, ValueError) as error:
        yield Finding(ERROR, subject, str(error))
        return
    problems: list[Finding] = []
    if not found.key_matches:
        problems.append(Finding(ERROR, subject, f"{pair.key} is not its key"))
    day = datetime.fromtimestamp(found.not_after, UTC).date().isoformat()
    if found.not_before > now:
        problems.append(Finding(ERROR, subject, "not valid yet"))
    if found.not_after < now:
        problems.append(Finding(ERROR, subject, f"expired on {day}"))
    elif found.not_after < now + _SOON * _DAY:
        problems.append(Finding(WARNING, subject, f"expires on {day}"))
    if hostname is not None and not _covers(found.names, hostname):
        names = ", ".join(found.names)
        problems.append(Finding(WARNING, subject, f"is for {names}, not for {hostname}"))
    if not problems:
        problems.append(Finding(OK, subject, f"for {', '.join(found.names)} until {day}"))
    yield from problems
    yield from private(pair.key)


def _covers(names: tuple[str, ...], hostname: str) -> bool:
    # RFC 9525 section 6.3: a wildcard is the whole first label
    wildcard = f"*.{hostname.partition('.')[2]}"
    return bool({hostname, wildcard} & {name.lower() for name in names})


def permissions(config: Config) -> Iterator[Finding]:
    """The configuration, the data directory and the accounts: ours to write, nobody else's to read."""
    exposure = configuration_exposure(config, OsDisk())
    if exposure:
        subject = f"file {config.file}"
        yield Finding(ERROR if exposure.everybody else WARNING, subject, exposure.text)
    data = config.data
    subject = f"data {data}"
    try:
        found = data.stat()
    except FileNotFoundError:
        yield Finding(OK, subject, "is made at the first start")
        return
    except OSError as error:
        yield Finding(ERROR, subject, str(error))
        return
    if not stat.S_ISDIR(found.st_mode):
        yield Finding(ERROR, subject, "is not a directory")
    elif not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(ERROR, subject, f"belongs to user {found.st_uid}, and is not for us to write")
    elif exposure := directory_exposure(data, found.st_mode):
        # the server does not start where others may write
        yield Finding(ERROR if found.st_mode & 0o022 else WARNING, subject, exposure.text)
    else:
        yield Finding(OK, subject, "ours alone")
    if directory_path(config).exists():
        yield from private(directory_path(config))


def filters(config: Config) -> Iterator[Finding]:
    """Who else may read their passwords; nobody is connected to."""
    for path in dict.fromkeys(one.password_file for one in config.filters):
        if path is not None:
            yield from private(path)


def private(path: Path) -> Iterator[Finding]:
    """A file that holds secrets."""
    subject = f"file {path}"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        yield Finding(ERROR, subject, str(error))
        return
    if exposure := file_exposure(path, mode):
        yield Finding(ERROR if exposure.everybody else WARNING, subject, exposure.text)
    else:
        yield Finding(OK, subject, "ours alone")
