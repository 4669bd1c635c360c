"""What a configuration says about things outside it, compared with them: certificates, passwords, plugins.

Run once, when a file is loaded and before anything listens. Nothing is changed or opened for good.
Each check gives the path of the key at fault and what is allowed there.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from .filtering import Filter
from .lines import KeyPath
from .model import Auth, Tls
from .outgoing import Delivery, Route
from .secrets import password_of, secret_text
from .section import Section
from .web import Acme

__all__ = ["SECTIONS"]


_TOO_WEAK: Final = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")


def check_tls(tls: Tls) -> Iterator[tuple[KeyPath, str]]:
    """Every certificate and key can be read, and they belong together."""
    if tls.certificate is not None and tls.key is not None:
        yield from _pair(tls.certificate, tls.key, ())
    for index, pair in enumerate(tls.sni):
        yield from _pair(pair.certificate, pair.key, ("sni", index))


def check_auth(auth: Auth) -> Iterator[tuple[KeyPath, str]]:
    """Every checker can be made; the realm can be imported."""
    for index, text in enumerate(auth.checkers):
        if text == "directory":
            continue
        # Lean import: most sites have no checker but the directory, and our own realm.
        from ..accounts.checkers import CheckerError, described_checker

        try:
            described_checker(secret_text(text))
        except CheckerError as error:
            yield ("checkers", index), f"must be a checker that can be had: {error}"
        except ValueError as error:
            yield ("checkers", index), str(error)
    if auth.realm:
        from ..accounts.realm import RealmError, find_callable

        try:
            find_callable(auth.realm)
        except RealmError as error:
            yield ("realm",), f"must be importable: {error}"


def check_delivery(delivery: Delivery) -> Iterator[tuple[KeyPath, str]]:
    """The authorities can be read."""
    yield from _authorities(delivery.ca_file)


def check_acme(acme: Acme) -> Iterator[tuple[KeyPath, str]]:
    """The authorities and the key of the binding can be read."""
    yield from _authorities(acme.ca_file)
    key = "eab_key" if acme.eab_key_file is None else "eab_key_file"
    try:
        acme.binding_key()
    except OSError as error:
        yield (key,), f"must be a file that can be read ({error.strerror})"
    except ValueError as error:
        yield (key,), str(error)


def _authorities(ca_file: Path | None) -> Iterator[tuple[KeyPath, str]]:
    if ca_file is None:
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(ca_file)
    except ssl.SSLError:
        yield ("ca_file",), "must be PEM with at least one certificate"
    except OSError as error:
        yield ("ca_file",), f"must be a file that can be read ({error.strerror})"


def check_password(table: Route | Filter) -> Iterator[tuple[KeyPath, str]]:
    """There is a password where it should be."""
    key = "password" if table.password_file is None else "password_file"
    try:
        password_of(table)
    except OSError as error:
        yield (key,), f"must be a file that can be read ({error.strerror})"
    except ValueError as error:
        yield (key,), str(error)


SECTIONS: dict[str, tuple[type[Section], Callable[[Any], Iterator[tuple[KeyPath, str]]]]] = {
    "tls": (Tls, check_tls),
    "acme": (Acme, check_acme),
    "auth": (Auth, check_auth),
    "delivery": (Delivery, check_delivery),
    "routes": (Route, check_password),
    "filters": (Filter, check_password),
}
"""Tables with a check: it runs when the table itself is sound, whatever the others are; on each of a list."""


def _pair(certificate: Path, key: Path, above: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    readable = True
    for name, path in (("certificate", certificate), ("key", key)):
        try:
            path.open("rb").close()
        except OSError as error:
            readable = False
            yield (*above, name), f"must be a file that can be read ({error.strerror})"
    if not readable:
        return
    encrypted = []

    def passphrase() -> str:
        encrypted.append(key)
        return ""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # The certificates alone first, so that it is clear which of the two files is wrong.
        context.load_verify_locations(certificate)
    except ssl.SSLError:
        yield (*above, "certificate"), "must be PEM with at least one certificate"
        return
    try:
        context.load_cert_chain(certificate, key, password=passphrase)
    except ssl.SSLError as error:
        if error.reason in _TOO_WEAK:
            yield (
                (*above, "certificate"),
                f"must be one that OpenSSL takes ({error.reason.lower()})",
            )
            return
        if encrypted:
            allowed = "must be a key without a passphrase"
        elif error.reason == "KEY_VALUES_MISMATCH":
            allowed = f"must be the key of {certificate}"
        else:
            allowed = "must be PEM with a private key"
        yield (*above, "key"), allowed
