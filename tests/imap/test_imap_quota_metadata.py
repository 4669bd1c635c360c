"""GETQUOTA and GETMETADATA with theirs: the examples of RFC 9208 and RFC 5464, and every bound."""

from __future__ import annotations

import pytest
from imap_dialogue import MESSAGE, Dialogue

from twisted_mail.imap.verbs import metadata


@pytest.fixture
def dialogue() -> Dialogue:
    made = Dialogue()
    made.login()
    return made


def test_rfc_9208_quota(dialogue: Dialogue) -> None:
    account = dialogue.account
    account.deliver(MESSAGE)
    account.storage_limit, account.message_limit = 512 * 1024, 100
    dialogue.run(r"""
        C: G0001 GETQUOTA ""
        S: * QUOTA "" (STORAGE 1 512 MESSAGE 1 100)
        S: G0001 OK GETQUOTA completed
        C: G0002 GETQUOTAROOT INBOX
        S: * QUOTAROOT INBOX ""
        S: * QUOTA "" (STORAGE 1 512 MESSAGE 1 100)
        S: G0002 OK GETQUOTAROOT completed
        C: G0003 GETQUOTA "!partition/sda4"
        S: G0003 NO [NONEXISTENT] ...
        C: G0004 GETQUOTAROOT nothing
        S: G0004 NO [NONEXISTENT] ...
        C: S0000 SETQUOTA "" (STORAGE 1000000)
        S: S0000 NO [NOPERM] ...
    """)
    account.message_limit = None
    dialogue.run(r"""
        C: G0001 GETQUOTA ""
        S: * QUOTA "" (STORAGE 1 512)
        S: G0001 OK GETQUOTA completed
    """)


def test_without_bounds_there_is_no_root(dialogue: Dialogue) -> None:
    dialogue.run(r"""
        C: a GETQUOTAROOT INBOX
        S: * QUOTAROOT INBOX
        S: a OK GETQUOTAROOT completed
        C: b GETQUOTA ""
        S: b NO [NONEXISTENT] ...
    """)


def test_rfc_5464_annotations(dialogue: Dialogue) -> None:
    dialogue.run(
        r"""
        C: a SETMETADATA INBOX (/private/comment {33}
        S: + ...
        C: My new comment across
        two lines.)
        S: a OK SETMETADATA completed
        C: b GETMETADATA "INBOX" /private/comment
        S: * METADATA INBOX (/private/comment {33}
        My new comment across
        two lines.)
        S: b OK GETMETADATA completed
        C: c SETMETADATA INBOX (/private/comment "My own comment" /shared/comment "Shared comment")
        S: c OK SETMETADATA completed
        C: d GETMETADATA "INBOX" (/shared/comment /private/COMMENT)
        S: * METADATA INBOX (/private/comment "My own comment" /shared/comment "Shared comment")
        S: d OK GETMETADATA completed
        C: e SETMETADATA INBOX (/private/comment NIL)
        S: e OK SETMETADATA completed
        C: f GETMETADATA "INBOX" (/shared/comment /private/comment)
        S: * METADATA INBOX (/shared/comment "Shared comment")
        S: f OK GETMETADATA completed
        C: g GETMETADATA "INBOX" /private/comment
        S: g OK GETMETADATA completed
        C: h SETMETADATA "" (/private/vendor/vendor.dovecot/x "of the account")
        S: h OK SETMETADATA completed
        C: i GETMETADATA "" (DEPTH infinity) /private
        S: * METADATA "" (/private/vendor/vendor.dovecot/x "of the account")
        S: i OK GETMETADATA completed
    """
    )


def test_rfc_5464_maxsize(dialogue: Dialogue) -> None:
    dialogue.account.entries["INBOX"] = {
        "/shared/comment": b"x" * 2199, "/private/comment": b"My own comment",
    }  # fmt: skip
    dialogue.run(r"""
        C: a GETMETADATA (MAXSIZE 1024) INBOX (/shared/comment /private/comment)
        S: * METADATA INBOX (/private/comment "My own comment")
        S: a OK [METADATA LONGENTRIES 2199] GETMETADATA completed
        C: b GETMETADATA (MAXSIZE 1) INBOX (/shared/comment /private/comment)
        S: b OK [METADATA LONGENTRIES 2199] GETMETADATA completed
    """)


def test_rfc_5464_depth(dialogue: Dialogue) -> None:
    dialogue.account.entries["INBOX"] = {
        "/private/filters/values/small": b"SMALLER 5000",
        "/private/filters/values/boss": b'FROM "boss@example.com"',
        "/private/filters/values/boss/deeper": b"1",
        "/private/filters/valuesx": b"2",
    }
    dialogue.run(r"""
        C: a GETMETADATA (DEPTH 1) INBOX (/private/filters/values)
        S: * METADATA INBOX (/private/filters/values/boss "FROM \"boss@example.com\"" /private/filters/values/small "SMALLER 5000")
        S: a OK GETMETADATA completed
        C: b GETMETADATA (DEPTH infinity) INBOX (/private/filters/values)
        S: * METADATA INBOX (/private/filters/values/boss "FROM \"boss@example.com\"" /private/filters/values/boss/deeper "1" /private/filters/values/small "SMALLER 5000")
        S: b OK GETMETADATA completed
        C: c GETMETADATA (DEPTH 0) INBOX (/private/filters/values)
        S: c OK GETMETADATA completed
    """)  # noqa: E501


def test_bounds_and_names_of_annotations(dialogue: Dialogue) -> None:
    dialogue.run(r"""
        C: a1 SETMETADATA nothing (/private/comment "x")
        S: a1 NO [NONEXISTENT] ...
        C: a2 GETMETADATA nothing /private/comment
        S: a2 NO [NONEXISTENT] ...
        C: a3 SETMETADATA INBOX (/comment "x")
        S: a3 BAD ...
        C: a4 SETMETADATA INBOX (/private/vendor/x "x")
        S: a4 BAD ...
        C: a5 SETMETADATA "" (/shared/admin "mailto:me@example.org")
        S: a5 NO [NOPERM] ...
    """)
    value = b"x" * (metadata.MAX_VALUE - 200)
    for n in range(15):
        line = b"b SETMETADATA INBOX (/private/n%d {%d+}\r\n%s)" % (n, len(value), value)
        assert dialogue.lines(line) == [b"b OK SETMETADATA completed"]
    line = b"b SETMETADATA INBOX (/private/gone NIL /private/more {%d+}\r\n%s)" % (
        len(value),
        value,
    )
    dialogue.lines(line)
    (said,) = dialogue.lines(line.replace(b"/more", b"/most"))
    assert said.startswith(b"b NO [METADATA TOOMANY] ")
    assert "/private/most" not in dialogue.account.entries["INBOX"]


def test_how_many_annotations(dialogue: Dialogue) -> None:
    entries = {f"/private/n{n}": b"" for n in range(metadata.MAX_ENTRIES)}
    dialogue.account.entries["INBOX"] = dict(entries)
    dialogue.run(r"""
        C: a SETMETADATA INBOX (/private/more "x")
        S: a NO [METADATA TOOMANY] ...
        C: b SETMETADATA INBOX (/private/n1 "changed")
        S: b OK ...
        C: c SETMETADATA INBOX (/private/n1 NIL /private/more "x")
        S: c OK ...
    """)


def test_a_value_that_is_too_long() -> None:
    dialogue = Dialogue(max_command_bytes=200_000)
    dialogue.login()
    value = b"x" * (metadata.MAX_VALUE + 1)
    line = b"a SETMETADATA INBOX (/private/n {%d+}\r\n%s)" % (len(value), value)
    (said,) = dialogue.lines(line)
    assert said.startswith(b"a NO ["), said
