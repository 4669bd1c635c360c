"""OBJECTID (RFC 8474): its examples. Mailboxes in memory have no THREADID: the last example of section 5.3."""

from __future__ import annotations

from imap_dialogue import MESSAGE, Dialogue


def test_section_4_mailboxid() -> None:
    dialogue = Dialogue()
    dialogue.login()
    dialogue.run(r"""
        C: 3 create foo
        S: 3 OK [MAILBOXID ({foo})] ...
        C: 4 create bar
        S: 4 OK [MAILBOXID ({bar})] ...
        C: 5 create foo
        S: 5 NO [ALREADYEXISTS] ...
        C: 27 select "foo"
        S: ...
        S: * OK [MAILBOXID ({foo})] ...
        S: ...
        S: 27 OK [READ-WRITE] ...
        C: 6 status foo (mailboxid)
        S: * STATUS foo (MAILBOXID ({foo}))
        S: 6 OK ...
        C: 7 status bar (mailboxid)
        S: * STATUS bar (MAILBOXID ({bar}))
        S: 7 OK ...
        C: 8 rename foo renamed
        S: 8 OK ...
        C: 9 status renamed (mailboxid)
        S: * STATUS renamed (MAILBOXID ({foo}))
        S: 9 OK ...
        C: 10 status bar (mailboxid)
        S: * STATUS bar (MAILBOXID ({bar}))
        S: 10 OK ...
        C: 11 list "" "*" return (status (mailboxid))
        S: * LIST () "/" INBOX
        S: * STATUS INBOX (MAILBOXID ({inbox}))
        S: * LIST () "/" bar
        S: * STATUS bar (MAILBOXID ({bar}))
        S: * LIST () "/" renamed
        S: * STATUS renamed (MAILBOXID ({foo}))
        S: 11 OK ...
    """)
    assert len({dialogue.words[name] for name in ("foo", "bar", "inbox")}) == 3


def test_section_5_3_and_6_emailid() -> None:
    dialogue = Dialogue()
    dialogue.account.make("foo")
    for subject in (b"1", b"2", b"3"):
        dialogue.account.deliver(b"Subject: " + subject + b"\n" + MESSAGE)
    dialogue.login("INBOX")
    dialogue.run(r"""
        C: 22 fetch 1:* (emailid threadid)
        S: * 1 FETCH (EMAILID ({one}) THREADID NIL)
        S: * 2 FETCH (EMAILID ({two}) THREADID NIL)
        S: * 3 FETCH (EMAILID ({three}) THREADID NIL)
        S: 22 OK ...
        C: 23 move 2 foo
        S: * OK [COPYUID {v} 2 1] ...
        S: * 2 EXPUNGE
        S: 23 OK ...
        C: 24 fetch 1:* (emailid threadid)
        S: * 1 FETCH (EMAILID ({one}) THREADID NIL)
        S: * 2 FETCH (EMAILID ({three}) THREADID NIL)
        S: 24 OK ...
        C: 25 select "foo"
        S: ...
        S: 25 OK [READ-WRITE] ...
        C: 26 fetch 1:* (emailid threadid)
        S: * 1 FETCH (EMAILID ({two}) THREADID NIL)
        S: 26 OK ...
        C: 27 search emailid {two}
        S: * SEARCH 1
        S: 27 OK ...
        C: 28 search threadid T64b478a75b7ea9
        S: * SEARCH
        S: 28 OK ...
    """)
