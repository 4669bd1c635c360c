"""One question to the DNS, asked by a thread that waits: `Questions`.
With `exchange` the only module here that knows dnspython.

It is a stub (RFC 9499): it asks servers that find the answer themselves. Over UDP, over TCP when the reply was cut;
each server gets two seconds, then the next, round and round until the time is over. Names are asked as they are:
no search list, no ``/etc/hosts``.

Aliases (CNAME) are followed where the server did not do it. An answer is secure when every reply on the way had the AD
bit, and the configuration trusts the servers and the way to them.

Importing this imports dnspython, a tenth of a second: `resolver` does it at the first question.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Sequence
from typing import Any

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.resolver

from .exchange import Server
from .interfaces import Answer, DnsError, Mx, Srv, Tlsa

__all__ = ["Questions"]

_PATIENCE = 2.0  # seconds for one try of one server
_ALIASES = 12  # that we follow ourselves
_PAYLOAD = 1232  # octets over UDP: what is not cut to pieces on the way
_SYSTEM = "/etc/resolv.conf"


class Questions:
    """Asks `servers` (address, port), or those of `resolv_conf`, which is read again when it changes.

    `lifetime`: seconds for one question with all its tries and aliases. Calls may come from any thread.
    """

    def __init__(
        self,
        servers: Sequence[tuple[str, int]] = (),
        *,
        lifetime: float = 8.0,
        trust_ad: bool = False,
        resolv_conf: str = _SYSTEM,
    ) -> None:
        self._servers = tuple(servers)
        self._lifetime = lifetime
        self._trust_ad = trust_ad
        self._resolv_conf = resolv_conf
        self._state: tuple[object, dns.resolver.Resolver] | None = None

    def __call__(self, kind: str, name: str) -> Answer[Any]:
        """The records of `kind` at `name`. Blocks. Raises DnsError."""
        try:
            return self._follow(kind, name)
        except DnsError as error:
            raise DnsError(f"{kind} of {name}: {error}") from error
        except Exception as error:  # whatever a reply can make dnspython do: it is no answer
            raise DnsError(f"{kind} of {name}: {type(error).__name__}: {error}") from error

    def _follow(self, kind: str, name: str) -> Answer[Any]:
        try:
            # latin-1: what is no A-label is asked as it is, and is not there
            at = dns.name.from_text(name.encode("latin-1", "replace"))
        except dns.exception.DNSException:
            return Answer(name, exists=False)  # a name that no message can carry is nobody's
        resolver = self._resolver()
        end = time.monotonic() + self._lifetime
        ttl = float("inf")
        secure = self._trust_ad
        seen = {at}
        aliases = 0
        while True:
            reply = self._ask(resolver, kind, at, end - time.monotonic())
            try:
                chain = reply.resolve_chaining()
            except dns.message.ChainTooLong:
                raise DnsError("its aliases (CNAME) go in a circle, or on and on") from None
            ttl = min(ttl, float(chain.minimum_ttl))
            # RFC 6840 section 5.8
            secure = secure and bool(reply.flags & dns.flags.AD)
            last = chain.canonical_name
            exists = reply.rcode() != dns.rcode.NXDOMAIN
            if chain.answer is not None or not exists or not chain.cnames or _has_soa(reply):
                return Answer(_text(last), tuple(_values(kind, chain.answer)), exists, secure, ttl)
            # RFC 1034 section 5.3.3, step 4c: the server knows no more than the alias
            aliases += len(chain.cnames)
            if last in seen or aliases > _ALIASES:
                raise DnsError("its aliases (CNAME) go in a circle, or on and on")
            seen.add(last)
            at = last

    def _ask(
        self, resolver: dns.resolver.Resolver, kind: str, at: dns.name.Name, seconds: float
    ) -> dns.message.QueryMessage:
        """A reply that says something: NOERROR or NXDOMAIN."""
        try:
            return resolver.resolve(
                at, kind, search=False, raise_on_no_answer=False, lifetime=seconds
            ).response
        except dns.resolver.NXDOMAIN as error:
            response: dns.message.QueryMessage = error.response(at)  # type: ignore[no-untyped-call]
            return response
        except dns.resolver.LifetimeTimeout:
            raise DnsError(f"no server answered within {self._lifetime:g} seconds") from None
        except dns.resolver.NoNameservers as error:
            raise DnsError(_what_servers_did(error.kwargs["errors"])) from None
        except dns.resolver.YXDOMAIN:
            raise DnsError("an alias (DNAME) makes the name too long") from None

    def _resolver(self) -> dns.resolver.Resolver:
        """The one for the servers as they are now. Two threads may make it at once: then one of them stays."""
        version: object = None
        if not self._servers:
            try:
                status = os.stat(self._resolv_conf)
                version = (status.st_mtime_ns, status.st_ino, status.st_size)
            except OSError:
                version = "missing"
        state = self._state
        if state is not None and state[0] == version:
            return state[1]
        try:
            resolver = self._make()
        except dns.resolver.NoResolverConfiguration:
            if state is None:
                raise DnsError(f"no DNS server is configured in {self._resolv_conf}") from None
            return state[1]  # it is being written just now
        self._state = version, resolver
        return resolver

    def _make(self) -> dns.resolver.Resolver:
        if self._servers:
            resolver = dns.resolver.Resolver(configure=False)
            servers = self._servers
        else:
            resolver = dns.resolver.Resolver(self._resolv_conf)
            servers = tuple((str(server), 53) for server in resolver.nameservers)
        resolver.nameservers = [Server(address, port) for address, port in servers]
        resolver.timeout = _PATIENCE
        resolver.cache = None
        # RFC 6840 section 5.7: AD in a question asks for AD in the reply. Some servers want DO for it.
        trusted = self._trust_ad
        resolver.set_flags(dns.flags.RD | (dns.flags.AD if trusted else 0))
        resolver.use_edns(0, dns.flags.DO if trusted else 0, _PAYLOAD)
        return resolver


def _values(kind: str, records: Any) -> list[Any]:
    """Of the records of one kind, what `Answer.records` holds."""
    if records is None:
        return []
    if kind == "MX":
        return [Mx(record.preference, _text(record.exchange)) for record in records]
    if kind == "SRV":
        return [
            Srv(record.priority, record.weight, record.port, _text(record.target))
            for record in records
        ]
    if kind in ("A", "AAAA"):
        return [str(ipaddress.ip_address(record.address)) for record in records]
    if kind == "TLSA":
        return [_tlsa(record.to_wire()) for record in records]
    if kind == "TXT":
        # RFC 7208 section 3.3
        return [b"".join(record.strings) for record in records]
    return [_text(record.target) for record in records]  # PTR, CNAME


def _tlsa(wire: bytes) -> Tlsa:
    """RFC 6698 section 2.1. One that is too short gets numbers that stand for nothing."""
    usage, selector, matching = wire[:3].ljust(3, b"\xff")
    return Tlsa(usage, selector, matching, wire[3:])


def _text(name: dns.name.Name) -> str:
    """Lower case, without the last dot; octets that are no letters of names are escaped."""
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


def _has_soa(reply: dns.message.QueryMessage) -> bool:
    return any(records.rdtype == dns.rdatatype.SOA for records in reply.authority)


def _what_servers_did(errors: Sequence[Any]) -> str:
    """For people: the last fault of each server."""
    said: dict[tuple[str, int], str] = {}
    for server, _, port, fault, reply in errors:
        address = server.removeprefix("Do53:").rsplit("@", 1)[0]
        said[address, port] = _fault(fault, reply)
    return (
        "; ".join(
            f"{address}{'' if port == 53 else f' port {port}'} {fault}"
            for (address, port), fault in list(said.items())[:3]
        )
        or "no DNS server is left to ask"
    )


def _fault(fault: Any, reply: dns.message.Message | None) -> str:
    if isinstance(fault, str):
        # RFC 8914: why, in one of its standard words
        reasons = reply.extended_errors() if reply is not None else []
        why = ", ".join(
            reason.code.name.replace("_", " ").lower()
            for reason in reasons[:2]
            if isinstance(reason.code, dns.edns.EDECode)
        )
        return f"says {fault}" + (f" ({why})" if why else "")
    if isinstance(fault, dns.exception.Timeout):
        return "does not answer"
    if isinstance(fault, OSError) and fault.strerror:
        return f"cannot be asked: {fault.strerror}"
    if isinstance(fault, dns.message.ChainTooLong):
        return "leads through aliases (CNAME) in a circle, or on and on"
    return f"sent nonsense ({type(fault).__name__})"
