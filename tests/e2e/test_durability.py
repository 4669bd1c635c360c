"""What 250 promised is kept.

Processes that die, indexes that go, data directories put back, two servers on one store.
"""

from __future__ import annotations

import poplib
import shutil
import smtplib
import threading

import pytest
from mailsite import (
    ALICE,
    BOB,
    DEADLINE,
    LISTENERS,
    PASSWORD,
    Site,
    body_of,
    free_ports,
    letter,
    subject_of,
    until,
)

pytestmark = pytest.mark.e2e


def test_kill_between_250_and_fetch_loses_nothing(site):
    wanted = [f"message {number}" for number in range(20)]
    for subject in wanted:
        site.send(subject, to=[ALICE, BOB])
    site.kill()
    site.start()
    assert site.subjects(ALICE) == site.subjects(BOB) == wanted


def test_kill_again_and_again(site):
    wanted = []
    before = {}
    for round_number in range(5):
        for number in range(3):
            wanted.append(f"message {round_number}.{number}")
            site.send(wanted[-1])
        before = site.uidls()
        site.kill()
        site.start()
    assert site.subjects() == wanted
    assert site.uidls() == before


def test_kill_in_the_middle_of_many_senders(site):
    """Every message answered 250 is there once; one that was not answered may be there, once."""
    promised: list[str] = []
    stop = threading.Event()

    def send(name: int) -> None:
        number = 0
        try:
            with site.smtp() as session:
                while not stop.is_set():
                    subject = f"sender {name} message {number}"
                    session.sendmail("carol@elsewhere.example", [ALICE], letter(subject, size=4000))
                    promised.append(subject)
                    number += 1
        except (OSError, smtplib.SMTPException):
            pass  # the server was killed under us

    senders = [threading.Thread(target=send, args=(name,)) for name in range(8)]
    for sender in senders:
        sender.start()
    until(lambda: len(promised) >= 100, "a hundred messages are promised")
    site.kill()
    stop.set()
    for sender in senders:
        sender.join(DEADLINE)
    site.start()
    found = site.subjects()
    assert len(found) == len(set(found))
    assert set(promised) <= set(found)
    assert len(found) - len(promised) <= len(senders)


def spilled(site):
    """Octets of large messages that are on their way in."""
    return sum(path.stat().st_size for path in (site.data / "journal" / "spill").iterdir())


def test_a_killed_server_leaves_no_half_message(site):
    with site.smtp() as session:
        session.ehlo()
        session.mail("carol@elsewhere.example")
        session.rcpt(ALICE)
        session.putcmd("data")
        assert session.getreply()[0] == 354
        session.send(letter("half", size=2_000_000)[:1_000_000])
        until(lambda: spilled(site), "something of it is written")
        site.kill()
        session.close()
    site.start()
    assert site.subjects() == []
    site.send("whole")
    assert site.subjects() == ["whole"]


def test_deletions_survive_a_kill(site):
    for number in range(6):
        site.send(f"message {number}")
    with site.pop(ALICE) as session:
        for number in (1, 3, 5):
            session.dele(number)
    site.kill()
    site.start()
    assert site.subjects() == ["message 1", "message 3", "message 5"]


def test_a_lost_index_keeps_every_uidl(site):
    for number in range(5):
        site.send(f"message {number}")
    with site.pop(ALICE) as session:
        session.dele(2)
    before = site.uidls()
    indexes = sorted(site.maildir(ALICE).parent.glob("index.sqlite3*"))
    assert indexes
    for path in indexes:
        path.unlink()
    assert site.uidls() == before
    site.send("after")
    after = site.uidls()
    assert {subject: uidl for subject, uidl in after.items() if subject != "after"} == before
    assert after["after"] not in before.values()


def test_a_lost_index_while_the_server_is_down(site):
    for number in range(3):
        site.send(f"message {number}")
    before = site.uidls()
    site.stop()
    for path in site.maildir(ALICE).parent.glob("index.sqlite3*"):
        path.unlink()
    site.start()
    assert site.uidls() == before


def test_mail_that_another_program_drops_appears_at_the_next_login(site):
    site.send("ours")
    before = site.uidls()
    new = site.maildir(ALICE) / "new"
    dropped = new.parent / "tmp" / "1234.dropped.elsewhere"
    dropped.write_bytes(b"From: someone@else.example\nSubject: dropped\n\n.a line\n")
    dropped.rename(new / dropped.name)
    after = site.uidls()
    assert set(after) == {"ours", "dropped"}
    assert after["ours"] == before["ours"]
    with site.pop(ALICE) as session:
        number = next(n for n in (1, 2) if subject_of(session, n) == "dropped")
        assert body_of(session, number) == b".a line\n"
        session.dele(number)
    assert site.subjects() == ["ours"]
    assert site.uidls() == before
    assert [path.name for path in new.parent.rglob("*dropped*")] == []


def test_what_another_program_takes_away_is_gone(site):
    site.send("stays")
    site.send("goes")
    box = site.maildir(ALICE)
    gone = [path for path in box.glob("*/*,S=*") if b"Subject: goes" in path.read_bytes()]
    assert len(gone) == 1
    gone[0].unlink()
    assert site.subjects() == ["stays"]
    site.kill()
    site.start()
    assert site.subjects() == ["stays"]


def test_the_replay_drill(site):
    """An old copy of the data and the newer journal give the newest state again: nothing doubled, lost or revived."""
    for number in range(20):
        site.send(f"old {number}")
    site.stop()
    copy = site.directory / "copy"
    shutil.copytree(site.data, copy, symlinks=True)

    site.start()
    for number in range(50):
        with site.smtp() as session:
            text = letter(f"new {number}", size=1_000_000 if number % 10 == 0 else 2000)
            session.sendmail("carol@elsewhere.example", [ALICE], text)
    expected = [f"old {n}" for n in range(10, 20)] + [f"new {n}" for n in range(10, 50)]
    with site.pop(ALICE) as session:
        for number in range(1, session.stat()[0] + 1):
            if subject_of(session, number) not in expected:
                session.dele(number)
    before = site.uidls()
    assert set(before) == set(expected)
    site.kill()

    journal = site.directory / "journal"
    shutil.copytree(site.data / "journal", journal, symlinks=True)
    shutil.rmtree(site.data)
    copy.rename(site.data)
    shutil.rmtree(site.data / "journal")
    journal.rename(site.data / "journal")

    site.start()
    assert site.uidls() == before
    assert site.subjects() == expected
    with site.pop(ALICE) as session:
        for number in range(1, session.stat()[0] + 1):
            subject = subject_of(session, number)
            if subject.startswith("new"):
                size = 1_000_000 if int(subject.split()[1]) % 10 == 0 else 2000
                sent = letter(subject, size=size).partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
                assert body_of(session, number) == sent
    site.send("afterwards")
    assert site.subjects() == [*expected, "afterwards"]
    # and once more, from the same journal
    site.kill()
    site.start()
    assert site.subjects() == [*expected, "afterwards"]


# Two processes on one store


@pytest.fixture
def second(site):
    """The ports of a second server process on `site`'s data."""
    ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
    config = site.directory / "second.toml"
    text = site.config.read_text()
    for name, port in ports.items():
        text = text.replace(f"tcp:{site.ports[name]}:", f"tcp:{port}:")
    config.write_text(text)
    process = site.spawn([*site.command[:-1], str(config)])
    site.others.append(process)
    first, site.ports = site.ports, ports
    site.wait_until_up(process)
    site.ports = first
    return ports


def test_two_processes_take_mail_for_one_mailbox(site: Site, second):
    def send(ports: dict[str, int], name: str) -> None:
        with site.smtp(ports=ports) as session:
            for number in range(40):
                session.sendmail(
                    "carol@elsewhere.example", [ALICE, BOB], letter(f"{name} {number}")
                )

    senders = [
        threading.Thread(target=send, args=(ports, name))
        for name, ports in (("a", site.ports), ("b", second), ("c", site.ports), ("d", second))
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(4 * DEADLINE)
    wanted = sorted(f"{name} {number}" for name in "abcd" for number in range(40))
    for user in (ALICE, BOB):
        with site.pop(user) as one:
            found = [subject_of(one, number) for number in range(1, one.stat()[0] + 1)]
            uidls = [line.split()[1] for line in one.uidl()[1]]
        with site.pop(user, ports=second) as other:
            assert [line.split()[1] for line in other.uidl()[1]] == uidls
        assert sorted(found) == wanted
        assert len(set(uidls)) == len(uidls)
        # each sender's own order is kept
        for name in "abcd":
            assert [s for s in found if s.startswith(name)] == [f"{name} {n}" for n in range(40)]


def test_a_mailbox_is_locked_across_processes(site: Site, second):
    with site.pop(ALICE):
        other = poplib.POP3_SSL("localhost", second["pop3s"], timeout=DEADLINE, context=site.tls)
        try:
            other.user(ALICE)
            with pytest.raises(poplib.error_proto, match=r"IN-USE"):
                other.pass_(PASSWORD)
        finally:
            other.close()
    with site.pop(ALICE, ports=second):
        pass


def test_one_of_two_processes_is_killed(site: Site, second):
    site.send("by the first")
    with site.smtp(ports=second) as session:
        session.sendmail("carol@elsewhere.example", [ALICE], letter("by the second"))
    site.kill()
    with site.smtp(ports=second) as session:
        session.sendmail("carol@elsewhere.example", [ALICE], letter("while the first is dead"))
    with site.pop(ALICE, ports=second) as session:
        assert session.stat()[0] == 3
        session.dele(1)
    site.start()
    assert site.subjects() == ["by the second", "while the first is dead"]
