"""Names of mailboxes and their directories; flags and letters; what Dovecot keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.storage.dovecot import (
    format_subscriptions,
    parse_subscriptions,
    parse_uidlist,
)
from twisted_mail.storage.flags import (
    bits_of,
    format_keywords,
    info_of,
    names_of,
    parse_keywords,
)
from twisted_mail.storage.names import directory_of, is_digest, name_of, normal

PART = st.text(
    st.characters(blacklist_characters="/", blacklist_categories=("Cs", "Cc")), min_size=1
)
NAME = st.lists(PART, min_size=1, max_size=5).map("/".join).map(normal)


@pytest.mark.parametrize(
    ("name", "directory"),
    [
        ("INBOX", ""),
        ("Work/Plans", ".Work.Plans"),
        ("Été", ".&AMk-t&AOk-"),
        ("a&b", ".a&-b"),
        ("v1.2", ".v1&AC4-2"),
        ("台北", ".&U,BTFw-"),
        ("INBOX/Old", ".INBOX.Old"),
        # RFC 3501 section 5.1.3
        ("~peter/mail/台北/日本語", ".~peter.mail.&U,BTFw-.&ZeVnLIqe-"),
    ],
)
def test_a_name_and_its_directory(name, directory):
    assert directory_of(name) == directory
    assert name_of(directory) == name


@given(NAME)
def test_a_directory_tells_its_name(name):
    directory = directory_of(name)
    assert len(directory.encode()) <= 255
    assert "/" not in directory
    if not is_digest(directory):
        assert name_of(directory) == name


@given(NAME, NAME)
def test_two_names_have_two_directories(one, other):
    assert (directory_of(one) == directory_of(other)) == (one == other)


@given(st.text())
def test_no_directory_makes_it_raise(directory):
    name_of("." + directory.replace("/", ""))


def test_inbox_is_case_blind_and_names_are_composed():
    assert normal("inBox") == "INBOX"
    assert normal("inbox/a") == "INBOX/a"
    assert normal("E\u0301te\u0301") == "\u00c9t\u00e9"
    assert normal("Inboxes") == "Inboxes"


def test_a_dotless_i_begins_no_inbox():
    assert normal("\u0131nbox/a") == "\u0131nbox/a"
    assert name_of(directory_of("\u0131nbox")) == "\u0131nbox"
    assert parse_subscriptions(b"V\t2\n\n&ATE-nbox\n") == ["\u0131nbox"]
    assert parse_subscriptions("\u0131nbox\n".encode()) == ["\u0131nbox"]


# -- flags


def test_letters_are_bits():
    assert bits_of("1.a.b,S=3:2,FSa") == 4 | 1 | 32
    assert bits_of("1.a.b,S=3") == 0
    assert info_of("1.a.b:2,", 4 | 1 | 32) == ":2,FSa"


def test_a_letter_that_means_nothing_here_is_kept():
    assert info_of("1.a.b:2,PS", 4) == ":2,FP"


@given(st.integers(0, (1 << 31) - 1))
def test_bits_come_back_from_a_name(bits):
    assert bits_of("base" + info_of("base", bits)) == bits


def test_keywords_are_read_as_dovecot_writes_them():
    assert parse_keywords(b"0 Foo\n1 $Junk\n") == ("Foo", "$Junk")
    assert parse_keywords(b"2 Late\n0 Foo\nx y\n99 no\n2 twice\n") == ("Foo", "", "Late")
    assert names_of(1 | 1 << 5 | 1 << 7, ("Foo", "", "Late")) == ["\\Seen", "Foo", "Late"]


@given(st.binary())
def test_no_keywords_file_makes_it_raise(data):
    found = parse_keywords(data)
    assert parse_keywords(format_keywords(found)) == found


# -- dovecot-uidlist and subscriptions


def test_a_uidlist():
    found = parse_uidlist(
        b"3 V1795251166 N12 G2d9fcb0ddc5b016b3a70000083ecc375\n"
        b"1 :1795251164.M264962P28735.vm,S=25,W=29\n"
        b"7 POld-Name O3 :1795251165.M1P2.vm,S=1:2,S\n"
        b"6 :out.of.order\n"
        b"rubbish\n"
    )
    assert found.validity == 1795251166
    assert found.uidnext == 12
    assert found.uids == {"1795251164.M264962P28735.vm": 1, "1795251165.M1P2.vm": 7}
    assert found.uidls == {"1795251165.M1P2.vm": "Old-Name"}


def test_a_file_that_has_two_uids_has_the_later_one():
    found = parse_uidlist(b"3 V7 N12\n3 POwn :a:2,\n7 :b\n9 :a:2,S\n")
    assert list(found.uids.items()) == [("b", 7), ("a", 9)]
    # The later message is another one for POP3, too.
    assert found.uidls == {}


def test_an_old_uidlist():
    found = parse_uidlist(b"1 1100000000 3\n1 a.b.c:2,S\n4 d.e.f\n")
    assert (found.validity, found.uidnext) == (1100000000, 5)
    assert found.uids == {"a.b.c": 1, "d.e.f": 4}


@pytest.mark.parametrize("data", [b"", b"x", b"3 V0 N1", b"3 N1", b"2 1 1\n"])
def test_no_uidlist(data):
    assert parse_uidlist(data) is None


@given(st.binary())
def test_no_bytes_make_it_raise(data):
    parse_uidlist(data)
    parse_uidlist(b"3 V1 N1\n" + data)
    parse_subscriptions(data)


def test_subscriptions_as_dovecot_has_them():
    data = b"V\t2\n\nWork\tPlans\n&AMk-t&AOk-\na&-b\n"
    assert parse_subscriptions(data) == ["Work/Plans", "Été", "a&b"]
    assert format_subscriptions(["Work/Plans", "Été", "a&b"]) == data


def test_old_subscriptions():
    assert parse_subscriptions(b"Work.Plans\nINBOX\nWork.Plans\n") == ["Work/Plans", "INBOX"]


@given(st.lists(NAME, unique=True))
def test_subscriptions_come_back(names):
    assert parse_subscriptions(format_subscriptions(names)) == names
