"""ESEARCH (RFC 4731): the examples of section 3."""

from __future__ import annotations

import pytest
from imap_dialogue import Dialogue

from twisted_mail.mailboxes import StoreMode

FEB = 760_100_000


@pytest.fixture
def dialogue() -> Dialogue:
    """2, 10 and 11 are flagged, and not of Smith."""
    made = Dialogue()
    for number in range(1, 13):
        sender = "Smith" if number == 5 else "Jones"
        flags = ["\\Flagged"] if number in (2, 5, 10, 11) else ["\\Deleted"]
        made.account.deliver(
            b"From: %s <a@example.org>\n\n" % sender.encode(), flags=flags, date=FEB
        )
    made.login("INBOX")
    return made


def test_section_3_1(dialogue: Dialogue) -> None:
    dialogue.run("""
        C: A282 SEARCH RETURN (MIN COUNT) FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"
        S: * ESEARCH (TAG "A282") MIN 2 COUNT 3
        S: A282 OK SEARCH completed
        C: A283 SEARCH RETURN () FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"
        S: * ESEARCH (TAG "A283") ALL 2,10:11
        S: A283 OK SEARCH completed
        C: A284 SEARCH RETURN (MIN) SINCE 1-Feb-1994 FLAGGED 4:*
        S: * ESEARCH (TAG "A284") MIN 5
        S: A284 OK SEARCH completed
        C: A285 UID SEARCH RETURN (MIN MAX) UID 1:5000
        S: * ESEARCH (TAG "A285") UID MIN 1 MAX 12
        S: A285 OK SEARCH completed
        C: A286 SEARCH RETURN (COUNT) FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"
        S: * ESEARCH (TAG "A286") COUNT 3
        S: A286 OK SEARCH completed
    """)


def test_section_3_2_with_condstore(dialogue: Dialogue) -> None:
    box = dialogue.account.box("INBOX")
    dialogue.ask(b"e ENABLE CONDSTORE\r\n")
    before = box.snapshot.modseq
    for uid in (7, 9, 2, 8):
        box.store([uid], StoreMode.ADD, ["\\Draft"])
    dialogue.ask(b"n NOOP\r\n")
    for number, (returns, answer) in enumerate(
        (
            ("MIN", f"MIN 2 MODSEQ {before + 3}"),
            ("MAX", f"MAX 9 MODSEQ {before + 2}"),
            ("MIN MAX", f"MIN 2 MAX 9 MODSEQ {before + 3}"),
            ("MIN COUNT", f"MIN 2 COUNT 4 MODSEQ {before + 4}"),
        )
    ):
        dialogue.run(rf"""
            C: a{number} SEARCH RETURN ({returns}) MODSEQ "/flags/\\draft" all {before + 1}
            S: * ESEARCH (TAG "a{number}") {answer}
            S: a{number} OK ...
        """)
