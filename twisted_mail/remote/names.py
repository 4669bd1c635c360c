"""Whether a certificate, or a policy's pattern, is for a host: RFC 9525 (which was RFC 6125). Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from cryptography import x509

__all__ = ["certificate_names", "is_for", "name_matches"]


def name_matches(pattern: str, name: str) -> bool:
    """``*.example.org`` is for names with one label more; all else must be equal. Case and a last dot do not count."""
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern.startswith("*."):
        # RFC 9525 section 6.3: a wildcard is the whole left-most label, and stands for exactly one
        label, _, rest = name.partition(".")
        # (and never for all names of a top-level domain)
        return bool(label) and rest == pattern[2:] and "." in rest
    return bool(name) and pattern == name


def certificate_names(certificate: x509.Certificate) -> list[str]:
    """Its DNS names and addresses (SubjectAltName; the common name never: RFC 9525 section 2). Raises ValueError."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [
        *found.get_values_for_type(x509.DNSName),
        *(str(one) for one in found.get_values_for_type(x509.IPAddress)),
    ]


def is_for(names: Iterable[str], wanted: Iterable[str]) -> bool:
    """Whether one of a certificate's `names` is one of those `wanted`.

    Wanted is a name, an address (also as a literal, in brackets), or a name with a dot before it, which stands for
    all names below.
    """
    names = list(names)
    return any(_has(names, one) for one in wanted)


def _has(names: list[str], wanted: str) -> bool:
    if wanted[:1] == "[":
        wanted = wanted[6:-1] if wanted.startswith("[IPv6:") else wanted[1:-1]
    try:
        address = str(ipaddress.ip_address(wanted))
    except ValueError:
        pass
    else:
        return address in names
    if wanted[:1] == ".":
        return any(name.lower().rstrip(".").endswith(wanted.lower()) for name in names)
    return any(name_matches(name, wanted) for name in names)
