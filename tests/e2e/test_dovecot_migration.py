"""From Dovecot to this server and back: a client that has everything downloads nothing, and POP3's names stay.

TWISTED_MAIL_MIGRATION_MESSAGES: how many messages (2000).
"""

from __future__ import annotations

import imaplib
import os
import random
import re
from pathlib import Path

import pytest
from dovecot_site import SECRET, Client, DovecotImap, copy_tree, pop3_names
from imapsite import ok
from mailsite import ALICE, PASSWORD
from peers import open_directory

MESSAGES = int(os.environ.get("TWISTED_MAIL_MIGRATION_MESSAGES", "2000"))
FOLDERS = ["", ".Work", ".Work.Plans", ".Gesendet", ".Trash", ".Entw&APw-rfe", ".Archive.2020"]

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.needs("dovecot", "mbsync"),
    pytest.mark.skipif(os.geteuid() != 0, reason="Dovecot takes another user's place"),
]

CLEAR = """
[imap]
allow_plaintext_loopback = true
separator = "."
"""


@pytest.fixture
def root():
    with open_directory() as place:
        yield place


@pytest.fixture
def dovecot(root):
    (root / "d").mkdir()
    made = DovecotImap(root / "d")
    yield made
    made.stop()


def write_mail(maildir: Path, count: int) -> None:
    """Messages in several folders, some unread; most names without sizes, as other programs make them."""
    source = random.Random(1)
    for folder in FOLDERS:
        for part in ("new", "cur", "tmp"):
            (maildir / folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        folder = source.choice([*FOLDERS, "", "", ""])
        flags = "".join(sorted(source.sample("FRST", source.randrange(4)))).replace("T", "")
        text = (
            f"From: carol@elsewhere.example\nTo: {ALICE}\nSubject: message {number}\n"
            f"Message-ID: <{number}@elsewhere.example>\nDate: Thu, 2 Jul 2020 10:00:00 +0000\n\n"
            + "Zeile\n"
            * source.randrange(60)
        ).encode()
        if number % 17 == 0:
            text = text.replace(b"\n", b"\r\n")
        size = f",S={len(text)}" if number % 3 == 0 else ""
        path = (
            maildir / folder / "cur" / f"{1_500_000_000 + number}.M{number}P1.host{size}:2,{flags}"
        )
        path.write_bytes(text)
        os.utime(path, (1_500_000_000 + number, 1_500_000_000 + number))


def flagged(port: int, user: str, password: str) -> dict[str, dict[int, tuple[set[str], str]]]:
    """Mailbox → UID → flags and date, and the UIDVALIDITY with it."""
    found = {}
    with imaplib.IMAP4("127.0.0.1", port) as session:
        session.login(user, password)
        for line in ok(session.list()):
            if b"noselect" in line.lower() or b"nonexistent" in line.lower():
                continue
            name = re.search(rb' "?([^" ]+)"?$', line)[1].decode()
            ok(session.select(name, readonly=True))
            validity = session.response("UIDVALIDITY")[1][0].decode()
            uidnext = session.response("UIDNEXT")[1][0].decode()
            messages = {}
            for part in session.uid("FETCH", "1:*", "(FLAGS INTERNALDATE)")[1]:
                if part is None:
                    continue
                uid = int(re.search(rb"UID (\d+)", part)[1])
                flags = set(re.search(rb"FLAGS \(([^)]*)\)", part)[1].decode().split())
                when = re.search(rb'INTERNALDATE "([^"]+)"', part)[1].decode().strip()
                messages[uid] = (flags - {"\\Recent"}, when)
            found[f"{name} {validity} {uidnext}"] = messages
    return found


def uses(port: int, user: str, password: str) -> dict[str, set[str]]:
    with imaplib.IMAP4("127.0.0.1", port) as session:
        session.login(user, password)
        found = {}
        for line in ok(session.list()):
            attributes = set(re.match(rb"\(([^)]*)\)", line)[1].decode().split())
            special = {"\\Sent", "\\Trash", "\\Drafts", "\\Junk", "\\Archive"}
            found[re.search(rb' "?([^" ]+)"?$', line)[1].decode()] = attributes & special
        return found


def subscribed(port: int, user: str, password: str) -> set[str]:
    with imaplib.IMAP4("127.0.0.1", port) as session:
        session.login(user, password)
        return {re.search(rb' "?([^" ]+)"?$', one)[1].decode() for one in ok(session.lsub()) if one}


def prepare(dovecot: DovecotImap, user: str, count: int) -> None:
    """An account of Dovecot's with a past: UIDs with holes, keywords, subscriptions, what nobody has looked at yet."""
    write_mail(dovecot.maildir(user), count)
    dovecot.start()
    dovecot.doveadm("flags", "add", "-u", user, "$Junk Todo", "mailbox", "INBOX", "uid", "5:25")
    dovecot.doveadm("flags", "add", "-u", user, "Plan", "mailbox", "Work.Plans", "all")
    dovecot.doveadm("expunge", "-u", user, "mailbox", "INBOX", "uid", "10:12")
    for name in ("Work", "Work.Plans", "Gesendet"):
        dovecot.doveadm("mailbox", "subscribe", "-u", user, name)


def numbers(said: str) -> list[str]:
    """What mbsync says that it did: +new *changed #deleted, on each side."""
    return re.findall(r"[+*#]\d+", said.splitlines()[-1] if said else "")


def nothing_moved(client: Client, before, validities, said: str, octets: int, count: int) -> None:
    assert client.state() == before, said[-2000:]
    assert client.validities() == validities
    # flags and UIDs of each, no header and no text
    assert octets < 2000 * len(FOLDERS) + 150 * count, octets


def test_there_and_back(root, dovecot, make_site):
    prepare(dovecot, "alice", MESSAGES)
    there = (dovecot.ports["imap"], "alice", SECRET)
    client = Client(root / "client")
    client.sync(*there)
    mail, validities = client.state(), client.validities()
    assert len(mail) == MESSAGES - 3
    assert len(validities) == len(FOLDERS)
    names = pop3_names(dovecot.ports["pop3"], "alice", SECRET)
    before, marked = flagged(*there), subscribed(*there)
    (root / "doveconf").write_text(dovecot.doveconf())
    dovecot.stop()

    site = make_site(extra=CLEAR)
    site.start()
    told = site.mailctl(
        "import", "--from-dovecot", str(dovecot.maildir("alice")), "--user", ALICE,
        "--doveconf", str(root / "doveconf"),
    ).stdout  # fmt: skip
    assert f"taken over: {MESSAGES - 3} messages" in told
    assert "separator" not in told  # it is set
    here = (site.ports["imap"], ALICE, PASSWORD)
    said, octets = client.sync(*here)
    nothing_moved(client, mail, validities, said, octets, MESSAGES)
    assert flagged(*here) == before
    assert subscribed(*here) == marked
    assert uses(*here)["Gesendet"] == {"\\Sent"}
    assert uses(*here)["Trash"] == {"\\Trash"}
    with site.pop(ALICE) as session:
        assert [line.decode().split()[1] for line in session.uidl()[1]] == names

    # something happens here
    site.send("a new one")
    with imaplib.IMAP4("127.0.0.1", here[0]) as session:
        session.login(*here[1:])
        ok(session.select("Work"))
        ok(session.store("1:2", "+FLAGS", "(\\Flagged Here)"))
        ok(session.copy("1", "INBOX"))
    client.sync(*here)
    mail, validities = client.state(), client.validities()
    assert len(mail) == MESSAGES - 1
    before, marked = flagged(*here), subscribed(*here)
    with site.pop(ALICE) as session:
        names = [line.decode().split()[1] for line in session.uidl()[1]]

    # the index is a cache
    site.stop()
    (site.maildir(ALICE).parent / "index.sqlite3").unlink()
    site.start()
    said, octets = client.sync(*here)
    nothing_moved(client, mail, validities, said, octets, MESSAGES)
    with site.pop(ALICE) as session:
        assert [line.decode().split()[1] for line in session.uidl()[1]] == names
    # The next UID may be higher then
    before = {key.rpartition(" ")[0]: value for key, value in before.items()}

    target = dovecot.maildir("back")
    target.parent.mkdir()
    told = site.mailctl("export", "--user", ALICE, "--format", "maildir", str(target)).stdout
    assert f"exported: {MESSAGES - 1} messages" in told
    site.stop()
    dovecot.start()
    back = (dovecot.ports["imap"], "back", SECRET)
    said, octets = client.sync(*back)
    nothing_moved(client, mail, validities, said, octets, MESSAGES)
    assert {key.rpartition(" ")[0]: value for key, value in flagged(*back).items()} == before
    assert subscribed(*back) == marked
    assert pop3_names(dovecot.ports["pop3"], "back", SECRET) == names


def test_put_in_place_by_hand_before_the_first_login(root, dovecot, make_site):
    prepare(dovecot, "alice", 200)
    there = (dovecot.ports["imap"], "alice", SECRET)
    client = Client(root / "client")
    client.sync(*there)
    mail, validities = client.state(), client.validities()
    names = pop3_names(dovecot.ports["pop3"], "alice", SECRET)
    before = flagged(*there)
    dovecot.stop()

    site = make_site(extra=CLEAR)
    copy_tree(dovecot.maildir("alice"), site.data / "mail/example.org/alice/Maildir")
    site.start()
    site.send("a delivery comes first")
    with site.pop(ALICE) as session:
        *old, _new = [line.decode().split()[1] for line in session.uidl()[1]]
        assert old == names
    client.sync(site.ports["imap"], ALICE, PASSWORD)
    assert mail.items() <= client.state().items()
    assert client.validities() == validities
    after = flagged(site.ports["imap"], ALICE, PASSWORD)
    for key, messages in before.items():
        name, validity, uidnext = key.split()
        if name != "INBOX":
            assert after[key] == messages
        else:
            found = after[f"{name} {validity} {int(uidnext) + 1}"]
            assert messages.items() <= found.items()


def test_prefix_and_control_while_the_server_runs(root, make_site):
    (root / "d").mkdir()
    control = root / "d" / "control"
    dovecot = DovecotImap(root / "d", prefix="INBOX.", more=f":CONTROL={control}/%u")
    control.mkdir(mode=0o777)
    control.chmod(0o777)
    try:
        prepare_plain(dovecot, "alice", 150)
        there = (dovecot.ports["imap"], "alice", SECRET)
        client = Client(root / "client")
        client.sync(*there)
        mail, validities = client.state(), client.validities()
        before = flagged(*there)
        (root / "doveconf").write_text(dovecot.doveconf())
    finally:
        dovecot.stop()

    site = make_site(extra=CLEAR + 'prefix = "INBOX."\n')
    site.start()
    here = (site.ports["imap"], ALICE, PASSWORD)
    session = imaplib.IMAP4("127.0.0.1", here[0])
    try:
        # Its folders are made, and one is open, with nothing in it.
        session.login(*here[1:])
        ok(session.select("INBOX"))
        site.mailctl(
            "import", "--from-dovecot", str(dovecot.maildir("alice")), "--user", ALICE, "--move",
            "--control", str(control / "alice"), "--doveconf", str(root / "doveconf"),
        )  # fmt: skip
        # UIDVALIDITY is another: this session cannot go on
        with pytest.raises((imaplib.IMAP4.abort, OSError)):
            for _ in range(50):
                session.noop()
    finally:
        session.shutdown()
    site.send("and more comes")
    client.sync(*here)
    assert mail.items() <= client.state().items()
    assert validities.items() <= client.validities().items()
    after = flagged(*here)
    for key, messages in before.items():
        if key.startswith("INBOX "):
            name, validity, uidnext = key.split()
            messages = {
                **messages,
                int(uidnext): after[f"{name} {validity} {int(uidnext) + 1}"][int(uidnext)],
            }
            key = f"{name} {validity} {int(uidnext) + 1}"
        assert after[key] == messages
    assert list(dovecot.maildir("alice").rglob("*:2,*")) == []


def prepare_plain(dovecot: DovecotImap, user: str, count: int) -> None:
    write_mail(dovecot.maildir(user), count)
    dovecot.start()
    dovecot.doveadm("flags", "add", "-u", user, "$Junk Todo", "mailbox", "INBOX", "uid", "5:25")


@pytest.mark.parametrize("kind", ["fs", "mdbox", "sdbox"])
def test_other_formats_by_the_command_that_is_told(root, make_site, kind):
    """`doveadm backup` makes a Maildir++ with the same UIDs of them."""
    (root / "d").mkdir()
    location = root / "d" / "mail" / "alice" / "box"
    format_ = f"maildir:{location}:LAYOUT=fs" if kind == "fs" else f"{kind}:{location}"
    dovecot = DovecotImap(root / "d", separator="/", extra=f"mail_location = {format_}")
    try:
        dovecot.start()
        for name in ("INBOX", "A/B"):
            if name != "INBOX":
                dovecot.doveadm("mailbox", "create", "-u", "alice", name)
            for number in range(3):
                dovecot.save("alice", name, f"Subject: {number}\n\nx\n".encode())
        dovecot.doveadm("expunge", "-u", "alice", "mailbox", "A/B", "uid", "1")
        dovecot.doveadm("flags", "add", "-u", "alice", "\\Seen Todo", "mailbox", "A/B", "uid", "2")
        before = flagged(dovecot.ports["imap"], "alice", SECRET)
        names = pop3_names(dovecot.ports["pop3"], "alice", SECRET)
        site = make_site(extra=CLEAR.replace('"."', '"/"'))
        refused = site.mailctl(
            "import", "--from-dovecot", str(location), "--user", ALICE, status=1
        ).stderr
        command = re.search(r"doveadm (.*)", refused)
        assert command is not None
        new = location.parent / "new"
        words = command[1].replace("USER", "alice").replace("NEW-DIRECTORY", str(new)).split()
        dovecot.doveadm(*words)
    finally:
        dovecot.stop()
    site.start()
    site.mailctl("import", "--from-dovecot", str(new), "--user", ALICE)
    assert before.items() <= flagged(site.ports["imap"], ALICE, PASSWORD).items()
    with site.pop(ALICE) as session:
        assert [line.decode().split()[1] for line in session.uidl()[1]] == names
