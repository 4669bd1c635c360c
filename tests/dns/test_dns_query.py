"""`Questions` and servers that do not behave: each is a thread of this test with sockets of its own."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from ipaddress import ip_address

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from dns_waiting import Loop
from dns_zone import make_zone

from twisted_mail.dns.interfaces import DnsError
from twisted_mail.dns.query import Questions
from twisted_mail.dns.resolver import make_resolver
from twisted_mail.testing.nameserver import parse, reply_to


class Odd:
    """Answers over UDP what `says(query, wire)` gives: a list of messages or octets; and over TCP what `tcp` gives."""

    def __init__(self, says, tcp=None):
        self.says, self.tcp = says, tcp
        self.queries = []
        self.threads = [threading.Thread(target=self._udp)]
        self._listen()
        if tcp is not None:
            self.threads.append(threading.Thread(target=self._tcp))
        for thread in self.threads:
            thread.start()

    def _listen(self):
        """At a port that is free for both."""
        for _ in range(50):
            self.udp_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp_socket.bind(("127.0.0.1", 0))
            self.address = self.udp_socket.getsockname()
            try:
                if self.tcp is not None:
                    self.tcp_socket = socket.create_server(self.address)
            except OSError:
                self.udp_socket.close()
            else:
                return
        raise OSError("no port is free for UDP and TCP")

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", self.address)
        if self.tcp is not None:
            socket.create_connection(self.address).close()
        for thread in self.threads:
            thread.join(30)
        self.udp_socket.close()
        if self.tcp is not None:
            self.tcp_socket.close()

    def _udp(self):
        while True:
            wire, peer = self.udp_socket.recvfrom(65535)
            if not wire:
                return
            query = dns.message.from_wire(wire)
            self.queries.append(query)
            for reply in self.says(query):
                octets = reply if isinstance(reply, bytes) else reply.to_wire(max_size=65535)
                self.udp_socket.sendto(octets, peer)

    def _tcp(self):
        while True:
            connection, _ = self.tcp_socket.accept()
            with connection:
                wire = connection.recv(65535)
                if not wire:
                    return
                connection.sendall(self.tcp(dns.message.from_wire(wire[2:])))


@contextmanager
def odd(says, tcp=None):
    server = Odd(says, tcp)
    try:
        yield server
    finally:
        server.close()


def reply(query, *records, rcode=dns.rcode.NOERROR, flags=0):
    message = dns.message.make_response(query, recursion_available=True)
    message.set_rcode(rcode)
    message.flags |= flags
    for name, kind, *values in records:
        message.answer.append(dns.rrset.from_text(name, 100, "IN", kind, *values))
    return message


def good(query):
    return reply(query, ("a.example.", "A", "192.0.2.1"))


def ask(*servers, kind="A", name="a.example", **more):
    return Questions([server.address for server in servers], **{"lifetime": 5.0, **more})(
        kind, name
    )


def cut(query):
    return reply(query, flags=dns.flags.TC)


def framed(message):
    wire = message.to_wire()
    return len(wire).to_bytes(2, "big") + wire


def test_what_a_question_looks_like():
    with odd(lambda query: [good(query)]) as server:
        ask(server)
        ask(server, trust_ad=True)
    plain, trusting = server.queries
    assert plain.flags == dns.flags.RD
    assert (plain.edns, plain.ednsflags, plain.payload) == (0, 0, 1232)
    assert trusting.flags == dns.flags.RD | dns.flags.AD  # and no CD: the server is to validate
    assert trusting.ednsflags == dns.flags.DO
    assert trusting.question[0].name.to_text() == "a.example."


def test_ad_is_believed_only_as_configured():
    with odd(
        lambda query: [reply(query, ("a.example.", "A", "192.0.2.1"), flags=dns.flags.AD)]
    ) as server:
        assert not ask(server).secure
        assert ask(server, trust_ad=True).secure


def test_every_reply_on_the_way_must_be_authentic():
    def says(query, *, ads):
        name = query.question[0].name.to_text()
        flags = dns.flags.AD if name in ads else 0
        if name == "a.example.":
            return [reply(query, (name, "CNAME", "b.example."), flags=flags)]
        return [reply(query, (name, "A", "192.0.2.1"), flags=flags)]

    for ads, secure in [
        ({"a.example.", "b.example."}, True),
        ({"a.example."}, False),
        ({"b.example."}, False),
    ]:
        with odd(lambda query, ads=ads: says(query, ads=ads)) as server:
            answer = ask(server, trust_ad=True)
        assert (answer.name, answer.records, answer.secure) == ("b.example", ("192.0.2.1",), secure)


def test_aliases_that_go_in_a_circle_from_server_to_server():
    def says(query):
        name = query.question[0].name.to_text()
        other = {"a.example.": "b.example.", "b.example.": "a.example."}[name]
        return [reply(query, (name, "CNAME", other))]

    with odd(says) as server, pytest.raises(DnsError, match=r"A of a\.example: its aliases"):
        ask(server)
    assert len(server.queries) == 2


def test_aliases_without_end():
    def says(query):
        name = query.question[0].name.to_text()
        return [reply(query, (name, "CNAME", f"{len(server.queries)}.example."))]

    with odd(says) as server, pytest.raises(DnsError, match="its aliases"):
        ask(server)
    assert 10 < len(server.queries) < 15


def test_an_alias_and_an_soa_is_an_answer():
    def says(query):
        message = reply(query, ("a.example.", "CNAME", "b.example."))
        message.authority.append(
            dns.rrset.from_text("example.", 50, "IN", "SOA", "a. b. 1 2 3 4 30")
        )
        return [message]

    with odd(says) as server:
        answer = ask(server)
    assert (answer.name, answer.records, answer.exists, answer.ttl) == ("b.example", (), True, 30)
    assert len(server.queries) == 1


def test_an_alias_to_what_is_not_there_is_an_answer():
    def says(query):
        alias = ("a.example.", "CNAME", "b.example.")
        return [reply(query, alias, rcode=dns.rcode.NXDOMAIN)]  # and no SOA

    with odd(says) as server:
        answer = ask(server)
    assert (answer.name, answer.records, answer.exists) == ("b.example", (), False)
    assert len(server.queries) == 1


@pytest.mark.parametrize("ttls", [(20, 90), (90, 20)])
def test_the_shortest_ttl_on_the_way_counts(ttls):
    def says(query):
        if query.question[0].name.to_text() == "a.example.":
            message = reply(query, ("a.example.", "CNAME", "b.example."))
            message.answer[0].ttl = ttls[0]
        else:
            message = reply(query, ("b.example.", "A", "192.0.2.1"))
            message.answer[0].ttl = ttls[1]
        return [message]

    with odd(says) as server:
        assert ask(server).ttl == 20


def test_addresses_are_written_as_ipaddress_does():
    def says(query):
        return [reply(query, ("a.example.", "AAAA", "::ffff:192.0.2.1", "2001:db8:0:0::"))]

    with odd(says) as server:
        records = ask(server, kind="AAAA").records
    assert set(records) == {str(ip_address("::ffff:192.0.2.1")), "2001:db8::"}


def test_silence():
    with (
        odd(lambda query: []) as server,
        pytest.raises(DnsError, match=r"^A of a\.example: no server answered within 0\.3 seconds$"),
    ):
        ask(server, lifetime=0.3)


def test_the_lifetime_is_as_configured():
    loop = Loop()
    with odd(lambda query: []) as server:
        resolver = make_resolver(
            loop, servers=[f"127.0.0.1:{server.address[1]}"], lifetime=0.2, trust_ad=True
        )
        with pytest.raises(DnsError, match=r"TXT of a\.example: no server .* within 0\.2 seconds"):
            loop.wait(resolver.txt("a.example"))
        resolver.close()
        assert server.queries[0].flags & dns.flags.AD


def test_nobody_listens():
    with odd(lambda query: []) as server:
        pass
    with pytest.raises(
        DnsError,
        match=rf"^A of a\.example: 127\.0\.0\.1 port {server.address[1]} cannot be asked: Connection refused$",
    ):
        ask(server, lifetime=600)


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.FORMERR])
def test_a_refusal_is_said(rcode):
    with odd(lambda query: [reply(query, rcode=rcode)]) as server:
        with pytest.raises(DnsError, match=f" says {dns.rcode.to_text(rcode)}$"):
            ask(server)
        assert len(server.queries) == 1


def test_the_reason_of_a_validator_is_said_but_none_of_its_prose():
    def says(query):
        message = reply(query, rcode=dns.rcode.SERVFAIL)
        message.use_edns(
            0, options=[dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS, "buy\r\nthis")]
        )
        return [message]

    with odd(says) as server, pytest.raises(DnsError, match=r"says SERVFAIL \(dnssec bogus\)$"):
        ask(server)


def test_the_next_server_is_asked():
    with odd(lambda query: [reply(query, rcode=dns.rcode.REFUSED)]) as bad:
        with odd(lambda query: [good(query)]) as server:
            assert ask(bad, server).records == ("192.0.2.1",)
        with pytest.raises(DnsError, match=r"says REFUSED; .* cannot be asked"):
            ask(bad, server)


def test_garbage_before_the_reply_is_passed_over():
    def says(query):
        other = dns.message.make_query("b.example.", "A")
        stranger = reply(other, ("b.example.", "A", "203.0.113.1"))
        stranger.id = query.id
        wrong_id = good(query)
        wrong_id.id ^= 1
        wrong_cut = cut(other)
        wrong_cut.id = query.id
        no_reply = good(query)
        no_reply.flags &= ~dns.flags.QR
        whole = good(query).to_wire()
        return [
            b"x", b"", whole[:20], whole[:-2], whole + b"junk",
            stranger, wrong_id, wrong_cut, no_reply, good(query),
        ]  # fmt: skip

    with odd(says) as server:
        assert ask(server).records == ("192.0.2.1",)
    assert len(server.queries) == 1


def test_nothing_but_garbage():
    with (
        odd(lambda query: [good(query).to_wire()[:-1]]) as server,
        pytest.raises(DnsError, match="sent nonsense"),
    ):
        ask(server, lifetime=0.3)


def test_a_malformed_record_of_another_kind_is_not_taken_for_absence():
    def says(query):
        wire = bytearray(good(query).to_wire())
        at = wire.index(bytes([0, 4, 192, 0, 2, 1]))
        return [bytes(wire[:at] + b"\x00\x03" + wire[at + 2 : at + 5] + wire[at + 6 :])]

    with (
        odd(says) as server,
        pytest.raises(DnsError, match="sent nonsense"),
    ):
        ask(server, lifetime=0.3)


def test_tlsa_too_short_to_be_one():
    def says(query):
        wire = reply(query, ("a.example.", "TLSA", "3 1 0 ab"), ("a.example.", "A", "1.2.3.4"))
        octets = wire.to_wire()
        at = octets.index(bytes([0, 4, 3, 1, 0, 0xAB]))
        return [octets[:at] + b"\x00\x02\x03\x01" + octets[at + 6 :]]

    with odd(says) as server:
        [record] = ask(server, kind="TLSA").records
    assert record == (3, 1, 255, b"")


def test_what_is_malformed_beside_a_malformed_tlsa_record_is_nonsense():
    def says(query):
        wire = reply(query, ("a.example.", "TLSA", "3 1 0 ab"), ("a.example.", "A", "1.2.3.4"))
        octets = wire.to_wire()
        at = octets.index(bytes([0, 4, 1, 2, 3, 4]))
        octets = octets[:at] + b"\x00\x03\x01\x02\x03" + octets[at + 6 :]
        at = octets.index(bytes([0, 4, 3, 1, 0, 0xAB]))
        return [octets[:at] + b"\x00\x02\x03\x01" + octets[at + 6 :]]

    with odd(says) as server, pytest.raises(DnsError, match="sent nonsense"):
        ask(server, kind="TLSA", lifetime=0.3)


def test_cut_over_udp_is_asked_over_tcp():
    with odd(lambda query: [cut(query)], tcp=lambda query: framed(good(query))) as server:
        assert ask(server).records == ("192.0.2.1",)


@pytest.mark.parametrize(
    "tcp",
    [
        lambda query: b"",
        lambda query: b"\x00",
        lambda query: framed(good(query))[:-3],
        lambda query: b"\x00\x04abcd",
        lambda query: framed(cut(query)),
        lambda query: framed(good(dns.message.make_query("b.example.", "A"))),
    ],
)
def test_tcp_that_is_of_no_use(tcp):
    with odd(lambda query: [cut(query)], tcp=tcp) as server, pytest.raises(DnsError) as caught:
        ask(server, lifetime=1.0)
    assert str(caught.value).startswith("A of a.example: ")


def test_tcp_that_nobody_listens_to():
    with (
        odd(lambda query: [cut(query)]) as server,
        pytest.raises(DnsError, match="cannot be asked: Connection refused"),
    ):
        ask(server)


def test_an_answer_beside_nxdomain_is_nonsense():
    with (
        odd(
            lambda q: [reply(q, ("a.example.", "A", "192.0.2.1"), rcode=dns.rcode.NXDOMAIN)]
        ) as server,
        pytest.raises(DnsError, match="nonsense"),
    ):
        ask(server, lifetime=0.3)


def test_records_of_other_names_are_not_taken():
    with odd(lambda query: [reply(query, ("b.example.", "A", "203.0.113.1"))]) as server:
        assert ask(server).records == ()


def test_an_ipv6_server():
    if not socket.has_ipv6:
        pytest.skip("needs IPv6")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("::1", 0))
        except OSError:
            pytest.skip("needs ::1")

        def serve():
            wire, peer = sock.recvfrom(65535)
            sock.sendto(reply_to(parse(wire), make_zone(), udp=True), peer)

        thread = threading.Thread(target=serve)
        thread.start()
        questions = Questions([("::1", sock.getsockname()[1])], lifetime=5.0)
        assert questions("MX", "nomail.example").records
        thread.join(30)


def test_resolv_conf_is_read_and_read_again(tmp_path):
    file = tmp_path / "resolv.conf"
    questions = Questions(lifetime=5.0, resolv_conf=str(file))
    with pytest.raises(DnsError, match=r"A of a\.example: no DNS server is configured in .*conf"):
        questions("A", "a.example")
    file.write_text("nameserver 127.0.0.1\noptions timeout:30\n")
    assert [(s.address, s.port) for s in questions._resolver().nameservers] == [("127.0.0.1", 53)]
    assert questions._resolver() is questions._resolver()
    file.write_text("search example.org\nnameserver 127.0.0.7\nnameserver ::1\n")
    assert [s.address for s in questions._resolver().nameservers] == ["127.0.0.7", "::1"]
    file.write_text("")  # somebody is writing it
    assert [s.address for s in questions._resolver().nameservers] == ["127.0.0.7", "::1"]
    assert questions._resolver().timeout == 2.0


def test_no_search_list(tmp_path):
    with odd(lambda query: [reply(query, rcode=dns.rcode.NXDOMAIN)]) as server:
        assert not ask(server, name="localname").exists
    assert [q.question[0].name.to_text() for q in server.queries] == ["localname."]


@pytest.mark.parametrize("name", ["ä.example", "b\x00.example", "\\300.example", "日本.example"])
def test_odd_names_do_not_hurt(server, name):
    server.serve(make_zone())
    assert not Questions([("127.0.0.1", server.port)], lifetime=5.0)("MX", name).exists
