"""IMAP4rev2 (RFC 9051): the examples of sections 6 and 7 that no other test has. All clients here enable it."""

from __future__ import annotations

from imap_dialogue import MESSAGE, Dialogue

FEB = 760_100_000


def rev2(*names: str, select: str = "", **settings: object) -> Dialogue:
    dialogue = Dialogue(**settings)
    for name in names:
        dialogue.account.make(name)
    dialogue.login()
    assert b"* ENABLED IMAP4rev2\r\n" in dialogue.ask(b"e ENABLE IMAP4rev2\r\n")
    if select:
        assert b"s OK " in dialogue.ask(b"s SELECT %s\r\n" % select.encode())
    return dialogue


def fill(dialogue: Dialogue, count: int, name: str = "INBOX") -> None:
    dialogue.account.box(name).add([(MESSAGE, (), FEB)] * count, 0)


def test_6_1_2_noop() -> None:
    dialogue = rev2()
    fill(dialogue, 23)
    dialogue.ask(b"s SELECT INBOX\r\n")
    box = dialogue.account.box("INBOX")
    box.remove([22])
    dialogue.account.deliver(MESSAGE)
    other = dialogue.session()
    other.login("INBOX")
    other.ask(b"x STORE 14 +FLAGS (\\Seen \\Deleted)\r\n")
    dialogue.run(r"""
        C: a047 NOOP
        S: * 22 EXPUNGE
        S: * 23 EXISTS
        S: * 14 FETCH (UID 14 FLAGS (\Seen \Deleted))
        S: a047 OK NOOP completed
        C: a002 NOOP
        S: a002 OK NOOP completed
    """)


def test_6_1_3_logout() -> None:
    Dialogue().run("""
        C: A023 LOGOUT
        S: * BYE ...
        S: A023 OK LOGOUT completed
    """)


def test_6_3_2_select() -> None:
    dialogue = rev2("Drafts")
    fill(dialogue, 172)
    fill(dialogue, 5, "Drafts")
    dialogue.run(r"""
        C: A142 SELECT INBOX
        S: * FLAGS (\Seen \Answered \Flagged \Deleted \Draft)
        S: * OK [PERMANENTFLAGS (\Seen \Answered \Flagged \Deleted \Draft \*)] ...
        S: * 172 EXISTS
        S: * LIST () "/" INBOX
        S: * OK [UIDVALIDITY {v}] ...
        S: * OK [UIDNEXT 173] ...
        S: ...
        S: A142 OK [READ-WRITE] SELECT completed
        C: A143 SELECT Drafts
        S: * OK [CLOSED] ...
        S: * FLAGS (...)
        S: * OK [PERMANENTFLAGS (...)] ...
        S: * 5 EXISTS
        S: * LIST () "/" Drafts
        S: * OK [UIDVALIDITY {w}] ...
        S: * OK [UIDNEXT 6] ...
        S: ...
        S: A143 OK [READ-WRITE] SELECT completed
    """)


def test_6_3_3_examine() -> None:
    dialogue = rev2("blurdybloop")
    fill(dialogue, 17, "blurdybloop")
    dialogue.run(r"""
        C: A932 EXAMINE blurdybloop
        S: * FLAGS (...)
        S: * OK [PERMANENTFLAGS ()] ...
        S: * 17 EXISTS
        S: * LIST () "/" blurdybloop
        S: * OK [UIDVALIDITY {v}] ...
        S: * OK [UIDNEXT 18] ...
        S: ...
        S: A932 OK [READ-ONLY] EXAMINE completed
    """)


def test_6_3_4_create() -> None:
    rev2().run("""
        C: A003 CREATE owatagusiam/
        S: A003 OK ...
        C: A004 CREATE owatagusiam/blurdybloop
        S: A004 OK ...
    """)


def test_6_3_4_and_6_3_9_7_names_that_are_not_in_nfc() -> None:
    given, kept = "Cafe\u0301", "Caf\u00e9"
    rev2().run(rf"""
        C: A005 CREATE "{given}"
        S: * LIST () "/" "{kept}" ("OLDNAME" ("{given}"))
        S: A005 OK ...
        C: A006 SELECT "{given}"
        S: ...
        S: * LIST () "/" "{kept}" ("OLDNAME" ("{given}"))
        S: ...
        S: A006 OK ...
        C: A007 RENAME "{given}" Bar
        S: * LIST () "/" Bar ("OLDNAME" ("{given}"))
        S: A007 OK ...
        C: A008 RENAME Bar "{given}"
        S: * LIST () "/" "{kept}" ("OLDNAME" (Bar))
        S: A008 OK ...
        C: A009 DELETE "{given}"
        S: * LIST (\NonExistent) "/" "{kept}" ("OLDNAME" ("{given}"))
        S: A009 OK ...
        C: A010 CREATE "{kept}"
        S: A010 OK ...
    """)
    dialogue = Dialogue()
    dialogue.login()
    (said,) = dialogue.lines(b'A005 CREATE "%s"' % given.encode())
    assert said.startswith(b"A005 OK ")


def test_6_3_5_delete() -> None:
    """Of a name that is nothing itself, too: the second example of the section."""
    rev2("blurdybloop", "foo", "foo/bar").run(r"""
        C: A82 LIST "" *
        S: * LIST (...) "/" INBOX
        S: * LIST (\HasNoChildren) "/" blurdybloop
        S: * LIST (\HasChildren) "/" foo
        S: * LIST (\HasNoChildren) "/" foo/bar
        S: A82 OK LIST completed
        C: A83 DELETE blurdybloop
        S: A83 OK DELETE completed
        C: A84 DELETE foo
        S: A84 OK DELETE completed
        C: A85 LIST "" f*
        S: * LIST (\NonExistent \HasChildren) "/" foo
        S: * LIST (\HasNoChildren) "/" foo/bar
        S: A85 OK LIST completed
        C: A86 LIST "" f%
        S: * LIST (\NonExistent \HasChildren) "/" foo
        S: A86 OK LIST completed
    """)


def test_6_3_6_rename() -> None:
    dialogue = rev2("blurdybloop", "foo/bar")
    fill(dialogue, 2)
    dialogue.run(r"""
        C: A683 RENAME blurdybloop sarasoop
        S: A683 OK RENAME completed
        C: A684 RENAME foo zowie
        S: A684 OK RENAME completed
        C: A685 LIST "" *
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * LIST (\HasNoChildren) "/" sarasoop
        S: * LIST (\NonExistent \HasChildren) "/" zowie
        S: * LIST (\HasNoChildren) "/" zowie/bar
        S: A685 OK LIST completed
        C: Z433 RENAME INBOX old-mail
        S: Z433 OK RENAME completed
        C: Z434 STATUS INBOX (MESSAGES)
        S: * STATUS INBOX (MESSAGES 0)
        S: Z434 OK STATUS completed
        C: Z435 STATUS old-mail (MESSAGES)
        S: * STATUS old-mail (MESSAGES 2)
        S: Z435 OK STATUS completed
    """)


def test_6_3_7_and_6_3_8_subscribe() -> None:
    rev2().run(r"""
        C: A002 SUBSCRIBE #news.comp.mail.mime
        S: A002 OK SUBSCRIBE completed
        C: A003 LIST (SUBSCRIBED) "" *
        S: * LIST (\NonExistent \Subscribed) "/" #news.comp.mail.mime
        S: A003 OK LIST completed
        C: A002 UNSUBSCRIBE #news.comp.mail.mime
        S: A002 OK UNSUBSCRIBE completed
    """)


def test_6_3_11_status() -> None:
    dialogue = rev2("blurdybloop")
    fill(dialogue, 231, "blurdybloop")
    dialogue.run("""
        C: A042 STATUS blurdybloop (UIDNEXT MESSAGES)
        S: * STATUS blurdybloop (UIDNEXT 232 MESSAGES 231)
        S: A042 OK STATUS completed
    """)


def test_6_4_3_expunge() -> None:
    dialogue = rev2(select="INBOX")
    fill(dialogue, 11)
    dialogue.ask(b"x NOOP\r\nx STORE 3,4,7,11 +FLAGS.SILENT (\\Deleted)\r\n")
    dialogue.run("""
        C: A202 EXPUNGE
        S: * 11 EXPUNGE
        S: * 7 EXPUNGE
        S: * 4 EXPUNGE
        S: * 3 EXPUNGE
        S: A202 OK EXPUNGE completed
    """)


def test_6_4_4_search() -> None:
    dialogue = rev2()
    for number in range(1, 12):
        sender = "Smith" if number == 3 else "Jones"
        body = "отпуск" if number == 8 else "work"
        flags = ["\\Flagged"] if number in (2, 3, 10, 11) else ["\\Deleted", "\\Seen"]
        text = f"From: {sender} <a@b>\n\n{body}\n".encode()
        dialogue.account.deliver(text, flags=flags, date=FEB)
    dialogue.ask(b"s SELECT INBOX\r\n")
    dialogue.run("""
        C: A282 SEARCH RETURN (MIN COUNT) FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"
        S: * ESEARCH (TAG "A282") MIN 2 COUNT 3
        S: A282 OK SEARCH completed
        C: A283 SEARCH RETURN () FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"
        S: * ESEARCH (TAG "A283") ALL 2,10:11
        S: A283 OK SEARCH completed
        C: A284 SEARCH TEXT "string not in mailbox"
        S: * ESEARCH (TAG "A284")
        S: A284 OK SEARCH completed
        C: A285 SEARCH CHARSET UTF-8 TEXT {12}
        S: + ...
        C: отпуск
        S: * ESEARCH (TAG "A285") ALL 8
        S: A285 OK SEARCH completed
        C: A284 SEARCH RETURN (MIN) UNSEEN
        S: * ESEARCH (TAG "A284") MIN 2
        S: A284 OK SEARCH completed
        C: A285 UID SEARCH RETURN (MIN MAX) 1:11
        S: * ESEARCH (TAG "A285") UID MIN 1 MAX 11
        S: A285 OK SEARCH completed
        C: A286 SEARCH RETURN (COUNT) DELETED
        S: * ESEARCH (TAG "A286") COUNT 7
        S: A286 OK SEARCH completed
        C: A300 SEARCH RETURN (SAVE) SINCE 1-Jan-1994 NOT FROM "Smith"
        S: A300 OK ...
        C: A301 UID SEARCH UID $ UNSEEN
        S: * ESEARCH (TAG "A301") UID ALL 2,10:11
        S: A301 OK ...
    """)


def test_6_4_5_to_6_4_9() -> None:
    dialogue = rev2("MEETING", "foo")
    fill(dialogue, 8)
    dialogue.ask(b"s SELECT INBOX\r\nx STORE 2,4 +FLAGS.SILENT (\\Seen)\r\n")
    dialogue.run(r"""
        C: A654 FETCH 2:4 (FLAGS BODY[HEADER.FIELDS (DATE FROM)])
        S: * 2 FETCH (FLAGS (\Seen) BODY[HEADER.FIELDS (DATE FROM)] {27}
        From: <bob@example.org>

        )
        S: * 3 FETCH (UID 3 FLAGS (\Seen) BODY[HEADER.FIELDS (DATE FROM)] {27}
        From: <bob@example.org>

        )
        S: * 4 FETCH (FLAGS (\Seen) BODY[HEADER.FIELDS (DATE FROM)] {27}
        From: <bob@example.org>

        )
        S: A654 OK FETCH completed
        C: A003 STORE 2:4 +FLAGS (\Deleted)
        S: * 2 FETCH (UID 2 FLAGS (\Seen \Deleted))
        S: * 3 FETCH (UID 3 FLAGS (\Seen \Deleted))
        S: * 4 FETCH (UID 4 FLAGS (\Seen \Deleted))
        S: A003 OK STORE completed
        C: A003 COPY 2:4 MEETING
        S: A003 OK [COPYUID {v} 2:4 1:3] COPY completed
        C: a UID MOVE 7:8 foo
        S: * OK [COPYUID {w} 7:8 1:2] ...
        S: * 8 EXPUNGE
        S: * 7 EXPUNGE
        S: a OK ...
        C: A003 UID EXPUNGE 2:4
        S: * 4 EXPUNGE
        S: * 3 EXPUNGE
        S: * 2 EXPUNGE
        S: A003 OK ...
        C: A999 UID FETCH 4:6 FLAGS
        S: * 2 FETCH (UID 5 FLAGS ())
        S: * 3 FETCH (UID 6 FLAGS ())
        S: A999 OK ...
    """)


def test_6_5_and_7_6_what_is_not_known() -> None:
    dialogue = rev2()
    assert dialogue.ask(b"A442 XPIG-LATIN\r\n").startswith(b"A442 BAD ")
    # No continuation request: the literal need not be sent
    assert dialogue.ask(b"A044 BLURDYBLOOP {102856}\r\n").startswith(b"A044 BAD ")
    assert dialogue.ask(b"A045 NOOP\r\n") == b"A045 OK NOOP completed\r\n"


def test_7_1_5_bye() -> None:
    dialogue = rev2(idle_seconds=1800.0)
    assert dialogue.later(1801) == b"* BYE Idle for too long\r\n"
