"""What the resolver does around its questions: nothing here is a socket, the clock is the test's."""

from __future__ import annotations

import pytest
from dns_waiting import Waiting, now
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from twisted_mail.dns.cache import FAILURE, Cache
from twisted_mail.dns.interfaces import Answer, DnsError, Mx, Resolver
from twisted_mail.dns.resolver import StubResolver, make_resolver, parse_server


class Threads:
    """Threads that a test lets run."""

    def __init__(self):
        self.work = []
        self.closed = False

    def call(self, work):
        done = Deferred()
        self.work.append((work, done))
        return done

    def run(self):
        while self.work:
            work, done = self.work.pop(0)
            try:
                result = work()
            except Exception:
                done.errback()
            else:
                done.callback(result)

    def close(self):
        self.closed = True


class Bench:
    def __init__(self, **more):
        self.clock = Clock()
        self.threads = Threads()
        self.asked = []
        self.says = Answer("mx", ("record",), ttl=100.0)
        self.resolver: Resolver = StubResolver(
            self.ask, self.threads, Cache(self.clock.seconds), **more
        )

    def ask(self, kind, name):
        self.asked.append((kind, name))
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


@pytest.fixture
def bench():
    return Bench()


def test_an_answer_is_remembered(bench):
    bench.says = Answer("example.org", (Mx(10, "mx.example.org"),), ttl=100.0)
    first = Waiting(bench.resolver.mx("Example.ORG."))
    assert first.outcomes == []
    bench.threads.run()
    assert first.result() == bench.says
    bench.clock.advance(40)
    assert now(bench.resolver.mx("example.org")).ttl == 60
    assert bench.asked == [("MX", "example.org")]
    bench.clock.advance(60)
    Waiting(bench.resolver.mx("example.org"))
    bench.threads.run()
    assert len(bench.asked) == 2


@pytest.mark.parametrize(
    ("call", "question"),
    [
        (lambda r: r.mx("a.b"), ("MX", "a.b")),
        (lambda r: r.srv("a.b"), ("SRV", "a.b")),
        (lambda r: r.addresses("a.b", 4), ("A", "a.b")),
        (lambda r: r.addresses("a.b", 6), ("AAAA", "a.b")),
        (lambda r: r.tlsa("_25._tcp.a.b"), ("TLSA", "_25._tcp.a.b")),
        (lambda r: r.txt("a.b"), ("TXT", "a.b")),
        (lambda r: r.alias("a.b"), ("CNAME", "a.b")),
        (lambda r: r.pointer("192.0.2.1"), ("PTR", "1.2.0.192.in-addr.arpa")),
        (lambda r: r.pointer("::ffff:192.0.2.1"), ("PTR", "1.2.0.192.in-addr.arpa")),
        (
            lambda r: r.pointer("2001:db8::1"),
            ("PTR", "1" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa"),
        ),
        (lambda r: r.pointer("fe80::1%eth0"), ("PTR", "1" + ".0" * 28 + ".8.e.f.ip6.arpa")),
    ],
)
def test_what_is_asked(bench, call, question):
    Waiting(call(bench.resolver))
    bench.threads.run()
    assert bench.asked == [question]


def test_the_same_question_is_asked_once(bench):
    waiting = [Waiting(bench.resolver.mx(name)) for name in ("a.b", "A.B", "a.b.")]
    other = Waiting(bench.resolver.txt("a.b"))
    bench.threads.run()
    assert bench.asked == [("MX", "a.b"), ("TXT", "a.b")]
    assert [one.result() for one in [*waiting, other]] == [bench.says] * 4


def test_a_failure_is_told_to_all_who_wait_and_remembered_shortly(bench):
    bench.says = DnsError("MX of a.b: no server answered within 8 seconds")
    waiting = [Waiting(bench.resolver.mx("a.b")) for _ in range(2)]
    bench.threads.run()
    errors = []
    for one in [*waiting, Waiting(bench.resolver.mx("a.b"))]:
        with pytest.raises(DnsError, match=r"^MX of a\.b: no server answered within 8 s") as caught:
            one.result()
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == 3  # each has its own traceback
    assert len(bench.asked) == 1
    bench.clock.advance(FAILURE)
    bench.says = Answer("a.b", ("record",), ttl=100.0)
    late = Waiting(bench.resolver.mx("a.b"))
    bench.threads.run()
    assert late.result() == bench.says


def test_a_fault_of_ours_is_no_answer_either(bench):
    bench.says = ZeroDivisionError("by nothing")
    waiting = Waiting(bench.resolver.mx("a.b"))
    bench.threads.run()
    with pytest.raises(DnsError, match=r"MX of a\.b: by nothing"):
        waiting.result()


def test_who_stops_waiting_stops_only_that(bench):
    one, two = Waiting(bench.resolver.mx("a.b")), Waiting(bench.resolver.mx("a.b"))
    one.deferred.cancel()
    with pytest.raises(CancelledError):
        one.result()
    bench.threads.run()
    assert two.result() == bench.says


def test_what_nobody_waits_for_any_more_is_not_asked(bench):
    Waiting(bench.resolver.mx("a.b")).deferred.cancel()
    bench.threads.run()
    assert bench.asked == []
    later = Waiting(bench.resolver.mx("a.b"))
    bench.threads.run()
    assert later.result() == bench.says


def test_who_comes_just_when_it_was_not_asked_is_answered(bench):
    Waiting(bench.resolver.mx("a.b")).deferred.cancel()
    work, done = bench.threads.work.pop()
    nothing = work()  # in the thread: nobody waits
    late = Waiting(bench.resolver.mx("a.b"))
    assert bench.threads.work == []
    done.callback(nothing)
    bench.threads.run()
    assert late.result() == bench.says


def test_one_that_cancels_the_next_from_its_answer(bench):
    waiting = []

    async def impatient():
        await bench.resolver.mx("a.b")
        waiting[0].deferred.cancel()

    first = Waiting(impatient())
    waiting.append(Waiting(bench.resolver.mx("a.b")))
    last = Waiting(bench.resolver.mx("a.b"))
    bench.threads.run()
    assert first.result() is None
    with pytest.raises(CancelledError):
        waiting[0].result()
    assert last.result() == bench.says


def test_too_many_questions_are_refused():
    bench = Bench(backlog=2)
    waiting = [Waiting(bench.resolver.mx(f"{number}.b")) for number in range(2)]
    with pytest.raises(DnsError, match="too many questions at once"):
        now(bench.resolver.mx("3.b"))
    same = Waiting(bench.resolver.mx("1.b"))
    bench.threads.run()
    assert all(one.result() for one in [*waiting, same])
    bench.threads.run()
    Waiting(bench.resolver.mx("3.b"))
    bench.threads.run()
    assert bench.asked[-1] == ("MX", "3.b")


def test_closed(bench):
    waiting = Waiting(bench.resolver.mx("a.b"))
    bench.resolver.close()
    assert bench.threads.closed
    for one in (waiting, Waiting(bench.resolver.mx("a.b"))):
        with pytest.raises(DnsError, match=r"MX of a\.b: the resolver is closed"):
            one.result()
    bench.threads.run()  # what was under way comes back, to nobody
    bench.resolver.close()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["ask", "cancel", "run"]))))
def test_whoever_waits_is_answered_once(steps):
    bench = Bench()
    waiting = []
    for name, what in steps:
        if what == "ask":
            waiting.append(Waiting(bench.resolver.mx(name)))
        elif what == "cancel" and waiting:
            waiting[-1].deferred.cancel()
        else:
            bench.threads.run()
    bench.threads.run()
    assert all(len(one.outcomes) == 1 for one in waiting)
    assert len(bench.asked) <= 3
    assert bench.resolver._waiting == {}


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("127.0.0.1:5301", ("127.0.0.1", 5301)),
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("[::1]:54", ("::1", 54)),
        ("[::1]", ("::1", 53)),
        ("2001:db8::1", ("2001:db8::1", 53)),
    ],
)
def test_servers(text, server):
    assert parse_server(text) == server


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "localhost:53",
        "192.0.2.1:",
        "192.0.2.1:0",
        "192.0.2.1:65536",
        "192.0.2.1:-1",
        "192.0.2.1:٥",
        "[::1",
        "[::1]53",
        "[::1]:",
        "1:2:3",
        "192.0.2.300",
    ],
)
def test_what_is_no_server(text):
    with pytest.raises(ValueError, match=r"DNS server|no port"):
        parse_server(text)


def test_a_wrong_server_is_said_when_the_resolver_is_made():
    with pytest.raises(ValueError, match="localhost"):
        make_resolver(Clock, servers=["localhost"])
