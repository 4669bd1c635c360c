"""APPEND, COPY, MOVE, REPLACE, EXPUNGE and removed folders, as the journal commits them."""

from __future__ import annotations

import os

import pytest
from filing_site import (
    Held,
    account,
    append,
    bases,
    copy,
    expunge,
    folder,
    held,
    message,
    move,
    picked,
    remove_folder,
    replace,
    uids,
)
from store_site import Site
from twisted.internet.defer import CancelledError, ensureDeferred

from twisted_mail.mailboxes import Appending
from twisted_mail.status import MailError
from twisted_mail.storage import commits

DATE = 1_000_000_000


def text(number, size=20):
    return b"Subject: %d\n\n" % number + b"x" * size + b"\n"


@pytest.fixture
def site(tmp_path):
    return Site(str(tmp_path / "data")).start()


def spilled(site):
    return os.listdir(os.path.join(site.data, "journal", "spill"))


def checkpoint(site):
    site.run(site.world.threads.call(site.store._journal.checkpoint))


def again(site, boot="boot-1"):
    site.kill()
    return Site(site.data, seed=7, boot=boot).start()


def test_what_is_appended_is_there_with_its_flags_and_date(site):
    put = append(site, "d/a", "Sent", message(text(1), ["\\Seen", "$Work"], DATE))
    assert list(put.uids) == uids(site, "d/a", "Sent") == [1]
    assert put.validity == account(site, "d/a").snapshot(folder(site, "d/a", "Sent")).validity
    assert held(site, "d/a") == [Held("Sent", text(1), ("$Work", "\\Seen"), DATE)]
    (one,) = picked(site, "d/a", "Sent")
    # Also for other programs, and for an index made anew.
    assert int(os.stat(one.path).st_mtime) == DATE
    assert one.path.endswith(":2,Sa")


def test_a_message_without_flags_and_date_has_come_now_and_is_not_new(site):
    append(site, "d/a", "INBOX", message(text(1)))
    (one,) = picked(site, "d/a", "INBOX")
    assert one.path.endswith(":2,")
    assert (one.flags, one.date) == ((), int(site.world.now()))


@pytest.mark.parametrize("room", [1_000_000, 400_000, 100])
def test_several_are_appended_in_their_order(site, monkeypatch, room):
    monkeypatch.setattr(commits, "INLINE", room)
    contents = [text(1), text(2, 300_000), text(3, 200_000), text(4)]
    put = append(
        site, "d/a", "Sent", *[message(one, [], DATE + n) for n, one in enumerate(contents)]
    )
    assert list(put.uids) == [1, 2, 3, 4]
    assert [one.content for one in held(site, "d/a")] == contents
    expected = held(site, "d/a")
    for boot in ("boot-1", "boot-2"):
        site = again(site, boot)
        assert held(site, "d/a") == expected


@pytest.mark.parametrize("room", [0, 1 << 20])
def test_what_is_appended_has_the_size_of_its_surrogate(site, monkeypatch, room):
    # In a spill file or not
    monkeypatch.setattr(commits, "INLINE", room)
    content = b"Subject: gr\xc3\xb6\n\nx\xc3\xb6\n"
    append(site, "d/a", "INBOX", message(content), message(text(1)))
    inbox = site.run(site.store.open_inbox("d/a"))
    site.run(inbox.close())
    sent = len(b"Subject: =?utf-8?b?Z3LDtg==?=\r\n\r\nx\xc3\xb6\r\n")
    assert [one.ascii_size for one in inbox.messages] == [sent, None]


def test_an_empty_message_can_be_appended_and_copied(site):
    append(site, "d/a", "Sent", message(b""), message(b""))
    copy(site, "d/a", "Sent", bases(site, "d/a", "Sent"), "Trash")
    assert [one.content for one in held(site, "d/a")] == [b""] * 4
    assert len(held(again(site), "d/a")) == 4


@pytest.mark.parametrize("room", [1_000_000, 100])
def test_a_copy_outlives_what_it_was_made_of(site, monkeypatch, room):
    monkeypatch.setattr(commits, "INLINE", room)
    site.deliver(text(1), "d/a")
    append(site, "d/a", "Sent", message(text(2, 3000), ["\\Flagged", "a-word"], DATE))
    expected = [Held("Trash", text(2, 3000), ("\\Flagged", "a-word"), DATE)]
    put = copy(site, "d/a", "Sent", bases(site, "d/a", "Sent"), "Trash")
    assert (list(put.uids), list(put.sources)) == ([1], [1])
    expunge(site, "d/a", "Sent", bases(site, "d/a", "Sent"))
    expunge(site, "d/a", "INBOX", bases(site, "d/a", "INBOX"))
    assert held(site, "d/a") == expected
    assert len(spilled(site)) == (room == 100)
    (one,) = picked(site, "d/a", "Trash")
    site.kill()
    os.unlink(one.path)
    site = Site(site.data, seed=3, boot="boot-2").start()
    assert held(site, "d/a") == expected
    checkpoint(site)
    assert spilled(site) == []
    assert held(again(site, "boot-3"), "d/a") == expected


def test_a_copy_takes_no_more_room_than_a_name(site):
    append(site, "d/a", "Sent", message(text(1, 5000)))
    copy(site, "d/a", "Sent", bases(site, "d/a", "Sent"), "Sent")
    first, second = picked(site, "d/a", "Sent")
    assert first.base != second.base
    assert os.stat(first.path).st_ino == os.stat(second.path).st_ino


def test_many_are_copied_with_one_sync(site, monkeypatch):
    monkeypatch.setattr(commits, "INLINE", 100)
    append(site, "d/a", "Sent", *[message(text(n)) for n in range(20)])
    append(site, "d/a", "Sent", message(text(21)))
    syncs = []
    monkeypatch.setattr(site.disk, "syncfs", lambda fd: syncs.append(fd), raising=False)
    monkeypatch.setattr(site.disk, "fdatasync", lambda fd: None, raising=False)
    put = copy(site, "d/a", "Sent", bases(site, "d/a", "Sent"), "Trash")
    assert list(put.uids) == list(range(1, 22))
    assert len(syncs) == 1


def test_what_is_gone_is_not_copied_and_not_moved(site):
    append(site, "d/a", "Sent", message(text(1)), message(text(2)))
    first, second = bases(site, "d/a", "Sent")
    expunge(site, "d/a", "Sent", [first])
    assert list(copy(site, "d/a", "Sent", [first, second], "Trash").sources) == [2]
    assert list(move(site, "d/a", "Sent", [first, second], "Trash").sources) == [2]
    assert len(copy(site, "d/a", "Sent", [first, second], "Trash").uids) == 0
    assert move(site, "d/a", "Sent", [first, second], "Trash").validity == 0
    assert uids(site, "d/a", "Trash") == [1, 2]


def test_a_moved_message_keeps_its_flags_and_gets_a_new_uid(site):
    append(site, "d/a", "Trash", message(text(9)))
    append(site, "d/a", "Sent", message(text(1), ["\\Seen", "$Work"], DATE))
    put = move(site, "d/a", "Sent", bases(site, "d/a", "Sent"), "Trash")
    assert (list(put.sources), list(put.uids)) == ([1], [2])
    expected = held(site, "d/a")
    assert Held("Trash", text(1), ("$Work", "\\Seen"), DATE) in expected
    assert uids(site, "d/a", "Sent") == []
    for boot in ("boot-1", "boot-2"):
        site = again(site, boot)
        assert held(site, "d/a") == expected


def test_more_are_moved_and_expunged_than_one_record_holds(site, monkeypatch):
    monkeypatch.setattr(commits, "AT_ONCE", 3)
    append(site, "d/a", "Sent", *[message(text(n)) for n in range(8)])
    put = move(site, "d/a", "Sent", bases(site, "d/a", "Sent"), "Trash")
    assert list(put.sources) == list(put.uids) == list(range(1, 9))
    expunge(site, "d/a", "Trash", bases(site, "d/a", "Trash")[:7])
    assert [one.content for one in held(again(site), "d/a")] == [text(7)]


def test_what_was_moved_on_by_another_program_stays_there(site):
    append(site, "d/a", "Sent", message(text(1)))
    move(site, "d/a", "Sent", bases(site, "d/a", "Sent"), "Trash")
    (one,) = picked(site, "d/a", "Trash")
    folder(site, "d/a", "Junk")
    os.rename(one.path, one.path.replace(".Trash", ".Junk"))
    for boot in ("boot-1", "boot-2"):
        site = again(site, boot)
        assert [(it.folder, it.content) for it in held(site, "d/a")] == [("Junk", text(1))]


def test_a_replacement_comes_and_what_it_replaces_goes(site):
    append(site, "d/a", "Drafts", message(text(1), ["\\Draft"]))
    (old,) = bases(site, "d/a", "Drafts")
    put = replace(site, "d/a", "Drafts", old, "Sent", message(text(2), ["\\Seen"], DATE))
    assert (list(put.sources), list(put.uids)) == ([1], [1])
    expected = [Held("Sent", text(2), ("\\Seen",), DATE)]
    assert held(site, "d/a") == expected
    with pytest.raises(MailError) as caught:
        replace(site, "d/a", "Drafts", old, "Sent", message(text(3, 400_000)))
    assert caught.value.imap == "EXPUNGEISSUED"
    site.turn()
    assert spilled(site) == []
    for boot in ("boot-1", "boot-2"):
        site = again(site, boot)
        assert held(site, "d/a") == expected


def test_a_folder_goes_with_what_is_in_it(site):
    append(site, "d/a", "Work", message(text(1)), message(text(2)))
    append(site, "d/a", "Sent", message(text(3)))
    move(site, "d/a", "Work", bases(site, "d/a", "Work", text(2)), "Sent")
    move(site, "d/a", "Sent", bases(site, "d/a", "Sent", text(3)), "Work")
    which = folder(site, "d/a", "Work")
    remove_folder(site, "d/a", "Work")
    assert [one.content for one in held(site, "d/a")] == [text(2)]
    assert len(os.listdir(os.path.join(site.data, "deleted"))) == 1
    with pytest.raises(MailError) as caught:
        site.run(
            site.store.move("d/a", folder(site, "d/a", "Sent"), bases(site, "d/a", "Sent"), which)
        )
    assert caught.value.imap == "TRYCREATE"
    for boot in ("boot-1", "boot-2"):
        site = again(site, boot)
        assert [(one.folder, one.content) for one in held(site, "d/a")] == [("Sent", text(2))]
    assert len(os.listdir(os.path.join(site.data, "deleted"))) == 1


def test_a_folder_that_is_not_there_takes_nothing_and_nothing_is_left_of_it(site):
    append(site, "d/a", "Sent", message(text(1)))
    for content in (text(2), text(2, 400_000)):
        with pytest.raises(MailError) as caught:
            site.run(append_to(site, "nowhere", content))
        assert caught.value.imap == "TRYCREATE"
    site.turn()
    assert spilled(site) == []
    assert len(held(site, "d/a")) == 1


async def append_to(site, where, content):
    draft = site.store.draft()
    waiting = draft.write(content)
    if waiting is not None:
        await waiting
    return await site.store.append("d/a", where, [Appending(draft)])


def test_an_index_that_is_lost_brings_everything_back_as_it_was(site):
    append(site, "d/a", "Sent", message(text(1), ["\\Seen", "$Work"], DATE))
    copy(site, "d/a", "Sent", bases(site, "d/a", "Sent"), "Trash")
    append(site, "d/a", "Sent", message(text(2), [], DATE + 5))
    move(site, "d/a", "Sent", bases(site, "d/a", "Sent", text(2)), "Trash")
    expected, numbers = held(site, "d/a"), uids(site, "d/a", "Trash")
    site.stop()
    home = os.path.join(site.data, "mail", "d/a")
    for name in os.listdir(home):
        if name.startswith("index"):
            os.unlink(os.path.join(home, name))
    site = Site(site.data, seed=3).start()
    assert held(site, "d/a") == expected
    assert uids(site, "d/a", "Trash") == numbers


def together(site, *coroutines):
    """Run them so that their records are in one batch, in this order; what came of each."""
    outcomes = [[] for _ in coroutines]
    batches = []
    real = site.store._journal._run
    site.store._journal._run = lambda batch: batches.append(len(batch)) or real(batch)
    site.store._journal._crowd = len(coroutines)
    for coroutine, outcome in zip(coroutines, outcomes, strict=True):
        ensureDeferred(coroutine).addBoth(outcome.append)
    site.turn()
    assert batches == [len(coroutines)]
    return [outcome for (outcome,) in outcomes]


def test_a_batch_is_done_in_the_order_of_its_records(site):
    """As a replay does it: what was put into a folder before its end goes with it, what comes later to the inbox."""
    work, sent = folder(site, "d/a", "Work"), folder(site, "d/a", "Sent")
    append(site, "d/a", "Sent", message(text(1)), message(text(2)))
    first, second = bases(site, "d/a", "Sent")
    together(
        site,
        append_to(site, work, text(3)),
        site.store.move("d/a", sent, [first], work),
        site.store.remove_folder("d/a", work),
        append_to(site, work, text(4)),
        site.store.move("d/a", sent, [second], work),
    )
    expected = [("INBOX", text(2)), ("INBOX", text(4))]
    assert [(one.folder, one.content) for one in held(site, "d/a")] == expected
    for boot in ("boot-1", "boot-2"):
        site = again(site, boot)
        assert [(one.folder, one.content) for one in held(site, "d/a")] == expected


def test_who_does_not_know_of_a_move_removes_nothing(site):
    append(site, "d/a", "Sent", message(text(1)))
    sent, trash = folder(site, "d/a", "Sent"), folder(site, "d/a", "Trash")
    (base,) = bases(site, "d/a", "Sent")
    together(
        site,
        site.store.move("d/a", sent, [base], trash),
        site.store.expunge("d/a", sent, [base]),
        site.store.move("d/a", sent, [base], ""),
    )
    for boot in ("boot-1", "boot-1", "boot-2"):
        assert [one.folder for one in held(site, "d/a")] == ["Trash"]
        site = again(site, boot)


def test_who_is_cancelled_stops_nothing_half_way(site):
    append(site, "d/a", "Sent", message(text(1, 2_000_000)), message(text(2)))
    sent, trash = folder(site, "d/a", "Sent"), folder(site, "d/a", "Trash")
    waiting = ensureDeferred(site.store.copy("d/a", sent, bases(site, "d/a", "Sent"), trash))
    waiting.addErrback(lambda failure: failure.trap(CancelledError))
    waiting.cancel()
    site.turn()
    assert len(held(site, "d/a")) == 2
    checkpoint(site)
    assert spilled(site) == []


@pytest.mark.parametrize("size", [5000, 400_000])
def test_a_copy_that_is_not_the_file_of_the_record_is_made_anew_after_a_power_cut(
    site, monkeypatch, size
):
    """Data that was put back from a backup, say: other inodes, and perhaps damaged."""
    monkeypatch.setattr(commits, "INLINE", 100)
    append(site, "d/a", "Sent", message(text(1, size), [], DATE), message(text(2, size), [], DATE))
    copy(site, "d/a", "Sent", bases(site, "d/a", "Sent"), "Trash")
    expected = held(site, "d/a")
    for name in ("Sent", "Trash"):
        for one in picked(site, "d/a", name):
            os.unlink(one.path)
            with open(one.path, "wb") as file:
                file.write(b"\0" * (size if one.uid == 1 else 7))
    site = again(site, "boot-2")
    assert held(site, "d/a") == expected
