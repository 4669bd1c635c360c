"""IMAP4rev1 (RFC 3501): the examples of sections 6 and 7 where rev2 says something else."""

from __future__ import annotations

from imap_dialogue import MESSAGE, Dialogue


def test_6_3_1_select() -> None:
    dialogue = Dialogue()
    box = dialogue.account.box("INBOX")
    box.add([(MESSAGE, ("\\Seen",), 0)] * 11 + [(MESSAGE, (), 0)] * 161, 0)
    dialogue.login()
    dialogue.run(r"""
        C: A142 SELECT INBOX
        S: * FLAGS (\Seen \Answered \Flagged \Deleted \Draft)
        S: * OK [PERMANENTFLAGS (\Seen \Answered \Flagged \Deleted \Draft \*)] ...
        S: * 172 EXISTS
        S: * 0 RECENT
        S: * OK [UNSEEN 12] ...
        S: * OK [UIDVALIDITY {v}] ...
        S: * OK [UIDNEXT 173] ...
        S: ...
        S: A142 OK [READ-WRITE] SELECT completed
    """)


def test_6_3_5_delete() -> None:
    dialogue = Dialogue()
    dialogue.account.make("foo/bar")
    dialogue.account.make("blurdybloop")
    dialogue.login()
    dialogue.run(r"""
        C: A682 LIST "" *
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * LIST (\HasNoChildren) "/" blurdybloop
        S: * LIST (\Noselect \HasChildren) "/" foo
        S: * LIST (\HasNoChildren) "/" foo/bar
        S: A682 OK LIST completed
        C: A683 DELETE blurdybloop
        S: A683 OK DELETE completed
        C: A684 DELETE foo
        S: A684 NO ...
        C: A685 DELETE foo/bar
        S: A685 OK DELETE completed
    """)


def test_6_3_9_lsub() -> None:
    dialogue = Dialogue()
    for name in ("#news.comp.mail.mime", "#news.comp.mail.misc"):
        dialogue.account.subscribed.add(name)
    dialogue.login()
    dialogue.run(r"""
        C: A002 LSUB "#news." "comp.mail.*"
        S: * LSUB (\Noselect) "/" #news.comp.mail.mime
        S: * LSUB (\Noselect) "/" #news.comp.mail.misc
        S: A002 OK LSUB completed
        C: A003 LSUB "#news." "comp.%"
        S: * LSUB (\Noselect) "/" #news.comp.mail.mime
        S: * LSUB (\Noselect) "/" #news.comp.mail.misc
        S: A003 OK LSUB completed
    """)


def test_6_4_1_check() -> None:
    dialogue = Dialogue()
    dialogue.login("INBOX")
    dialogue.run("""
        C: FXXZ CHECK
        S: FXXZ OK CHECK completed
    """)


def test_6_4_4_search() -> None:
    dialogue = Dialogue()
    for number in range(1, 5):
        dialogue.account.deliver(MESSAGE, flags=["\\Flagged"] if number != 3 else [])
    dialogue.login("INBOX")
    dialogue.run("""
        C: A282 SEARCH FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"
        S: * SEARCH 1 2 4
        S: A282 OK SEARCH completed
        C: A283 SEARCH TEXT "string not in mailbox"
        S: * SEARCH
        S: A283 OK SEARCH completed
    """)


def test_6_4_5_fetch_of_rfc822() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(MESSAGE)
    dialogue.login("INBOX")
    dialogue.run(r"""
        C: a FETCH 1 (RFC822.HEADER RFC822.TEXT)
        S: * 1 FETCH (FLAGS (\Seen) RFC822.HEADER {43}
        From: <bob@example.org>
        Subject: hello

         RFC822.TEXT {8}
        Hello.
        )
        S: a OK FETCH completed
    """)


def test_6_4_8_uid() -> None:
    dialogue = Dialogue()
    dialogue.account.box("INBOX").add([(MESSAGE, ("\\Seen",), 0)] * 5, 0)
    dialogue.account.box("INBOX").remove([1, 2])
    dialogue.login("INBOX")
    dialogue.run(r"""
        C: A999 UID FETCH 3:4 FLAGS
        S: * 1 FETCH (UID 3 FLAGS (\Seen))
        S: * 2 FETCH (UID 4 FLAGS (\Seen))
        S: A999 OK ...
    """)


def test_7_5_literals() -> None:
    dialogue = Dialogue()
    dialogue.run("""
        C: A001 LOGIN {5}
        S: + ...
        C: alice {6}
        S: + ...
        C: secret
        S: A001 OK [CAPABILITY ...
    """)
