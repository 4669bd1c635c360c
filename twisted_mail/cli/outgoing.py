"""What `mailctl check` finds about mail that leaves: passwords, sockets, source addresses, name servers.

Nothing is looked up and nobody is connected to.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from ..config import Config
from ..config.via import parse_via
from .findings import ERROR, OK, WARNING, Finding, private

__all__ = ["outgoing"]

_RESOLV = Path("/etc/resolv.conf")


def outgoing(config: Config, resolv: Path = _RESOLV) -> Iterator[Finding]:
    """Queue, delivery, name servers and routes. `resolv`: where the system has its name servers."""
    if not config.queue.run:
        yield Finding(WARNING, "queue", "nothing is sent: queue.run is false")
    name = config.delivery.hostname or config.hostname
    if "." not in name and not config.development:
        detail = "is no full name: many servers refuse mail from who says so in EHLO"
        yield Finding(WARNING, f"name {name}", detail)
    for source in (config.delivery.source_ipv4, config.delivery.source_ipv6):
        if source:
            yield _source(source)
    yield from _resolver(config, resolv)
    yield from _passwords(config)
    for path in dict.fromkeys(parse_via(route.via).path for route in config.routes):
        if path:
            yield _socket(path)


def _source(address: str) -> Finding:
    subject = f"source {address}"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return Finding(ERROR, subject, f"cannot be connected from: {error.strerror}")
    return Finding(OK, subject, "an address of this machine")


def _resolver(config: Config, resolv: Path) -> Iterator[Finding]:
    if not config.dns.trust_ad:
        return
    servers = [address for address, _ in config.dns.addresses] or _system_servers(resolv)
    for server in servers:
        if not ipaddress.ip_address(server).is_loopback:
            # RFC 7672 section 2.1.1, RFC 6698 section 8.3: the way to the resolver must be safe.
            detail = "is not on this machine, and dns.trust_ad believes it: is the way to it safe?"
            yield Finding(WARNING, f"name server {server}", detail)


def _system_servers(resolv: Path) -> list[str]:
    try:
        lines = resolv.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    servers = []
    for words in map(str.split, lines):
        if len(words) > 1 and words[0] == "nameserver":
            try:
                servers.append(str(ipaddress.ip_address(words[1].partition("%")[0])))
            except ValueError:
                continue
    return servers


def _passwords(config: Config) -> Iterator[Finding]:
    for path in dict.fromkeys(route.password_file for route in config.routes):
        if path is not None:
            yield from private(path)
    if config.file is not None and any(route.password for route in config.routes):
        yield from private(config.file)


def _socket(path: str) -> Finding:
    subject = f"socket {path}"
    try:
        found = os.stat(path)
    except OSError as error:
        return Finding(WARNING, subject, f"mail for it waits: {error.strerror}")
    if not stat.S_ISSOCK(found.st_mode):
        return Finding(ERROR, subject, "is not a socket")
    if not os.access(path, os.R_OK | os.W_OK):
        return Finding(ERROR, subject, "is not for us to use")
    return Finding(OK, subject, "there")
