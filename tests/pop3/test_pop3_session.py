"""POP3 sessions as transcripts, on a mailbox in memory."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fake_pop3 import Dialogue, MemoryMailbox
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, globalLogPublisher

from twisted_mail.connection.interfaces import STRANGERS_TALK
from twisted_mail.message.wire import wire_size
from twisted_mail.pop3.engine import SASL_RESPONSE
from twisted_mail.status import MailError

ONE = b"Subject: one\n\nfirst\n.dot\n"
TWO = b"Subject: two\n\n1\n2\n3\n"
GREEK = "Subject: Ελλάδα\nX-Dropped: ü\n\nbody ü\n".encode()
PLAIN = b64encode("\0alice\0open sésame".encode()).decode()


def on(*contents: bytes, **options: object) -> Dialogue:
    """Logged in to a maildrop of these messages."""
    return Dialogue(*contents, **options).log_in()


@contextmanager
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    globalLogPublisher.addObserver(events.append)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(events.append)


# Greeting and login


def test_the_greeting_offers_no_apop() -> None:
    greeting = Dialogue().session.greeting()
    assert greeting == b"+OK mail.example.org POP3 server ready\r\n"
    assert b"<" not in greeting


def test_a_whole_session() -> None:
    client = Dialogue(ONE, TWO)
    assert client.say("USER alice") == b"+OK\r\n"
    assert client.say("PASS open sésame") == b"+OK 2 messages (54 octets)\r\n"
    assert client.say("STAT") == b"+OK 2 54\r\n"
    assert client.say("LIST") == b"+OK 2 messages (54 octets)\r\n1 29\r\n2 25\r\n.\r\n"
    assert client.say("RETR 1") == (b"+OK 29 octets\r\nSubject: one\r\n\r\nfirst\r\n..dot\r\n.\r\n")
    assert client.say("DELE 1") == b"+OK message 1 deleted\r\n"
    assert client.mailbox.removed is None
    assert client.say("QUIT") == b"+OK Bye\r\n"
    assert client.closed
    assert client.mailbox.removed == [0]
    assert client.mailbox.closed == 1
    assert client.authenticator.logins[0].logouts == 1


def test_pipelined_commands_are_answered_in_order() -> None:
    client = Dialogue(ONE)
    answers = client.say("USER alice", "PASS open sésame", "STAT", "UIDL 1", "XYZ", "QUIT", "STAT")
    assert answers.split(b"\r\n") == [
        b"+OK",
        b"+OK 1 messages (29 octets)",
        b"+OK 1 29",
        b"+OK 1 id-0",
        b"-ERR Unknown command",
        b"+OK Bye",
        b"",
    ]


def test_a_wrong_password() -> None:
    client = Dialogue()
    assert client.say("USER alice", "PASS wrong") == (
        b"+OK\r\n-ERR [AUTH] Wrong name or password\r\n"
    )
    assert client.say("PASS open sésame") == b"-ERR USER comes first\r\n"
    assert client.say("STAT") == b"-ERR Log in first\r\n"
    client.log_in()


def test_neither_name_nor_password_may_be_something_else_than_utf8() -> None:
    client = Dialogue()
    assert client.say(b"USER j\xf8") == b"-ERR Malformed UTF-8\r\n"
    assert client.say("USER alice", b"PASS \xff") == b"+OK\r\n-ERR Malformed UTF-8\r\n"


def test_a_mailbox_in_use() -> None:
    client = Dialogue()

    async def locked() -> MemoryMailbox:
        raise MailError(450, "4.2.0", "Another session has the mailbox", pop3="IN-USE")

    client.account.inbox = locked
    assert client.say("USER alice", "PASS open sésame") == (
        b"+OK\r\n-ERR [IN-USE] Another session has the mailbox\r\n"
    )
    assert client.authenticator.logins[0].logouts == 1
    assert client.say("STAT") == b"-ERR Log in first\r\n"


def test_a_broken_store_is_temporary_and_logged() -> None:
    client = Dialogue()

    async def broken() -> MemoryMailbox:
        raise OSError("no such directory: /secret/path")

    client.account.inbox = broken
    with logged() as events:
        answer = client.say("USER alice", "PASS open sésame")
    assert answer == b"+OK\r\n-ERR [SYS/TEMP] Internal failure, try again later\r\n"
    assert [event["connection"] for event in events if "log_failure" in event] == ["c1"]
    assert client.authenticator.logins[0].logouts == 1


def test_the_login_service_is_down() -> None:
    client = Dialogue()
    client.authenticator.error = MailError(454, "4.7.0", "Temporary authentication failure")
    assert client.say("USER a", "PASS b") == (
        b"+OK\r\n-ERR [SYS/TEMP] Temporary authentication failure\r\n"
    )


def test_no_password_in_the_log() -> None:
    client = Dialogue(ONE)
    with logged() as events:
        client.say("USER alice", "PASS wrong-secret", "USER alice", "PASS open sésame")
        client.say("RETR 1", "DELE 1", "QUIT")
    assert not any("secret" in str(event) or "sésame" in str(event) for event in events)
    assert not any("first" in str(event) for event in events)
    inside, outside = (event for event in events if "account" in event)
    assert (inside["connection"], inside["account"], inside["messages"]) == (
        "c1",
        "alice@example.org",
        1,
    )
    assert (outside["retrieved"], outside["deleted"]) == (1, 1)


# TLS


@pytest.mark.parametrize("command", ["USER alice", "PASS x", "AUTH", f"AUTH PLAIN {PLAIN}"])
def test_no_login_in_clear(command: str) -> None:
    client = Dialogue(tls=False, tls_available=True)
    assert client.say(command) == b"-ERR No login without TLS, say STLS\r\n"
    assert client.authenticator.logins == []
    assert Dialogue(tls=False).say(command) == b"-ERR No login without TLS\r\n"


def test_login_in_clear_from_this_machine_when_allowed() -> None:
    Dialogue(tls=False, loopback=True, allow_plaintext_loopback=True).log_in()
    for options in ({"loopback": True}, {"allow_plaintext_loopback": True}):
        assert Dialogue(tls=False, **options).say("USER alice").startswith(b"-ERR No login")


def test_stls_then_login() -> None:
    client = Dialogue(ONE, tls=False, tls_available=True)
    assert client.say("STLS") == b"+OK Begin TLS\r\n"
    assert client.say("STLS") == b"-ERR TLS is on already\r\n"
    client.log_in()
    assert client.say("STLS") == b"-ERR Not after login\r\n"


def test_stls_where_there_is_none() -> None:
    assert Dialogue(tls=False).say("STLS") == b"-ERR TLS is not available\r\n"


def test_what_was_said_in_clear_behind_stls_is_never_run() -> None:
    client = Dialogue(tls=False, tls_available=True)
    assert client.say("STLS", "CAPA") == b"-ERR Commands were sent behind STLS in clear\r\n"
    assert client.closed


def test_tls_forgets_what_was_said_before() -> None:
    client = Dialogue(
        GREEK, tls=False, tls_available=True, loopback=True, allow_plaintext_loopback=True
    )
    client.say("USER mallory", "STLS")
    assert client.say("PASS open sésame") == b"-ERR USER comes first\r\n"


def test_stls_comes_before_utf8() -> None:
    client = Dialogue(tls=False, tls_available=True)
    assert client.say("UTF8", "STLS").endswith(b"-ERR STLS comes before UTF8\r\n")


# CAPA

COMMON = [
    *("+OK Capabilities follow", "TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING"),
    *("EXPIRE NEVER", "UTF8 USER"),
]
LOGIN = ["USER", "SASL SCRAM-SHA-256 PLAIN LOGIN"]
LAST = ["IMPLEMENTATION twisted-mail", ".", ""]


def capabilities(client: Dialogue) -> list[str]:
    return client.say("CAPA").decode().split("\r\n")


def test_capabilities_in_clear_and_under_tls() -> None:
    client = Dialogue(tls=False, tls_available=True)
    assert capabilities(client) == [*COMMON, "STLS", *LAST]
    client.say("STLS")
    assert capabilities(client) == [*COMMON, *LOGIN, *LAST]
    client.log_in()
    assert capabilities(client) == [*COMMON, *LOGIN, *LAST]


def test_capabilities_on_this_machine() -> None:
    client = Dialogue(tls=False, loopback=True, allow_plaintext_loopback=True, tls_available=True)
    assert capabilities(client) == [*COMMON, *LOGIN, "STLS", *LAST]
    client.authenticator.offered = ()
    assert capabilities(client) == [*COMMON, "USER", "STLS", *LAST]


# AUTH


def test_auth_with_an_initial_response() -> None:
    client = Dialogue(ONE)
    assert client.say(f"auth plain {PLAIN}") == b"+OK 1 messages (29 octets)\r\n"
    assert client.say("AUTH PLAIN") == b"-ERR Not after login\r\n"


def test_auth_without_one() -> None:
    client = Dialogue(ONE)
    assert client.say("AUTH PLAIN") == b"+ \r\n"
    assert client.engine.midway
    assert client.say(PLAIN) == b"+OK 1 messages (29 octets)\r\n"
    assert not client.engine.midway


def test_auth_login() -> None:
    client = Dialogue(ONE)
    assert client.say("AUTH LOGIN") == b"+ VXNlciBOYW1lAA==\r\n"
    assert client.say(b64encode(b"alice")) == b"+ UGFzc3dvcmQA\r\n"
    assert client.say(b64encode("open sésame".encode())).startswith(b"+OK 1 messages")


def test_auth_alone_lists_the_mechanisms() -> None:
    assert Dialogue().say("AUTH") == (
        b"+OK Mechanisms follow\r\nSCRAM-SHA-256\r\nPLAIN\r\nLOGIN\r\n.\r\n"
    )


def test_auth_cancelled() -> None:
    client = Dialogue()
    assert client.say("AUTH LOGIN", "*", "NOOP") == (
        b"+ VXNlciBOYW1lAA==\r\n-ERR Authentication cancelled\r\n-ERR Log in first\r\n"
    )


@pytest.mark.parametrize("response", ["!", "YQ", "YQ=", "Y Q==", "=", "YQ==YQ=="])
def test_auth_with_malformed_base64(response: str) -> None:
    client = Dialogue()
    assert client.say("AUTH PLAIN", response).endswith(b"-ERR Malformed base64\r\n")
    assert not client.engine.midway
    if response != "=":
        assert client.say(f"AUTH PLAIN {response}") == b"-ERR Malformed base64\r\n"


def test_an_empty_initial_response() -> None:
    client = Dialogue()
    assert client.say("AUTH LOGIN =", b64encode(b"x")).endswith(
        b"-ERR [AUTH] Wrong name or password\r\n"
    )


def test_auth_with_an_unknown_mechanism() -> None:
    assert Dialogue().say("AUTH GSSAPI") == b"-ERR Unknown mechanism\r\n"


def test_auth_with_a_wrong_password() -> None:
    wrong = b64encode(b"\0alice\0wrong").decode()
    client = Dialogue()
    assert client.say(f"AUTH PLAIN {wrong}") == b"-ERR [AUTH] Wrong name or password\r\n"
    assert not client.engine.midway


def test_a_line_too_long_ends_the_exchange() -> None:
    client = Dialogue()
    answers = client.say("AUTH PLAIN", "x" * 13_000, "NOOP")
    assert answers == (
        b"+ \r\n-ERR Line too long, 12288 octets are allowed\r\n-ERR Log in first\r\n"
    )


def test_a_stray_sasl_response_is_refused() -> None:
    client = Dialogue()
    client.engine.resume(SASL_RESPONSE)
    assert client.say(PLAIN) == b"-ERR Authentication cancelled\r\n"


# Arguments and states


@pytest.mark.parametrize(
    "command",
    ["STAT", "LIST", "RETR 1", "DELE 1", "NOOP", "RSET", "TOP 1 1", "UIDL"],
)
def test_before_login(command: str) -> None:
    assert Dialogue(ONE).say(command) == b"-ERR Log in first\r\n"


@pytest.mark.parametrize("command", ["USER a", "PASS a", "AUTH", "STLS", "UTF8"])
def test_after_login(command: str) -> None:
    assert on().say(command) == b"-ERR Not after login\r\n"


@pytest.mark.parametrize("verb", ["RETR", "DELE", "LIST", "UIDL", "TOP"])
@pytest.mark.parametrize(
    "number",
    ["0", "2", "-1", "+1", "one", "1.0", "99999999999999999999999", "1_0", "٣", "9" * 200, "1 2 3"],
)
def test_numbers_that_are_none(verb: str, number: str) -> None:
    client = on(ONE)
    assert client.say(f"{verb} {number}").startswith(b"-ERR ")
    assert client.say("STAT") == b"+OK 1 29\r\n"


@pytest.mark.parametrize("command", ["RETR", "DELE", "TOP", "TOP 1", "TOP 1 -1", "TOP 1 x"])
def test_arguments_that_are_missing(command: str) -> None:
    assert on(ONE).say(command) == b"-ERR A number is expected\r\n"


@pytest.mark.parametrize("command", ["STAT 1", "NOOP x", "RSET x", "CAPA x", "QUIT x"])
def test_arguments_that_are_not_wanted(command: str) -> None:
    client = on(ONE)
    assert client.say(command) == b"-ERR No argument is expected\r\n"
    assert not client.closed


@pytest.mark.parametrize("command", ["", " ", "APOP a b", "LANG", "\0", "ÜBER", "GET / HTTP/1.1"])
def test_unknown_commands(command: str) -> None:
    assert on(ONE).say(command) == b"-ERR Unknown command\r\n"


def test_case_and_spaces_do_not_matter() -> None:
    assert (
        on(ONE)
        .say("list 1 ", "Stat ", "rEtR  1")
        .startswith(b"+OK 1 29\r\n+OK 1 29\r\n+OK 29 octets\r\n")
    )


def test_a_command_line_too_long() -> None:
    assert on(ONE).say("RETR " + "1" * 300, "STAT") == (
        b"-ERR Line too long, 255 octets are allowed\r\n+OK 1 29\r\n"
    )


# The transaction


def test_deleted_messages_keep_their_numbers() -> None:
    client = on(ONE, TWO, ONE)
    assert client.say("DELE 2", "DELE 2", "RETR 2", "LIST 2", "UIDL 2", "TOP 2 0").split(
        b"\r\n"
    ) == [b"+OK message 2 deleted", *[b"-ERR Message 2 is deleted"] * 5, b""]
    assert client.say("STAT") == b"+OK 2 58\r\n"
    assert client.say("LIST") == b"+OK 2 messages (58 octets)\r\n1 29\r\n3 29\r\n.\r\n"
    assert client.say("UIDL") == b"+OK\r\n1 id-0\r\n3 id-2\r\n.\r\n"
    assert client.say("UIDL 3") == b"+OK 3 id-2\r\n"


def test_rset_unmarks() -> None:
    client = on(ONE, TWO)
    client.say("DELE 1", "DELE 2")
    assert client.say("RSET") == b"+OK 2 messages (54 octets)\r\n"
    assert client.say("LIST 1") == b"+OK 1 29\r\n"
    client.say("QUIT")
    assert client.mailbox.removed is None


def test_an_empty_maildrop() -> None:
    client = on()
    assert client.say("STAT", "LIST", "UIDL", "NOOP") == (
        b"+OK 0 0\r\n+OK 0 messages (0 octets)\r\n.\r\n+OK\r\n.\r\n+OK\r\n"
    )


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        (0, b""),
        (1, b"1\r\n"),
        (3, b"1\r\n2\r\n3\r\n"),
        (99, b"1\r\n2\r\n3\r\n"),
    ],
)
def test_top(lines: int, body: bytes) -> None:
    assert on(TWO).say(f"TOP 1 {lines}") == b"+OK\r\nSubject: two\r\n\r\n" + body + b".\r\n"


def test_a_message_that_vanished() -> None:
    client = on(ONE, TWO)
    client.mailbox.gone.add(0)
    assert client.say("RETR 1") == b"-ERR [SYS/TEMP] The message is gone\r\n"
    assert client.say("TOP 1 0") == b"-ERR [SYS/TEMP] The message is gone\r\n"
    assert client.say("RETR 2").startswith(b"+OK")


def test_a_message_that_cannot_be_read() -> None:
    client = on(ONE)
    client.mailbox.fail_at = 1
    assert client.say("RETR 1") == b"-ERR [SYS/TEMP] Internal failure, try again later\r\n"
    assert client.mailbox.opened[0].closed == 1


def test_a_message_that_cannot_be_read_to_its_end() -> None:
    client = on(ONE * 100)
    client.mailbox.block = 1000
    client.mailbox.fail_at = 3
    with pytest.raises(OSError, match="disk on fire"):
        client.say("RETR 1")
    client.session.lost()
    assert client.mailbox.opened[0].closed == 1
    assert client.mailbox.closed == 1


def test_large_messages_come_in_blocks() -> None:
    content = b"Subject: large\n\n" + b".\n" * 5000
    client = on(content)
    client.mailbox.block = 999
    answer = client.say("RETR 1")
    size = wire_size(content)
    assert answer.startswith(b"+OK %d octets\r\n" % size)
    assert answer.endswith(b"\r\n..\r\n.\r\n")
    assert len(answer) == len(b"+OK %d octets\r\n" % size) + size + 5000 + len(b".\r\n")
    assert client.mailbox.opened[0].closed == 1


def test_small_messages_are_read_once() -> None:
    client = on(ONE)
    client.say("RETR 1")
    assert client.mailbox.opened[0].reads == 1
    assert client.mailbox.opened[0].closed == 1


# UTF8


def test_a_client_without_utf8_gets_a_surrogate_of_the_size_it_was_told() -> None:
    client = on(GREEK)
    body = client.say("RETR 1").split(b"\r\n", 1)[1].removesuffix(b".\r\n")
    assert body == b"Subject: =?utf-8?b?zpXOu867zqzOtM6x?=\r\n\r\nbody \xc3\xbc\r\n"
    assert client.say("LIST 1") == b"+OK 1 %d\r\n" % len(body)
    assert client.say("STAT") == b"+OK 1 %d\r\n" % len(body)
    assert client.say("TOP 1 0") == b"+OK\r\n" + body.removesuffix(b"body \xc3\xbc\r\n") + b".\r\n"
    client.mailbox.block = 5
    assert client.say("RETR 1").endswith(body + b".\r\n")


def test_a_client_with_utf8_gets_the_message_as_it_is() -> None:
    client = Dialogue(GREEK)
    assert client.say("UTF8").startswith(b"+OK")
    client.log_in()
    body = client.say("RETR 1").split(b"\r\n", 1)[1].removesuffix(b".\r\n")
    assert body == GREEK.replace(b"\n", b"\r\n")
    assert client.say("LIST 1") == b"+OK 1 %d\r\n" % len(body)


# The end


def test_quit_before_login() -> None:
    client = Dialogue()
    assert client.say("QUIT") == b"+OK Bye\r\n"
    assert client.closed


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError("disk on fire"), b"SYS/TEMP"),
        (MailError(452, "4.3.1", "No space"), b"SYS/TEMP"),
        (MailError(550, "5.3.0", "Mailbox removed"), b"SYS/PERM"),
    ],
)
def test_quit_that_cannot_delete(error: Exception, code: bytes) -> None:
    client = on(ONE)
    client.mailbox.remove_error = error
    assert client.say("DELE 1", "QUIT") == (
        b"+OK message 1 deleted\r\n-ERR [" + code + b"] some deleted messages not removed\r\n"
    )
    assert client.closed
    assert client.mailbox.closed == 1
    assert client.authenticator.logins[0].logouts == 1


def test_a_dropped_connection_deletes_nothing() -> None:
    client = on(ONE)
    client.say("DELE 1")
    client.session.lost()
    assert client.mailbox.removed is None
    assert client.mailbox.closed == 1
    assert client.authenticator.logins[0].logouts == 1
    client.session.lost()
    assert client.mailbox.closed == 1


def test_a_connection_that_drops_before_login() -> None:
    client = Dialogue()
    client.say("USER alice")
    client.session.lost()
    assert client.mailbox.closed == 0


def test_a_connection_that_drops_while_the_mailbox_is_being_opened() -> None:
    client = Dialogue(ONE)
    opening: Deferred[MemoryMailbox] = Deferred()
    client.account.inbox = lambda: opening
    client.say("USER alice", "PASS open sésame")
    client.session.lost()
    assert client.mailbox.closed == 0
    opening.callback(client.mailbox)
    assert client.mailbox.closed == 1
    assert client.authenticator.logins[0].logouts == 1


def test_a_login_that_is_cancelled_is_logged_out() -> None:
    client = Dialogue(ONE)
    client.account.inbox = lambda: Deferred()
    client.say("USER alice", "PASS open sésame")
    client.pending.cancel()
    client.session.lost()
    assert client.authenticator.logins[0].logouts == 1


def test_a_mailbox_that_does_not_close_is_logged() -> None:
    client = on(ONE)

    async def broken() -> None:
        raise OSError("disk on fire")

    client.mailbox.close = broken
    client.authenticator.logins[0].logout = lambda: 1 // 0
    with logged() as events:
        client.session.lost()
    assert len([event for event in events if "log_failure" in event]) == 2


def test_too_many_errors() -> None:
    client = Dialogue(max_errors=3)
    assert client.say("A", "USER alice", "PASS x").count(b"-ERR") == 2
    assert not client.closed
    assert client.say("B", "CAPA") == b"-ERR Unknown command\r\n-ERR Too many errors\r\n"
    assert client.closed


@pytest.mark.parametrize("command", ["CAPA", "USER alice", "AUTH"])
def test_a_stranger_talks_so_much_and_no_more(command: str) -> None:
    client = Dialogue(max_errors=3)
    said = client.say(*[command] * (STRANGERS_TALK + 10))
    assert said.endswith(b"-ERR Too many errors\r\n")
    assert said.count(b"+OK") == STRANGERS_TALK + 3
    assert client.closed


def test_who_logs_in_may_talk() -> None:
    client = Dialogue(max_errors=3)
    client.say("USER alice", "PASS open sésame")
    assert client.say(*["NOOP"] * (STRANGERS_TALK * 2)).count(b"+OK") == STRANGERS_TALK * 2
    assert not client.closed


def test_too_many_failed_logins() -> None:
    client = Dialogue(max_login_failures=2)
    wrong = b"-ERR [AUTH] Wrong name or password\r\n"
    assert client.say("USER alice", "PASS x") == b"+OK\r\n" + wrong
    answer = client.say("AUTH PLAIN AGFsaWNlAHg=", "USER alice", "PASS open sésame")
    assert answer == wrong + b"-ERR Too many failed logins\r\n"
    assert client.closed
    assert client.authenticator.logins == []


def test_a_temporary_failure_is_no_failed_login() -> None:
    client = Dialogue(max_login_failures=1)
    client.authenticator.error = MailError(454, "4.7.0", "Too many logins at once")
    client.say("USER alice", "PASS x")
    client.authenticator.error = MailError(501, "5.5.2", "Malformed", pop3="AUTH")
    client.say("USER alice", "PASS x")
    assert not client.closed
    assert client.say("USER alice", "PASS open sésame").count(b"+OK") == 2


def test_asking_for_messages_that_are_not_there_is_no_error() -> None:
    client = on(ONE, max_errors=1)
    client.say(*["RETR 7"] * 20)
    assert not client.closed


def test_parting_words() -> None:
    session = Dialogue().session
    assert session.timed_out() == b""
    assert session.closing_down() == b"-ERR [SYS/TEMP] The server is going down\r\n"


def test_words_of_others_stay_in_their_line() -> None:
    client = Dialogue()
    client.authenticator.error = MailError(535, "5.7.8", "no\r\n+OK ü" + "x" * 600, pop3="AUTH")
    answer = client.say("USER a", "PASS b").removeprefix(b"+OK\r\n")
    assert answer.startswith(b"-ERR [AUTH] no  +OK ?xxx")
    assert len(answer) == 512


VERBS = (b"RETR ", b"TOP 1 ", b"LIST ", b"AUTH ", b"AUTH PLAIN ", b"DELE ", b"USER ", b"PASS ")


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_no_commands_make_it_raise(lines: list[bytes]) -> None:
    for client in (
        Dialogue(max_errors=100, max_login_failures=100),
        on(ONE, GREEK, max_errors=100),
    ):
        client.say(*(verb + line for verb in VERBS for line in lines))
        client.session.lost()
        assert client.mailbox.closed == len(client.authenticator.logins)


# Who is let in no more


def test_it_ends_at_the_next_command_and_deletes_nothing() -> None:
    client = on(ONE, TWO)
    assert client.say("DELE 1").startswith(b"+OK")
    client.account.end()
    assert client.say("QUIT", "NOOP") == b"-ERR [SYS/PERM] The account is closed\r\n"
    assert client.closed
    client.session.lost()
    assert client.mailbox.removed is None
    assert (client.mailbox.closed, client.account.watched) == (1, [])


def test_who_has_left_is_watched_no_more() -> None:
    client = on(ONE)
    assert len(client.account.watched) == 1
    client.say("QUIT")
    assert client.account.watched == []
