"""Sessions behind their engines: each command is answered, in lines that are the protocol's; nothing fails inside; and
of mail there is no more than was ended.
"""

from __future__ import annotations

import re
from typing import Any

from fake_pop3 import Dialogue as Pop3Dialogue
from fuzzing import finished, nothing_failed, target
from imap_dialogue import Dialogue as ImapDialogue
from imap_values import is_body, is_envelope, lines_of, values
from smtp_conversation import Conversation

from twisted_mail.connection.interfaces import Signal, Then
from twisted_mail.smtp.session import Profile

# -- SMTP

_REPLY = re.compile(rb"(?:[2-5][0-9]{2}-[^\r\n]*\r\n)*[2-5][0-9]{2} [^\r\n]*\r\n")


@target("smtp")
def smtp_session(data: bytes) -> None:
    """Octet 0: profile and login; what the client sends."""
    if not data:
        return
    profile = (Profile.SMTP, Profile.SUBMISSIONS)[data[0] & 1]
    talk = Conversation(profile, strict=bool(data[0] & 2), max_message_bytes=300, max_recipients=3)
    if data[0] & 1:
        said = talk.send(b"EHLO a.example\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n")
        assert said.startswith(b"250-") and b"235 " in said
    if data[0] & 4:
        talk.send(
            b"EHLO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bob@hamburger.edu>\r\nDATA\r\n"
        )
    said = talk.send(data[1:])
    nothing_failed()
    at = replies = 0
    while at < len(said):
        found = _REPLY.match(said, at)
        assert found, said[at:]
        # RFC 5321 section 4.5.3.1.5
        assert max(map(len, found[0].splitlines())) <= 510, found[0]
        assert len({line[:3] for line in found[0].splitlines()}) == 1
        at = found.end()
        replies += 1
    # As many messages as were ended and answered 250, whatever their content
    ended = (
        data.count(b"\r\n.\r\n")
        + (data[0] & 4 and data[1:4] == b".\r\n")
        + data.upper().count(b"BDAT")
    )
    taken = talk.intake.messages
    assert len(taken) <= ended
    for message in taken:
        assert message.envelope.recipients
        # What is in it was sent, in its order; dots may be gone.
        assert message.content.replace(b".", b"") in data.replace(b".", b"")
    for begun in talk.intake.begun:
        assert begun.committed + begun.aborted <= 1 or begun.committed == 1


# -- POP3

_MAIL = (
    b"Subject: a\n\n.\n..\nx\n",
    b"",
    b"\xc3\xa4: x\n\n\r.\n",
    b"Subject: \xc3\xa4\n\n" + b".a\n" * 30,
)


@target("pop3")
def pop3_session(data: bytes) -> None:
    """Octet 0: logged in or not; what the client sends."""
    if not data:
        return
    talk = Pop3Dialogue(*_MAIL, tls=bool(data[0] & 2))
    if data[0] & 3 == 3:
        talk.log_in()
    session, engine = talk.session, talk.engine
    engine.receive(data[1:])
    deleted = False

    async def answered(event: Any) -> Any:
        answer = await session.handle(event)
        said = answer.data
        if answer.body is not None:
            async for block in answer.body:
                said += block
        return answer, said

    while not isinstance(event := engine.next_event(), Signal):
        answer, said = finished(answered(event))
        nothing_failed()
        deleted |= getattr(event, "verb", b"") == b"DELE" and said.startswith(b"+OK")
        assert re.match(rb"(?:\+OK|-ERR|\+ )[^\r\n]*\r\n", said), said
        assert not re.search(rb"\r(?!\n)|(?<!\r)\n", said)
        lines = said.split(b"\r\n")
        assert lines.pop() == b""
        # RFC 1939 section 3: a multi-line reply ends in the one line that is a dot
        if len(lines) > 1:
            assert lines[-1] == b"." and lines.count(b".") == 1
        parting = session.too_many_errors()
        if answer.then is Then.CLOSE or parting is not None:
            break
        if answer.then is Then.START_TLS:
            if not engine.start_tls():
                break
            session.tls_started("TLSv1.3 TLS_AES_256_GCM_SHA384")
        else:
            engine.resume(answer.expect)
    assert deleted or not talk.mailbox.removed
    session.lost()
    assert all(login.logouts == 1 for login in talk.authenticator.logins)


# -- IMAP

_LETTER = (
    b"From: =?utf-8?q?B=C3=B6b?= <bob@example.org>\nTo: a:b@c;\nSubject: hello\nMessage-ID: <a@b>\nReferences: <c@d>\n"
    b'Content-Type: multipart/mixed; boundary="A"\n\n--A\n\nHello.\n--A\nContent-Type: message/rfc822\n\n'
    b"Subject: in\n\nx\n--A\nContent-Transfer-Encoding: base64\n\neHh4\n--A--\n"
)
_ANSWER = re.compile(rb"\* ([0-9]+) FETCH (.*)\Z", re.DOTALL)
_LIST_OF = re.compile(
    rb"\* (?:LIST|LSUB|STATUS|QUOTA|QUOTAROOT|METADATA|NAMESPACE|ESEARCH|SEARCH|SORT|ID)(?: |\Z)"
)


def _tags(stream: bytes) -> list[bytes]:
    """The tags of the commands in it, as the engine sees them, when all is answered at once."""
    return re.findall(rb"(?:\A|\n)([^\x00-\x20\x7f-\xff(){%*\"\\+]+)", stream)


@target("imap", 2048)
def imap_session(data: bytes) -> None:
    """What a client says who has logged in and selected a mailbox."""
    talk = ImapDialogue()
    talk.account.deliver(_LETTER)
    talk.account.deliver(b"Subject: \xff\n\nplain")
    talk.login("INBOX")
    said = talk.ask(data)
    talk.world.reactor.advance(1)
    said += talk.client.read()
    nothing_failed()
    tags = set(_tags(data))
    for line in lines_of(said):
        assert b"\0" not in line or b"~{" in line
        if line.startswith(b"+ "):
            continue
        found = _ANSWER.match(line)
        if found:
            _fetched(found[2])
        elif line.startswith(b"* "):
            if _LIST_OF.match(line):
                values(line[2:])
        else:
            tag, _, rest = line.partition(b" ")
            assert re.match(rb"(?:OK|NO|BAD) (?:\[[^\]\r\n]+\] )?[^\r\n]+\Z", rest), line
            assert tag in tags, line
    talk.client.abort()
    talk.world.reactor.advance(1)
    nothing_failed()


def _fetched(text: bytes) -> None:
    if re.search(rb"\[[^\]]*[{\"]", text):
        return  # a label with a string in it
    text = (
        re.sub(rb"\b(BODY|BINARY|BINARY\.SIZE)\[[^\]{]*\](<[0-9]+>)?(?= )", b"X", text, count=1)
        if text.count(b"[") == 1
        else text
    )
    if b"[" in re.sub(rb'"[^"]*"|\{[0-9]+\}\r\n(?s:.*)', b"", text):
        return
    [items] = values(text)
    assert len(items) % 2 == 0
    for name, value in zip(items[::2], items[1::2], strict=True):
        if name == b"ENVELOPE":
            is_envelope(value)
        elif name in (b"BODYSTRUCTURE", b"BODY"):
            is_body(value, name == b"BODYSTRUCTURE")
        elif name in (b"UID", b"RFC822.SIZE"):
            assert isinstance(value, int)
        elif name == b"FLAGS":
            assert isinstance(value, list)
