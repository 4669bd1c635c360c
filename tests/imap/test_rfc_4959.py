"""SASL-IR (RFC 4959): the examples of section 4 with PLAIN."""

from __future__ import annotations

from imap_dialogue import Dialogue

WORD = "AGFsaWNlAHNlY3JldA=="


def test_section_4_with_an_initial_response() -> None:
    dialogue = Dialogue()
    said = dialogue.ask(b"C01 CAPABILITY\r\n")
    assert b" SASL-IR" in said
    assert b" AUTH=PLAIN" in said
    dialogue.run(f"""
        C: A01 AUTHENTICATE PLAIN {WORD}
        S: A01 OK [CAPABILITY ...
    """)


def test_section_4_without() -> None:
    dialogue = Dialogue()
    assert dialogue.ask(b"A01 AUTHENTICATE PLAIN\r\n") == b"+ \r\n"
    dialogue.run(f"""
        C: {WORD}
        S: A01 OK [CAPABILITY ...
    """)


def test_section_3_an_empty_initial_response_is_no_response_left_out() -> None:
    """ "=" is an empty response; PLAIN does not take it."""
    dialogue = Dialogue()
    assert dialogue.ask(b"A01 AUTHENTICATE PLAIN =\r\n").startswith(b"A01 NO ")
    assert dialogue.ask(b"A02 AUTHENTICATE EXTERNAL =\r\n").startswith((b"A02 NO ", b"A02 BAD "))
