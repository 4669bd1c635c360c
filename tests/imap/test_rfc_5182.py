"""SEARCHRES (RFC 5182; RFC 9051 section 6.4.4.4): the examples of section 2."""

from __future__ import annotations

import pytest
from imap_dialogue import Dialogue

FEB = 760_100_000


@pytest.fixture
def dialogue() -> Dialogue:
    """2, 10 to 15, and 21 are not of Smith."""
    made = Dialogue()
    for number in range(1, 22):
        sender = "Jones" if number in (2, *range(10, 16), 21) else "Smith"
        flags = ["$Junk"] if number in (3, 4) else ["\\Flagged"]
        body = "мать" if number in (1, 2, 3, 12) else "x" * 5000
        made.account.deliver(f"From: {sender} <a@b>\n\n{body}\n".encode(), flags=flags, date=FEB)
    made.account.make("Junk")
    made.account.make("Other Messages")
    made.login("INBOX")
    return made


def test_examples_1_and_2(dialogue: Dialogue) -> None:
    said = dialogue.ask(
        b'A282 SEARCH RETURN (SAVE) FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith" 1:11\r\n'
        b"A283 FETCH $ (UID INTERNALDATE FLAGS RFC822.HEADER)\r\n"
    )
    assert said.startswith(b"A282 OK SEARCH completed, result saved\r\n* 2 FETCH (UID 2 ")
    assert said.count(b" FETCH (") == 3
    assert said.endswith(b"A283 OK FETCH completed\r\n")


def test_examples_3_and_4(dialogue: Dialogue) -> None:
    dialogue.run("""
        C: A300 SEARCH RETURN (SAVE) SINCE 1-Jan-1994 NOT FROM "Smith"
        S: A300 OK SEARCH completed, result saved
        C: A301 UID SEARCH UID $ SMALLER 4096
        S: * SEARCH 2 12
        S: A301 OK ...
        C: A302 UID SEARCH $ SMALLER 4096
        S: * SEARCH 2 12
        S: A302 OK ...
    """)


def test_example_5(dialogue: Dialogue) -> None:
    dialogue.run("""
        C: P282 SEARCH RETURN (SAVE) SINCE 1-Feb-1994 NOT FROM "Smith"
        S: P282 OK ...
        C: P283 SEARCH CHARSET UTF-8 (OR $ 1,17:20) TEXT {8}
        S: + ...
        C: мать
        S: * SEARCH 1 2 12
        S: P283 OK ...
    """)


def test_example_6_a_charset_that_is_not_known(dialogue: Dialogue) -> None:
    """KOI8-R is known here. A SEARCH without SAVE that is refused leaves what was saved."""
    dialogue.run("""
        C: B282 SEARCH RETURN (SAVE) SINCE 1-Feb-1994 NOT FROM "Smith"
        S: B282 OK ...
        C: B283 SEARCH CHARSET X-KOI8 (OR $ 1,17:20) TEXT {4}
        S: + ...
        C: XXXX
        S: B283 NO [BADCHARSET (UTF-8 US-ASCII)] ...
        C: B284 UID SEARCH $
        S: * SEARCH 2 10 11 12 13 14 15 21
        S: B284 OK ...
    """)


def test_example_7_nothing_was_found(dialogue: Dialogue) -> None:
    dialogue.run("""
        C: E282 SEARCH RETURN (SAVE) SINCE 28-Oct-2006 NOT FROM "Eric"
        S: E282 OK ...
        C: E283 COPY $ "Other Messages"
        S: E283 OK No ...
        C: E284 FETCH $ UID
        S: E284 OK ...
    """)


def test_section_2_3_pipelined(dialogue: Dialogue) -> None:
    said = dialogue.ask(
        b"F282 SEARCH RETURN (SAVE) KEYWORD $Junk\r\n"
        b'F283 COPY $ "Junk"\r\n'
        b"F284 STORE $ +FLAGS.Silent (\\Deleted)\r\n"
        b"G282 SEARCH RETURN (SAVE) KEYWORD $Junk\r\n"
        b"G283 SEARCH RETURN (ALL) DELETED\r\n"
    ).splitlines()
    assert said[0] == b"F282 OK SEARCH completed, result saved"
    assert said[1].startswith(b"F283 OK [COPYUID ")
    assert said[2].startswith(b"F284 OK ")
    assert said[4:] == [b'* ESEARCH (TAG "G283") ALL 3:4', b"G283 OK SEARCH completed"]


def test_section_2_4_with_esearch(dialogue: Dialogue) -> None:
    for tag, returns, answer, saved in (
        ("C282", "ALL", "ALL 2,10:15,21", "1"),
        ("C283", "ALL SAVE", "ALL 2,10:15,21", "2 10 11 12 13 14 15 21"),
        ("C284", "SAVE MIN", "MIN 2", "2"),
        ("C285", "MAX SAVE MIN", "MIN 2 MAX 21", "2 21"),
        ("C286", "MAX SAVE MIN COUNT", "MIN 2 MAX 21 COUNT 8", "2 10 11 12 13 14 15 21"),
        ("C287", "ALL SAVE MIN", "MIN 2 ALL 2,10:15,21", "2 10 11 12 13 14 15 21"),
    ):
        if tag == "C282":
            dialogue.ask(b"x SEARCH RETURN (SAVE) 1\r\n")
        dialogue.run(f"""
            C: {tag} SEARCH RETURN ({returns}) SINCE 1-Feb-1994 NOT FROM "Smith"
            S: * ESEARCH (TAG "{tag}") {answer}
            S: {tag} OK ...
            C: x UID SEARCH $
            S: * SEARCH {saved}
            S: x OK ...
        """)
