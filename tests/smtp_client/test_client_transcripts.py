"""What the client says to peers that behave: transcripts, each extension present and absent."""

from __future__ import annotations

import pytest
from scripted_peer import ALICE, BOB, CAROL, DAVE, Talk, codes, greeted, talk

from twisted_mail.smtp.client.interfaces import PeerReply, SessionError
from twisted_mail.storage.queued import Options, QueuedRecipient

HELLO = "C: Subject: hi\nC:\nC: hello\nC: .\n".replace("C:\n", "C: \n")
"""The content that `Talk.send` sends."""


def test_one_message_without_extensions() -> None:
    conversation = talk(f"""
        C: MAIL FROM:<{ALICE}>
        S: 250 ok
        C: RCPT TO:<{BOB}>
        S: 250 ok
        C: DATA
        S: 354 go
        {HELLO}
        S: 250 queued
        C: QUIT
        S: 221 bye
        CLOSE""")
    assert conversation.send(BOB) == [PeerReply(250, "", "queued", True)]
    assert conversation.conversation.open
    assert conversation.content.closed == 1
    conversation.do(conversation.conversation.quit())
    assert not conversation.conversation.open
    conversation.finished()
    assert conversation.peer.closed


def test_pipelining_takes_two_writes() -> None:
    conversation = talk(
        f"""
        C: MAIL FROM:<{ALICE}>
        C: RCPT TO:<{BOB}>
        C: RCPT TO:<{CAROL}>
        C: DATA
        S: 250 2.1.0 ok
        S: 250 2.1.5 ok
        S: 250 2.1.5 ok
        S: 354 go
        {HELLO}
        S: 250 2.0.0 queued
        C: MAIL FROM:<>
        C: RCPT TO:<{DAVE}>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 354 go
        {HELLO}
        S: 250 again""",
        "PIPELINING",
    )
    before = conversation.peer.reads
    assert codes(conversation.send(BOB, CAROL)) == ["250 2.0.0", "250 2.0.0"]
    assert conversation.peer.reads == before + 2
    assert conversation.send(DAVE, mail_from="") == [PeerReply(250, "", "again")]
    assert conversation.peer.reads == before + 4
    conversation.finished()


def test_hello_falls_back_to_helo() -> None:
    conversation = Talk("""
        S: 220-old
        S: 220 machine
        C: EHLO me.example.org
        S: 502 what?
        C: HELO me.example.org
        S: 250 hello""")
    conversation.hello()
    assert conversation.conversation.extensions == {}
    assert conversation.conversation.tls is None
    assert conversation.conversation.peer_chain() == ()
    conversation.finished()


def test_extensions_are_read_as_they_come() -> None:
    conversation = talk("", "size 1000", "AUTH PLAIN", "AUTH=LOGIN", "8bitmime", "X-FOO a  b")
    extensions = conversation.conversation.extensions
    assert extensions["SIZE"] == "1000"
    assert extensions["AUTH"].split() == ["LOGIN", "PLAIN"]
    assert extensions["8BITMIME"] == ""
    assert extensions["X-FOO"] == "a  b"
    assert "MX.EXAMPLE.NET" not in extensions


@pytest.mark.parametrize(
    ("script", "text", "code"),
    [
        ("S: 554 no", "mx.example.net refused the connection: 554 no", 554),
        ("S: 421 4.3.2 busy", "mx.example.net refused the connection: 421 4.3.2 busy", 421),
        ("S: 354 what", "mx.example.net refused the connection: 354 what", 354),
        (
            "S: 220 hi\nC: EHLO me.example.org\nS: 451 later",
            "mx.example.net refused EHLO: 451 later",
            451,
        ),
        (
            "S: 220 hi\nC: EHLO me.example.org\nS: 421 later",
            "mx.example.net refused EHLO: 421 later",
            421,
        ),
        (
            "S: 220 hi\nC: EHLO me.example.org\nS: 500 x\nC: HELO me.example.org\nS: 550 5.7.1 y",
            "mx.example.net refused HELO: 550 5.7.1 y",
            550,
        ),
    ],
)
def test_no_welcome(script: str, text: str, code: int) -> None:
    conversation = Talk(script)
    with pytest.raises(SessionError) as caught:
        conversation.hello()
    assert caught.value.text == str(caught.value) == text
    assert caught.value.reply is not None
    assert caught.value.reply.code == code
    assert not conversation.conversation.open
    conversation.finished()
    conversation.world.reactor.settle()
    assert conversation.peer.closed


ALL = ("PIPELINING", "SIZE 5000", "8BITMIME", "SMTPUTF8", "DSN", "REQUIRETLS")
EVERYTHING = Options(envid="a+b=c", ret="HDRS", eight_bit=True, smtputf8=True)
DEMANDING = QueuedRecipient("jörg@example.net", "mx", "SUCCESS,DELAY", "utf-8;jörg@example.net")


def test_every_parameter() -> None:
    conversation = talk(
        f"""
        C: MAIL FROM:<{ALICE}> SIZE=4000 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb+3Dc
        C: RCPT TO:<jörg@example.net> NOTIFY=SUCCESS,DELAY ORCPT=utf-8;jörg@example.net
        C: RCPT TO:<{BOB}> NOTIFY=NEVER ORCPT=rfc822;a+2Bb@example.org
        C: RCPT TO:<{CAROL}>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 250 ok
        S: 354 go
        {HELLO}
        S: 250 ok""",
        *ALL,
    )
    bob = QueuedRecipient(BOB, "mx", "NEVER", "rfc822;a+b@example.org")
    replies = conversation.send(DEMANDING, bob, CAROL, options=EVERYTHING, wire=4000)
    assert codes(replies) == ["250"] * 3
    conversation.finished()


def test_dsn_parameters_are_left_out_where_dsn_is_unknown() -> None:
    conversation = talk(
        f"""
        C: MAIL FROM:<{ALICE}>
        C: RCPT TO:<{BOB}>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 354 go
        {HELLO}
        S: 250 ok""",
        "PIPELINING",
    )
    bob = QueuedRecipient(BOB, "mx", "FAILURE", "rfc822;b@example.org")
    conversation.send(bob, options=Options(envid="x", ret="FULL"), wire=10)
    conversation.finished()


@pytest.mark.parametrize("notify", ["SUCCESS ORCPT=x", "NEVER,SUCCESS", "\r\nRSET", "success"])
def test_a_notify_that_is_none_is_left_out(notify: str) -> None:
    conversation = talk(
        f"""
        C: MAIL FROM:<{ALICE}>
        S: 250 ok
        C: RCPT TO:<{BOB}>
        S: 550 no""",
        "DSN",
    )
    assert codes(conversation.send(QueuedRecipient(BOB, "mx", notify))) == ["550"]
    conversation.finished()


@pytest.mark.parametrize(
    ("missing", "options", "mail_from", "word"),
    [
        ("8BITMIME", Options(eight_bit=True), ALICE, "554 5.6.3 (ours)"),
        ("SMTPUTF8", Options(smtputf8=True), ALICE, "550 5.6.7 (ours)"),
        ("SMTPUTF8", Options(), "älice@example.org", "550 5.6.7 (ours)"),
        ("REQUIRETLS", Options(requiretls=True), ALICE, "550 5.7.30 (ours)"),
        ("", Options(requiretls=True), ALICE, "550 5.7.30 (ours)"),  # in clear
        ("", Options(), "alice", "553 5.1.7 (ours)"),
        ("", Options(), "a@b>\r\nRCPT TO:<c@d", "553 5.1.7 (ours)"),
    ],
)
def test_what_the_peer_cannot_do_is_refused_before_anything_is_sent(
    missing: str, options: Options, mail_from: str, word: str
) -> None:
    conversation = talk("", *(one for one in ALL if one != missing))
    said = conversation.peer.heard
    assert codes(conversation.send(BOB, CAROL, options=options, mail_from=mail_from)) == [word] * 2
    assert conversation.content.closed == 1
    assert conversation.peer.heard == said
    assert conversation.conversation.open


@pytest.mark.parametrize(
    ("size", "wire", "parameter"),
    [
        ("SIZE 4000", 4000, " SIZE=4000"),
        ("SIZE 0", 10**9, " SIZE=1000000000"),
        ("SIZE", 10**9, " SIZE=1000000000"),
        ("SIZE many", 5, " SIZE=5"),
        (f"SIZE {'9' * 21}", 5, " SIZE=5"),
        ("SIZE 4000", 0, ""),
        ("XSIZE", 5, ""),
    ],
)
def test_size(size: str, wire: int, parameter: str) -> None:
    conversation = talk(f"C: MAIL FROM:<{ALICE}>{parameter}\nS: 452 full", size)
    assert codes(conversation.send(BOB, wire=wire)) == ["452"]
    conversation.finished()


def test_a_message_over_the_peers_size_is_not_sent() -> None:
    conversation = talk("", "SIZE 4000")
    (word,) = conversation.send(BOB, wire=4001)
    assert word == PeerReply(
        552, "5.3.4", "the message has 4001 octets, mx.example.net takes 4000", said=False
    )


def test_one_bad_address_does_not_keep_the_others_back() -> None:
    conversation = talk(
        f"""
        C: MAIL FROM:<{ALICE}>
        C: RCPT TO:<{BOB}>
        C: RCPT TO:<{CAROL}>
        C: DATA
        S: 250 ok
        S: 550 5.1.1 nobody
        S: 250 ok
        S: 354 go
        {HELLO}
        S: 250 2.6.0 queued""",
        "PIPELINING",
    )
    replies = conversation.send("jörg@example.net", BOB, "a@b\r\nRCPT TO:<c@d>", "", CAROL)
    assert codes(replies) == [
        "553 5.6.7 (ours)",
        "550 5.1.1",
        "553 5.1.3 (ours)",
        "553 5.1.3 (ours)",
        "250 2.6.0",
    ]
    conversation.finished()


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("452 4.5.3 too many", "452 4.5.3"),
        ("552 too many recipients", "452 4.5.3"),
        ("552 5.5.3 too many recipients", "452 4.5.3"),
        ("552 5.2.2 mailbox full", "552 5.2.2"),
        ("552 5.7.0 content", "552 5.7.0"),
        ("550 5.7.1 policy", "550 5.7.1"),
        ("450 4.2.0 greylisted", "450 4.2.0"),
        ("251 2.1.5 will forward", "250"),
        ("252 perhaps", "250"),
    ],
)
def test_the_replies_of_rcpt(said: str, word: str) -> None:
    conversation = talk(
        f"""
        C: MAIL FROM:<{ALICE}>
        S: 250 ok
        C: RCPT TO:<{BOB}>
        S: 250 ok
        C: RCPT TO:<{CAROL}>
        S: {said}
        C: DATA
        S: 354 go
        {HELLO}
        S: 250 ok"""
    )
    assert codes(conversation.send(BOB, CAROL)) == ["250", word]
    conversation.finished()


@pytest.mark.parametrize("pipelining", [True, False])
def test_mail_refused(pipelining: bool) -> None:
    if pipelining:
        script = f"""
            C: MAIL FROM:<{ALICE}>
            C: RCPT TO:<{BOB}>
            C: RCPT TO:<{CAROL}>
            C: DATA
            S: 451 4.7.1 later
            S: 503 MAIL first
            S: 503 MAIL first
            S: 503 MAIL first
            C: MAIL FROM:<{ALICE}>"""
    else:
        script = f"C: MAIL FROM:<{ALICE}>\nS: 451 4.7.1 later\nC: MAIL FROM:<{ALICE}>"
    conversation = talk(script, "PIPELINING" if pipelining else "HELP")
    assert codes(conversation.send(BOB, CAROL)) == ["451 4.7.1", "451 4.7.1"]
    conversation.start(conversation.sending(BOB))  # without RSET: there was no transaction
    conversation.finished()


def test_all_refused_and_354_gets_a_lone_dot() -> None:
    conversation = talk(
        f"""
        C: MAIL FROM:<{ALICE}>
        C: RCPT TO:<{BOB}>
        C: DATA
        S: 250 ok
        S: 550 5.1.1 nobody
        S: 354 go
        C: .
        S: 554 no recipients
        C: RSET
        C: MAIL FROM:<{ALICE}>
        C: RCPT TO:<{CAROL}>
        C: DATA
        S: 250 flushed
        S: 250 ok
        S: 250 ok
        S: 354 go
        {HELLO}
        S: 250 ok""",
        "PIPELINING",
    )
    assert codes(conversation.send(BOB)) == ["550 5.1.1"]
    assert conversation.conversation.open
    assert codes(conversation.send(CAROL)) == ["250"]
    conversation.finished()


def test_all_refused_and_data_too() -> None:
    conversation = talk(
        f"""
        C: MAIL FROM:<{ALICE}>
        C: RCPT TO:<{BOB}>
        C: DATA
        S: 250 ok
        S: 550 5.1.1 nobody
        S: 554 5.5.1 no recipients
        C: RSET
        C: MAIL FROM:<{ALICE}>""",
        "PIPELINING",
    )
    assert codes(conversation.send(BOB)) == ["550 5.1.1"]
    conversation.start(conversation.sending(BOB))
    conversation.finished()


def test_reset_where_it_is_needed_without_pipelining() -> None:
    conversation = talk(f"""
        C: MAIL FROM:<{ALICE}>
        S: 250 ok
        C: RCPT TO:<{BOB}>
        S: 550 nobody
        C: RSET
        S: 250 flushed
        C: MAIL FROM:<{ALICE}>
        S: 250 ok
        C: RCPT TO:<{BOB}>
        S: 250 ok
        C: DATA
        S: 451 4.3.0 disk
        C: RSET
        S: 502 what
        C: MAIL FROM:<{ALICE}>
        S: 250 ok
        C: RCPT TO:<{BOB}>
        S: 250 ok
        C: DATA
        S: 354 go
        {HELLO}
        S: 554 5.7.1 spam
        C: RSET
        S: 250 flushed
        C: MAIL FROM:<{ALICE}>
        S: 250 ok""")
    assert codes(conversation.send(BOB)) == ["550"]
    assert codes(conversation.send(BOB)) == ["451 4.3.0"]
    assert codes(conversation.send(BOB)) == ["554 5.7.1"]
    conversation.start(conversation.sending(BOB))
    conversation.finished()


def test_dots_and_line_ends() -> None:
    conversation = talk(f"""
        C: MAIL FROM:<{ALICE}>
        S: 250 ok
        C: RCPT TO:<{BOB}>
        S: 250 ok
        C: DATA
        S: 354 go
        C: ..
        C: ..dot
        C: a b
        C: end
        C: .
        S: 250 ok""")
    conversation.send(BOB, content=b".\n.dot\na\rb\nend")
    conversation.finished()


def test_an_empty_message() -> None:
    conversation = talk(f"""
        C: MAIL FROM:<{ALICE}>
        S: 250 ok
        C: RCPT TO:<{BOB}>
        S: 250 ok
        C: DATA
        S: 354 go
        C: .
        S: 250 ok""")
    conversation.send(BOB, content=b"")
    conversation.finished()


LONG = b"".join(b"%05d this is a line of thirty-two\n" % number for number in range(30_000))


def test_a_long_message_goes_in_blocks() -> None:
    wire = LONG.replace(b"\n", b"\r\n") + b".\r\n"
    conversation = talk(
        f"""
        C: MAIL FROM:<{ALICE}>
        C: RCPT TO:<{BOB}>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 354 go
        C* {len(wire)}
        S: 250 ok""",
        "PIPELINING",
    )
    assert codes(conversation.send(BOB, content=LONG)) == ["250"]
    conversation.finished()
    assert conversation.peer.heard.endswith(b"DATA\r\n" + wire)


def chunks_of(stream: bytes) -> tuple[bytes, list[bytes]]:
    """The content of BDAT commands, and these commands."""
    content, commands = b"", []
    while stream:
        line, _, stream = stream.partition(b"\r\n")
        commands.append(line)
        size = int(line.split()[1])
        content, stream = content + stream[:size], stream[size:]
    return content, commands


@pytest.mark.parametrize("pipelining", ["PIPELINING", "HELP"])
def test_chunks(pipelining: str) -> None:
    conversation = talk("", "CHUNKING", pipelining)
    wire = LONG.replace(b"\n", b"\r\n")
    waiting = conversation.start(conversation.sending(BOB, content=LONG))
    peer = conversation.peer
    for _ in range(3):  # MAIL, RCPT, and whoever does not pipeline needs more
        for _ in range(2 if pipelining == "PIPELINING" else 1):
            if b"BDAT" not in peer.heard:
                peer.transport.write(b"250 ok\r\n")
        conversation.world.reactor.settle()
    while not waiting.called:
        peer.transport.write(b"250 octets\r\n")
        conversation.world.reactor.settle()
    content, commands = chunks_of(peer.heard[peer.heard.index(b"BDAT") :])
    assert content == wire
    assert commands[-1].endswith(b" LAST")
    assert not any(b"LAST" in one for one in commands[:-1])
    assert len(commands) == 5
    assert peer.left == []


def test_small_content_by_chunk_where_data_would_cost_a_round_trip() -> None:
    conversation = talk(
        f"""
        C: MAIL FROM:<{ALICE}>
        S: 250 ok
        C: RCPT TO:<{BOB}>
        S: 250 ok
        C: BDAT 8 LAST
        C: .
        C: x y
        S: 250 ok""",
        "CHUNKING",
    )
    conversation.send(BOB, content=b".\nx\ry")
    conversation.finished()


def test_small_content_by_data_where_it_costs_none() -> None:
    conversation = talk(
        f"""
        C: MAIL FROM:<{ALICE}>
        C: RCPT TO:<{BOB}>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 354 go
        {HELLO}
        S: 250 ok""",
        "CHUNKING",
        "PIPELINING",
    )
    conversation.send(BOB)
    conversation.finished()


def test_no_chunks_in_lmtp() -> None:
    conversation = Talk(
        f"""
        S: 220 lmtp
        C: LHLO me.example.org
        S: 250-x
        S: 250 CHUNKING
        C: MAIL FROM:<{ALICE}>
        S: 250 ok
        C: RCPT TO:<{BOB}>
        S: 250 ok
        C: DATA
        S: 354 go
        {HELLO}
        S: 250 2.0.0 bob""",
        lmtp=True,
    )
    conversation.hello()
    assert codes(conversation.send(BOB)) == ["250 2.0.0"]
    conversation.finished()


def test_no_chunk_before_a_recipient_was_accepted() -> None:
    conversation = talk(
        f"""
        C: MAIL FROM:<{ALICE}>
        C: RCPT TO:<{BOB}>
        S: 250 ok
        S: 550 5.1.1 nobody
        C: RSET
        C: MAIL FROM:<{ALICE}>""",
        "CHUNKING",
        "PIPELINING",
    )
    assert codes(conversation.send(BOB, content=LONG)) == ["550 5.1.1"]
    conversation.start(conversation.sending(BOB))
    conversation.finished()


def test_a_refused_chunk_ends_the_message() -> None:
    conversation = talk(
        f"""
        C: MAIL FROM:<{ALICE}>
        S: 250 ok
        C: RCPT TO:<{BOB}>
        S: 250 ok
        C: RCPT TO:<{CAROL}>
        S: 550 5.1.1 nobody
        C: BDAT 269633
        C* 269633
        S: 552 5.3.4 too big
        C: RSET
        S: 250 ok
        C: MAIL FROM:<{ALICE}>
        S: 250 ok""",
        "CHUNKING",
    )
    # a chunk is made of whole blocks
    replies = conversation.send(BOB, CAROL, content=LONG)
    assert codes(replies) == ["552 5.3.4", "550 5.1.1"]
    conversation.start(conversation.sending(BOB))
    conversation.finished()


def test_the_replies_to_chunks_behind_a_refused_one_are_read() -> None:
    conversation = talk("", "CHUNKING", "PIPELINING")
    waiting = conversation.start(conversation.sending(BOB, content=LONG))
    conversation.peer.transport.write(b"250 ok\r\n250 ok\r\n")
    conversation.world.reactor.settle()
    sent = conversation.peer.heard.count(b"BDAT ")
    assert sent == 4  # all without waiting
    conversation.peer.transport.write(b"250 ok\r\n" + b"552 too big\r\n" + b"503 no\r\n" * 2)
    conversation.world.reactor.settle()
    assert codes(waiting.result) == ["552"]  # type: ignore[arg-type]
    assert conversation.conversation.open
    waiting = conversation.start(conversation.sending(BOB, content=LONG))
    assert conversation.peer.heard.endswith(
        f"RSET\r\nMAIL FROM:<{ALICE}>\r\nRCPT TO:<{BOB}>\r\n".encode()
    )
    conversation.peer.transport.write(b"250 flushed\r\n250 ok\r\n550 5.1.1 no\r\n")
    conversation.world.reactor.settle()
    assert codes(waiting.result) == ["550 5.1.1"]  # type: ignore[arg-type]
    assert conversation.peer.heard.endswith(f"RCPT TO:<{BOB}>\r\n".encode())


def test_lmtp_has_a_reply_for_each() -> None:
    conversation = Talk(
        f"""
        S: 220 lmtp
        C: LHLO me.example.org
        S: 250-x
        S: 250-CHUNKING
        S: 250 PIPELINING
        C: MAIL FROM:<{ALICE}>
        C: RCPT TO:<{BOB}>
        C: RCPT TO:<{CAROL}>
        C: RCPT TO:<{DAVE}>
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 550 5.1.1 nobody
        S: 250 ok
        S: 354 go
        {HELLO}
        S: 250 2.0.0 bob
        S: 452 4.2.2 dave is full
        C: RSET
        C: MAIL FROM:<{ALICE}>""",
        lmtp=True,
    )
    conversation.hello()
    assert codes(conversation.send(BOB, CAROL, DAVE)) == ["250 2.0.0", "550 5.1.1", "452 4.2.2"]
    conversation.start(conversation.sending(BOB))
    conversation.finished()


def test_lmtp_does_not_fall_back() -> None:
    conversation = Talk("S: 220 hi\nC: LHLO me.example.org\nS: 502 what", lmtp=True)
    with pytest.raises(SessionError, match="refused LHLO: 502 what"):
        conversation.hello()


def test_lmtp_with_354_for_nobody_ends() -> None:
    conversation = Talk(
        f"""
        S: 220 lmtp
        C: LHLO me.example.org
        S: 250-x
        S: 250 PIPELINING
        C: MAIL FROM:<{ALICE}>
        C: RCPT TO:<{BOB}>
        C: DATA
        S: 250 ok
        S: 550 5.1.1 nobody
        S: 354 go""",
        lmtp=True,
    )
    conversation.hello()
    assert codes(conversation.send(BOB)) == ["550 5.1.1"]
    assert not conversation.conversation.open
    conversation.finished()


def test_abort() -> None:
    conversation = talk("")
    conversation.conversation.abort()
    conversation.world.reactor.settle()
    assert conversation.peer.closed
    with pytest.raises(SessionError, match="was cut"):
        conversation.send(BOB)
    assert conversation.content.closed == 1
    conversation.do(conversation.conversation.quit())


def test_the_helo_name_is_one_line() -> None:
    made = Talk(greeted())
    made.conversation._helo = "me\r\nMAIL FROM:<x@y>"
    with pytest.raises(ValueError):
        made.hello()
