"""CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE, STATUS: the examples of their RFCs, and every refusal."""

from __future__ import annotations

import pytest
from imap_dialogue import MESSAGE, Dialogue


@pytest.fixture
def dialogue() -> Dialogue:
    made = Dialogue()
    made.login()
    return made


def test_rfc_9051_create(dialogue: Dialogue) -> None:
    dialogue.run(r"""
        C: A003 CREATE owatagusiam/
        S: A003 OK [MAILBOXID ({one})] CREATE completed
        C: A004 CREATE owatagusiam/blurdybloop
        S: A004 OK [MAILBOXID ({two})] CREATE completed
        C: A005 STATUS owatagusiam/blurdybloop (MAILBOXID)
        S: * STATUS owatagusiam/blurdybloop (MAILBOXID ({two}))
        S: A005 OK STATUS completed
        C: A006 CREATE owatagusiam
        S: A006 NO [ALREADYEXISTS] ...
        C: A007 CREATE inbox
        S: A007 NO [ALREADYEXISTS] ...
        C: A008 LIST "" *
        S: * LIST (...) "/" INBOX
        S: * LIST (...) "/" owatagusiam
        S: * LIST (...) "/" owatagusiam/blurdybloop
        S: A008 OK LIST completed
    """)


def test_rfc_6154_create_with_a_use(dialogue: Dialogue) -> None:
    dialogue.run(r"""
        C: t1 CREATE MySpecial (USE (\Drafts \Sent))
        S: t1 OK [MAILBOXID (...)] CREATE completed
        C: t2 CREATE Everything (USE (\All))
        S: t2 NO [USEATTR] ...
        C: t3 CREATE Sent (USE (\Sent))
        S: t3 NO [USEATTR] ...
        C: t4 LIST (SPECIAL-USE) "" *
        S: * LIST (\Drafts \Sent) "/" MySpecial
        S: t4 OK LIST completed
    """)


def test_names_that_cannot_be(dialogue: Dialogue) -> None:
    deep = "/".join("a" * 21)
    dialogue.run(rf"""
        C: a1 CREATE ""
        S: a1 NO [CANNOT] ...
        C: a2 CREATE a//b
        S: a2 NO [CANNOT] ...
        C: a3 CREATE /a
        S: a3 NO [CANNOT] ...
        C: a4 CREATE {deep}
        S: a4 NO [LIMIT] ...
        C: a5 CREATE {"b" * 1001}
        S: a5 NO [LIMIT] ...
        C: a6 RENAME INBOX a//b
        S: a6 NO [CANNOT] ...
        C: a7 SUBSCRIBE {deep}
        S: a7 NO [LIMIT] ...
    """)
    assert list(dialogue.account.boxes) == ["INBOX"]


def test_an_account_has_a_number_of_mailboxes() -> None:
    dialogue = Dialogue(max_mailboxes=3)
    dialogue.login()
    dialogue.run(r"""
        C: a1 CREATE a
        S: a1 OK ...
        C: a2 CREATE b
        S: a2 OK ...
        C: a3 CREATE c
        S: a3 NO [LIMIT] An account has at most 3 mailboxes
        C: a4 SUBSCRIBE x
        S: a4 OK ...
        C: a5 SUBSCRIBE y
        S: a5 OK ...
        C: a6 SUBSCRIBE z
        S: a6 OK ...
        C: a7 SUBSCRIBE one-more
        S: a7 NO [LIMIT] ...
        C: a8 SUBSCRIBE a
        S: a8 OK ...
    """)


def test_rfc_9051_delete(dialogue: Dialogue) -> None:
    for name in ("blurdybloop", "foo", "foo/bar"):
        dialogue.account.make(name)
    dialogue.run(r"""
        C: A683 DELETE blurdybloop
        S: A683 OK DELETE completed
        C: A684 DELETE foo
        S: A684 OK DELETE completed
        C: A685 LIST "" *
        S: * LIST (...) "/" INBOX
        S: * LIST (\Noselect \HasChildren) "/" foo
        S: * LIST (\HasNoChildren) "/" foo/bar
        S: A685 OK LIST completed
        C: A686 DELETE foo/bar
        S: A686 OK DELETE completed
        C: A687 LIST "" *
        S: * LIST (...) "/" INBOX
        S: A687 OK LIST completed
        C: A688 DELETE foo
        S: A688 NO [NONEXISTENT] ...
        C: A689 DELETE InBox
        S: A689 NO [CANNOT] ...
    """)


def test_rfc_9051_rename(dialogue: Dialogue) -> None:
    for name in ("blurdybloop", "foo", "foo/bar"):
        dialogue.account.make(name)
    dialogue.account.deliver(MESSAGE)
    dialogue.run(r"""
        C: A683 RENAME blurdybloop sarasoop
        S: A683 OK RENAME completed
        C: A684 RENAME foo zowie
        S: A684 OK RENAME completed
        C: A685 RENAME INBOX old-mail/2024
        S: A685 OK RENAME completed
        C: A686 LIST "" *
        S: * LIST (...) "/" INBOX
        S: * LIST (\Noselect \HasChildren) "/" old-mail
        S: * LIST (...) "/" old-mail/2024
        S: * LIST (...) "/" sarasoop
        S: * LIST (...) "/" zowie
        S: * LIST (...) "/" zowie/bar
        S: A686 OK LIST completed
        C: A687 STATUS INBOX (MESSAGES)
        S: * STATUS INBOX (MESSAGES 0)
        S: A687 OK STATUS completed
        C: A688 STATUS old-mail/2024 (MESSAGES)
        S: * STATUS old-mail/2024 (MESSAGES 1)
        S: A688 OK STATUS completed
        C: A689 RENAME zowie zowie/deeper
        S: A689 NO [CANNOT] ...
        C: A690 RENAME zowie sarasoop
        S: A690 NO [ALREADYEXISTS] ...
        C: A691 RENAME zowie Inbox
        S: A691 NO [ALREADYEXISTS] ...
        C: A692 RENAME zowie zowie
        S: A692 NO [ALREADYEXISTS] ...
        C: A693 RENAME nothing something
        S: A693 NO [NONEXISTENT] ...
    """)


def test_subscriptions_are_of_names(dialogue: Dialogue) -> None:
    dialogue.run(r"""
        C: A002 SUBSCRIBE #news.comp.mail.mime
        S: A002 OK SUBSCRIBE completed
        C: A003 LSUB "" *
        S: * LSUB (\Noselect) "/" #news.comp.mail.mime
        S: A003 OK LSUB completed
        C: A004 UNSUBSCRIBE #news.comp.mail.mime
        S: A004 OK UNSUBSCRIBE completed
        C: A005 UNSUBSCRIBE #news.comp.mail.mime
        S: A005 OK UNSUBSCRIBE completed
        C: A006 LSUB "" *
        S: A006 OK LSUB completed
    """)


def test_status_of_everything(dialogue: Dialogue) -> None:
    box = dialogue.account.make("blurdybloop")
    for flags in ((), ("\\Seen",), ("\\Seen", "\\Deleted")):
        dialogue.account.deliver(MESSAGE, "blurdybloop", flags=flags)
    size = box.snapshot.sizes[0]
    validity, modseq = box.snapshot.validity, box.snapshot.modseq
    dialogue.run(rf"""
        C: A042 STATUS blurdybloop (UIDNEXT MESSAGES)
        S: * STATUS blurdybloop (UIDNEXT 4 MESSAGES 3)
        S: A042 OK STATUS completed
        C: A043 STATUS blurdybloop (UIDVALIDITY UNSEEN DELETED SIZE RECENT HIGHESTMODSEQ DELETED-STORAGE)
        S: * STATUS blurdybloop (UIDVALIDITY {validity} UNSEEN 1 DELETED 1 SIZE {3 * size} RECENT 0 HIGHESTMODSEQ {modseq} DELETED-STORAGE {size})
        S: A043 OK STATUS completed
        C: A044 STATUS blurdybloop (APPENDLIMIT)
        S: * STATUS blurdybloop (APPENDLIMIT 52428800)
        S: A044 OK STATUS completed
        C: A045 STATUS nothing (MESSAGES)
        S: A045 NO [NONEXISTENT] ...
    """)  # noqa: E501


def test_rfc_7162_status_of_highestmodseq_enables_condstore() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(MESSAGE)
    dialogue.login("INBOX")
    dialogue.run(r"""
        C: a STATUS INBOX (HIGHESTMODSEQ)
        S: * OK [HIGHESTMODSEQ 2] ...
        S: * STATUS INBOX (HIGHESTMODSEQ 2)
        S: a OK STATUS completed
        C: b STORE 1 +FLAGS (\Seen)
        S: * 1 FETCH (...MODSEQ (...)...)
        S: b OK ...
    """)


def test_nothing_of_it_before_login() -> None:
    dialogue = Dialogue()
    for command in (b"LIST \"\" *", b"CREATE a", b"STATUS INBOX (MESSAGES)", b"GETQUOTA \"\"",
                    b"NAMESPACE", b"GETMETADATA \"\" /private/a", b"APPEND INBOX {1+}\r\nx"):  # fmt: skip
        (line,) = dialogue.lines(b"a " + command)
        assert line.startswith(b"a BAD "), command
