"""What ``mailctl dns`` knows of the site, from its configuration, its files and this machine: `collect`."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from cryptography.x509 import Certificate, load_pem_x509_certificates
from twisted.python.runtime import seconds

from ..accounts.directory import Directory, DirectoryError
from ..acme.certificates import load_key
from ..acme.files import AcmeFiles
from ..address import Address, normalize_domain
from ..certs import names_of
from ..config import WEB_LISTENERS, Config
from ..config.via import parse_via
from ..disk import OsDisk
from ..records.facts import Facts, spki_digest
from ..storage.dkim_keys import DkimKeysError, KeyFiles, KeyRow
from ..web.site import hosting_of
from .ports import socket_of
from .site import Refusal

__all__ = ["certificates", "collect", "here", "own_domain"]

_SERVICES: Final = (
    ("_submissions", "submissions", 465),
    ("_submission", "submission", 587),
    ("_imaps", "imaps", 993),
    ("_imap", "imap", 143),
    ("_pop3s", "pop3s", 995),
    ("_pop3", "pop3", 110),
)
_PRIVATE: Final = [  # RFC 1918, RFC 6598, RFC 4193
    ipaddress.ip_network(one)
    for one in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]
_REPORTS: Final = ("dmarc-reports", "dmarc", "postmaster")
_MAX_CERTIFICATE: Final = 1_048_576


def own_domain(config: Config, directory: Directory | None, text: str) -> str:
    """The domain as the DNS has it. Raises Refusal for one that is none of the site's, or a site without a name."""
    try:
        domain = normalize_domain(text.removesuffix("."))
    except ValueError as error:
        raise Refusal(f"{text!r} is no domain: {error}") from None
    if domain[0] == "[" or "." not in domain:
        raise Refusal(f"{text!r} is no domain that others can write to")
    if "." not in config.hostname:
        raise Refusal(
            f"this server has no name yet: put it into the configuration as hostname, such as mail.{domain}"
        )
    served = {route.domain for route in config.routes if route.accept}
    if directory is not None and domain not in served and not directory.is_local_domain(domain):
        raise Refusal(f"{domain} is no domain of this site: mailctl domain add {domain}")
    return domain


def collect(
    config: Config,
    directory: Directory | None,
    chain: Sequence[Certificate],
    domain: str,
    *,
    addresses: Sequence[str] = (),
    reports: str = "",
) -> Facts:
    """`chain`: as `certificates` found it; `addresses`: those of this machine, if they were said; `reports`: who gets
    reports. Raises Refusal.
    """
    delivery = config.delivery
    host, helo = _name(config.hostname), _name(delivery.hostname or config.hostname)
    configured = [one for one in (delivery.source_ipv4, delivery.source_ipv6) if one]
    # A private one is behind a NAT: what others see instead is not known here
    sources = tuple(
        str(ipaddress.ip_address(one)) for one in configured if _public(one) or _is_loopback(one)
    )
    families = {"any": (4, 6), "ipv4": (4,), "ipv6": (6,)}[delivery.family]
    given = tuple(str(ipaddress.ip_address(one)) for one in addresses)
    reached = given or tuple(_listening(config))
    known = tuple(dict.fromkeys((*reached, *filter(_public, sources))))
    if not known:
        # The name and the way back are of the same address, also of a site that is on loopback alone
        chosen = {":" in one for one in configured}
        routed = (one for one in _routed() if _public(one) and (":" in one) not in chosen)
        known = (*sources, *routed)
    if sources:
        # Of the other family the system chooses
        said = {":" in one for one in sources}
        sources += tuple(one for one in known if (":" in one) not in said)
    services = [
        (service, getattr(config.listen, name), standard) for service, name, standard in _SERVICES
    ]
    return Facts(
        domain=domain,
        host=host,
        helo=helo,
        addresses=known,
        sources=sources,
        families=families,
        services=tuple(
            (service, _port(endpoints, standard)) for service, endpoints, standard in services
        ),
        # Whoever says where others find the server may have something there that passes connections on
        inner=tuple(
            (service, standard)
            for service, endpoints, standard in services
            if given and endpoints and not _port(endpoints, standard)
        ),
        keys=_keys(config, domain),
        signs=config.signing.dkim,
        digests=_digests(config, chain),
        certificate=chain[0] if chain else None,
        passing=(
            "acme.keep_key is false, each certificate has another key"
            if config.tls.acme and not config.acme.keep_key
            else ""
        ),
        development=config.development,
        authority=_authority(config),
        sts=hosting_of(config),
        autoconfig=any(_port(getattr(config.listen, name), 80) for name in WEB_LISTENERS),
        reports=reports or _reports(directory, domain),
        relay=_relay(config),
    )


def here(directory: Directory | None) -> Callable[[str], bool | None]:
    """Whether an address, as a mailto: URI has it, is one of the site's; None: of a domain that is not."""

    def is_here(text: str) -> bool | None:
        try:
            address = Address.parse(unquote(text))
        except ValueError:
            return None
        if directory is None or not directory.is_local_domain(address.domain):
            return None
        try:
            return directory.expand(address) is not None
        except DirectoryError:
            return False

    return is_here


def _name(text: str) -> str:
    return text.lower().removesuffix(".")


def _reports(directory: Directory | None, domain: str) -> str:
    is_here = here(directory)
    return next(
        (f"{one}@{domain}" for one in _REPORTS if is_here(f"{one}@{domain}")),
        f"postmaster@{domain}",
    )


def _relay(config: Config) -> str:
    for route in config.routes:
        via = parse_via(route.via)
        if route.domain == "*" and via.scheme not in ("mx", "fail"):
            return via.host or via.path
    return ""


def _port(endpoints: Iterable[str], standard: int) -> int:
    """The port that others find a service at, 0 for none."""
    ports = []
    for endpoint in endpoints:
        found = socket_of(endpoint)
        if found is None:  # systemd, a proxy: it stands at the usual place for others
            return standard
        interface, port = found
        if port and not _is_loopback(interface):
            ports.append(port)
    return standard if standard in ports else next(iter(ports), 0)


def _listening(config: Config) -> Iterator[str]:
    for endpoint in config.listen.smtp:
        found = socket_of(endpoint)
        if found is not None and _public(found[0]):
            yield str(ipaddress.ip_address(found[0]))


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False


def _public(text: str) -> bool:
    """Whether others could reach it."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (
        address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address.is_multicast
        or any(address.version == one.version and address in one for one in _PRIVATE)
    )


def _routed() -> Iterator[str]:
    """The addresses that this machine would send from. Nothing is sent: a UDP socket only chooses its way."""
    for family, there in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((there, 25))
                yield str(ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]))
        except OSError:
            continue


def _keys(config: Config, domain: str) -> tuple[KeyRow, ...]:
    try:
        rows = KeyFiles(OsDisk(), str(config.data), seconds).rows()
    except (DkimKeysError, OSError) as error:
        raise Refusal(str(error)) from None
    return tuple(row for row in rows if row.domain == domain)


def certificates(config: Config) -> list[Certificate]:
    """Those that the server has for its name; the one for everybody when none is."""
    paths: list[Path] = [pair.certificate for pair in config.tls.sni]
    if config.tls.certificate is not None:
        paths.insert(0, config.tls.certificate)
    elif config.tls.acme:
        paths.insert(0, AcmeFiles(OsDisk(), config.data).certificate_path)
    else:
        paths.insert(0, Path(f"{config.certificates / config.hostname}.pem"))
    found = []
    for path in paths:
        try:
            with path.open("rb") as file:
                found.append(load_pem_x509_certificates(file.read(_MAX_CERTIFICATE))[0])
        except (OSError, ValueError):  # mailctl check says so
            continue
    host = _name(config.hostname)
    wildcard = f"*.{host.partition('.')[2]}"
    fitting = [one for one in found if {host, wildcard} & {name.lower() for name in names_of(one)}]
    return fitting or found[:1]


def _digests(config: Config, certificates: Sequence[Certificate]) -> tuple[bytes, ...]:
    if config.development or (config.tls.acme and not config.acme.keep_key):
        return ()
    digests = [spki_digest(one.public_key()) for one in certificates]
    if config.tls.acme and digests:
        try:
            # The key of the next certificate, should it be another
            key = load_key(Path(AcmeFiles(OsDisk(), config.data).directory, "key.pem").read_bytes())
            digests.append(spki_digest(key.public_key()))
        except (OSError, ValueError):
            pass
    return tuple(dict.fromkeys(digests))


def _authority(config: Config) -> str:
    name = urlsplit(config.acme.directory).hostname or ""
    return "letsencrypt.org" if config.tls.acme and name.endswith(".letsencrypt.org") else ""
