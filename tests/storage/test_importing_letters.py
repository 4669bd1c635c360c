"""Messages from mbox files and Maildirs, and out again: nothing twice, nothing missing, wherever it was stopped."""

from __future__ import annotations

import os

import pytest
from filing_site import account, append, held, message
from stopping import Stop
from store_site import Site

from twisted_mail.disk import OsDisk
from twisted_mail.mailboxes import SEEN, StoreMode
from twisted_mail.message.mbox import NotMboxError
from twisted_mail.status import MailError
from twisted_mail.storage import exporting, importing_letters
from twisted_mail.storage.exporting import export_maildir, export_mbox
from twisted_mail.storage.importing_dovecot import items, read_dovecot
from twisted_mail.storage.importing_letters import Importer, MaildirSource, MboxSource
from twisted_mail.storage.importing_log import ImportLog
from twisted_mail.storage.progress import InterruptedImportError, Quiet

KEY = "example.org/alice"


@pytest.fixture
def site(tmp_path):
    return Site(str(tmp_path / "data")).start()


def text(number):
    return f"Subject: {number}\n\nFrom here\n>From there {number}\n".encode() + b"x\n" * number


def mbox_file(path, count):
    data = b""
    for number in range(count):
        body = text(number).replace(b"\nFrom ", b"\n>From ").replace(b"\n>From t", b"\n>>From t")
        head, _, rest = body.partition(b"\n\n")
        status = b"RO" if number % 2 else b"O"
        data += b"From x Sat Jan  3 01:05:%02d 1996\n" % (number % 60)
        data += head + b"\nStatus: %b\nX-Keywords: Work\n\n" % status + rest + b"\n"
    path.write_bytes(data)
    return str(path)


def run_import(site, source, progress=None):
    async def work():
        mailboxes = await site.store.open_mailboxes(KEY)
        try:
            log = ImportLog(site.disk, account(site, KEY).home, source.name)
            return await Importer(source, mailboxes, log, progress or Quiet()).run()
        finally:
            await mailboxes.close()

    try:
        return site.run(work())
    finally:
        source.close()


def from_mbox(path, mailbox="Old/2020", **how):
    return MboxSource(OsDisk(), path, mailbox, **how)


def logs(site):
    return [name for name in os.listdir(account(site, KEY).home) if name.startswith("import-")]


def contents(site, folder):
    return [one.content for one in held(site, KEY) if one.folder == folder]


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(importing_letters, "BATCH", 3)


def test_an_mbox(site, tmp_path):
    result = run_import(site, from_mbox(mbox_file(tmp_path / "m", 10)))
    assert (result.messages, result.before, result.missing) == (10, 0, {})
    assert contents(site, "Old/2020") == sorted(map(text, range(10)))
    first, second = sorted(held(site, KEY), key=lambda one: one.content)[:2]
    assert (first.date, second.date) == (820631100, 820631101)
    assert (first.flags, second.flags) == (("Work",), ("Work", "\\Seen"))
    assert "Old/2020" in account(site, KEY).folders.subscriptions()
    assert logs(site) == []


def test_all_of_them_read(site, tmp_path):
    run_import(site, from_mbox(mbox_file(tmp_path / "m", 3), flags=("\\Seen",)))
    assert all("\\Seen" in one.flags for one in held(site, KEY))


@pytest.mark.parametrize("after", range(12))
def test_stopped_it_goes_on(site, tmp_path, small_batches, after):
    path = mbox_file(tmp_path / "m", 14)
    try:
        run_import(site, from_mbox(path), Stop(after))
        assert after > 5
    except InterruptedImportError:
        assert logs(site)
        result = run_import(site, from_mbox(path))
        assert result.messages + result.before == 14
    assert contents(site, "Old/2020") == sorted(map(text, range(14)))
    assert logs(site) == []


@pytest.mark.parametrize("committed", [False, True])
def test_killed_between_the_log_and_the_commit(
    site, tmp_path, small_batches, committed, monkeypatch
):
    """The last batch is in the log, and in the mailbox or not."""
    path = mbox_file(tmp_path / "m", 8)
    done = 0

    async def work():
        nonlocal done
        mailboxes = await site.store.open_mailboxes(KEY)
        append = mailboxes.append

        async def killed(name, messages):
            nonlocal done
            done += 1
            if done < 3 or committed:
                await append(name, messages)
            if done == 3:
                raise KeyboardInterrupt

        mailboxes.append = killed
        source = from_mbox(path)
        log = ImportLog(site.disk, account(site, KEY).home, source.name)
        await Importer(source, mailboxes, log, Quiet()).run()

    with pytest.raises(KeyboardInterrupt):
        site.run(work())
    result = run_import(site, from_mbox(path))
    assert result.before == (8 if committed else 6)
    assert contents(site, "Old/2020") == sorted(map(text, range(8)))


def test_a_torn_line_at_the_end_of_the_log_never_was(site, tmp_path, small_batches):
    path = mbox_file(tmp_path / "m", 8)
    with pytest.raises(InterruptedImportError):
        run_import(site, from_mbox(path), Stop(2))
    log = os.path.join(account(site, KEY).home, *logs(site))
    with open(log, "ab") as file:
        file.write(b'{"mailbox":"Old/2020","vali')
    run_import(site, from_mbox(path))
    assert contents(site, "Old/2020") == sorted(map(text, range(8)))


def test_another_file_in_its_place_is_refused(site, tmp_path, small_batches):
    path = mbox_file(tmp_path / "m", 8)
    with pytest.raises(InterruptedImportError):
        run_import(site, from_mbox(path), Stop(1))
    with pytest.raises(ValueError, match="begun with mailbox"):
        run_import(site, from_mbox(path, "Other"))
    os.truncate(path, os.path.getsize(path) - 1)
    with pytest.raises(ValueError, match="another file"):
        run_import(site, from_mbox(path))
    # but it may have grown
    mbox_file(tmp_path / "m", 9)
    run_import(site, from_mbox(path))
    assert contents(site, "Old/2020") == sorted(map(text, range(9)))


def test_what_is_deleted_meanwhile_is_said(site, tmp_path, small_batches):
    path = mbox_file(tmp_path / "m", 8)
    with pytest.raises(InterruptedImportError):
        run_import(site, from_mbox(path), Stop(1))
    store = account(site, KEY)
    id_ = store.folders.find("Old/2020").folder
    site.run(site.store.expunge(KEY, id_, [store.rows(id_)[0][1]]))
    assert run_import(site, from_mbox(path)).missing == {"Old/2020": 1}
    assert len(contents(site, "Old/2020")) == 7
    assert logs(site)


def test_what_is_no_mbox_leaves_nothing(site, tmp_path):
    (tmp_path / "m").write_bytes(b"Subject: x\n\nx\n")
    with pytest.raises(NotMboxError):
        run_import(site, from_mbox(str(tmp_path / "m")))
    assert logs(site) == []


def test_a_full_mailbox(tmp_path, small_batches):
    site = Site(str(tmp_path / "data"))
    site.store._limits = lambda _: (None, 7)
    site.start()
    path = mbox_file(tmp_path / "m", 14)
    with pytest.raises(MailError) as refused:
        run_import(site, from_mbox(path))
    assert (refused.value.imap, len(contents(site, "Old/2020"))) == ("OVERQUOTA", 6)
    site.store._limits = lambda _: (None, None)
    run_import(site, from_mbox(path))
    assert contents(site, "Old/2020") == sorted(map(text, range(14)))


def test_only_one_at_a_time(site, tmp_path):
    log = ImportLog(site.disk, str(tmp_path / "h"), "x")
    log.open({})
    with pytest.raises(ValueError, match="another process"):
        ImportLog(site.disk, str(tmp_path / "h"), "x").open({})
    log.close()


# -- Maildirs


def maildir(root):
    for folder in ("", ".Work", ".Empty"):
        for part in ("new", "cur", "tmp"):
            (root / folder / part).mkdir(parents=True)
    for folder, sub, name in (
        ("", "new", "1.a.h"), ("", "cur", "2.b.h:2,SR"), (".Work", "cur", "3.c.h:2,Fa"),
    ):  # fmt: skip
        path = root / folder / sub / name
        path.write_bytes(f"Subject: {name}\r\n\r\nx\r\n".encode())
        os.utime(path, (7, int(name[0])))
    (root / ".Work/dovecot-keywords").write_text("0 Todo\n")
    return root


def test_a_maildir_with_its_folders(site, tmp_path):
    source = MaildirSource(OsDisk(), str(maildir(tmp_path / "m")), under="Old")
    result = run_import(site, source)
    assert result.messages == 3
    assert [(one.folder, one.content, one.flags, one.date) for one in held(site, KEY)] == [
        ("Old", b"Subject: 1.a.h\n\nx\n", (), 1),
        ("Old", b"Subject: 2.b.h:2,SR\n\nx\n", ("\\Answered", "\\Seen"), 2),
        ("Old/Work", b"Subject: 3.c.h:2,Fa\n\nx\n", ("Todo", "\\Flagged"), 3),
    ]


@pytest.mark.parametrize("after", range(3))
def test_a_maildir_goes_on_though_flags_have_changed(site, tmp_path, after):
    root = maildir(tmp_path / "m")
    with pytest.raises(InterruptedImportError):
        run_import(site, MaildirSource(OsDisk(), str(root)), Stop(after))
    os.rename(root / "new/1.a.h", root / "cur/1.a.h:2,S")
    run_import(site, MaildirSource(OsDisk(), str(root)))
    assert [one.folder for one in held(site, KEY)] == ["INBOX", "INBOX", "Work"]
    assert logs(site) == []


# -- out again


ODD = [
    b"Subject: a\n\nFrom x\n>From y\n>>From z\n",
    b"Return-Path: <a@b.example>\nStatus: RO\nX-Status: F\nSubject: own\n\ntext",
    b"no header at all",
    b"\nonly a body\n",
    b"Subject: crlf\r\n\r\nx\r\n",
    b"Subject: \xff\n\n" + bytes(range(32, 256)) * 3000,
    b"Subject: long line\n\nFrom " + b"y" * 700_000 + b"\nFrom z Sat Jan  3 01:05:34 1996\n",
    b"Subject: ends\n\n\n\n",
]


def fill(site):
    append(site, KEY, "INBOX", message(ODD[0], ("\\Seen", "Todo"), 1000))
    for number, one in enumerate(ODD[1:]):
        append(site, KEY, "Work/Plans", message(one, ("\\Flagged",) if number % 2 else (), 2000))


def exported(site, how, target, *names, progress=None):
    async def work():
        mailboxes = await site.store.open_mailboxes(KEY)
        try:
            if how is export_maildir:
                store = account(site, KEY)
                return await how(mailboxes, store, site.disk, target, names, progress or Quiet())
            return await how(mailboxes, site.disk, target, names, progress or Quiet())
        finally:
            await mailboxes.close()

    return site.run(work())


def test_mbox_and_back(site, tmp_path):
    fill(site)
    reports = exported(site, export_mbox, str(tmp_path / "out"))
    assert [(one.name, one.messages, one.wrong) for one in reports if one.messages] == [
        ("INBOX", 1, []), ("Work/Plans", 7, []),
    ]  # fmt: skip
    assert not (tmp_path / "out/export.json").exists()
    before = held(site, KEY)
    run_import(site, from_mbox(str(tmp_path / "out/Work/Plans.mbox"), "Back"))
    back = [one for one in held(site, KEY) if one.folder == "Back"]
    there = [one for one in before if one.folder == "Work/Plans"]
    assert sorted((one.flags, one.date) for one in back) == sorted(
        (one.flags, one.date) for one in there
    )
    own = b"Status: RO\nX-Status: F\n"  # what it had of its own is lost
    wanted = [one.content.replace(b"\r\n", b"\n").replace(own, b"") for one in there]
    ended = [one if one.endswith(b"\n") else one + b"\n" for one in wanted]
    assert sorted(one.content for one in back) == sorted(ended)


@pytest.mark.parametrize("after", range(0, 16, 3))
def test_an_mbox_goes_on(site, tmp_path, monkeypatch, after):
    monkeypatch.setattr(exporting, "SYNC_EVERY", 2000)
    fill(site)
    exported(site, export_mbox, str(tmp_path / "whole"))
    try:
        exported(site, export_mbox, str(tmp_path / "out"), progress=Stop(after))
        assert after > 7
    except InterruptedImportError:
        exported(site, export_mbox, str(tmp_path / "out"))
    for name in ("INBOX.mbox", "Work/Plans.mbox"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_is_there_is_not_overwritten(site, tmp_path):
    fill(site)
    exported(site, export_mbox, str(tmp_path / "out"), "INBOX")
    with pytest.raises(ValueError, match="there already"):
        exported(site, export_mbox, str(tmp_path / "out"), "INBOX")
    with pytest.raises(ValueError, match="no mailbox Nothing"):
        exported(site, export_mbox, str(tmp_path / "out2"), "Nothing")
    (tmp_path / "out3").mkdir()
    (tmp_path / "out3/file").touch()
    with pytest.raises(ValueError, match="something else"):
        exported(site, export_maildir, str(tmp_path / "out3"))


def test_a_maildir_as_dovecot_has_it(site, tmp_path):
    fill(site)
    store = account(site, KEY)
    store.folders.subscribe("Work/Plans", True)
    store.folders.create("Empty")
    exported(site, export_maildir, str(tmp_path / "out"))
    source = read_dovecot(OsDisk(), str(tmp_path / "out"))
    assert source.subscriptions == store.folders.subscriptions()
    assert "Work/Plans" in source.subscriptions
    for folder in source.folders:
        snapshot = store.snapshot(store.folders.find(folder.name).folder)
        assert (folder.uidlist.validity, folder.uidlist.uidnext) == (
            snapshot.validity,
            snapshot.uidnext,
        )
        found = items(OsDisk(), folder)
        assert [one.uid for one in found] == list(snapshot.uids)
        for one, date in zip(found, snapshot.dates, strict=True):
            path = os.path.join(folder.path, one.sub, one.name)
            assert int(os.stat(path).st_mtime) == date
    inbox = source.folders[0]
    assert inbox.keywords == ("Todo",)
    (only,) = items(OsDisk(), inbox)
    assert only.name.endswith(":2,Sa")
    # POP3 clients know it by its base name, which Dovecot would not give it
    assert inbox.uidlist.uidls == {only.base: only.base}


@pytest.mark.parametrize("after", range(0, 12, 2))
def test_a_maildir_out_goes_on(site, tmp_path, after):
    fill(site)
    exported(site, export_maildir, str(tmp_path / "whole"))
    store = account(site, KEY)
    with pytest.raises(InterruptedImportError):
        exported(site, export_maildir, str(tmp_path / "out"), progress=Stop(after))
    id_ = store.folders.find("Work/Plans").folder
    store.store(id_, [1], StoreMode.ADD, ["\\Seen"])
    site.run(site.store.expunge(KEY, id_, [store.rows(id_)[1][1]]))
    reports = exported(site, export_maildir, str(tmp_path / "out"))
    assert [one.wrong for one in reports if one.wrong] == []
    source = read_dovecot(OsDisk(), str(tmp_path / "out"))
    found = next(folder for folder in source.folders if folder.name == "Work/Plans")
    assert [one.uid for one in items(OsDisk(), found)] == [1, 3, 4, 5, 6, 7]
    assert items(OsDisk(), found)[0].name.endswith("S")
    assert store.snapshot(id_).flags[0] & SEEN
