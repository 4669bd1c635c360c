"""``mailctl verify``: every kind of damage has its line, --repair mends what it says, and mail stays as it is."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from twisted_mail.cli import mailctl
from twisted_mail.cli import verify as verify_module
from twisted_mail.config import load
from twisted_mail.disk import OsDisk
from twisted_mail.site import make_store
from twisted_mail.storage.queued import QueuedMessage, QueuedRecipient
from twisted_mail.storage.store import MailStore
from twisted_mail.testing import simulated_world

USER = "alice@mail.example.org"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(mailctl, ["verify", *arguments])


class Server:
    """The store of the site, as a server has it open."""

    def __init__(self, directory: Path, seed: int = 1) -> None:
        self.world = simulated_world(seed=seed, disk=OsDisk(), start=1.7e9)
        self.config = load(directory / "mail.toml")
        self.data = self.config.data
        self.store: MailStore = make_store(self.config, self.world)
        self.world.run(self.store.start())
        self.up = True

    def accept(self, content: bytes, *keys: str, queue: QueuedMessage | None = None) -> None:
        async def work() -> None:
            draft = self.store.draft()
            waiting = draft.write(content)
            if waiting is not None:
                await waiting
            await self.store.accept(draft, keys, ascii_size=None, envelope={}, queue=queue)

        self.world.run(work())

    def deliver(self, content: bytes, key: str = "mail.example.org/alice") -> None:
        self.accept(content, key)

    def enqueue(self, id_: str, content: bytes = b"Subject: q\n\nhi\n") -> None:
        now = self.world.now()
        recipients = (QueuedRecipient("b@other.example", "other.example"),)
        self.accept(content, queue=QueuedMessage(id_, USER, recipients, now, now + 1e5))

    def look(self, key: str = "mail.example.org/alice") -> None:
        """Give UIDs to what has arrived."""
        self.store.account(key).refresh()
        self.store.account(key).release()

    def stop(self) -> None:
        if self.up:
            self.up = False
            self.world.run(self.store.stop())


@pytest.fixture
def site(empty_site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(verify_module, "PAUSE", 0.0)
    runner = CliRunner()
    assert runner.invoke(mailctl, ["domain", "add", "mail.example.org"]).exit_code == 0
    added = runner.invoke(mailctl, ["user", "add", USER], input="correct horse\ncorrect horse\n")
    assert added.exit_code == 0, added.output
    server = Server(empty_site)
    for number in range(4):
        server.deliver(b"Subject: %d\n\n" % number + b"x" * number + b"\n")
    server.look()
    server.enqueue("aa00")
    server.enqueue("ab00")
    yield server
    server.stop()


def home(site: Server) -> Path:
    return Path(site.data, "mail/mail.example.org/alice")


def mail(site: Server) -> dict[str, bytes]:
    return {
        path.name.partition(",")[0]: path.read_bytes()
        for sub in ("new", "cur")
        for path in (home(site) / "Maildir" / sub).iterdir()
    }


def found(*arguments: str, code: int = 1) -> list[dict[str, Any]]:
    result = run("--json", *arguments)
    assert result.exit_code == code, result.output
    told: list[dict[str, Any]] = json.loads(result.stdout)
    return told


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("arguments", [(), ("--deep",), ("--repair",), (USER,)])
def test_a_whole_site(site: Server, up: bool, arguments: tuple[str, ...]) -> None:
    if not up:
        site.stop()
    before = mail(site)
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("1 account, 4 messages: 0 faults")
    assert mail(site) == before
    assert found(*arguments, code=0) == []


# -- what can be wrong, and what becomes of it


def first_mail(site: Server) -> Path:
    return min((home(site) / "Maildir/new").iterdir())


def cut(site: Server) -> None:
    os.truncate(first_mail(site), 3)


def cut_and_unlooked(site: Server) -> None:
    cut(site)
    (home(site) / "index.sqlite3").unlink()


def nuls(site: Server) -> None:
    path = first_mail(site)
    path.write_bytes(bytes(path.stat().st_size))


def crlf(site: Server) -> None:
    path = first_mail(site)
    path.write_bytes(b"\n" * path.stat().st_size)


def taken(site: Server) -> None:
    first_mail(site).unlink()


def row_gone(site: Server) -> None:
    with closing(sqlite3.connect(home(site) / "index.sqlite3")) as db, db:
        db.execute("DELETE FROM message WHERE uid = 2")


def other_uid(site: Server) -> None:
    with closing(sqlite3.connect(home(site) / "index.sqlite3")) as db, db:
        db.execute("UPDATE message SET uid = 77 WHERE uid = 2")


def low_ceiling(site: Server) -> None:
    path = home(site) / "Maildir/twisted-mail.state"
    state = json.loads(path.read_bytes())
    state["uid_ceiling"] = 2
    path.write_text(json.dumps(state))


def same_uid(site: Server) -> None:
    path = first_mail(site)
    path.with_name(path.name.replace(".M", ".M9", 1)).write_bytes(path.read_bytes())


def garbage(name: str) -> Callable[[Server], None]:
    def damage(site: Server) -> None:
        path = Path(site.data, name)
        for suffix in ("-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        path.write_bytes(b"not a database at all, but long enough to be looked at" * 100)

    damage.__name__ = name.rpartition("/")[2]
    return damage


def state(site: Server) -> None:
    (home(site) / "Maildir/twisted-mail.state").write_bytes(b"{")


def stranger(site: Server) -> None:
    (site.data / "mail/mail.example.org/bob/Maildir/new").mkdir(parents=True, mode=0o700)
    (site.data / "mail/mail.example.org/bob/Maildir/cur").mkdir(mode=0o700)
    for part in ("bob", "bob/Maildir"):
        (site.data / "mail/mail.example.org" / part).chmod(0o700)


def open_mailbox(site: Server) -> None:
    (home(site) / "Maildir/new").chmod(0o755)


def open_data(site: Server) -> None:
    site.data.chmod(0o750)


def no_content(site: Server) -> None:
    (site.data / "queue/aa/aa00").unlink()


def short_content(site: Server) -> None:
    os.truncate(site.data / "queue/aa/aa00", 3)


def stray(site: Server) -> None:
    (site.data / "queue/aa/aaff").write_bytes(b"whose?")


def row_lost(site: Server) -> None:
    with closing(sqlite3.connect(site.data / "queue.sqlite3")) as db, db:
        db.execute(
            "DELETE FROM recipients WHERE seq = (SELECT seq FROM messages WHERE id = 'aa00')"
        )
        db.execute("DELETE FROM messages WHERE id = 'aa00'")


def miscounted(site: Server) -> None:
    with closing(sqlite3.connect(site.data / "queue.sqlite3")) as db, db:
        db.execute("UPDATE messages SET unfinished = 5")


def hop_lost(site: Server) -> None:
    with closing(sqlite3.connect(site.data / "queue.sqlite3")) as db, db:
        db.execute("DELETE FROM hops")


def queue_lost(site: Server) -> None:
    for suffix in ("", "-wal", "-shm"):
        (site.data / f"queue.sqlite3{suffix}").unlink(missing_ok=True)


def queue_emptied(site: Server) -> None:
    queue_lost(site)
    (site.data / "queue.sqlite3").touch()


def parked(site: Server) -> None:
    (site.data / "parked/0123.log").write_bytes(b"x" * 300)


def siteless(site: Server) -> None:
    (site.data / "site.json").write_bytes(b'{"version": 3, "gen')


CASES: list[tuple[Callable[[Server], None], str, bool]] = [
    (cut, "mail", False),
    (cut_and_unlooked, "mail", False),
    (taken, "lost", False),
    (row_gone, "index", True),
    (other_uid, "index", True),
    (low_ceiling, "number", True),
    (same_uid, "number", True),
    (garbage("mail/mail.example.org/alice/index.sqlite3"), "index", True),
    (garbage("mail/mail.example.org/alice/digests.sqlite3"), "cache", True),
    (garbage("reputation.sqlite3"), "cache", True),
    (garbage("queue.sqlite3"), "queue", True),
    (garbage("accounts.sqlite3"), "accounts", False),
    (state, "folder", False),
    (stranger, "accounts", False),
    (open_mailbox, "permissions", False),
    (open_data, "permissions", False),
    (no_content, "queue", False),
    (short_content, "queue", False),
    (stray, "queue", False),
    (row_lost, "queue", True),
    (miscounted, "queue", True),
    (hop_lost, "queue", True),
    (queue_lost, "queue", True),
    (queue_emptied, "queue", True),
    (parked, "parked", False),
    (siteless, "site", False),
]


@pytest.mark.parametrize(("damage", "what", "mends"), CASES)
def test_what_is_wrong_is_told_and_mended(
    site: Server, damage: Callable[[Server], None], what: str, mends: bool
) -> None:
    site.stop()
    damage(site)
    before = mail(site)
    told = [one for one in found() if one["state"] == "fault"]
    kinds = {one["what"] for one in told}
    assert what in kinds and (kinds == {what} or kinds == {"index", "number"})
    assert any(one["can_repair"] for one in told) == mends
    assert mail(site) == before
    again = found("--repair", code=0 if mends else 1)
    assert mail(site) == before, "mail was touched"
    if mends:
        assert {one["state"] for one in again} == {"mended"}
        after = found(code=0)
        assert [one["state"] for one in after] == ["note"] * len(after)
    else:
        assert "mended" not in {one["state"] for one in again}
    if damage.__name__ in ("siteless", "accounts.sqlite3"):
        return
    fresh = Server(site.data.parent, seed=2)
    fresh.deliver(b"Subject: after\n\n")
    fresh.stop()


def link(site: Server) -> None:
    path = first_mail(site)
    path.rename(site.data / "away")
    path.symlink_to(site.data / "away")


def link_to_nowhere(site: Server) -> None:
    (home(site) / "Maildir/cur/1.x.y:2,").symlink_to("nowhere")


def closed(site: Server) -> None:
    first_mail(site).chmod(0)


def closed_directory(site: Server) -> None:
    (home(site) / "Maildir/cur").chmod(0o500)


def others(site: Server) -> None:
    """As if somebody had worked there as another user; only root can make it so."""
    if os.geteuid():
        pytest.skip("needs root")
    os.chown(first_mail(site), 54321, -1)


def halved(site: Server) -> None:
    (home(site) / "Maildir/cur").rmdir()


def replaced(site: Server) -> None:
    halved(site)
    (home(site) / "Maildir/cur").touch(0o600)


def stateless(site: Server) -> None:
    (home(site) / "Maildir/twisted-mail.state").unlink()


def newer_state(site: Server) -> None:
    (home(site) / "Maildir/twisted-mail.state").write_text('{"version": 99}')


def copied_folder(site: Server) -> None:
    whole = home(site) / "Maildir"
    for sub in ("new", "cur", "tmp"):
        (whole / ".Copy" / sub).mkdir(parents=True, mode=0o700)
    (whole / ".Copy").chmod(0o700)
    (whole / ".Copy/twisted-mail.state").write_bytes((whole / "twisted-mail.state").read_bytes())


def mail_gone(site: Server) -> None:
    (site.data / "mail").rename(site.data / "away")


def accounts_gone(site: Server) -> None:
    for path in site.data.glob("accounts.sqlite3*"):
        path.unlink()


def queued_link(site: Server) -> None:
    path = site.data / "queue/aa/aa00"
    path.rename(site.data / "away")
    path.symlink_to(site.data / "away")


def empty_segment(site: Server) -> None:
    (site.data / "journal/7.log").touch()


@pytest.mark.parametrize(
    ("damage", "state", "what", "text"),
    [
        (link, "fault", "mail", "is a link"),
        (link_to_nowhere, "fault", "mail", "is a link"),
        (closed, "fault", "permissions", "is closed to its owner"),
        (closed_directory, "fault", "permissions", "is closed to its owner"),
        (others, "fault", "permissions", "belongs to user 54321"),
        (halved, "fault", "mailbox", "is not there"),
        (replaced, "fault", "mailbox", "Not a directory"),
        (stateless, "fault", "folder", "its UIDVALIDITY was"),
        (newer_state, "fault", "folder", "use the newer program"),
        (copied_folder, "note", "folder", "as a copy does"),
        (mail_gone, "fault", "site", "is not there, with all"),
        (accounts_gone, "fault", "accounts", "is not there, and mail is"),
        (queued_link, "fault", "queue", "is a link"),
        (empty_segment, "fault", "journal", "is empty"),
    ],
)
def test_what_else_is_told(
    site: Server, damage: Callable[[Server], None], state: str, what: str, text: str
) -> None:
    site.stop()
    damage(site)
    told = found(code=1 if state == "fault" else 0)
    (one,) = [one for one in told if (one["what"], one["state"]) == (what, state)]
    assert text in one["text"] and one["advice"]
    # What is beside it was looked at all the same.
    assert [other for other in told if other["state"] == "fault" and other is not one] == []


def test_segments_that_were_renamed_or_taken_away(site: Server) -> None:
    (log,) = (site.data / "journal").glob("*.log")
    number = int(log.stem)
    log.with_name(f"{number + 4}.log").write_bytes(log.read_bytes())
    told = [(Path(one["where"]).name, one["text"]) for one in found()]
    assert told == [
        (f"{number + 4}.log", f"is segment {number} by what it says: somebody has renamed it"),
        (f"{number + 1}.log", "is not there, and later ones are"),
    ]
    for path in (site.data / "journal").glob("*.log"):
        path.unlink()
    (one,) = found()
    assert one["text"] == "has no segment, and the server runs"


@pytest.mark.parametrize("damage", [nuls, crlf])
def test_what_only_a_look_inside_shows(site: Server, damage: Callable[[Server], None]) -> None:
    site.stop()
    damage(site)
    found(code=0)
    (told,) = found("--deep")
    assert (told["what"], told["state"]) == ("mail", "fault")


def test_beside_a_server_that_runs(site: Server) -> None:
    """What can be mended there is, and the server sees it."""
    row_gone(site)
    row_lost(site)
    garbage("reputation.sqlite3")(site)
    told = found("--repair", code=0)
    assert {(one["state"], one["what"]) for one in told} == {
        ("mended", what) for what in ("index", "queue", "cache")
    }
    assert [one["state"] for one in found(code=0)] == ["note"]
    site.deliver(b"Subject: after\n\n")
    site.look()
    taken = site.world.run(site.store.queue.take(site.world.now() + 10, 100, lambda _: 100))
    assert {one.message.id for one in taken.taken} == {"aa00", "ab00"}


def test_a_queue_is_not_made_anew_beside_a_server(site: Server) -> None:
    site.store._spool.close()
    garbage("queue.sqlite3")(site)
    (told,) = found("--repair")
    assert told["state"] == "fault" and "stop it first" in told["advice"]
    site.enqueue("ac00")  # the server does that by itself
    assert {one["state"] for one in found(code=0)} == {"note"}


def test_a_message_on_its_way_is_no_fault(site: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Content without a row at the first look, and with one at the second."""
    stray(site)
    monkeypatch.setattr(
        verify_module.time,
        "sleep",
        lambda _: (site.data / "queue/aa/aaff").unlink(),
    )
    assert found(code=0) == []


def test_a_segment_and_what_it_spilled(site: Server) -> None:
    big = b"Subject: big\n\n" + b"x" * 600_000 + b"\n"
    site.deliver(big)
    (spilled,) = (site.data / "journal/spill").iterdir()
    spilled.rename(site.data / "away")
    (told,) = found()
    assert told["what"] == "journal" and "it is not there" in told["text"]
    (site.data / "away").rename(spilled)
    found(code=0)
    (log,) = (site.data / "journal").glob("*.log")
    with open(log, "r+b") as file:
        file.seek(300)
        file.write(b"\xff\xff")
    (told,) = found()
    assert told["what"] == "journal" and "no whole record" in told["text"]


def test_one_user(site: Server) -> None:
    site.stop()
    stray(site)
    found(USER, code=0)
    cut(site)
    (told,) = found(USER)
    assert told["what"] == "mail"
    assert run("bob@mail.example.org").exit_code == 2


def test_lines_for_people(site: Server) -> None:
    site.stop()
    cut(site)
    garbage("reputation.sqlite3")(site)
    result = run("--repair")
    assert result.exit_code == 1
    cache, broken = sorted(result.stdout.splitlines(), reverse=True)
    assert broken.startswith("fault\tmail\t") and "its name says" in broken
    assert cache.startswith("mended\tcache\t")
    assert result.stderr.splitlines()[-1] == "1 account, 4 messages: 1 fault, 1 mended"


def test_where_there_is_no_site(empty_site: Path) -> None:
    assert run().exit_code == 2
