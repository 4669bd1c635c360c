"""METADATA (RFC 5464): the examples of section 4 that the tests of annotations do not have."""

from __future__ import annotations

import pytest
from imap_dialogue import Dialogue


@pytest.fixture
def dialogue() -> Dialogue:
    made = Dialogue()
    made.login()
    return made


def test_section_4_2(dialogue: Dialogue) -> None:
    dialogue.account.entries[""] = {"/shared/comment": b"Shared comment"}
    dialogue.account.entries["INBOX"] = {
        "/private/comment": b"My own comment",
        "/shared/comment": b"Shared comment",
    }
    dialogue.run("""
        C: a GETMETADATA "" /shared/comment
        S: * METADATA "" (/shared/comment "Shared comment")
        S: a OK GETMETADATA completed
        C: a GETMETADATA "INBOX" /private/comment
        S: * METADATA INBOX (/private/comment "My own comment")
        S: a OK GETMETADATA completed
        C: a GETMETADATA "INBOX" (/shared/comment /private/comment)
        S: * METADATA INBOX (/private/comment "My own comment" /shared/comment "Shared comment")
        S: a OK GETMETADATA completed
    """)


def test_section_4_2_options_behind_the_mailbox(dialogue: Dialogue) -> None:
    """As the examples have them; the grammar has them in front."""
    dialogue.account.entries["INBOX"] = {
        "/shared/comment": b"x" * 2199,
        "/private/comment": b"My own comment",
        "/private/filters/values/small": b"SMALLER 5000",
        "/private/filters/values/boss": b'FROM "boss@example.com"',
    }
    dialogue.run(r"""
        C: a GETMETADATA "INBOX" (MAXSIZE 1024) (/shared/comment /private/comment)
        S: * METADATA INBOX (/private/comment "My own comment")
        S: a OK [METADATA LONGENTRIES 2199] ...
        C: a GETMETADATA "INBOX" (DEPTH 1) (/private/filters/values)
        S: * METADATA INBOX (/private/filters/values/boss "FROM \"boss@example.com\"" /private/filters/values/small "SMALLER 5000")
        S: a OK GETMETADATA completed
    """)  # noqa: E501


def test_section_4_4_1_several_entries_without_parentheses(dialogue: Dialogue) -> None:
    dialogue.account.entries["INBOX"] = {
        "/private/comment": b"My comment",
        "/shared/comment": b"Its sunny outside!",
    }
    dialogue.run("""
        C: a GETMETADATA "INBOX" /private/comment /shared/comment
        S: * METADATA INBOX (/private/comment "My comment" /shared/comment "Its sunny outside!")
        S: a OK ...
    """)


def test_section_4_3(dialogue: Dialogue) -> None:
    dialogue.run("""
        C: a SETMETADATA INBOX (/private/comment "My new comment" /shared/comment "This one is for you!")
        S: a OK ...
        C: a SETMETADATA INBOX (/private/comment NIL)
        S: a OK ...
    """)
    assert dialogue.account.entries["INBOX"] == {"/shared/comment": b"This one is for you!"}
    dialogue.account.entries["INBOX"] = {f"/private/n{n}": b"" for n in range(100)}
    dialogue.run("""
        C: a SETMETADATA INBOX (/private/comment "My new comment")
        S: a NO [METADATA TOOMANY] ...
    """)
