"""Delivery status notifications: what a person reads, what a program reads, and what no peer can do to them."""

from __future__ import annotations

import re
from dataclasses import replace
from email import message_from_bytes
from email.header import decode_header, make_header
from email.message import Message
from email.utils import mktime_tz, parsedate_tz

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twisted_mail.address import Address
from twisted_mail.message.dsn import (
    Action,
    Notice,
    Recipient,
    compose,
    notified,
    returns_whole,
)
from twisted_mail.message.headers import fields, split
from twisted_mail.message.seven_bit import convert

ARRIVED = 1_700_000_000.0
ORIGINAL = (
    b"From: alice@here.example\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n"
    b"Message-ID: <1@here.example>\n"
    b"\n"
    b"Hello Bob\n"
)
BOB = Recipient(
    "bob@example.net",
    Action.FAILED,
    "5.1.1",
    "no such user",
    550,
    True,
    "mail.example.net",
    "192.0.2.1",
    last_attempt=ARRIVED + 60,
)
NOTICE = Notice(
    "alice@here.example",
    "mx.here.example",
    "1a2b.3c",
    ARRIVED + 86_400 * 5,
    (BOB,),
    arrived=ARRIVED,
    queue_id="Q1",
    original=ORIGINAL,
    whole=True,
)


def read(content: bytes) -> tuple[Message, list[Message]]:
    """The message, and its parts, as the standard library reads them."""
    message = message_from_bytes(content)
    parts = message.get_payload()
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert isinstance(parts, list)
    for part in message.walk():
        assert not part.defects
    return message, parts


def text_of(notice: Notice) -> str:
    part = read(compose(notice))[1][0]
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert part.get_content_charset() == "utf-8"
    return payload.decode()


def blocks_of(notice: Notice) -> list[Message]:
    """The per-message fields, then those of each recipient; a global report is no message to the library."""
    part = read(compose(notice))[1][1]
    if part.get_content_type() == "message/delivery-status":
        payload = part.get_payload()
        assert isinstance(payload, list)
        return [block for block in payload if block.keys()]
    (inner,) = part.get_payload()
    body = inner.as_bytes() if inner.keys() else b""
    return [message_from_bytes(block) for block in body.split(b"\n\n") if block.strip()]


def value(block: Message, name: str) -> str:
    return re.sub(r"\n ", " ", str(block[name]))


def subject_of(message: Message) -> str:
    return str(make_header(decode_header(message["Subject"]))).replace("\n", "")


def test_the_whole_of_it() -> None:
    assert compose(NOTICE).decode() == (
        "Date: Sun, 19 Nov 2023 22:13:20 +0000\n"
        "From: Mail Delivery System <MAILER-DAEMON@mx.here.example>\n"
        "To: <alice@here.example>\n"
        "Subject: Undelivered mail:\n"
        " =?utf-8?b?R3LDvMOfZQ==?=\n"
        "Message-ID: <1a2b.3c@mx.here.example>\n"
        "In-Reply-To: <1@here.example>\n"
        "References: <1@here.example>\n"
        "Auto-Submitted: auto-replied\n"
        "MIME-Version: 1.0\n"
        "Content-Type: multipart/report; report-type=delivery-status;\n"
        '\tboundary="=_1a2b.3c.0"\n'
        "\n"
        "--=_1a2b.3c.0\n"
        "Content-Type: text/plain; charset=utf-8\n"
        "Content-Transfer-Encoding: quoted-printable\n"
        "\n"
        "Your message could not be delivered to:\n"
        "\n"
        "    bob@example.net\n"
        "\n"
        "mail.example.net said: 550 5.1.1 no such user\n"
        "\n"
        "There is no such address there. Check its spelling, or ask the recipient for\n"
        "the right one.\n"
        "\n"
        "Nothing more will be tried.\n"
        "\n"
        "The message:\n"
        "\n"
        "    Subject: Gr=C3=BC=C3=9Fe\n"
        "    Arrived here: Tue, 14 Nov 2023 22:13:20 +0000\n"
        "\n"
        "This notice was written by the mail server mx.here.example. A report for\n"
        "programs and your message are attached.\n"
        "\n"
        "--=_1a2b.3c.0\n"
        "Content-Type: message/delivery-status\n"
        "\n"
        "Reporting-MTA: dns;mx.here.example\n"
        "Arrival-Date: Tue, 14 Nov 2023 22:13:20 +0000\n"
        "\n"
        "Final-Recipient: rfc822;bob@example.net\n"
        "Action: failed\n"
        "Status: 5.1.1\n"
        "Remote-MTA: dns;mail.example.net ([192.0.2.1])\n"
        "Diagnostic-Code: smtp; 550 5.1.1 no such user\n"
        "Last-Attempt-Date: Tue, 14 Nov 2023 22:14:20 +0000\n"
        "Final-Log-Id: Q1\n"
        "\n"
        "--=_1a2b.3c.0\n"
        "Content-Type: message/rfc822\n"
        "\n" + ORIGINAL.decode() + "\n"
        "--=_1a2b.3c.0--\n"
    )


def test_recipients_with_the_same_reason_stand_together() -> None:
    text = text_of(
        replace(
            NOTICE,
            recipients=(
                BOB,
                replace(BOB, address="dan@example.net", enhanced="5.2.2", text="full"),
                replace(BOB, address="carol@example.net"),
            ),
        )
    )
    assert "    bob@example.net\n    carol@example.net\n\nmail.example.net said: 550 5.1.1" in text
    assert text.count("no such user") == 1
    assert (
        "    dan@example.net\n\nmail.example.net said: 550 5.2.2 full\n\nThe mailbox is full"
        in text
    )


@pytest.mark.parametrize(
    ("enhanced", "advice"),
    [
        ("5.1.1", "no such address"),
        ("5.1.2", "no such mail domain"),
        ("5.4.4", "No mail server is known"),
        ("5.1.10", "takes no mail at all"),
        ("5.2.2", "mailbox is full"),
        ("5.3.4", "too big"),
        ("5.7.1", "The other server's rules"),
        ("5.7.26", "The other server's rules"),
        ("5.7.30", "protected way"),
        ("4.4.7", "tried for 5 days and is given up"),
        ("4.2.2", "tried for 5 days and is given up"),
    ],
)
def test_what_can_be_done(enhanced: str, advice: str) -> None:
    recipient = replace(BOB, enhanced=enhanced, code=550 if enhanced[0] == "5" else 450)
    text = text_of(replace(NOTICE, recipients=(recipient,))).replace("\n", " ")
    assert advice in text
    assert "Nothing more will be tried." in text


def test_our_own_words_are_not_put_into_a_peers_mouth() -> None:
    recipient = Recipient("bob@nowhere.example", Action.FAILED, "5.1.2", "there is no such domain")
    notice = replace(NOTICE, recipients=(recipient,))
    assert "Reason: there is no such domain" in text_of(notice)
    block = blocks_of(notice)[1]
    assert block["Diagnostic-Code"] == "X-Twisted-Mail; there is no such domain"
    assert block["Remote-MTA"] is None


def test_a_delay() -> None:
    recipient = replace(
        BOB, action=Action.DELAYED, enhanced="4.2.1", code=450, retry_until=ARRIVED + 86_400 * 5
    )
    notice = replace(NOTICE, recipients=(recipient,), whole=False)
    message, parts = read(compose(notice))
    assert subject_of(message) == "Delayed mail, still being tried: Grüße"
    text = text_of(notice).replace("\n", " ")
    assert "could not be delivered yet to:" in text
    assert "tried again until Sun, 19 Nov 2023 22:13:20 +0000. You need not do anything" in text
    block = blocks_of(notice)[1]
    assert (block["Action"], block["Status"]) == ("delayed", "4.2.1")
    assert block["Will-Retry-Until"] == "Sun, 19 Nov 2023 22:13:20 +0000"
    assert parts[2].get_content_type() == "text/rfc822-headers"
    assert parts[2].get_payload() == split(ORIGINAL)[0].decode()


def test_only_what_is_tried_again_says_until_when() -> None:
    notice = replace(NOTICE, recipients=(replace(BOB, retry_until=ARRIVED),))
    assert "Will-Retry-Until" not in blocks_of(notice)[1]


def test_success_and_what_was_passed_on() -> None:
    notice = replace(
        NOTICE,
        recipients=(
            replace(BOB, action=Action.RELAYED, enhanced="2.1.5", code=250, text="ok"),
            replace(BOB, action=Action.DELIVERED, enhanced="", code=250, text="ok"),
            replace(BOB, action=Action.EXPANDED, enhanced="", code=0, text=""),
        ),
    )
    message, _ = read(compose(notice))
    assert subject_of(message).startswith("Delivered mail: ")
    text = text_of(notice).replace("\n", " ")
    assert "Your message was delivered to:      bob@" in text
    assert "does not report deliveries" in text
    assert "said:" not in text
    assert [(b["Action"], b["Status"]) for b in blocks_of(notice)[1:]] == [
        ("relayed", "2.1.5"),
        ("delivered", "2.0.0"),
        ("expanded", "2.0.0"),
    ]


def test_mixed_the_worst_comes_first() -> None:
    notice = replace(
        NOTICE,
        recipients=(
            replace(BOB, action=Action.DELIVERED, address="x@example.net"),
            replace(BOB, action=Action.DELAYED, address="y@example.net", enhanced="", code=450),
            BOB,
        ),
    )
    message, _ = read(compose(notice))
    assert subject_of(message).startswith("Undelivered mail: ")
    text = text_of(notice)
    assert text.index("bob@") < text.index("y@") < text.index("x@")


def test_where_an_alias_led() -> None:
    text = text_of(replace(NOTICE, recipients=(replace(BOB, origin="info@here.example"),)))
    assert "    info@here.example (which leads to bob@example.net)\n" in text


def test_a_domain_in_the_letters_of_its_language() -> None:
    notice = replace(NOTICE, recipients=(replace(BOB, address="bob@xn--bcher-kva.example"),))
    assert "    bob@bücher.example\n" in text_of(notice)
    assert blocks_of(notice)[1]["Final-Recipient"] == "rfc822;bob@xn--bcher-kva.example"


def test_postmaster_is_told_of_a_notice_that_came_back() -> None:
    text = text_of(replace(NOTICE, double=True))
    assert text.startswith("A notice of this server to the sender of a message could not")


def test_what_the_envelope_asked_to_be_told() -> None:
    recipient = replace(BOB, orcpt="rfc822;Bob+x@example.org")
    blocks = blocks_of(replace(NOTICE, envid="QQ 314", recipients=(recipient,)))
    assert blocks[0]["Original-Envelope-Id"] == "QQ 314"
    assert blocks[1]["Original-Recipient"] == "rfc822;Bob+x@example.org"


def test_an_envelope_id_stands_in_the_line_of_its_name() -> None:
    envid = "x" * 90
    assert f"\nOriginal-Envelope-Id: {envid}\n".encode() in compose(replace(NOTICE, envid=envid))


@pytest.mark.parametrize("envid", [" ", "\x07", "\u2028"])
def test_an_envelope_id_of_which_nothing_can_be_shown_is_left_out(envid: str) -> None:
    # RFC 3461 section 4.4: xtext says any octet
    assert b"Original-Envelope-Id" not in compose(replace(NOTICE, envid=envid))


@pytest.mark.parametrize(
    ("action", "enhanced", "code", "status"),
    [
        (Action.FAILED, "5.1.1", 550, "5.1.1"),
        (Action.FAILED, "", 550, "5.0.0"),
        (Action.FAILED, "", 450, "4.0.0"),
        (Action.FAILED, "2.1.1", 0, "5.0.0"),
        (Action.FAILED, "5.1.1\nX: y", 550, "5.0.0"),
        (Action.FAILED, "5.1111.1", 550, "5.0.0"),
        (Action.DELAYED, "5.1.1", 550, "4.0.0"),
        (Action.RELAYED, "", 250, "2.0.0"),
    ],
)
def test_status(action: Action, enhanced: str, code: int, status: str) -> None:
    assert replace(BOB, action=action, enhanced=enhanced, code=code).status == status


@pytest.mark.parametrize(
    ("notify", "told"),
    [
        ("", {Action.FAILED, Action.DELAYED}),
        ("NEVER", set()),
        ("FAILURE", {Action.FAILED}),
        ("failure,delay", {Action.FAILED, Action.DELAYED}),
        ("SUCCESS", {Action.DELIVERED, Action.RELAYED, Action.EXPANDED}),
        ("SUCCESS,FAILURE,DELAY", set(Action)),
    ],
)
def test_who_is_told_of_what(notify: str, told: set[Action]) -> None:
    assert {action for action in Action if notified(notify, action)} == told


def test_how_much_comes_back() -> None:
    assert returns_whole("FULL", [Action.FAILED, Action.DELIVERED])
    assert returns_whole("", [Action.FAILED])
    assert not returns_whole("HDRS", [Action.FAILED])
    assert not returns_whole("FULL", [Action.DELAYED, Action.RELAYED])


def test_a_message_over_the_limit_comes_back_as_its_header() -> None:
    for limit, kind in (
        (len(ORIGINAL), "message/rfc822"),
        (len(ORIGINAL) - 1, "text/rfc822-headers"),
    ):
        _, parts = read(compose(replace(NOTICE, limit=limit)))
        assert parts[2].get_content_type() == kind


def test_a_subject_that_shows_an_encoded_word_does_not_become_one() -> None:
    original = b"Subject: =?utf-8?q?=3D=3Futf-8=3Fq=3FWon=3F=3D?=\n\n"
    message, _ = read(compose(replace(NOTICE, original=original)))
    assert subject_of(message) == "Undelivered mail: = ?utf-8?q?Won?="


def test_a_long_subject_is_cut() -> None:
    for subject in ("x" * 5000, "x " * 2500, "ü" * 5000):
        message, _ = read(compose(replace(NOTICE, original=f"Subject: {subject}\n\n".encode())))
        shown = subject_of(message)
        assert len(shown) < 150
        assert shown.endswith("…")


def test_many_recipients_are_in_the_report_but_not_in_the_text() -> None:
    notice = replace(
        NOTICE,
        recipients=[replace(BOB, address=f"u{n}@example.net", text=f"no u{n}") for n in range(500)],
    )
    text = text_of(notice)
    assert "    u99@example.net\n" in text
    assert "    and 400 more, which the report below lists\n" in text
    assert "u100@" not in text
    assert len(blocks_of(notice)) == 501


def test_a_huge_header_is_cut_between_fields() -> None:
    header = b"".join(b"X-%d: %s\n" % (number, b"y" * 900) for number in range(200))
    _, parts = read(compose(replace(NOTICE, original=header + b"\nbody\n", whole=False)))
    kept = parts[2].get_payload(decode=True)
    assert isinstance(kept, bytes)
    assert header.startswith(kept)
    assert 60_000 < len(kept) <= 65_536
    assert kept.endswith(b"y\n")


def test_no_original_no_third_part() -> None:
    assert len(read(compose(replace(NOTICE, original=b"", whole=True)))[1]) == 2
    assert len(read(compose(replace(NOTICE, original=b"\nbody\n", whole=False)))[1]) == 2


def test_8bit_content_is_declared_on_every_level() -> None:
    content = compose(replace(NOTICE, original=ORIGINAL + "Größe\n".encode()))
    message, parts = read(content)
    assert message["Content-Transfer-Encoding"] == "8bit"
    assert parts[2]["Content-Transfer-Encoding"] == "8bit"
    assert content.partition(b"\n\n")[0].isascii()


def test_raw_8bit_in_the_header_comes_back_as_its_header_in_ascii() -> None:
    original = b"Subject: caf\xe9\n\nbody \xe9\n"
    content = compose(replace(NOTICE, original=original))
    assert content.isascii()
    _, parts = read(content)
    assert parts[2].get_content_type() == "text/rfc822-headers"
    assert parts[2].get_payload(decode=True) == b"Subject: caf\xe9\n"


UTF8 = replace(
    NOTICE,
    to="jörg@here.example",
    smtputf8=True,
    original="Subject: Grüße\n\nHallo\n".encode(),
    recipients=(
        replace(BOB, address="bö+b@example.net", orcpt="utf-8;bö@example.net", text="weiß nicht"),
    ),
)


def test_internationalised() -> None:
    content = compose(UTF8)
    assert "To: <jörg@here.example>\n".encode() in content
    message, parts = read(content)
    assert message["Content-Transfer-Encoding"] == "8bit"
    assert [part.get_content_type() for part in parts[1:]] == [
        "message/global-delivery-status",
        "message/global",
    ]
    assert parts[1]["Content-Transfer-Encoding"] == "8bit"
    assert (
        "Original-Recipient: utf-8;bö@example.net\nFinal-Recipient: utf-8;bö\\x{2B}b@example.net\n"
    ).encode() in content
    assert "Diagnostic-Code: smtp; 550 5.1.1 weiß nicht\n".encode() in content
    _, parts = read(compose(replace(UTF8, whole=False)))
    assert parts[2].get_content_type() == "message/global-headers"


def test_internationalised_address_in_a_report_for_who_knows_only_ascii() -> None:
    notice = replace(UTF8, to="alice@here.example", smtputf8=False, original=ORIGINAL)
    content = compose(notice)
    assert content.isascii()
    block = blocks_of(notice)[1]
    assert block["Final-Recipient"] == r"utf-8;b\x{F6}\x{2B}b@example.net"
    assert block["Original-Recipient"] == r"utf-8;b\x{F6}@example.net"
    assert block["Diagnostic-Code"] == "smtp; 550 5.1.1 wei? nicht"
    assert "bö+b@example.net" in text_of(notice)
    assert "weiß nicht" in text_of(notice)


def test_a_boundary_that_stands_in_the_message_is_not_used() -> None:
    original = ORIGINAL + b"--=_1a2b.3c.0--\n\n--=_1a2b.3c.1\n"
    _, parts = read(compose(replace(NOTICE, original=original)))
    assert len(parts) == 3
    assert parts[2].get_payload()[0].as_bytes() == original


@pytest.mark.parametrize(
    "reply",
    [
        "no\r\n.\r\nX-Injected: yes",
        "no\n\nFinal-Recipient: rfc822;evil@example.org",
        "no\n--=_1a2b.3c.0--\n",
        "no\u2028X-Injected: yes\x85X-Injected: yes\x0b\x0cX-Injected: yes",
        "a" * 100_000,
        "é " * 100_000,
    ],
)
@pytest.mark.parametrize("smtputf8", [False, True])
def test_hostile_replies(reply: str, smtputf8: bool) -> None:
    notice = replace(
        NOTICE, smtputf8=smtputf8, recipients=(replace(BOB, text=reply, host=reply[:300]),)
    )
    content = compose(notice)
    assert max(map(len, content.split(b"\n"))) <= 998
    assert len(content) < 12_000
    message, parts = read(content)
    assert len(parts) == 3
    assert message["X-Injected"] is None
    blocks = blocks_of(notice)
    assert len(blocks) == 2
    assert not any("X-Injected" in block for block in blocks)
    # 5.1.1 and the rest of the fields stand as they did
    assert blocks[1]["Status"] == "5.1.1"


ANYTHING = st.text(max_size=80) | st.text(
    '\r\n\t :;-=_.1a2b3c\u2028é<>@\\"()\x00\ud800', max_size=60
)
TIMES = st.none() | st.floats(0, 4e9)
RECIPIENTS = st.builds(
    Recipient,
    address=ANYTHING,
    action=st.sampled_from(Action),
    enhanced=ANYTHING,
    text=ANYTHING,
    code=st.integers(-1, 1000),
    said=st.booleans(),
    host=ANYTHING,
    ip=ANYTHING,
    orcpt=ANYTHING,
    origin=ANYTHING,
    last_attempt=TIMES,
    retry_until=TIMES,
)
NOTICES = st.builds(
    Notice,
    to=ANYTHING,
    host=ANYTHING,
    unique=ANYTHING,
    now=st.floats(0, 4e9),
    recipients=st.lists(RECIPIENTS, min_size=1, max_size=4),
    arrived=TIMES,
    envid=ANYTHING,
    queue_id=ANYTHING,
    original=st.binary(max_size=80).map(lambda data: data.replace(b"\r", b""))
    | st.text("Subject: =?utf8\né\x00--_.1", max_size=90).map(str.encode),
    whole=st.booleans(),
    limit=st.integers(0, 100),
    smtputf8=st.booleans(),
)


@given(NOTICES)
@example(replace(NOTICE, original=b"Subject:\n\n"))
def test_any_values_give_a_valid_message(notice: Notice) -> None:
    content = compose(notice)
    header, body = split(content)
    assert body.startswith(b"\n--")
    assert b"\r" not in content
    assert [name for name, _, _ in fields(header)] == [
        name
        for name in (
            b"date",
            b"from",
            b"to",
            b"subject",
            b"message-id",
            b"in-reply-to",
            b"references",
            b"auto-submitted",
            b"mime-version",
            b"content-type",
            b"content-transfer-encoding",
        )
        if re.search(rb"^%b:" % name, header, re.M | re.I)
    ]
    message = message_from_bytes(content)
    parts = message.get_payload()
    assert isinstance(parts, list)
    assert 2 <= len(parts) <= 3
    if not content.isascii():
        declared = message["Content-Transfer-Encoding"] == "8bit"
        assert declared or notice.to.encode("utf-8", "replace").isascii() is False
    for part in parts:
        start = part.as_bytes(unixfrom=False) if part["Content-Transfer-Encoding"] is None else b""
        assert start.isascii()
    if parts[1].get_content_type() == "message/delivery-status":
        blocks = [
            block for block in parts[1].get_payload() if isinstance(block, Message) and block.keys()
        ]
        assert len(blocks) == 1 + len(notice.recipients)
        for block, recipient in zip(blocks[1:], notice.recipients, strict=True):
            assert block["Action"] == recipient.action.value
            assert block["Status"] == recipient.status
            assert set(block.keys()) <= {
                "Original-Recipient",
                "Final-Recipient",
                "Action",
                "Status",
                "Remote-MTA",
                "Diagnostic-Code",
                "Last-Attempt-Date",
                "Final-Log-Id",
                "Will-Retry-Until",
            }


@given(NOTICES)
def test_any_notice_with_a_header_alone_reaches_an_old_server(notice: Notice) -> None:
    content = compose(replace(notice, whole=False))
    if split(content)[0].isascii():
        assert b"".join(convert(content)).isascii()


@given(st.integers(0, 4_000_000_000))
def test_dates_are_read_back(seconds: int) -> None:
    message, _ = read(compose(replace(NOTICE, now=float(seconds))))
    parsed = parsedate_tz(message["Date"])
    assert parsed is not None
    assert mktime_tz(parsed) == seconds


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30))
def test_any_local_part_in_the_report_is_the_one_it_was(local: str) -> None:
    address = str(Address(local, "example.net"))
    block = blocks_of(replace(NOTICE, recipients=(replace(BOB, address=address),)))[1]
    kind, _, text = value(block, "Final-Recipient").partition(";")
    if kind == "utf-8":
        text = re.sub(r"\\x\{([0-9A-F]+)\}", lambda found: chr(int(found[1], 16)), text)
    assert text == address
