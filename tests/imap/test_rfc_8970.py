"""PREVIEW (RFC 8970): its examples."""

from __future__ import annotations

from imap_dialogue import Dialogue


def test_section_3_2_and_5() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(b"From: foo@example.org\nSubject: x\n\nPreview\ntext!\n")
    dialogue.account.deliver(b"Subject: x\n\n")
    dialogue.login("INBOX")
    assert b" PREVIEW" in dialogue.ask(b"A1 CAPABILITY\r\n")
    dialogue.run("""
        C: A1 FETCH 1 (PREVIEW)
        S: * 1 FETCH (PREVIEW "Preview text!")
        S: A1 OK ...
        C: A2 FETCH 1 (RFC822.SIZE PREVIEW)
        S: * 1 FETCH (RFC822.SIZE 53 PREVIEW "Preview text!")
        S: A2 OK ...
        C: B1 FETCH 1:2 (UID PREVIEW (LAZY))
        S: * 1 FETCH (UID 1 PREVIEW "Preview text!")
        S: * 2 FETCH (UID 2 PREVIEW "")
        S: B1 OK ...
        C: C2 SEARCH RETURN (SAVE) FROM "FOO"
        S: C2 OK ...
        C: C3 FETCH $ (UID PREVIEW (LAZY))
        S: * 1 FETCH (UID 1 PREVIEW "Preview text!")
        S: C3 OK ...
        C: C4 UID FETCH 1 (PREVIEW)
        S: * 1 FETCH (UID 1 PREVIEW "Preview text!")
        S: C4 OK ...
    """)


def test_section_3_2_at_most_200_characters_each_whole() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(
        b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"
        + "Ä".encode() * 1000
    )
    dialogue.login("INBOX")
    said = dialogue.ask(b"A1 FETCH 1 PREVIEW\r\n").decode()
    assert said == f"* 1 FETCH (PREVIEW {{401}}\r\n{'Ä' * 199}…)\r\nA1 OK FETCH completed\r\n"


def test_numbers_that_are_no_characters() -> None:
    dialogue = Dialogue()
    number = b"9" * 5000
    dialogue.account.deliver(
        b"Content-Type: text/html\n\none &#" + number + b"; two &#38; three &#x41;"
    )
    dialogue.login("INBOX")
    said = dialogue.ask(b"A1 FETCH 1 PREVIEW\r\n").decode()
    assert said.endswith("one \ufffd two & three A)\r\nA1 OK FETCH completed\r\n")
