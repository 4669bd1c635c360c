"""ENABLE (RFC 5161): the examples of section 3."""

from __future__ import annotations

from imap_dialogue import Dialogue


def test_section_3_1() -> None:
    dialogue = Dialogue()
    dialogue.login()
    before = dialogue.ask(b"t1 CAPABILITY\r\n")
    assert b" ENABLE " in before
    dialogue.run("""
        C: t2 ENABLE CONDSTORE X-GOOD-IDEA
        S: * ENABLED CONDSTORE
        S: t2 OK ...
        C: t2 ENABLE X-GOOD-IDEA
        S: * ENABLED
        S: t2 OK ...
    """)
    # Capabilities stay as they are
    assert dialogue.ask(b"t1 CAPABILITY\r\n") == before


def test_section_3_1_with_condstore() -> None:
    dialogue = Dialogue()
    dialogue.login()
    dialogue.run("""
        C: a1 ENABLE CONDSTORE
        S: * ENABLED CONDSTORE
        S: a1 OK ...
    """)
