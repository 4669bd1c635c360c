"""Whatever is said in whatever order: every command is answered once, with its tag, and nothing fails inside."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from imap_dialogue import MESSAGE, Dialogue
from twisted.logger import globalLogPublisher

from twisted_mail.imap import verbs

COMMANDS = [
    b'LIST "" *',
    b'LIST (SUBSCRIBED) "" (a b) RETURN (CHILDREN STATUS (MESSAGES SIZE))',
    b'LSUB "" %',
    b"SELECT INBOX",
    b"SELECT B (CONDSTORE)",
    b"EXAMINE INBOX",
    b"SELECT INBOX (QRESYNC (3857529045 2 1:9 (1,3 1,3)))",
    b"CREATE B",
    b"CREATE C/D (USE (\\Sent))",
    b"DELETE B",
    b"RENAME B E",
    b"RENAME INBOX F",
    b"SUBSCRIBE B",
    b"UNSUBSCRIBE B",
    b"STATUS B (MESSAGES UNSEEN HIGHESTMODSEQ)",
    b"ENABLE CONDSTORE",
    b"ENABLE QRESYNC IMAP4rev2",
    b"NAMESPACE",
    b"NOOP",
    b"CHECK",
    b"CLOSE",
    b"UNSELECT",
    b"EXPUNGE",
    b"UID EXPUNGE 1:3",
    b"FETCH 1:* (FLAGS UID)",
    b"FETCH 1 (ENVELOPE BODYSTRUCTURE BODY[] BODY.PEEK[1]<0.5> BINARY[1] RFC822.SIZE PREVIEW)",
    b"UID FETCH 1:4 (FLAGS) (CHANGEDSINCE 3 VANISHED)",
    b"FETCH 2 (MODSEQ EMAILID THREADID SAVEDATE INTERNALDATE)",
    b"STORE 1 +FLAGS (\\Deleted)",
    b"UID STORE 1:* -FLAGS.SILENT (\\Deleted $x)",
    b"STORE 1:2 (UNCHANGEDSINCE 3) FLAGS (\\Seen)",
    b"COPY 1:2 B",
    b"UID COPY 1:* INBOX",
    b"MOVE 1 B",
    b"UID MOVE 2:3 Nowhere",
    b"SEARCH RETURN (ALL SAVE) NOT DELETED",
    b"FETCH $ UID",
    b"UID SEARCH SUBJECT hello",
    b"SORT (DATE) UTF-8 ALL",
    b"THREAD REFERENCES UTF-8 ALL",
    b'GETQUOTAROOT INBOX',
    b'GETQUOTA ""',
    b'SETMETADATA INBOX (/private/comment "x")',
    b"GETMETADATA INBOX /private/comment",
    b"NOTIFY SET STATUS (SELECTED (MessageNew (UID) MessageExpunge)) (PERSONAL (MailboxName))",
    b"NOTIFY NONE",
    b"UNAUTHENTICATE",
    b"LOGIN alice secret",
    b"ID NIL",
    b"CAPABILITY",
    b"IDLE\r\nDONE",
    b"APPEND INBOX (\\Seen) {%d+}\r\n%s" % (len(MESSAGE), MESSAGE),
    b"APPEND B {3+}\r\nabc {3+}\r\ndef",
    b"REPLACE 1 INBOX {3+}\r\nabc",
]  # fmt: skip


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(COMMANDS)), max_size=25))
def test_every_command_is_answered_once(history: list[tuple[int, bytes]]) -> None:
    failures: list[Any] = []

    def observe(event: dict[str, Any]) -> None:
        if "log_failure" in event:
            failures.append(event["log_failure"])

    globalLogPublisher.addObserver(observe)
    try:
        dialogue = Dialogue(max_errors=1000)
        dialogue.account.box("INBOX").add([(MESSAGE, (), 0)] * 3, 0)
        dialogue.account.make("B").add([(MESSAGE, (), 0)] * 2, 0)
        clients = [dialogue, dialogue.session()]
        for one in clients:
            one.login("INBOX")
        for n, (which, command) in enumerate(history):
            said = clients[which].ask(b"t%d %s\r\n" % (n, command))
            tagged = re.findall(rb"^t%d (OK|NO|BAD) " % n, said, re.MULTILINE)
            assert len(tagged) == 1, (command, said)
            assert b"SERVERBUG" not in said
            assert b"BYE" not in said
        for one in clients:
            one.client.close()
        assert not failures
        assert (dialogue.account.sessions, dialogue.account.opened) == (0, 0)
        assert dialogue.account.watchers == []
        assert not [box for box in dialogue.account.boxes.values() if len(box.listeners) != 1]
    finally:
        globalLogPublisher.removeObserver(observe)


def test_every_verb_is_tried() -> None:
    said = {word for command in COMMANDS for word in command.split()[:2]}
    others = {"LOGOUT", "STARTTLS", "COMPRESS", "AUTHENTICATE", "SETQUOTA"}
    assert {name.encode() for name in verbs.VERBS if name not in others} <= said
