"""The name server of tests: its replies as messages, and itself in a reactor of its own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest
from dns_zone import make_zone
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.dns.query import Questions
from twisted_mail.testing.dns import Zone
from twisted_mail.testing.nameserver import parse, reply_to, running_nameserver

ZONE = make_zone()


def exchange(name, kind, zone=ZONE, *, udp=True, volunteer_ad=False, **more):
    query = dns.message.make_query(name, kind, **more)
    wire = reply_to(parse(query.to_wire()), zone, udp=udp, volunteer_ad=volunteer_ad)
    reply = dns.message.from_wire(wire)
    assert query.is_response(reply)
    return reply


def test_ad_goes_to_who_asks_for_it():
    assert not exchange("example.org.", "MX").flags & dns.flags.AD
    assert exchange("example.org.", "MX", want_dnssec=True).flags & dns.flags.AD
    flags = dns.flags.RD | dns.flags.AD
    assert exchange("example.org.", "MX", flags=flags).flags & dns.flags.AD
    assert exchange("example.org.", "MX", volunteer_ad=True).flags & dns.flags.AD
    assert not exchange("alias.example.", "MX", flags=flags).flags & dns.flags.AD
    assert exchange("nothing.example.org.", "MX", flags=flags).flags & dns.flags.AD


def test_absence_has_an_soa():
    reply = exchange("nothing.example.", "MX")
    assert reply.rcode() == dns.rcode.NXDOMAIN
    [soa] = reply.authority
    assert (soa.ttl, soa[0].minimum) == (77, 77)
    reply = exchange("example.org.", "A")
    assert reply.rcode() == dns.rcode.NOERROR
    assert len(reply.authority) == 1


def test_what_does_not_fit_is_cut():
    reply = exchange("large.example.", "TXT", payload=1232)
    assert reply.flags & dns.flags.TC
    assert reply.answer == []
    assert not exchange("large.example.", "TXT", udp=False).flags & dns.flags.TC
    assert exchange("cut.example.", "A").flags & dns.flags.TC
    assert exchange("cut.example.", "A", udp=False).answer


def test_what_it_does_not_do():
    assert exchange("example.org.", "CAA").rcode() == dns.rcode.NOTIMP
    assert exchange("example.org.", "MX", rdclass="CH").rcode() == dns.rcode.NOTIMP
    assert exchange("broken.example.", "MX").rcode() == dns.rcode.SERVFAIL


def test_silence():
    zone = Zone({"dead.example": {"A": ["192.0.2.1"]}}, silent=["dead.example"])
    query = dns.message.make_query("dead.example.", "A")
    assert reply_to(parse(query.to_wire()), zone, udp=True) is None


@given(st.binary(max_size=100))
def test_no_bytes_hurt_it(data):
    query = parse(data)
    assert query is None or reply_to(query, ZONE, udp=True) is not None


def test_a_reply_is_not_answered():
    query = dns.message.make_query("example.org.", "MX")
    assert parse(dns.message.make_response(query).to_wire()) is None


def test_a_zone_that_is_changed(server):
    questions = Questions([("127.0.0.1", server.port)], lifetime=5.0)
    server.serve(Zone({"a.example": {"A": ["192.0.2.1"]}}))
    assert questions("A", "a.example").records == ("192.0.2.1",)
    server.serve(Zone({"a.example": {"A": ["192.0.2.2"]}}))
    assert questions("A", "a.example").records == ("192.0.2.2",)


def test_several_questions_on_one_connection(server):
    server.serve(make_zone())
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as sock:
        for name in ("example.org.", "nomail.example."):
            query = dns.message.make_query(name, "MX")
            dns.query.send_tcp(sock, query)
            reply, _ = dns.query.receive_tcp(sock)
            assert query.is_response(reply)


def test_in_a_process_with_a_reactor():
    """Everything in one: the server, and a resolver that asks it, both of one reactor."""
    program = """
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted_mail.dns.interfaces import DnsError
from twisted_mail.dns.resolver import make_resolver
from twisted_mail.testing.dns import Zone
from twisted_mail.testing.nameserver import NameServer

async def main(reactor):
    zone = Zone({"example.org": {"MX": [(10, "mx.example.org")]}}, truncated=["example.org"],
                secure=["org"])
    server = await NameServer.start(reactor, zone)
    resolver = make_resolver(reactor, servers=[server.address], lifetime=20, trust_ad=True)
    both = [Deferred.fromCoroutine(resolver.mx("example.org")) for _ in range(2)]
    for one in both:
        answer = await one
        print(answer.records, answer.secure)
    print(list(server.questions))
    zone["example.org"]["MX"] = []
    print((await resolver.mx("example.org")).records)
    other = make_resolver(reactor, servers=[server.address], lifetime=20)
    server.volunteer_ad = True
    print((await other.mx("example.org")))
    await server.stop()
    await server.stop()
    try:
        await other.txt("example.org")
    except DnsError as error:
        print(str(error).replace(str(server.port), "PORT"))
    resolver.close()
    other.close()

react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=120
    )
    # Twisted keeps /dev/null open in reserve while it listens (twisted.internet.tcp), and never closes it.
    errors = [line for line in done.stderr.splitlines() if "/dev/null" not in line]
    assert (errors, done.returncode) == ([], 0)
    assert done.stdout.splitlines() == [
        "(Mx(preference=10, host='mx.example.org'),) True",
        "(Mx(preference=10, host='mx.example.org'),) True",
        "[('MX', 'example.org', 'udp'), ('MX', 'example.org', 'tcp')]",
        "(Mx(preference=10, host='mx.example.org'),)",
        "Answer(name='example.org', records=(), exists=True, secure=False, ttl=60.0)",
        "TXT of example.org: 127.0.0.1 port PORT cannot be asked: Connection refused",
    ]


def test_from_a_shell(tmp_path):
    file = tmp_path / "zone.json"
    file.write_text(json.dumps({"records": {"a.example": {"A": ["192.0.2.1"]}}}))
    process = subprocess.Popen(
        [sys.executable, "-m", "twisted_mail.testing.nameserver", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        questions = Questions([("127.0.0.1", port)], lifetime=5.0)
        assert questions("A", "a.example").records == ("192.0.2.1",)
        file.write_text("{")
        assert questions("A", "a.example").records == ("192.0.2.1",)
        file.write_text(json.dumps({"records": {"a.example": {"A": ["192.0.2.22"]}}}))
        assert questions("A", "a.example").records == ("192.0.2.22",)
        process.terminate()
        said = process.stderr.read()
    assert process.returncode == 0
    assert said.count("\n") == 1
    assert "JSONDecodeError" in said


def test_one_that_cannot_start_says_so(server, capfd):
    with (
        pytest.raises(RuntimeError, match="has not started"),
        running_nameserver(Zone(), port=server.port),
    ):
        raise AssertionError("it has started")
    said = capfd.readouterr().err
    assert "Couldn't listen" in said and "Traceback" not in said


@pytest.mark.parametrize("content", [None, "{", "[]", '{"records": 7}'])
def test_a_file_that_cannot_be_served(tmp_path, content):
    file = tmp_path / "zone.json"
    if content is not None:
        file.write_text(content)
    done = subprocess.run(
        [sys.executable, "-m", "twisted_mail.testing.nameserver", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        f"python -m twisted_mail.testing.nameserver: error: {file}: "
    )


def test_nothing_is_asked_or_read_or_imported_before_the_first_question():
    program = (
        "import sys\n"
        "from twisted.internet.task import Clock\n"
        "from twisted_mail.dns.resolver import make_resolver\n"
        "clock = Clock()\n"
        "clock.callFromThread = None\n"
        "make_resolver(clock).close()\n"
        "print('dns' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
