"""One question to one DNS server, and its reply: `Server`, for dnspython's resolver.

dnspython's own would do, but for two things. It finds out that nobody listens only by waiting: here a connected socket
tells it at once. And it throws a reply away when one TLSA record in it is malformed, as it throws away garbage: then
mail for a domain that has made a mistake there would wait until it is too old, where RFC 7672 section 2.2 wants such a
record to be seen, and to be unusable.

What is no reply to the question is passed over while there is time, whoever it may be from (RFC 5452 section 9).
"""

from __future__ import annotations

import socket
import struct
import time

import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.rdata
import dns.rdataclass
import dns.rdatatype

__all__ = ["Server"]

_TLSA = dns.rdatatype.TLSA
_IN = dns.rdataclass.IN


class Server(dns.nameserver.Do53Nameserver):
    """At an IP address and a port, over UDP, or TCP when `max_size` is asked for.

    `query` raises Timeout, FormError (all it said was garbage), Truncated, OSError.
    """

    def query(
        self,
        request: dns.message.QueryMessage,
        timeout: float,
        source: str | None = None,
        source_port: int = 0,
        max_size: bool = False,
        one_rr_per_rrset: bool = False,
        ignore_trailing: bool = False,
    ) -> dns.message.Message:
        kind = socket.SOCK_STREAM if max_size else socket.SOCK_DGRAM
        [(family, _, _, _, address), *_] = socket.getaddrinfo(
            self.address, self.port, type=kind, flags=socket.AI_NUMERICHOST
        )
        end = time.monotonic() + timeout
        try:
            with socket.socket(family, kind) as sock:
                _until(sock, end)
                sock.connect(address)
                return (_over_tcp if max_size else _over_udp)(sock, request, end)
        except TimeoutError:
            raise dns.exception.Timeout from None


def _over_udp(
    sock: socket.socket, request: dns.message.QueryMessage, end: float
) -> dns.message.Message:
    sock.send(request.to_wire())
    garbage: Exception | None = None
    while True:
        try:
            _until(sock, end)
            wire = sock.recv(65535)
        except TimeoutError:
            if garbage is not None:
                raise dns.exception.FormError from garbage
            raise
        try:
            reply = _read(wire, request)
        except dns.message.Truncated as cut:
            if request.is_response(cut.message()):  # type: ignore[no-untyped-call]
                raise
        except Exception as error:
            garbage = error
        else:
            if request.is_response(reply):
                return reply


def _over_tcp(
    sock: socket.socket, request: dns.message.QueryMessage, end: float
) -> dns.message.Message:
    wire = request.to_wire()
    _until(sock, end)
    # RFC 1035 section 4.2.2
    sock.sendall(len(wire).to_bytes(2, "big") + wire)
    size = int.from_bytes(_receive(sock, 2, end), "big")
    reply = _read(_receive(sock, size, end), request)
    if not request.is_response(reply):
        raise dns.exception.FormError
    return reply


def _receive(sock: socket.socket, size: int, end: float) -> bytes:
    """Exactly so many octets."""
    data = bytearray()
    while len(data) < size:
        _until(sock, end)
        block = sock.recv(size - len(data))
        if not block:
            raise EOFError
        data += block
    return bytes(data)


def _until(sock: socket.socket, end: float) -> None:
    """What is done next with the socket must be over by `end`."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    sock.settimeout(left)


def _read(wire: bytes, request: dns.message.QueryMessage) -> dns.message.Message:
    try:
        return dns.message.from_wire(wire, raise_on_truncation=True)
    except dns.exception.FormError:
        if request.question[0].rdtype != _TLSA:
            raise
        reply = dns.message.from_wire(wire, raise_on_truncation=True, continue_on_error=True)
        if not _restore_tlsa(wire, reply):
            raise
        return reply


def _restore_tlsa(wire: bytes, reply: dns.message.Message) -> bool:
    """Put the TLSA records of the answer back as they are; False when that was not what is wrong."""
    _, _, questions, answers, _, _ = struct.unpack_from("!6H", wire)
    at = 12
    for _ in range(questions):
        at += dns.name.from_wire(wire, at)[1] + 4
    found: list[tuple[dns.name.Name, int, bytes]] = []
    for _ in range(answers):
        name, length = dns.name.from_wire(wire, at)
        rdtype, rdclass, ttl, size = struct.unpack_from("!HHIH", wire, at + length)
        at += length + 10 + size
        if (rdtype, rdclass) == (_TLSA, _IN):
            found.append((name, ttl, wire[at - size : at]))
    if sum(_is_malformed(data) for _, _, data in found) != len(reply.errors):
        return False
    for rrset in list(reply.answer):
        if rrset.rdtype == _TLSA:
            reply.answer.remove(rrset)
    reply.index.clear()
    for name, ttl, data in found:
        rrset = reply.find_rrset(reply.answer, name, _IN, _TLSA, create=True)
        rrset.add(dns.rdata.GenericRdata(_IN, _TLSA, data), ttl)
    return True


def _is_malformed(data: bytes) -> bool:
    try:
        dns.rdata.from_wire(_IN, _TLSA, data, 0, len(data))
    except dns.exception.FormError:
        return True
    return False
