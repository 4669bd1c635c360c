"""A small DNS server for tests on loopback: it says what a `dns.Zone` knows, over UDP and TCP.

In a test with a reactor:

    server = await NameServer.start(reactor, zone)
    resolver = make_resolver(reactor, servers=[server.address])
    ...
    await server.stop()

In one without, as a child process, in which the zone may be changed as well:

    with running_nameserver(zone) as server:
        server.serve(other_zone)

From a shell, for programs that run for themselves; ``zone.json`` holds what `Zone.to_json` gives, and is read again
when it changes:

    python -m twisted_mail.testing.nameserver --port 5301 zone.json

It plays the validating resolver that a mail server asks: it knows all there is, follows aliases, and has its word on
DNSSEC (AD) for what `Zone.secure` names; there are no signatures. Not for the internet.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol, Protocol, ServerFactory
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import Int16StringReceiver

from .dns import KINDS, Found, Zone, text_strings, tlsa_record

__all__ = ["NameServer", "NameServerProcess", "parse", "reply_to", "running_nameserver"]

_IDLE = 60.0  # seconds until a TCP connection without a question is closed


def parse(wire: bytes) -> dns.message.QueryMessage | None:
    """The question that a message asks; None when it is none, or not one."""
    try:
        query = dns.message.from_wire(wire)
    except dns.exception.DNSException:
        return None
    if not isinstance(query, dns.message.QueryMessage) or len(query.question) != 1:
        return None
    return None if query.flags & dns.flags.QR else query


def reply_to(
    query: dns.message.QueryMessage, zone: Zone, *, udp: bool, volunteer_ad: bool = False
) -> bytes | None:
    """The reply to what `parse` gives; None: the zone says that there is none.

    `volunteer_ad`: AD is set in replies to those, too, who did not ask for it (RFC 6840 section 5.7).
    """
    reply = dns.message.make_response(query, recursion_available=True)
    question = query.question[0]
    kind = dns.rdatatype.to_text(question.rdtype)
    if kind not in KINDS or question.rdclass != dns.rdataclass.IN:
        reply.set_rcode(dns.rcode.NOTIMP)
        return reply.to_wire()
    found = zone.find(kind, question.name.to_text(omit_final_dot=True))
    if zone.is_in(zone.silent, kind, found):
        return None
    if zone.is_in(zone.failing, kind, found):
        reply.set_rcode(dns.rcode.SERVFAIL)
        return reply.to_wire()
    if udp and zone.is_in(zone.truncated, kind, found):
        reply.flags |= dns.flags.TC
        return reply.to_wire()
    _fill(reply, kind, found, zone)
    if found.secure and (
        volunteer_ad or query.flags & dns.flags.AD or query.ednsflags & dns.flags.DO
    ):
        reply.flags |= dns.flags.AD
    limit = (query.payload or 512) if udp else 65535
    try:
        return reply.to_wire(max_size=max(512, limit))
    except dns.exception.TooBig:
        cut = dns.message.make_response(query, recursion_available=True)
        cut.flags |= dns.flags.TC
        return cut.to_wire()


def _fill(reply: dns.message.Message, kind: str, found: Found, zone: Zone) -> None:
    """Aliases and records, or the SOA that says how long there are none (RFC 2308)."""
    for alias, target in found.aliases:
        reply.answer.append(_rrset(alias, "CNAME", [target], zone.ttl))
    if found.records:
        reply.answer.append(_rrset(found.name, kind, found.records, zone.ttl))
        return
    if found.dizzy:
        return
    if not found.exists:
        reply.set_rcode(dns.rcode.NXDOMAIN)
    soa = f"ns.invalid. postmaster.invalid. 1 3600 600 86400 {zone.absence_ttl}"
    reply.authority.append(dns.rrset.from_text(dns.name.root, zone.absence_ttl, "IN", "SOA", soa))


def _rrset(name: str, kind: str, records: list[Any], ttl: int) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(
        dns.name.from_text(name), ttl, [_rdata(kind, record) for record in records]
    )


def _rdata(kind: str, record: Any) -> dns.rdata.Rdata:
    if kind == "MX":
        text = f"{record[0]} {_dotted(record[1])}"
    elif kind == "SRV":
        text = f"{record[0]} {record[1]} {record[2]} {_dotted(record[3])}"
    elif kind == "TLSA":
        # As it is, for a test may want one that is malformed.
        usage, selector, matching, data = tlsa_record(record)
        wire = bytes([usage, selector, matching]) + data
        return dns.rdata.GenericRdata(dns.rdataclass.IN, dns.rdatatype.TLSA, wire)
    elif kind == "TXT":
        text = " ".join(_quoted(string) for string in text_strings(record))
    elif kind in ("CNAME", "PTR"):
        text = _dotted(record)
    else:
        text = record
    return dns.rdata.from_text("IN", kind, text)


def _dotted(name: str) -> str:
    return name if name.endswith(".") else name + "."


def _quoted(string: bytes) -> str:
    return '"' + "".join(f"\\{octet:03d}" for octet in string) + '"'


class _Udp(DatagramProtocol):
    def __init__(self, reply: Callable[[bytes, bool], bytes | None]) -> None:
        self._reply = reply

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        reply = self._reply(datagram, True)
        if reply is not None:
            assert self.transport is not None
            self.transport.write(reply, addr)


class _Tcp(Int16StringReceiver):
    """RFC 1035 section 4.2.2"""

    factory: _TcpFactory

    def connectionMade(self) -> None:
        self.factory.connections.add(self)
        self._alarm = self.factory.reactor.callLater(_IDLE, self._end)

    def stringReceived(self, string: bytes) -> None:
        self._alarm.reset(_IDLE)
        reply = self.factory.reply(string, False)
        if reply is not None:
            self.sendString(reply)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.connections.discard(self)
        if self._alarm.active():
            self._alarm.cancel()

    def _end(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()


class _TcpFactory(ServerFactory):
    protocol = _Tcp  # type: ignore[assignment]  # Twisted's annotation wants a function
    noisy = False

    def __init__(self, reactor: Any, reply: Callable[[bytes, bool], bytes | None]) -> None:
        self.reactor = reactor
        self.reply = reply
        self.connections: set[_Tcp] = set()


class NameServer:
    """A server in this process, made by `start`.

    `questions`: kind and name of what was asked last, with "udp" or "tcp". `zone` may be changed, or replaced.
    `volunteer_ad` as in `reply_to`.
    """

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.questions: deque[tuple[str, str, str]] = deque(maxlen=100_000)
        self.volunteer_ad = False
        self.interface = ""
        self.port = 0
        self._ports: list[Any] = []
        self._factory: _TcpFactory | None = None

    @classmethod
    async def start(
        cls, reactor: Any, zone: Zone, *, interface: str = "127.0.0.1", port: int = 0
    ) -> NameServer:
        """Listen; port 0 is one that is free for UDP and TCP. Raises CannotListenError."""
        server = cls(zone)
        for left in range(19, -1, -1):
            factory = _TcpFactory(reactor, server._reply)
            tcp = reactor.listenTCP(port, factory, interface=interface)
            taken = tcp.getHost().port
            udp = _Udp(server._reply)
            udp.noisy = False
            try:
                udp_port = reactor.listenUDP(taken, udp, interface=interface)
            except CannotListenError:
                await maybeDeferred(tcp.stopListening)
                if port or not left:
                    raise
                continue
            server.interface, server.port, server._factory = interface, taken, factory
            server._ports = [tcp, udp_port]
            break
        return server

    @property
    def address(self) -> str:
        """As ``servers`` of a resolver has it."""
        host = f"[{self.interface}]" if ":" in self.interface else self.interface
        return f"{host}:{self.port}"

    async def stop(self) -> None:
        """Stop listening, and end what is connected. May be called twice."""
        ports, self._ports = self._ports, []
        for port in ports:
            await maybeDeferred(port.stopListening)
        for connection in list(self._factory.connections if self._factory else ()):
            connection._end()

    def _reply(self, wire: bytes, udp: bool) -> bytes | None:
        query = parse(wire)
        if query is None:
            return None
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        name = question.name.to_text(omit_final_dot=True).lower()
        self.questions.append((kind, name, "udp" if udp else "tcp"))
        return reply_to(query, self.zone, udp=udp, volunteer_ad=self.volunteer_ad)


class NameServerProcess:
    """A server in a child process, as its parent sees it; made by `running_nameserver`."""

    def __init__(self, process: subprocess.Popen[str], file: Path, port: int) -> None:
        self._process = process
        self._file = file
        self.port = port
        self.address = f"127.0.0.1:{port}"

    def serve(self, zone: Zone) -> None:
        """From the next question on, this is what it knows."""
        _write(self._file, zone)


@contextmanager
def running_nameserver(zone: Zone, *, port: int = 0) -> Iterator[NameServerProcess]:
    """A server on 127.0.0.1 in a child process for as long as the ``with`` lasts; the child ends with its parent.

    Raises RuntimeError when it does not start: it has said why on standard error.
    """
    place = Path(tempfile.mkdtemp(prefix="nameserver-"))
    file = place / "zone.json"
    _write(file, zone)
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, "--port", str(port), "--until-input-ends", str(file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the tests
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        said = process.stdout.readline()
        if not said:
            raise RuntimeError("the DNS server has not started")
        yield NameServerProcess(process, file, int(said.rsplit(":", 1)[1]))
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(place, ignore_errors=True)


def _write(file: Path, zone: Zone) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps(zone.to_json()))
    new.replace(file)


class _FileServer(NameServer):
    """Serves what a file says, as it is when the question comes. One that cannot be read changes nothing."""

    def __init__(self, zone: Zone) -> None:
        super().__init__(zone)
        self.file: Path | None = None
        self._version: object = None

    def _reply(self, wire: bytes, udp: bool) -> bytes | None:
        if self.file is not None:
            self._read(self.file)
        return super()._reply(wire, udp)

    def _read(self, file: Path) -> None:
        try:
            status = os.stat(file)
            version = (status.st_mtime_ns, status.st_ino, status.st_size)
            if version == self._version:
                return
            self._version = version
            self.zone = Zone.from_json(json.loads(file.read_bytes()))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            print(f"{file}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)


class _UntilInputEnds(Protocol):
    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(None)


async def _serve(reactor: Any, arguments: argparse.Namespace, zone: Zone) -> None:
    try:
        server = await _FileServer.start(
            reactor, zone, interface=arguments.interface, port=arguments.port
        )
    except CannotListenError as error:
        print(str(error), file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    assert isinstance(server, _FileServer)
    server.file = arguments.zone
    print(f"listening on {server.address}", flush=True)
    input_ = _UntilInputEnds()
    if arguments.until_input_ends:
        StandardIO(input_, reactor=reactor)
    await input_.ended
    await server.stop()


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m twisted_mail.testing.nameserver")
    parser.add_argument("zone", type=Path, help="JSON, as Zone.to_json gives it")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--interface", default="127.0.0.1")
    parser.add_argument("--until-input-ends", action="store_true")
    arguments = parser.parse_args()
    try:
        zone = Zone.from_json(json.loads(arguments.zone.read_bytes()))
    except OSError as error:
        parser.error(f"{arguments.zone}: {error.strerror}")
    except (ValueError, TypeError, AttributeError) as error:
        parser.error(f"{arguments.zone}: no zone, as Zone.to_json gives it: {error}")
    react(lambda reactor: Deferred.fromCoroutine(_serve(reactor, arguments, zone)))


if __name__ == "__main__":
    _main()
