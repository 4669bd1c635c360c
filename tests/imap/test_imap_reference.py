"""The table of `docs/imap.md` is what the code says."""

from pathlib import Path

import pytest

from twisted_mail.imap.reference import table, updated

PAGE = Path(__file__).parents[2] / "docs" / "imap.md"


def test_the_page_is_up_to_date():
    """`python -m twisted_mail.imap docs/imap.md` makes it so."""
    assert updated(PAGE.read_text()) == PAGE.read_text()


def test_what_is_announced_is_in_the_table():
    assert "| `IMAP4rev2` | [9051](https://www.rfc-editor.org/rfc/rfc9051) | always |" in table()


def test_what_is_there_in_part_says_so():
    (line,) = [line for line in table().splitlines() if line.startswith("| `METADATA` |")]
    assert line.endswith("| after login | changes are told by NOTIFY, not by ENABLE METADATA |")


def test_a_page_without_marks():
    with pytest.raises(ValueError, match="marks"):
        updated("# IMAP")
