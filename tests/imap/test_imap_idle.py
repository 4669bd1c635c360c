"""What is told unasked: IDLE (RFC 2177), NOTIFY (RFC 5465), INPROGRESS (RFC 9585); and who may hear of EXPUNGE when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from imap_dialogue import MESSAGE, Dialogue
from twisted.internet.defer import CancelledError, Deferred

from twisted_mail.connection.interfaces import Answer
from twisted_mail.imap import verbs
from twisted_mail.imap.outcome import Outcome
from twisted_mail.imap.progress import Task, during, inprogress
from twisted_mail.imap.state import ANY
from twisted_mail.imap.verbs.registry import Verb
from twisted_mail.mailboxes import StoreMode


def filled(count: int) -> Dialogue:
    dialogue = Dialogue()
    dialogue.account.box("INBOX").add([(MESSAGE, (), 0)] * count, 0)
    dialogue.login("INBOX")
    return dialogue


def test_idle_tells_at_once() -> None:
    dialogue = filled(3)
    box = dialogue.account.box("INBOX")
    assert dialogue.ask(b"A002 IDLE\r\n") == b"+ Idling\r\n"
    box.add([(MESSAGE, (), 0)], 0)
    assert dialogue.client.read() == b"* 4 EXISTS\r\n"
    box.remove([2])
    assert dialogue.client.read() == b"* 2 EXPUNGE\r\n"
    box.store([4], StoreMode.ADD, ["\\Seen"])
    assert dialogue.client.read() == b"* 3 FETCH (FLAGS (\\Seen))\r\n"
    assert dialogue.ask(b"DONE\r\n") == b"A002 OK IDLE completed\r\n"
    assert len(box.listeners) == 1
    box.remove([1])
    assert dialogue.client.read() == b""
    assert dialogue.ask(b"a NOOP\r\n") == b"* 1 EXPUNGE\r\na OK NOOP completed\r\n"


def test_idle_begins_with_what_was_not_told() -> None:
    dialogue = filled(1)
    dialogue.account.deliver(MESSAGE)
    assert dialogue.ask(b"a IDLE\r\n") == b"+ Idling\r\n* 2 EXISTS\r\n"


def test_idle_that_a_mistake_ends() -> None:
    dialogue = filled(1)
    dialogue.ask(b"a IDLE\r\n")
    assert dialogue.ask(b"NOOP\r\n").startswith(b"a BAD ")
    assert len(dialogue.account.box("INBOX").listeners) == 1
    dialogue.account.deliver(MESSAGE)
    assert dialogue.client.read() == b""


def test_idle_without_a_mailbox() -> None:
    dialogue = Dialogue()
    dialogue.login()
    dialogue.run("""
        C: a IDLE
        S: + Idling
        C: done
        S: a OK IDLE completed
    """)


def test_one_notice_for_many_changes() -> None:
    dialogue = filled(1)
    dialogue.ask(b"a IDLE\r\n")
    for _ in range(50):
        dialogue.account.deliver(MESSAGE)
    assert dialogue.client.read() == b"* 51 EXISTS\r\n"


def test_a_thousand_expunges_in_idle_keep_their_order() -> None:
    dialogue = filled(10_000)
    dialogue.ask(b"a IDLE\r\n")
    dialogue.account.box("INBOX").remove(range(1, 10_001))
    said = dialogue.client.read().splitlines()
    assert said[0] == b"* 10000 EXPUNGE"
    assert said[-1] == b"* 1 EXPUNGE"
    assert len(said) == 10_000


@pytest.mark.parametrize("name", sorted(verbs.VERBS))
def test_who_may_hear_of_expunge(name: str) -> None:
    """RFC 9051 section 7.5.1: not in FETCH, STORE and SEARCH; SORT and THREAD number messages, too."""
    arguments = {
        "FETCH": b"1 UID",
        "STORE": b"1 +FLAGS (x)",
        "SEARCH": b"ALL",
        "SORT": b"(DATE) UTF-8 ALL",
        "THREAD": b"REFERENCES UTF-8 ALL",
    }
    if name not in arguments:
        return
    dialogue = filled(3)
    dialogue.account.box("INBOX").remove([3])
    assert b"EXPUNGE\r\n" not in dialogue.ask(b"a %s %s\r\n" % (name.encode(), arguments[name]))
    said = dialogue.ask(b"b UID %s %s\r\n" % (name.encode(), arguments[name]))
    assert b"* 3 EXPUNGE\r\n" in said


# NOTIFY


def test_notify_selected_with_fetch() -> None:
    dialogue = filled(1)
    dialogue.run("""
        C: a NOTIFY SET (SELECTED (MessageNew (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)]) MessageExpunge FlagChange))
        S: a OK NOTIFY completed
    """)
    box = dialogue.account.box("INBOX")
    dialogue.account.deliver(MESSAGE)
    assert dialogue.client.read() == (
        b"* 2 EXISTS\r\n"
        b"* 2 FETCH (UID 2 BODY[HEADER.FIELDS (SUBJECT)] {18}\r\nSubject: hello\r\n\r\n)\r\n"
    )
    box.remove([1])
    assert dialogue.client.read() == b"* 1 EXPUNGE\r\n"
    box.store([2], StoreMode.ADD, ["\\Seen"])
    assert dialogue.client.read() == b"* 1 FETCH (UID 2 FLAGS (\\Seen))\r\n"


def test_new_messages_that_a_command_told_of_are_fetched_as_well() -> None:
    dialogue = filled(1)
    dialogue.ask(b"a NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge))\r\n")
    box = dialogue.account.box("INBOX")
    heard, box.listeners[1:] = box.listeners[1:], []
    dialogue.account.deliver(MESSAGE)
    box.listeners += heard
    assert dialogue.ask(b"b NOOP\r\n") == (
        b"* 2 EXISTS\r\nb OK NOOP completed\r\n* 2 FETCH (UID 2)\r\n"
    )
    # In another mailbox nothing is new
    dialogue.account.make("B").add([(MESSAGE, (), 0)] * 3, 0)
    assert b"FETCH" not in dialogue.ask(b"c SELECT B\r\nd NOOP\r\n")
    dialogue.account.deliver(MESSAGE, "B")
    assert dialogue.client.read() == b"* 4 EXISTS\r\n* 4 FETCH (UID 4)\r\n"


def test_selected_delayed_keeps_expunges_back() -> None:
    dialogue = filled(2)
    dialogue.ask(b"a NOTIFY SET (SELECTED-DELAYED (MessageNew MessageExpunge))\r\n")
    dialogue.account.box("INBOX").remove([1])
    dialogue.account.deliver(MESSAGE)
    assert dialogue.client.read() == b"* 3 EXISTS\r\n"
    assert dialogue.ask(b"b NOOP\r\n") == b"* 1 EXPUNGE\r\nb OK NOOP completed\r\n"


def test_notify_of_other_mailboxes() -> None:
    dialogue = filled(1)
    account = dialogue.account
    account.make("Lists/Lemonade")
    account.make("Other")
    dialogue.run("""
        C: a notify set status (selected (MessageNew MessageExpunge)) (subtree Lists (MessageNew MessageExpunge))
        S: * STATUS Lists/Lemonade (MESSAGES 0 UIDNEXT 1 UIDVALIDITY {v} UNSEEN 0)
        S: a OK NOTIFY completed
    """)
    account.deliver(MESSAGE, "Lists/Lemonade")
    account.deliver(MESSAGE, "Other")
    said = dialogue.client.read()
    assert said.startswith(b"* STATUS Lists/Lemonade (MESSAGES 1 UIDNEXT 2 UIDVALIDITY ")
    assert said.count(b"\r\n") == 1
    # FlagChange was not asked for
    account.box("Lists/Lemonade").store([1], StoreMode.ADD, ["\\Seen"])
    assert dialogue.client.read() == b""
    account.box("Lists/Lemonade").remove([1])
    assert b"MESSAGES 0 UIDNEXT 2" in dialogue.client.read()


def test_the_selected_mailbox_has_its_own_ways() -> None:
    dialogue = filled(1)
    dialogue.ask(b"a NOTIFY SET (PERSONAL (MessageNew MessageExpunge))\r\n")
    dialogue.account.deliver(MESSAGE)
    assert dialogue.client.read() == b""
    assert len(dialogue.account.box("INBOX").listeners) == 1
    assert dialogue.ask(b"b NOOP\r\n") == b"* 2 EXISTS\r\nb OK NOOP completed\r\n"


def test_what_has_not_changed_is_not_told() -> None:
    dialogue = Dialogue()
    dialogue.account.make("A")
    dialogue.login()
    dialogue.ask(b"a NOTIFY SET STATUS (PERSONAL (MessageNew MessageExpunge FlagChange))\r\n")
    dialogue.account.tell("A")
    dialogue.account.tell("")
    assert dialogue.client.read() == b""


def test_notify_of_flags_elsewhere() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(MESSAGE)
    dialogue.login()
    dialogue.ask(b"e ENABLE CONDSTORE\r\n")
    said = dialogue.ask(
        b"a NOTIFY SET STATUS (INBOXES (MessageNew MessageExpunge FlagChange)) (PERSONAL NONE)\r\n"
    )
    assert b"* STATUS INBOX (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 3857529045 UNSEEN 1 HIGHEST" in said
    dialogue.account.box("INBOX").store([1], StoreMode.ADD, ["\\Seen"])
    assert b"UNSEEN 0 HIGHESTMODSEQ 3)" in dialogue.client.read()


def test_the_first_group_that_has_a_mailbox_counts() -> None:
    dialogue = Dialogue()
    dialogue.account.make("A")
    dialogue.login()
    dialogue.ask(
        b"a NOTIFY SET (MAILBOXES A NONE) (PERSONAL (MessageNew MessageExpunge MailboxName))\r\n"
    )
    dialogue.account.deliver(MESSAGE, "A")
    assert dialogue.client.read() == b""
    dialogue.account.deliver(MESSAGE)
    assert dialogue.client.read().startswith(b"* STATUS INBOX (")


def test_notify_of_names_and_subscriptions() -> None:
    dialogue = Dialogue()
    dialogue.login()
    other = dialogue.session()
    other.login()
    dialogue.ask(b"a NOTIFY SET (PERSONAL (MailboxName SubscriptionChange))\r\n")
    for command, heard in (
        (b"CREATE Misc", b'* LIST (\\HasNoChildren) "/" Misc\r\n'),
        (b"RENAME Misc Mine", b'* LIST (\\HasNoChildren) "/" Mine ("OLDNAME" (Misc))\r\n'),
        (b"SUBSCRIBE Mine", b'* LIST (\\Subscribed \\HasNoChildren) "/" Mine\r\n'),
        (b"UNSUBSCRIBE Mine", b'* LIST (\\HasNoChildren) "/" Mine\r\n'),
        (b"DELETE Mine", b'* LIST (\\NonExistent) "/" Mine\r\n'),
        (b"SUBSCRIBE Nowhere", b'* LIST (\\NonExistent \\Subscribed) "/" Nowhere\r\n'),
        (b"UNSUBSCRIBE Nowhere", b'* LIST (\\NonExistent) "/" Nowhere\r\n'),
    ):
        assert b"x OK" in other.ask(b"x " + command + b"\r\n")
        assert dialogue.client.read() == heard


def test_subscribed_mailboxes_follow_the_subscriptions() -> None:
    dialogue = Dialogue()
    dialogue.account.make("A")
    dialogue.login()
    dialogue.ask(b"a NOTIFY SET (SUBSCRIBED (MessageNew MessageExpunge))\r\n")
    dialogue.account.deliver(MESSAGE, "A")
    assert dialogue.client.read() == b""
    other = dialogue.session()
    other.login()
    other.ask(b"b SUBSCRIBE A\r\n")
    dialogue.account.deliver(MESSAGE, "A")
    assert dialogue.client.read().startswith(b"* STATUS A (MESSAGES 2 ")


@pytest.mark.parametrize(
    ("groups", "answer"),
    [
        (b"(PERSONAL (MessageNew))", b"a BAD "),
        (b"(PERSONAL (FlagChange))", b"a BAD "),
        (b"(SELECTED (MailboxName))", b"a BAD "),
        (b"(SELECTED NONE) (SELECTED-DELAYED NONE)", b"a BAD "),
        (b"(PERSONAL (MessageNew (UID) MessageExpunge))", b"a BAD "),
        (
            b"(PERSONAL (AnnotationChange))",
            b"a NO [BADEVENT (FlagChange MessageExpunge MessageNew MailboxName SubscriptionChange "
            b"MailboxMetadataChange ServerMetadataChange)]",
        ),
        (b" ".join([b"(INBOXES NONE)"] * 51), b"a NO [NOTIFICATIONOVERFLOW]"),
    ],
)
def test_what_cannot_be_watched(groups: bytes, answer: bytes) -> None:
    dialogue = Dialogue()
    dialogue.login()
    assert dialogue.ask(b"a NOTIFY SET %s\r\n" % groups).startswith(answer)
    assert dialogue.account.watchers == []


def test_a_notify_whose_client_goes_away_watches_nothing() -> None:
    dialogue = Dialogue()
    dialogue.login()
    listing: Deferred[Any] = Deferred()

    async def slowly() -> Any:
        return await listing

    dialogue.server_session.mailboxes.list = slowly
    dialogue.ask(b"a NOTIFY SET (PERSONAL (MailboxName))\r\n")
    assert len(dialogue.account.watchers) == 1
    dialogue.client.abort()
    assert dialogue.account.watchers == []
    assert dialogue.account.sessions == 0


def test_too_much_to_tell_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twisted_mail.imap.notifier.MAX_PENDING", 3)
    dialogue = Dialogue()
    for n in range(5):
        dialogue.account.make(f"m{n}")
    dialogue.login()
    dialogue.ask(b"a NOTIFY SET (PERSONAL (MessageNew MessageExpunge))\r\n")
    for n in range(5):
        dialogue.account.deliver(MESSAGE, f"m{n}")
    assert dialogue.client.read() == b"* OK [NOTIFICATIONOVERFLOW] Too much has happened\r\n"
    assert dialogue.account.watchers == []
    dialogue.account.deliver(MESSAGE)
    assert dialogue.client.read() == b""


def test_notify_none_and_the_end_of_the_session_end_it() -> None:
    dialogue = filled(1)
    for end in (b"b NOTIFY NONE\r\n", b"b UNAUTHENTICATE\r\n"):
        dialogue.ask(b"a NOTIFY SET (SELECTED (MessageNew MessageExpunge)) (PERSONAL NONE)\r\n")
        assert len(dialogue.account.watchers) == 1
        assert len(dialogue.account.box("INBOX").listeners) == 2
        dialogue.ask(end)
        assert dialogue.account.watchers == []
        assert len(dialogue.account.box("INBOX").listeners) == 1


# INPROGRESS


class Slow:
    """A command whose work the test ends."""

    def __init__(self, *, whole: bool = False) -> None:
        self.work: Deferred[str] = Deferred()
        self.over: list[Any] = []
        self.whole = whole
        self.task: Task[str] = Task()

    async def _work(self) -> str:
        try:
            result = await self.work
        except BaseException as error:
            self.over.append(type(error))
            raise
        self.over.append(result)
        return result

    async def run(self, session: Any, command: Any) -> Answer:
        outcome = Outcome()

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in during(
                session, command.tag, self._work(), self.task, whole=self.whole
            ):
                yield piece
            outcome.text = self.task.result

        return session.stream(command, pieces(), outcome)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    made = Slow()
    monkeypatch.setitem(verbs.VERBS, "CHECK", Verb("CHECK", ANY, made.run))
    return made


def test_long_work_says_that_it_is_alive(slow: Slow) -> None:
    dialogue = filled(1)
    assert dialogue.ask(b"A1 CHECK\r\n") == b""
    assert dialogue.later(11) == b'* OK [INPROGRESS ("A1" NIL NIL)] Still at it\r\n'
    slow.task.done, slow.task.goal = 5, 10
    assert dialogue.later(10) == b'* OK [INPROGRESS ("A1" 5 10)] Still at it\r\n'
    slow.work.callback("That is it")
    assert dialogue.client.read() == b"A1 OK That is it\r\n"


def test_work_that_fails_is_answered(slow: Slow) -> None:
    dialogue = filled(1)
    dialogue.ask(b"A1 CHECK\r\n")
    dialogue.later(11)
    slow.work.errback(ZeroDivisionError())
    assert b"A1 NO [SERVERBUG]" in dialogue.client.read()


def test_short_work_says_nothing(slow: Slow) -> None:
    dialogue = filled(1)
    slow.work.callback("Done")
    assert dialogue.ask(b"A1 CHECK\r\n") == b"A1 OK Done\r\n"
    assert not [call for call in dialogue.world.reactor.getDelayedCalls() if call.time == 10]


def test_work_ends_with_the_connection_or_is_brought_to_its_end(slow: Slow) -> None:
    dialogue = filled(1)
    dialogue.ask(b"A1 CHECK\r\n")
    dialogue.client.abort()
    assert slow.over == [CancelledError]
    assert dialogue.account.opened == 0
    slow.__init__(whole=True)  # type: ignore[misc]
    dialogue = filled(1)
    dialogue.ask(b"A1 CHECK\r\n")
    dialogue.client.abort()
    assert slow.over == []
    # What it works on is not closed under its hands
    assert dialogue.account.opened == 1
    slow.work.callback("kept")
    assert slow.over == ["kept"]
    assert dialogue.account.opened == 0


def test_progress_as_the_rfc_has_it() -> None:
    line = b'* OK [INPROGRESS ("A1" %s)] Still at it\r\n'
    assert inprogress(b"A1") == line % b"NIL NIL"
    assert inprogress(b"A1", 3) == line % b"3 NIL"
    assert inprogress(b"A1", 3, 10) == line % b"3 10"
    assert inprogress(b"A1", 10, 10) == line % b"9 10"
    assert inprogress(b"A1", 3, 0) == line % b"3 NIL"
    assert inprogress(b"A1", None, 10) == line % b"NIL NIL"
