"""IMAP with Python's own client and with IMAPClient: what their methods do is what the mailbox then is."""

from __future__ import annotations

import base64
import imaplib
import threading
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from imapsite import files, imap, letters, listed, ok, subjects, uids
from mailsite import ALICE, BOB, DEADLINE, PASSWORD, body_of, letter, until

pytestmark = pytest.mark.e2e


# imaplib


def test_starttls_and_no_password_before_it(site):
    with imaplib.IMAP4("localhost", site.ports["imap"], timeout=DEADLINE) as session:
        assert "LOGINDISABLED" in session.capabilities
        with pytest.raises(imaplib.IMAP4.error, match="PRIVACYREQUIRED"):
            session.login(ALICE, PASSWORD)
        ok(session.starttls(site.tls))
        assert "LOGINDISABLED" not in session.capabilities
        ok(session.login(ALICE, PASSWORD))
        assert ok(session.select()) == [b"0"]


def test_authenticate_plain(site):
    with imaplib.IMAP4_SSL("localhost", site.ports["imaps"], ssl_context=site.tls) as session:
        assert "AUTH=PLAIN" in session.capabilities
        ok(session.authenticate("PLAIN", lambda _: f"\0{ALICE}\0{PASSWORD}".encode()))
        assert session.state == "AUTH"


def test_a_wrong_password_is_no_and_the_connection_lives(site):
    with imaplib.IMAP4_SSL("localhost", site.ports["imaps"], ssl_context=site.tls) as session:
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            session.login(ALICE, "not this one")
        ok(session.login(ALICE, PASSWORD))


def test_the_folders_of_a_new_account(site):
    with imap(site) as session:
        said = b"\n".join(ok(session.list())).decode()
    for name, use in [
        ("Drafts", "Drafts"), ("Sent", "Sent"), ("Trash", "Trash"), ("Junk", "Junk"), ("Archive", "Archive"),
    ]:  # fmt: skip
        (line,) = (line for line in said.splitlines() if line.endswith(name))
        assert f"\\{use}" in line
    assert "INBOX" in said


def test_a_mail_comes_is_read_flagged_copied_and_removed(site):
    site.send("one")
    site.send("two")
    with imap(site, folder="INBOX") as session:
        assert uids(session) == [1, 2]
        sent = ok(session.uid("FETCH", "1", "(RFC822.SIZE BODY[])"))
        assert b"Subject: one\r\n" in sent[0][1]
        assert f"RFC822.SIZE {len(sent[0][1])}".encode() in sent[0][0]
        ok(session.uid("STORE", "2", "+FLAGS", r"(\Flagged \Answered $Later)"))
        assert {uid: flags for uid, (flags, _) in listed(session).items()} == {
            1: {r"\Seen"},
            2: {r"\Flagged", r"\Answered", "$Later"},
        }
        ok(session.create("Work/Plans"))
        ok(session.uid("COPY", "2", "Work/Plans"))
        ok(session.uid("STORE", "1:2", "+FLAGS.SILENT", r"(\Deleted)"))
        ok(session.expunge())
        assert uids(session) == []
    assert files(site) == []
    (copied,) = files(site, ".Work.Plans")
    assert letters(copied) == "FRa"
    assert subjects(site, "Work/Plans") == ["two"]


def test_append_keeps_text_flags_and_date(site):
    text = letter("appended", size=300_000)
    with imap(site) as session:
        date = imaplib.Time2Internaldate(datetime(2001, 2, 3, 4, 5, 6, tzinfo=UTC))
        assert b"APPENDUID" in ok(session.append("Drafts", r"(\Draft \Seen)", date, text))[0]
        ok(session.select("Drafts"))
        (whole, *_) = ok(session.fetch("1", "(FLAGS INTERNALDATE BODY.PEEK[])"))
        assert whole[1] == text
        assert rb"FLAGS (\Seen \Draft)" in whole[0] or rb"FLAGS (\Draft \Seen)" in whole[0]
        assert imaplib.Internaldate2tuple(whole[0]) == imaplib.Internaldate2tuple(
            f"INTERNALDATE {date}".encode()
        )
        status, said = session.append("Nowhere", None, None, text)
        assert status == "NO"
        assert said[0].startswith(b"[TRYCREATE]")
        ok(session.noop())


def test_search_sort_and_thread(site):
    site.send("pears")
    site.send("apples")
    with imap(site) as session:
        encoded = base64.b64encode("Grüße aus Köln".encode()).decode()
        text = f"From: b@example.net\r\nSubject: =?utf-8?b?{encoded}?=\r\n\r\nErdäpfel\r\n".encode()
        ok(session.append("INBOX", None, None, text))
        ok(session.select())
        assert uids(session, "SUBJECT", "APPLE") == [2]
        assert uids(session, "TEXT", '"This is"') == [1, 2]
        session.literal = "köln".encode()
        assert ok(session.uid("SEARCH", "CHARSET", "UTF-8", "SUBJECT"))[0] == b"3"
        assert ok(session.uid("SORT", "(SUBJECT)", "UTF-8", "ALL"))[0] == b"2 3 1"
        assert ok(session.uid("THREAD", "REFERENCES", "UTF-8", "ALL"))[0].count(b"(") == 3


def test_two_sessions_see_each_other(site):
    site.send("one")
    with imap(site, folder="INBOX") as first, imap(site, folder="INBOX") as second:
        ok(first.store("1", "+FLAGS", r"(\Flagged)"))
        ok(second.noop())
        assert b"\\Flagged" in second.response("FETCH")[1][0]
        site.send("two")
        ok(second.noop())
        assert second.response("EXISTS")[1][-1] == b"2"
        ok(first.noop())
        ok(first.store("1", "+FLAGS", r"(\Deleted)"))
        ok(first.expunge())
        ok(second.noop())
        assert second.response("EXPUNGE")[1] == [b"1"]


def test_names_in_every_script(site):
    names = ["Entwürfe 2026", "日本語", "a.b", "&", "Ωmega/βeta", "x" * 200]
    with imap(site) as session:
        for name in names:
            ok(session.create(f'"{modified_utf7(name)}"'))
        said = b"\n".join(line for line in ok(session.list()) if isinstance(line, bytes)).decode()
        for name in names:
            assert modified_utf7(name) in said
            ok(session.select(f'"{modified_utf7(name)}"'))
            ok(session.unselect())
            ok(session.delete(f'"{modified_utf7(name)}"'))


def modified_utf7(name: str) -> str:
    """RFC 3501 section 5.1.3, written here again: what is asked is not taken from what answers."""
    made, run = "", ""
    for letter_ in name + "\0":
        if 0x20 <= ord(letter_) < 0x7F or letter_ == "\0":
            if run:
                bits = base64.b64encode(run.encode("utf-16-be")).decode().rstrip("=")
                made += f"&{bits.replace('/', ',')}-"
                run = ""
            made += {"&": "&-", "\0": ""}.get(letter_, letter_)
        else:
            run += letter_
    return made


# IMAPClient

needs_imapclient = pytest.mark.needs("python:imapclient")


@contextmanager
def client(site, user=ALICE):
    imapclient = pytest.importorskip("imapclient")
    session = imapclient.IMAPClient(
        "localhost", site.ports["imaps"], ssl_context=site.tls, timeout=DEADLINE
    )
    try:
        session.login(user, PASSWORD)
        yield session
    finally:
        session.logout()


@needs_imapclient
def test_imapclient_knows_where_sent_mail_goes(site):
    with client(site) as session:
        for use, name in [(rb"\Sent", "Sent"), (rb"\Junk", "Junk"), (rb"\Trash", "Trash")]:
            assert session.find_special_folder(use) == name
        assert session.namespace().personal == (("", "/"),)
        assert b"name" in session.id_({"name": "a test"})[0]
        session.create_folder("Überraschungen")
        session.subscribe_folder("Überraschungen")
        assert "Überraschungen" in [name for _, _, name in session.list_sub_folders()]
        session.rename_folder("Überraschungen", "Büro/Alt")
        assert session.folder_exists("Büro/Alt")
        assert not session.folder_exists("Überraschungen")


@needs_imapclient
def test_imapclient_fetches_envelopes_and_structure(site):
    site.send("one")
    with client(site) as session:
        assert session.select_folder("INBOX")[b"EXISTS"] == 1
        got = session.fetch([1], ["ENVELOPE", "BODYSTRUCTURE", "INTERNALDATE", "FLAGS", "MODSEQ"])[
            1
        ]
        assert got[b"ENVELOPE"].subject == b"one"
        assert str(got[b"ENVELOPE"].from_[0]) == "carol@elsewhere.example"
        assert got[b"BODYSTRUCTURE"][:2] == (b"text", b"plain")
        assert got[b"FLAGS"] == ()
        assert session.search(["UNSEEN", "SUBJECT", "one"]) == [1]
        assert session.search(["SUBJECT", "Grüße"], charset="UTF-8") == []
        assert session.sort(["REVERSE ARRIVAL"]) == [1]
        assert session.thread() == ((1,),)


@needs_imapclient
def test_imapclient_moves_copies_and_expunges(site):
    for subject in ("one", "two", "three"):
        site.send(subject)
    with client(site) as session:
        session.select_folder("INBOX")
        session.move([1], "Archive")
        session.create_folder("Work")
        session.copy([2], "Work")
        session.add_flags([2], [rb"\Deleted"])
        session.add_flags([3], [rb"\Deleted"])
        session.uid_expunge([2])
        assert session.search() == [3]
        assert session.folder_status("Archive", ["MESSAGES", "UIDNEXT"]) == {
            b"MESSAGES": 1,
            b"UIDNEXT": 2,
        }
        assert session.append("Archive", letter("more"), [rb"\Seen"]).startswith(b"[APPENDUID")
    assert subjects(site, "Archive") == ["one", "more"]
    assert subjects(site, "Work") == ["two"]


@needs_imapclient
def test_imapclient_in_idle_hears_a_delivery(site):
    with client(site) as session:
        session.select_folder("INBOX")
        session.idle()
        site.send("while it idles")
        heard = []
        until(
            lambda: heard.extend(session.idle_check(timeout=1)) or (1, b"EXISTS") in heard, "EXISTS"
        )
        session.idle_done()
        assert session.search() == [1]


@needs_imapclient
def test_imapclient_asks_for_the_quota(site):
    with client(site) as session:
        roots, quotas = session.get_quota_root("INBOX")
        assert roots.mailbox == "INBOX"
        assert isinstance(quotas, list)


# Many at once


def test_twenty_sessions_append_and_flag_one_mailbox(site):
    """Every APPEND that was answered is there once, and every session sees the same."""
    done: list[str] = []
    failed: list[BaseException] = []

    def work(name: int) -> None:
        try:
            with imap(site, folder="INBOX") as session:
                for number in range(10):
                    subject = f"session {name} message {number}"
                    ok(
                        session.append(
                            "INBOX", r"(\Seen)" if number % 2 else None, None, letter(subject)
                        )
                    )
                    ok(session.noop())
                    done.append(subject)
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=work, args=(name,)) for name in range(20)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(2 * DEADLINE)
    assert failed == []
    assert len(done) == 200
    assert sorted(subjects(site)) == sorted(done)
    with imap(site, folder="INBOX") as session:
        assert uids(session) == list(range(1, 201))
        assert len(uids(session, "SEEN")) == 100


def test_pop3_sees_what_imap_appended_and_not_its_flags(site):
    text = letter("by imap")
    with imap(site) as session:
        ok(session.append("INBOX", r"(\Seen)", None, text))
        ok(session.append("Sent", None, None, letter("not in the inbox")))
    assert site.subjects() == ["by imap"]
    with site.pop(ALICE) as pop:
        assert body_of(pop, 1) == text.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
    assert site.subjects(BOB) == []
