"""The account in memory: what `mailboxes` promises."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from twisted_mail.interfaces import IMailbox, IMailboxAccount
from twisted_mail.mailboxes import DELETED, SEEN, Appending, StoreMode
from twisted_mail.status import MailError
from twisted_mail.testing.mailboxes import MemoryAccount, MemoryMailboxes

TEXT = b"Subject: hello\n\nHello.\n"


def now(work: Coroutine[Any, Any, Any]) -> Any:
    """What `work`, which does not wait, returns."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


def account_with(count: int = 0) -> tuple[MemoryAccount, MemoryMailboxes]:
    account = MemoryAccount()
    for _ in range(count):
        account.deliver(TEXT)
    return account, now(account.open_mailboxes())


def refused(work: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(MailError) as caught:
        now(work)
    return caught.value.imap


def test_it_provides_what_it_says() -> None:
    account, mailboxes = account_with(1)
    assert verifyObject(IMailboxAccount, account)
    inbox = now(account.open_inbox())
    assert verifyObject(IMailbox, inbox)
    assert now(now(inbox.fetch(0)).read(100)) == TEXT
    now(inbox.remove([0]))
    assert len(account.box("INBOX").snapshot) == 0
    now(mailboxes.close())
    assert account.sessions == 0


def test_names() -> None:
    account, mailboxes = account_with()
    assert (
        now(mailboxes.create("Work/Plans", ["\\Archive"])) == account.box("Work/Plans").mailbox_id
    )
    now(mailboxes.subscribe("Elsewhere", True))
    listed = [(one.name, one.selectable, one.subscribed) for one in now(mailboxes.list())]
    assert listed == [
        ("INBOX", True, False),
        ("Elsewhere", False, True),
        ("Work", False, False),
        ("Work/Plans", True, False),
    ]
    assert refused(mailboxes.create("INBOX")) == "ALREADYEXISTS"
    assert refused(mailboxes.create("a//b")) == "CANNOT"
    assert refused(mailboxes.create("b", ["\\Archive"])) == "USEATTR"
    assert refused(mailboxes.delete("INBOX")) == "CANNOT"
    assert refused(mailboxes.delete("x")) == "NONEXISTENT"
    assert refused(mailboxes.rename("Work", "Work/Below")) == "CANNOT"
    box = account.box("Work/Plans")
    now(mailboxes.rename("Work", "Old"))
    assert account.box("Old/Plans") is box
    account.max_boxes = 2
    assert refused(mailboxes.create("c")) == "LIMIT"
    now(mailboxes.delete("Old/Plans"))
    assert list(account.boxes) == ["INBOX"]


def test_renaming_the_inbox_moves_its_messages() -> None:
    account, mailboxes = account_with(2)
    now(mailboxes.rename("INBOX", "Old"))
    assert list(account.box("Old").texts.values()) == [TEXT, TEXT]
    assert account.box("INBOX").texts == {}
    assert account.opened == 0


def test_flags() -> None:
    _account, mailboxes = account_with(3)
    opened = now(mailboxes.open("INBOX"))
    stored = now(opened.store([1, 2, 99], StoreMode.ADD, ["\\seen", "work"]))
    assert list(stored.failed) == []
    assert opened.snapshot.names(opened.snapshot.flags[0]) == ("\\Seen", "work")
    before = stored.modseq
    stored = now(opened.store([1, 3], StoreMode.ADD, ["WORK"], before - 1))
    assert list(stored.failed) == [1]
    assert now(opened.store([1], StoreMode.ADD, ["work"])).modseq == stored.modseq
    now(opened.store([1], StoreMode.REMOVE, ["unknown", "work"]))
    assert opened.snapshot.flags[0] == SEEN
    many = [f"k{n}" for n in range(26)]
    assert refused(opened.store([1], StoreMode.REPLACE, many)) == "LIMIT"


def test_expunge_and_what_has_vanished() -> None:
    account, mailboxes = account_with(4)
    opened = now(mailboxes.open("INBOX"))
    since = now(opened.store([1, 2, 3], StoreMode.ADD, ["\\Deleted"])).modseq
    now(opened.expunge([2, 4]))
    assert list(opened.snapshot.uids) == [1, 3, 4]
    assert now(opened.vanished(since)) == [2]
    now(opened.expunge())
    assert now(opened.vanished(since)) == [1, 2, 3]
    assert now(opened.vanished(opened.snapshot.modseq)) == []
    account.box("INBOX").forget_vanished()
    assert now(opened.vanished(since)) is None


def test_append_copy_move_replace() -> None:
    account, mailboxes = account_with(1)
    account.make("B")
    writing = mailboxes.write()
    for block in (b"Subject: x\n", b"\ny\n"):
        writing.write(block)
    filed = now(mailboxes.append("B", [Appending(writing, ["\\Seen"], 7)]))
    assert (filed.validity, list(filed.uids)) == (account.box("B").snapshot.validity, [1])
    box = account.box("B").snapshot
    assert (box.dates[0], box.flags[0], box.sizes[0]) == (7, SEEN, len("Subject: x\r\n\r\ny\r\n"))
    opened = now(mailboxes.open("B"))
    filed = now(opened.copy([1, 9], "INBOX"))
    assert (list(filed.uids), list(filed.sources)) == ([2], [1])
    assert account.box("INBOX").snapshot.dates[1] == 7
    filed = now(opened.move([1], "INBOX"))
    assert (list(filed.uids), list(filed.sources)) == ([3], [1])
    assert account.box("B").texts == {}
    inbox = now(mailboxes.open("INBOX"))
    now(mailboxes.replace(inbox, 2, "INBOX", Appending(mailboxes.write())))
    assert list(inbox.snapshot.uids) == [1, 3, 4]
    for work in (inbox.copy([1], "x"), inbox.move([1], "x"), mailboxes.append("x", [])):
        assert refused(work) == "TRYCREATE"


def test_quota() -> None:
    account, mailboxes = account_with(2)
    account.message_limit = 2
    account.storage_limit = 1000
    assert now(mailboxes.quota()) == (2 * len(TEXT), 1000, 2, 2)
    assert refused(mailboxes.append("INBOX", [Appending(mailboxes.write())])) == "OVERQUOTA"
    inbox = now(mailboxes.open("INBOX"))
    assert refused(inbox.copy([1], "INBOX")) == "OVERQUOTA"


def test_status() -> None:
    account, mailboxes = account_with(3)
    box = account.box("INBOX")
    box.store([1], StoreMode.ADD, ["\\Deleted", "\\Seen"])
    found = now(mailboxes.status("INBOX"))
    assert found[:3] == (3, 2, 1)
    assert (found.size, found.deleted_size, found.uidnext) == (3 * 26, 26, 4)
    assert refused(mailboxes.status("x")) == "NONEXISTENT"


def test_metadata() -> None:
    _account, mailboxes = account_with()
    now(mailboxes.set_metadata("", {"/private/a": b"1", "/private/b": b"2"}))
    now(mailboxes.set_metadata("", {"/private/a": None}))
    assert now(mailboxes.metadata("")) == {"/private/b": b"2"}
    assert now(mailboxes.metadata("INBOX")) == {}
    assert refused(mailboxes.metadata("x")) == "NONEXISTENT"
    long = {"/private/c": b"x" * 70_000}
    assert refused(mailboxes.set_metadata("", long)) == "METADATA MAXSIZE 65536"
    many: dict[str, bytes | None] = {f"/private/{n}": b"" for n in range(101)}
    assert refused(mailboxes.set_metadata("", many)) == "METADATA TOOMANY"
    assert now(mailboxes.metadata("")) == {"/private/b": b"2"}


def test_changes_are_told() -> None:
    account, mailboxes = account_with(1)
    account.make("B")
    heard: list[str] = []
    end = mailboxes.watch(["B"], heard.append)
    everything: list[str] = []
    mailboxes.watch(None, everything.append)
    opened = now(mailboxes.open("INBOX"))
    changes: list[int] = []
    opened.listen(lambda: changes.append(len(opened.snapshot)))
    account.deliver(TEXT)
    account.deliver(TEXT, "B")
    now(mailboxes.subscribe("B", True))
    end()
    end()
    account.deliver(TEXT, "B")
    assert heard == ["B", ""]
    assert everything == ["INBOX", "B", "", "B"]
    assert changes == [2]
    opened.listen(None)
    account.deliver(TEXT)
    assert changes == [2]


def test_contents_and_columns_and_matches() -> None:
    account, mailboxes = account_with(2)
    account.large = 100
    account.deliver(b"Subject: large\nX-A: b\n\n" + b"x" * 200 + b"\n")
    opened = now(mailboxes.open("INBOX"))

    async def read() -> Any:
        found = [one async for some in opened.contents([1, 3, 9]) for one in some]
        rows = [
            row
            async for some in opened.columns([1, 3, 9], ["subject", "emailid", "save_date"])
            for row in some
        ]
        return found, rows

    found, rows = now(read())
    assert [(one.uid, type(one.content).__name__) for one in found] == [
        (1, "bytes"),
        (3, "MemoryLarge"),
        (9, "NoneType"),
    ]
    large = found[1].content
    assert now(large.read(0, 7)) == b"Subject"
    assert now(large.read(large.size, 7)) == b""
    large.close()
    assert [row[:2] for row in rows] == [(1, "HELLO"), (3, "LARGE")]
    assert now(opened.match_field("subject", "arg", [1, 2, 3, 9])) == [3]
    assert now(opened.match_text("hello.", [1, 2, 3], body_only=True)) == [1, 2]
    assert now(opened.match_header("x-a", "B", [1, 2, 3])) == [3]
    now(opened.close())
    assert account.opened == 0


def test_deleted_is_a_bit() -> None:
    account, _ = account_with(1)
    account.box("INBOX").store([1], StoreMode.REPLACE, ["\\Deleted"])
    assert account.box("INBOX").snapshot.flags[0] == DELETED
