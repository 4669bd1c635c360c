"""NOTIFY (RFC 5465): its examples, and each MUST and SHOULD that a server can be asked for."""

from __future__ import annotations

import pytest
from imap_dialogue import MESSAGE, Dialogue

from twisted_mail.mailboxes import StoreMode

MORNING = b"Subject: Re: good morning\nFrom: alice@example.org\nTo: bob@example.org\n\nHello.\n"


def two() -> tuple[Dialogue, Dialogue]:
    """Two sessions of one account, the second without a mailbox."""
    dialogue = Dialogue()
    dialogue.login()
    other = dialogue.session()
    other.login()
    return dialogue, other


def test_section_3_1() -> None:
    dialogue = Dialogue()
    account = dialogue.account
    for name in ("Lists/Im2000", "Lists/Lemonade", "misc"):
        account.make(name)
    account.deliver(MESSAGE, "Lists/Lemonade")
    dialogue.login()
    dialogue.run("""
        C: b notify set status (selected (MessageNew (uid body.peek[header.fields (from to subject)]) MessageExpunge)) (subtree Lists (MessageNew MessageExpunge))
        S: * STATUS Lists/Im2000 (MESSAGES 0 UIDNEXT 1 UIDVALIDITY {im} UNSEEN 0)
        S: * STATUS Lists/Lemonade (MESSAGES 1 UIDNEXT 2 UIDVALIDITY {lemonade} UNSEEN 1)
        S: b OK ...
        C: c select inbox
        S: ...
        S: c OK ...
    """)  # noqa: E501
    account.deliver(MESSAGE, "Lists/Lemonade")
    dialogue.run(
        "S: * STATUS Lists/Lemonade (MESSAGES 2 UIDNEXT 3 UIDVALIDITY {lemonade} UNSEEN 2)"
    )
    account.deliver(MORNING)
    dialogue.run("""
        S: * 1 EXISTS
        S: * 1 FETCH (UID 1 BODY[HEADER.FIELDS (from to subject)] {75}
        Subject: Re: good morning
        From: alice@example.org
        To: bob@example.org

        )
        C: d STATUS misc (UIDVALIDITY UIDNEXT MESSAGES)
        S: * STATUS misc (UIDVALIDITY {misc} UIDNEXT 1 MESSAGES 0)
        S: d OK ...
        C: e notify set (selected (MessageNew (uid body.peek[header.fields (from to subject)]) MessageExpunge)) (subtree Lists (MessageNew MessageExpunge)) (mailboxes misc (MessageNew MessageExpunge))
        S: e OK ...
    """)  # noqa: E501
    account.deliver(MESSAGE, "misc")
    dialogue.run("S: * STATUS misc (MESSAGES 1 UIDNEXT 2 UIDVALIDITY {misc} UNSEEN 1)")


def test_section_3_1_what_has_piled_up_is_told_at_once() -> None:
    dialogue = Dialogue()
    dialogue.login("INBOX")
    dialogue.account.deliver(MESSAGE)
    dialogue.account.deliver(MESSAGE)
    dialogue.account.box("INBOX").remove([1])
    dialogue.run("""
        C: a NOTIFY SET (SELECTED (MessageNew MessageExpunge))
        S: * 1 EXISTS
        S: a OK ...
    """)


def test_section_3_1_status_has_the_mod_sequence_when_flags_are_wanted() -> None:
    dialogue = Dialogue()
    dialogue.login()
    dialogue.run("""
        C: a NOTIFY SET STATUS (MAILBOXES INBOX (MessageNew MessageExpunge FlagChange))
        S: * STATUS INBOX (MESSAGES 0 UIDNEXT 1 UIDVALIDITY {v} UNSEEN 0 HIGHESTMODSEQ {m})
        S: a OK ...
        C: b NOTIFY SET STATUS (MAILBOXES INBOX (MessageNew MessageExpunge))
        S: * STATUS INBOX (MESSAGES 0 UIDNEXT 1 UIDVALIDITY {v} UNSEEN 0)
        S: b OK ...
    """)


def test_section_3_1_what_is_not_there_is_passed_over() -> None:
    dialogue = Dialogue()
    dialogue.login()
    dialogue.run("""
        C: a NOTIFY SET STATUS (MAILBOXES (nowhere INBOX) (MessageNew MessageExpunge))
        S: * STATUS INBOX (...)
        S: a OK ...
    """)


@pytest.mark.parametrize("events", ["SELECTED NONE", "PERSONAL (MessageNew MessageExpunge)"])
def test_section_4_idle_says_what_notify_asked_for_and_no_more(events: str) -> None:
    dialogue = Dialogue()
    dialogue.account.make("misc")
    dialogue.login("INBOX")
    dialogue.ask(
        b"a NOTIFY SET (%s) (MAILBOXES misc (MessageNew MessageExpunge))\r\n" % events.encode()
    )
    assert dialogue.client.read() == b""
    dialogue.account.deliver(MESSAGE)
    assert dialogue.client.read() == b""
    dialogue.run("""
        C: b IDLE
        S: + ...
    """)
    dialogue.account.deliver(MESSAGE)
    assert dialogue.client.read() == b""
    dialogue.account.deliver(MESSAGE, "misc")
    assert dialogue.client.read().startswith(b"* STATUS misc ")


def test_section_4_idle_gives_expunges_that_were_delayed() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(MESSAGE)
    dialogue.login("INBOX")
    dialogue.ask(b"a NOTIFY SET (SELECTED-DELAYED (MessageNew MessageExpunge FlagChange))\r\n")
    box = dialogue.account.box("INBOX")
    dialogue.ask(b"b IDLE\r\n")
    box.store([1], StoreMode.ADD, ["$Junk"])
    dialogue.run(r"""
        S: * FLAGS (...)
        S: * OK [PERMANENTFLAGS ...
        S: * 1 FETCH (UID 1 FLAGS ($Junk))
    """)
    box.remove([1])
    assert dialogue.client.read() == b"* 1 EXPUNGE\r\n"


def test_section_5_flags_that_were_not_asked_for() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(MESSAGE)
    dialogue.login("INBOX")
    dialogue.ask(b"a NOTIFY SET (SELECTED (MessageNew MessageExpunge))\r\n")
    dialogue.account.box("INBOX").store([1], StoreMode.ADD, ["\\Seen"])
    assert dialogue.client.read() == b""
    dialogue.account.deliver(MESSAGE)
    assert dialogue.client.read() == b"* 2 EXISTS\r\n"
    # What it does itself is its answer
    assert b"FETCH (FLAGS (\\Flagged))" in dialogue.ask(b"b STORE 2 +FLAGS (\\Flagged)\r\n")


def test_section_5_1_another_uidvalidity() -> None:
    dialogue = Dialogue()
    dialogue.account.make("misc")
    dialogue.login()
    dialogue.ask(b"a NOTIFY SET STATUS (PERSONAL (MessageNew MessageExpunge FlagChange))\r\n")
    dialogue.account.make("misc")
    dialogue.account.tell("misc")
    assert dialogue.client.read().startswith(b"* STATUS misc (MESSAGES 0 UIDNEXT 1 UIDVALIDITY ")


def test_section_5_1_and_5_2_with_condstore() -> None:
    dialogue = Dialogue()
    dialogue.account.make("Lists/Lemonade")
    dialogue.login()
    dialogue.ask(b"e ENABLE CONDSTORE\r\n")
    dialogue.ask(b"a NOTIFY SET (SUBTREE Lists (MessageNew MessageExpunge FlagChange))\r\n")
    dialogue.account.deliver(MESSAGE, "Lists/Lemonade")
    assert b"HIGHESTMODSEQ 2)" in dialogue.client.read()
    dialogue.account.box("Lists/Lemonade").store([1], StoreMode.ADD, ["$Junk"])
    said = dialogue.client.read()
    assert b"UIDVALIDITY " in said
    assert b"HIGHESTMODSEQ 3)" in said


def test_section_5_2_own_messages_are_not_fetched() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(MESSAGE)
    dialogue.account.make("misc")
    dialogue.login("INBOX")
    dialogue.ask(b"a NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge))\r\n")
    dialogue.run("""
        C: b APPEND INBOX {6+}
        A: b

        S: * 2 EXISTS
        S: b OK [APPENDUID ...
        C: c COPY 1 INBOX
        S: * 3 EXISTS
        S: c OK [COPYUID ...
        C: d MOVE 1 INBOX
        S: * OK [COPYUID ...
        S: * 1 EXPUNGE
        S: * 3 EXISTS
        S: d OK ...
    """)
    dialogue.account.deliver(MESSAGE)
    assert dialogue.client.read() == b"* 4 EXISTS\r\n* 4 FETCH (UID 5)\r\n"
    # Of both at once, the other's
    box = dialogue.account.box("INBOX")
    heard, box.listeners[1:] = box.listeners[1:], []
    dialogue.account.deliver(MESSAGE)
    dialogue.run("""
        C: e COPY 1 INBOX
        S: * 6 EXISTS
        S: e OK [COPYUID ...
        S: * 5 FETCH (UID 6)
    """)
    box.listeners += heard


def test_section_5_3_in_the_selected_mailbox_with_qresync() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(MESSAGE)
    dialogue.login()
    dialogue.ask(b"e ENABLE QRESYNC\r\ns SELECT INBOX\r\n")
    dialogue.ask(b"a NOTIFY SET (SELECTED (MessageNew MessageExpunge))\r\n")
    dialogue.account.box("INBOX").remove([1])
    assert dialogue.client.read() == b"* VANISHED 1\r\n"


def test_section_5_3_in_another_mailbox_with_qresync() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(MESSAGE)
    dialogue.login()
    dialogue.ask(b"e ENABLE QRESYNC\r\n")
    dialogue.ask(b"a NOTIFY SET (INBOXES (MessageNew MessageExpunge))\r\n")
    dialogue.account.box("INBOX").remove([1])
    dialogue.run("S: * STATUS INBOX (MESSAGES 0 UIDNEXT 2 ... HIGHESTMODSEQ 3)")


def test_section_5_4_names() -> None:
    dialogue, other = two()
    dialogue.ask(b"a NOTIFY SET (PERSONAL (MailboxName))\r\n")
    for command, heard in (
        (b"CREATE NewMailbox", [rb'* LIST (\HasNoChildren) "/" NewMailbox']),
        # What stands directly above is affected, whether it is there or not
        (
            b"CREATE NewMailbox/Below",
            [
                rb'* LIST (\HasChildren) "/" NewMailbox',
                rb'* LIST (\HasNoChildren) "/" NewMailbox/Below',
            ],
        ),
        (
            b"CREATE Top/One",
            [
                rb'* LIST (\NonExistent \HasChildren) "/" Top',
                rb'* LIST (\HasNoChildren) "/" Top/One',
            ],
        ),
        # Nothing is said of what is below
        (b"RENAME NewMailbox Kept", [rb'* LIST (\HasChildren) "/" Kept ("OLDNAME" (NewMailbox))']),
        (
            b"DELETE Kept/Below",
            [rb'* LIST (\HasNoChildren) "/" Kept', rb'* LIST (\NonExistent) "/" Kept/Below'],
        ),
        # SubscriptionChange was not asked for, but attributes are what they are
        (b"SUBSCRIBE Kept", []),
        (b"RENAME INBOX Old", [rb'* LIST (\HasNoChildren) "/" Old']),
        (b"DELETE Kept", [rb'* LIST (\NonExistent \Subscribed) "/" Kept']),
        (b"CREATE Kept", [rb'* LIST (\Subscribed \HasNoChildren) "/" Kept']),
    ):
        assert b"x OK" in other.ask(b"x " + command + b"\r\n")
        assert dialogue.client.read().splitlines() == heard, command


def test_section_5_what_it_does_itself_is_no_news() -> None:
    dialogue, _ = two()
    dialogue.ask(
        b"a NOTIFY SET (PERSONAL (MailboxName SubscriptionChange MailboxMetadataChange))\r\n"
    )
    for command in (
        b"CREATE One/Below",
        b"RENAME One Two",
        b"SUBSCRIBE Two/Below",
        b'SETMETADATA Two/Below (/private/comment "mine")',
        b"UNSUBSCRIBE Two/Below",
        b"DELETE Two/Below",
    ):
        (said,) = dialogue.ask(b"x " + command + b"\r\n").splitlines()
        assert said.startswith(b"x OK")
    assert dialogue.client.read() == b""


def test_section_5_5_subscriptions() -> None:
    dialogue, other = two()
    other.ask(b"x CREATE SubscribedMailbox (USE (\\Archive))\r\n")
    dialogue.ask(b"a NOTIFY SET (MAILBOXES SubscribedMailbox (SubscriptionChange))\r\n")
    other.ask(b"x SUBSCRIBE SubscribedMailbox\r\nx SUBSCRIBE INBOX\r\n")
    dialogue.run(r'S: * LIST (\Subscribed \HasNoChildren \Archive) "/" SubscribedMailbox')
    other.ask(b"x UNSUBSCRIBE SubscribedMailbox\r\n")
    dialogue.run(r'S: * LIST (\HasNoChildren \Archive) "/" SubscribedMailbox')


def test_section_5_6_and_5_7_annotations() -> None:
    dialogue, other = two()
    other.ask(b"x CREATE misc\r\n")
    dialogue.ask(
        b"a NOTIFY SET (MAILBOXES INBOX (MailboxMetadataChange)) (SUBSCRIBED (ServerMetadataChange))\r\n"
    )
    other.ask(b'x SETMETADATA INBOX (/shared/comment "new")\r\n')
    dialogue.run("S: * METADATA INBOX /shared/comment")
    other.ask(b'x SETMETADATA INBOX (/shared/comment NIL /private/comment "mine")\r\n')
    dialogue.run("S: * METADATA INBOX /shared/comment /private/comment")
    other.ask(b'x SETMETADATA misc (/shared/comment "not watched")\r\n')
    other.ask(b'x SETMETADATA "" (/private/comment "mine")\r\n')
    dialogue.run('S: * METADATA "" /private/comment')
    dialogue.ask(b"b NOTIFY NONE\r\n")
    other.ask(b'x SETMETADATA INBOX (/shared/comment "new")\r\n')
    assert dialogue.client.read() == b""
    assert dialogue.account.annotating == []


def test_section_6_all_groups_that_have_a_mailbox_count() -> None:
    dialogue, other = two()
    dialogue.run("""
        C: a notify set (mailboxes INBOX (Messagenew messageExpunge)) (personal (SubscriptionChange))
        S: a OK ...
    """)
    dialogue.account.deliver(MESSAGE)
    dialogue.run("S: * STATUS INBOX (MESSAGES 1 ...)")
    other.ask(b"x SUBSCRIBE INBOX\r\n")
    dialogue.run(r'S: * LIST (\Subscribed \HasNoChildren) "/" INBOX')


def test_section_6_flags_of_all_but_the_selected_mailbox() -> None:
    dialogue = Dialogue()
    dialogue.account.make("misc")
    dialogue.account.deliver(MESSAGE)
    dialogue.account.deliver(MESSAGE, "misc")
    dialogue.login("INBOX")
    dialogue.run("""
        C: a notify set status (selected (Messagenew (uid flags) messageExpunge)) (personal (MessageNew FlagChange MessageExpunge))
        S: * STATUS misc (MESSAGES 1 ...)
        S: a OK ...
    """)  # noqa: E501
    dialogue.account.box("INBOX").store([1], StoreMode.ADD, ["\\Seen"])
    assert dialogue.client.read() == b""
    dialogue.account.box("misc").store([1], StoreMode.ADD, ["\\Seen"])
    dialogue.run("S: * STATUS misc (MESSAGES 1 ... UNSEEN 0)")
    dialogue.account.deliver(MESSAGE)
    dialogue.run(r"""
        S: * 2 EXISTS
        S: * 2 FETCH (UID 2 FLAGS ())
    """)


def test_section_6_1_selected_can_be_said_once_even_for_nothing() -> None:
    dialogue = Dialogue()
    dialogue.login()
    dialogue.run("""
        C: a NOTIFY SET (SELECTED NONE) (SELECTED-DELAYED (MessageNew MessageExpunge))
        S: a BAD ...
    """)


def test_section_6_6_names_are_no_patterns() -> None:
    dialogue = Dialogue()
    dialogue.login()
    dialogue.ask(b'a NOTIFY SET (MAILBOXES "*" (MessageNew MessageExpunge))\r\n')
    dialogue.account.deliver(MESSAGE)
    assert dialogue.client.read() == b""
