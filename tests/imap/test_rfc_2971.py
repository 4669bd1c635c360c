"""ID (RFC 2971): the examples of section 3."""

from __future__ import annotations

from imap_dialogue import Dialogue


def test_section_3_1_and_3_2() -> None:
    dialogue = Dialogue()
    dialogue.run("""
        C: a023 ID ("name" "sodr" "version" "19.34" "vendor" "Pink Floyd Music Limited")
        S: * ID (...)
        S: a023 OK ID completed
        C: a042 ID NIL
        S: * ID ("name" ...)
        S: a042 OK ID completed
    """)


def test_section_3_3_bounds() -> None:
    dialogue = Dialogue()
    many = b" ".join(b'"n%d" NIL' % n for n in range(31))
    assert dialogue.ask(b"a ID (%s)\r\n" % many).startswith(b"a BAD ")
    assert b"b OK" in dialogue.ask(b"b ID (%s)\r\n" % many.rsplit(b" ", 2)[0])
