"""SAVEDATE (RFC 8514): the examples of section 4."""

from __future__ import annotations

from imap_dialogue import MESSAGE, Dialogue

DAY = 86_400


def test_section_4_2_and_4_3() -> None:
    dialogue = Dialogue()
    box = dialogue.account.box("INBOX")
    # 27-Dec-2014, 28, 28, and 1-Jan-2015, each 17:50:53
    for at in (1_419_702_653, 1_419_702_653 + DAY, 1_419_702_653 + DAY, 1_420_134_653):
        box.add([(MESSAGE, (), 0)], at)
    dialogue.login("INBOX")
    dialogue.run("""
        C: A101 FETCH 4 (SAVEDATE)
        S: * 4 FETCH (SAVEDATE " 1-Jan-2015 17:50:53 +0000")
        S: A101 OK ...
        C: A102 SEARCH SAVEDON 28-Dec-2014
        S: * SEARCH 2 3
        S: A102 OK ...
        C: A103 SEARCH SAVEDSINCE 28-Dec-2014
        S: * SEARCH 2 3 4
        S: A103 OK ...
        C: A104 SEARCH SAVEDBEFORE 28-Dec-2014
        S: * SEARCH 1
        S: A104 OK ...
        C: A105 SEARCH SAVEDATESUPPORTED
        S: * SEARCH 1 2 3 4
        S: A105 OK ...
    """)
