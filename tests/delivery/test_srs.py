"""Sender Rewriting Scheme: forwarded mail's sender, there and back."""

from __future__ import annotations

import string

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from twisted_mail.address import Address, reverse_path
from twisted_mail.delivery.srs import Srs
from twisted_mail.status import MailError

DAY = 86_400.0
TODAY = 20_000 * DAY + 3_600
SECRET = b"a secret of some length"
HERE = "forwarder.example"


class Clock:
    def __init__(self) -> None:
        self.time = TODAY

    def __call__(self) -> float:
        return self.time


def srs(secret: bytes = SECRET, clock: Clock | None = None) -> Srs:
    return Srs(secret, clock or Clock())


def valid(address: Address) -> bool:
    """Whether our own MAIL takes it, which is strict."""
    text = f"<{address}>".encode()
    return len(str(address).rpartition("@")[0].encode()) <= 64 and (
        reverse_path(text, strict=True).address == address
    )


LOCALS = st.text(string.ascii_letters + string.digits + "=+-_.!", min_size=1, max_size=40).filter(
    lambda local: local[0] != "." != local[-1] and ".." not in local
)
ANY_LOCALS = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=64
).filter(lambda local: len(local.encode()) <= 64)
DOMAINS = st.sampled_from(
    [
        "a.example",
        "mail.b-c.example",
        "xn--bcher-kva.example",
        "[192.0.2.1]",
        "[IPv6:2001:db8::1]",
        ".".join(["long"] * 20),
    ]
)
SENDERS = st.builds(Address, LOCALS | ANY_LOCALS, DOMAINS)


def test_there_and_back() -> None:
    sender = Address("alice", "origin.example")
    rewritten = srs().forward(sender, HERE)
    assert rewritten.domain == HERE
    prefix, hashed, stamp, host, local = rewritten.local.split("=")
    assert (prefix, host, local) == ("SRS0", "origin.example", "alice")
    assert (len(hashed), stamp) == (6, "RA")  # 20 000 modulo 1024 is 17 * 32
    assert srs().reverse(rewritten) == sender


@given(SENDERS, st.sampled_from("=+-"))
@example(Address("x" * 64, "origin.example"), "=")
@example(Address("SRS0=", "a.example"), "=")
@example(Address("", "a.example"), "=")  # ""@a.example: RFC 5321 section 4.1.2 allows it
@example(Address("SRS1=a=-b=c", "a.example"), "=")
@example(Address("SRS1=a=b==c", "a.example"), "=")
@example(Address("\u017fRS0=abc", "a.example"), "=")  # a long s, which folds to an s
def test_every_sender_comes_back(sender: Address, separator: str) -> None:
    rewriter = Srs(SECRET, Clock(), separator=separator)
    rewritten = rewriter.forward(sender, HERE)
    if rewritten == sender:
        # Only what is too long stays as it is
        wrapped = Address(f"SRS0=HHHHHH=TT={sender.domain}={sender.local}", "")
        assert len(str(wrapped).encode()) > 64
        return
    assert valid(rewritten)
    assert rewritten.domain == HERE
    back = rewriter.reverse(rewritten)
    if sender.local[:5].upper() in ("SRS1=", "SRS1+", "SRS1-") and back != sender:
        assert back is not None and back.local.startswith("SRS0")
    else:
        assert back == sender


@given(SENDERS)
def test_letter_case_may_be_lost(sender: Address) -> None:
    rewritten = srs().forward(sender, HERE)
    assume(rewritten != sender and rewritten.local.isascii())
    back = srs().reverse(rewritten)
    lowered = srs().reverse(Address(rewritten.local.lower(), HERE))
    assert back is not None and lowered is not None
    assert lowered.key == back.key


def test_the_second_forwarder_does_not_wrap_twice() -> None:
    first, second, third = srs(b"1" * 16), srs(b"2" * 16), srs(b"3" * 16)
    sender = Address("alice", "origin.example")
    one = first.forward(sender, "one.example")
    two = second.forward(one, "two.example")
    three = third.forward(two, "three.example")
    assert two.local.startswith("SRS1=") and "=one.example==" in two.local
    assert len(three.local) == len(two.local)
    # The bounce goes from the third straight to the first
    assert third.reverse(three) == one
    assert second.reverse(two) == one
    assert first.reverse(one) == sender


def test_what_other_implementations_make() -> None:
    for local in (
        "SRS0=HHH=TT=origin.example=alice",
        "srs0+HHH=TT=origin.example=al=ice",
        "SRS0-x",
    ):
        foreign = Address(local, "one.example")
        two = srs().forward(foreign, HERE)
        assert two.local.startswith("SRS1=")
        back = srs().reverse(two)
        assert back is not None and back.key == foreign.key
    foreign = Address("SRS1+Ab/d=one.example=+HHH=TT=origin.example=alice", "two.example")
    assert srs().reverse(srs().forward(foreign, HERE)) == Address(
        "SRS0+HHH=TT=origin.example=alice", "one.example"
    )


def test_ours_and_the_too_long_stay() -> None:
    for sender in (
        Address("alice", HERE),
        Address("postmaster", ""),
        Address("x" * 60, "origin.example"),
        Address("alice", "o" * 60 + ".example"),
    ):
        assert srs().forward(sender, HERE) == sender
    long_here = ".".join(["y" * 60] * 4)
    sender = Address("alice", "origin.example")
    assert srs().forward(sender, long_here) == sender


def test_non_ascii_senders() -> None:
    sender = Address("jörg", "origin.example")
    rewritten = srs().forward(sender, HERE)
    assert rewritten.needs_smtputf8
    assert srs().reverse(rewritten) == sender


@pytest.mark.parametrize(
    "local",
    [
        "alice",
        "srs0",
        "SRS0=",
        "srs1-team",
        "SRS0=x=y=z",
        "SRS2=AAAAAA",
        "SRS0=AAAAAA=A1=a.example=b",
        "SRS1=AAAAAA=a.example=b",
        "xSRS0=AAAAAA=AA=a.example=b",
    ],
)
def test_what_is_no_srs_address(local: str) -> None:
    assert srs().reverse(Address(local, HERE)) is None


@pytest.mark.parametrize(
    "local",
    [
        "SRS0=AAAAAA=RA=a.example=b",
        "SRS1=AAAAAA=a.example==b",
        "SRS0=AAAAAA=RA=a..example=b",
        "SRS0=AAAAAA=RA=bücher.example=b",
        "SRS1=AAAAAA=[127.1]==b",
        "SRS0=AAAAAA=RA=a.example=",
    ],
)
def test_forged_addresses_are_refused(local: str) -> None:
    with pytest.raises(MailError) as refused:
        srs().reverse(Address(local, HERE))
    assert (refused.value.code, refused.value.enhanced) == (550, "5.1.1")


@given(SENDERS, st.data())
def test_any_change_is_refused(sender: Address, data: st.DataObject) -> None:
    rewritten = srs().forward(sender, HERE)
    assume(rewritten != sender)
    local = rewritten.local
    at = data.draw(st.integers(5, len(local) - 1))
    letter = data.draw(st.sampled_from("abcdefg234=xyz"))
    changed = Address(local[:at] + letter + local[at + 1 :], HERE)
    assume(changed.key != rewritten.key)
    try:
        back = srs().reverse(changed)
    except MailError:
        return
    # What is no address of ours any more; or the same one, its domain written in another way
    assert back is None or back == srs().reverse(rewritten)


@given(SENDERS)
def test_another_secret_refuses_it(sender: Address) -> None:
    rewritten = srs().forward(sender, HERE)
    assume(rewritten != sender)
    with pytest.raises(MailError):
        srs(b"another secret of some length").reverse(rewritten)


def test_former_secrets_are_taken_but_not_used() -> None:
    old, new = b"1" * 16, b"2" * 16
    sender = Address("alice", "origin.example")
    both = Srs(new, Clock(), former=[old])
    assert both.reverse(srs(old).forward(sender, HERE)) == sender
    assert both.forward(sender, HERE) == srs(new).forward(sender, HERE)


@pytest.mark.parametrize("start", [TODAY, 1023 * DAY, 1024 * DAY, 2047 * DAY])
def test_age(start: float) -> None:
    clock = Clock()
    clock.time = start
    sender = Address("alice", "origin.example")
    rewriter = srs(clock=clock)
    rewritten = rewriter.forward(sender, HERE)
    for days in (-1, 0, 1, 21):
        clock.time = start + days * DAY
        assert rewriter.reverse(rewritten) == sender
    for days in (-2, 22, 500, 1022):
        clock.time = start + days * DAY
        with pytest.raises(MailError, match="expired"):
            rewriter.reverse(rewritten)


def test_a_stamp_cannot_be_made_younger() -> None:
    rewritten = srs().forward(Address("alice", "origin.example"), HERE)
    with pytest.raises(MailError, match="not from here"):
        srs().reverse(Address(rewritten.local.replace("=RA=", "=RB="), HERE))


def test_what_cannot_be_configured() -> None:
    for make in (
        lambda: Srs(b"short", Clock()),
        lambda: Srs(SECRET, Clock(), 0),
        lambda: Srs(SECRET, Clock(), 1023),
        lambda: Srs(SECRET, Clock(), separator="/"),
    ):
        with pytest.raises(ValueError):
            make()


@given(ANY_LOCALS | st.text("SRS01=+-ab.A2", max_size=40))
def test_nothing_else_is_raised(local: str) -> None:
    try:
        srs().reverse(Address(local, HERE))
    except MailError as error:
        assert error.code == 550
