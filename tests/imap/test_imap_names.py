"""`imap.names`: modified UTF-7 and what clients call a mailbox."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.imap import names

TEXT = st.text(st.characters(exclude_categories=("Cs",)))


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("INBOX", b"INBOX"),
        ("", b""),
        ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # RFC 3501 section 5.1.3
        ("Entwürfe", b"Entw&APw-rfe"),
        ("R&D", b"R&-D"),
        ("&", b"&-"),
        ("ä&", b"&AOQ-&-"),
        ("😀", b"&2D3eAA-"),
        ("a\tb", b"a&AAk-b"),
    ],
)
def test_both_ways(name: str, raw: bytes) -> None:
    assert names.encode(name) == raw
    assert names.decode(raw) == name
    assert names.decode(raw, lenient=True) == name


@pytest.mark.parametrize(
    "raw",
    [
        b"&",
        b"R&D",
        b"&U,BTFw",
        b"&Jjo!",  # RFC 3501 section 5.1.3
        b"&U,BTFw-&ZeVnLIqe-",  # RFC 3501 section 5.1.3: a null shift
        b"&AGE-",  # "a" stands for itself
        b"&AOR-",  # bits left over
        b"&AO-",
        b"&2D0-",  # half of a pair
        b"&3gA-",
        b"&A-",
        b"&AOQ=-",
        b"&AOQ\xe4-",
        b"\xc3\xa4",
        b"a\tb",
        b"a\x7f",
    ],
)
def test_invalid(raw: bytes) -> None:
    with pytest.raises(ValueError, match="modified UTF-7"):
        names.decode(raw)
    names.decode(raw, lenient=True)


def test_lenient_leaves_what_is_no_shift() -> None:
    assert names.decode(b"R&D", lenient=True) == "R&D"
    assert names.decode(b"&AOQ-/R&D/&-", lenient=True) == "ä/R&D/&"
    assert names.decode("ä".encode(), lenient=True) == "ä"
    assert names.decode(b"\xe4", lenient=True) == "\ufffd"


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogate"):
        names.encode("\ud800")


@given(TEXT)
def test_round_trip(name: str) -> None:
    raw = names.encode(name)
    assert raw.isascii()
    assert raw.decode("ascii").isprintable()
    assert names.decode(raw) == name


@given(st.binary())
def test_one_spelling(raw: bytes) -> None:
    try:
        name = names.decode(raw)
    except ValueError:
        return
    assert names.encode(name) == raw


@given(st.from_regex(rb"[a&,/A-Z0-9-]*", fullmatch=True))
def test_one_spelling_of_what_is_nearly_valid(raw: bytes) -> None:
    try:
        name = names.decode(raw)
    except ValueError:
        return
    assert names.encode(name) == raw


@given(st.binary())
def test_lenient_never_raises(raw: bytes) -> None:
    names.decode(raw, lenient=True)


# -- what clients say


@pytest.mark.parametrize(
    ("raw", "utf8", "name"),
    [
        (b"iNbOx", False, "INBOX"),
        (b"inbox", True, "INBOX"),
        (b"inbox/a", False, "inbox/a"),
        (b"&AOQ-", False, "ä"),
        (b"&AOQ-", True, "&AOQ-"),  # RFC 6855 section 3: no modified UTF-7 any more
        (b"R&D", True, "R&D"),
        ("ä".encode(), False, "ä"),
        ("ä".encode(), True, "ä"),
        ("R&D ä".encode(), False, "R&D ä"),
        ("a\u0308".encode(), True, "ä"),
        (b"a&Awg-", False, "ä"),
    ],
)
def test_mailbox_name(raw: bytes, utf8: bool, name: str) -> None:
    assert names.mailbox_name(raw, utf8) == name


@pytest.mark.parametrize(
    ("raw", "utf8"),
    [
        (b"R&D", False),
        (b"\xff", True),
        (b"\xff", False),
        (b"a\x00", True),
        (b"a&AAo-", False),
        (b"\x7f", False),
        ("\u2028".encode(), True),
        ("\x85".encode(), True),
    ],
)
def test_no_mailbox_name(raw: bytes, utf8: bool) -> None:
    with pytest.raises(ValueError, match=r"name|UTF-7"):
        names.mailbox_name(raw, utf8)


@given(st.binary(), st.booleans())
def test_names_are_nfc_without_controls(raw: bytes, utf8: bool) -> None:
    for read in (names.mailbox_name, names.pattern):
        try:
            name = read(raw, utf8)
        except ValueError:
            continue
        assert unicodedata.is_normalized("NFC", name)
        assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)


def test_patterns_keep_their_case_and_half_shifts() -> None:
    assert names.pattern(b"inb%") == "inb%"
    assert names.pattern(b"&AOQ-*") == "ä*"
    assert names.pattern(b"&AO%") == "&AO%"
    assert names.pattern(b"&AOQ-", True) == "&AOQ-"
