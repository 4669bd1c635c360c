"""The database of the queue, damaged or lost: what waits still waits, for whom it is for, with its content."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from store_site import Site

from twisted_mail.storage.queued import Attempt, Change, State, Verdict
from twisted_mail.storage.spool_tables import open_tables

NAMES = ("queue.sqlite3", "queue.sqlite3-wal", "queue.sqlite3-shm")


def database(site: Site) -> Path:
    return Path(site.data) / "queue.sqlite3"


def delete(site: Site) -> None:
    for name in NAMES:
        (Path(site.data) / name).unlink(missing_ok=True)


def garbage(site: Site) -> None:
    delete(site)
    database(site).write_bytes(b"not a database at all, but long enough to be looked at" * 100)


def truncate(site: Site) -> None:
    os.truncate(database(site), os.path.getsize(database(site)) // 2 + 100)


def empty(site: Site) -> None:
    delete(site)
    database(site).touch()


def directory(site: Site) -> None:
    delete(site)
    database(site).mkdir()


def header(site: Site) -> None:
    with open(database(site), "r+b") as file:
        file.write(b"SQLite format 4\0")


def no_version(site: Site) -> None:
    with closing(sqlite3.connect(database(site))) as db, db:
        db.execute("PRAGMA user_version=0")


def no_table(site: Site) -> None:
    with closing(sqlite3.connect(database(site))) as db, db:
        db.execute("DROP TABLE recipients")


def no_rows(site: Site) -> None:
    """Lost, and another program has made an empty one."""
    delete(site)
    open_tables(site.world.disk, str(database(site)))[0].close()


DAMAGES = [delete, garbage, truncate, empty, directory, header, no_version, no_table, no_rows]


def flip(path: Path, random: Random, count: int) -> None:
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        for _ in range(count):
            at = random.randrange(size)
            file.seek(at)
            (byte,) = file.read(1)
            file.seek(at)
            file.write(bytes([byte ^ (1 << random.randrange(8))]))


def filled(tmp_path: Path, count: int = 40) -> Site:
    """Messages to two each; of every third one the first has it, every fifth is held."""
    site = Site(str(tmp_path / "data")).start()
    for number in range(count):
        content = b"Subject: %d\n\n" % number + b"x" * number + b"\n"
        site.enqueue(content, f"{number:04x}aa", f"a{number}@one.example", f"b{number}@two.example")
    for number in range(0, count, 3):
        site.change(said(site, number, 0, State.DELIVERED))
    for number in range(1, count, 5):
        site.change(said(site, number, 1, State.HELD))
    return site


def said(site: Site, number: int, recipient: int, state: State) -> Change:
    attempt = Attempt(site.world.now(), "mx", "192.0.2.1", "", state.name)
    return Change(f"{number:04x}aa", (Verdict(recipient, state, 0.0, 0),), (attempt,))


def unfinished(site: Site) -> dict[tuple[str, str], State]:
    return {key: state for key, state in site.states().items() if not state.final}


def restarted(site: Site, seed: int = 2) -> Site:
    return Site(site.data, seed=seed).start()


def whole(site: Site, before: dict[tuple[str, str], State]) -> None:
    """Nobody is lost and nobody's content; who had it may get it twice."""
    now = unfinished(site)
    assert before.keys() <= now.keys()
    for id_, _ in now:
        number = int(id_[:4], 16)
        assert site.queued_file(id_) == b"Subject: %d\n\n" % number + b"x" * number + b"\n"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("stop", [True, False])
def test_all_that_waits_is_there_again(
    tmp_path: Path, damage: Callable[[Site], None], stop: bool
) -> None:
    site = filled(tmp_path)
    before = unfinished(site)
    site.run(site.world.threads.call(site.store._journal.checkpoint))
    # Over since their envelopes were written down; and neither is in the journal any more
    for number in (7, 8):
        site.change(said(site, number, 0, State.DELIVERED), said(site, number, 1, State.BOUNCED))
    before = {key: state for key, state in before.items() if key[0] not in ("0007aa", "0008aa")}
    site.run(site.world.threads.call(site.store._journal.checkpoint))
    site.stop() if stop else site.kill()
    damage(site)
    again = restarted(site)
    whole(again, before)
    assert unfinished(again) == before
    assert set(before.values()) == {State.WAITING, State.HELD}
    # It goes on, and over another start
    again.enqueue(b"Subject: 200\n\n" + b"x" * 200 + b"\n", "00c8aa", "new@one.example")
    taken, _ = again.take(limit=1000, share=1000)
    assert {(one.message.id, one.message.recipients[one.number].address) for one in taken} == {
        ("00c8aa", "new@one.example"),
        *(key for key, state in before.items() if state is State.WAITING),
    }
    again.stop()
    assert unfinished(restarted(again, 3)).keys() == before.keys() | {("00c8aa", "new@one.example")}


def test_what_is_set_aside_is_what_lay_there(tmp_path: Path) -> None:
    site = filled(tmp_path, 3)
    site.stop()
    garbage(site)
    was = database(site).read_bytes()
    restarted(site)
    (aside,) = Path(site.data).glob("queue.sqlite3.broken-*Z")
    assert aside.read_bytes() == was


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bits(tmp_path: Path, seed: int) -> None:
    """Flips in text change what it says; in the structure they are met. Either way everybody is there who has an
    envelope, under the right address."""
    site = filled(tmp_path)
    before = unfinished(site)
    site.run(site.world.threads.call(site.store._journal.checkpoint))
    site.stop()
    random = Random(seed)
    flip(database(site), random, random.choice([1, 10, 300]))
    with closing(sqlite3.connect(database(site))) as db:
        try:
            damaged = db.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]
        except sqlite3.Error:
            damaged = True
    again = restarted(site)
    if damaged:
        whole(again, before)
    else:
        assert len(unfinished(again)) >= len(before) - 10
    again.enqueue(b"x\n", "ffffaa", "new@one.example")
    assert ("ffffaa", "new@one.example") in unfinished(again)
    again.stop()


def test_damage_that_is_met_while_it_runs(tmp_path: Path) -> None:
    site = filled(tmp_path)
    before = unfinished(site)
    site.store._spool.close()
    flip(database(site), Random(1), 2000)
    for number in (200, 201):
        # Refused, or taken: if the answer is yes, it is there
        try:
            site.enqueue(
                b"Subject: %d\n\n" % number + b"x" * number + b"\n",
                f"{number:04x}aa",
                "new@one.example",
            )
        except Exception:
            continue
        before[f"{number:04x}aa", "new@one.example"] = State.WAITING
    site.world.reactor.advance(31)
    site.turn(200)
    whole(site, before)
    assert len(before) > 60
    assert list(Path(site.data).glob("queue.sqlite3.broken-*Z"))
    assert site.store.queue.changed()
    site.stop()


def test_damage_behind_an_open_connection(tmp_path: Path) -> None:
    """Who meets it is answered with a no, once; the rows are there again then, and what is said next is taken."""
    site = filled(tmp_path)
    before = unfinished(site)
    site.store._spool.close()
    with closing(sqlite3.connect(database(site))) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = db.execute("PRAGMA page_size").fetchone()[0]
    site.store._spool.prepare()
    length = os.path.getsize(database(site))
    with open(database(site), "r+b") as file:
        file.seek(size)
        file.write(b"\xff" * (length - size))
    with pytest.raises(sqlite3.DatabaseError):
        site.states()
    assert unfinished(site) == before
    whole(site, before)
    site.stop()


@pytest.mark.parametrize("who", [0, 1])
def test_deleted_under_two_processes(tmp_path: Path, who: int) -> None:
    first = filled(tmp_path)
    second = Site(first.data, seed=5).start()
    before = unfinished(second)
    both = (first, second)
    delete(first)
    both[who].enqueue(b"Subject: 200\n\n" + b"x" * 200 + b"\n", "00c8aa", "new@one.example")
    both[1 - who].enqueue(b"Subject: 201\n\n" + b"x" * 201 + b"\n", "00c9aa", "new@one.example")
    before |= {(id_, "new@one.example"): State.WAITING for id_ in ("00c8aa", "00c9aa")}
    for site in both:
        assert unfinished(site) == before
        assert site.store._spool._current() and database(site).exists()
    first.stop()
    second.stop()
    assert unfinished(restarted(first, 3)) == before


def test_the_first_message_ever_and_a_crash_is_no_lost_database(
    tmp_path: Path, told: Callable[[str], list[str]]
) -> None:
    """Its content was linked, its row was not written yet: the journal has it, and nobody is alarmed."""
    site = Site(str(tmp_path / "data")).start()
    site.enqueue(b"Subject: 1\n\nx\n", "0001aa", "a@one.example")
    with site.store._spool.transaction() as db:
        for table in ("messages", "recipients", "hops"):
            db.execute(f"DELETE FROM {table}")  # noqa: S608
    site.kill()
    assert unfinished(restarted(site)) == {("0001aa", "a@one.example"): State.WAITING}
    assert not told("queue.sqlite3")


def test_what_a_dropped_record_said_and_a_lost_row_is_in_the_envelope(tmp_path: Path) -> None:
    """And what was accepted since is in the journal."""
    site = filled(tmp_path, 10)
    site.run(site.world.threads.call(site.store._journal.checkpoint))
    site.enqueue(b"Subject: 200\n\n" + b"x" * 200 + b"\n", "00c8aa", "new@one.example")
    before = unfinished(site)
    site.kill()
    delete(site)
    again = restarted(site)
    assert unfinished(again) == before


def test_envelopes_go_with_their_messages(tmp_path: Path) -> None:
    site = Site(str(tmp_path / "data")).start()
    checkpoint: Any = site.store._journal.checkpoint
    envelopes = site.store._spool.envelopes
    for number in range(30):
        site.enqueue(b"x\n", f"{number:04x}aa", "a@one.example")
        site.run(site.world.threads.call(checkpoint))
    kept = [one.message.id for one in envelopes.load()]
    assert kept == [f"{number:04x}aa" for number in range(30)], "each once"
    for number in range(29):
        site.change(said(site, number, 0, State.DELIVERED))
    for number in range(100, 160):
        site.enqueue(b"x\n", f"{number:04x}aa", "a@one.example")
        site.change(said(site, number, 0, State.DELIVERED))
        site.run(site.world.threads.call(checkpoint))
    assert [one.message.id for one in envelopes.load()] == ["001daa"]
    site.change(said(site, 29, 0, State.DELIVERED))
    site.run(site.world.threads.call(checkpoint))
    assert not envelopes.numbers()
    site.stop()


@pytest.mark.parametrize("some", [False, True])
def test_envelopes_stay_while_there_is_content_that_no_row_knows(
    tmp_path: Path, some: bool
) -> None:
    """Whatever has become of the rows: they are what is left then."""
    site = filled(tmp_path, 10)
    checkpoint: Any = site.store._journal.checkpoint
    site.run(site.world.threads.call(checkpoint))
    kept = {one.message.id for one in site.store._spool.envelopes.load()}
    before = unfinished(site)
    with site.store._spool.transaction() as db:
        for table in ("messages", "recipients"):
            db.execute(f"DELETE FROM {table} WHERE seq > ?", (3 if some else 0,))  # noqa: S608
    site.enqueue(b"x\n", "0099aa", "a@one.example")
    for _ in range(3):
        site.run(site.world.threads.call(checkpoint))
    assert {one.message.id for one in site.store._spool.envelopes.load()} >= kept
    site.stop()
    delete(site)
    assert unfinished(restarted(site)).keys() >= before.keys()


def test_a_row_that_gets_the_number_of_one_before_is_written_down(tmp_path: Path) -> None:
    site = Site(str(tmp_path / "data")).start()
    checkpoint: Any = site.store._journal.checkpoint
    for number in range(3):
        site.enqueue(b"x\n", f"{number:04x}aa", "a@one.example")
    site.run(site.world.threads.call(checkpoint))
    site.change(said(site, 2, 0, State.DELIVERED))
    site.run(site.store.queue.prune(site.world.now() + 1e6, 0))
    site.enqueue(b"x\n", "0009aa", "a@one.example")
    site.run(site.world.threads.call(checkpoint))
    ids = [one.message.id for one in site.store._spool.envelopes.load()]
    assert "0009aa" in ids
    site.stop()


@pytest.mark.parametrize("how", ["gone", "garbage", "half"])
def test_without_envelopes_rows_are_read_as_far_as_they_can_be(tmp_path: Path, how: str) -> None:
    site = filled(tmp_path, 400)
    before = unfinished(site)
    site.stop()
    kept = Path(site.data) / "queue" / "envelopes"
    if how == "gone":
        shutil.rmtree(kept)
    for file in kept.glob("*.log"):
        text = file.read_bytes()
        file.write_bytes(b"\0" * 5000 if how == "garbage" else text[: len(text) // 2])
    # One page of the rows
    with closing(sqlite3.connect(database(site))) as db:
        size = db.execute("PRAGMA page_size").fetchone()[0]
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    with open(database(site), "r+b") as file:
        file.seek(size * (pages // 2))
        file.write(b"\xff" * size)
    again = restarted(site)
    found = unfinished(again)
    assert found.keys() <= before.keys()
    assert len(found) > len(before) * 0.7
    assert all(before[key] is state for key, state in found.items())
    again.stop()


def test_damaged_envelopes_keep_nothing_from_working(tmp_path: Path) -> None:
    site = filled(tmp_path, 10)
    site.stop()
    kept = Path(site.data) / "queue" / "envelopes"
    shutil.rmtree(kept)
    kept.touch()
    again = restarted(site)
    before = unfinished(again)
    again.run(again.world.threads.call(again.store._journal.checkpoint))
    again.stop()
    assert unfinished(restarted(again, 3)) == before


def test_a_newer_version_is_refused_and_stays(tmp_path: Path) -> None:
    site = filled(tmp_path, 3)
    site.stop()
    with closing(sqlite3.connect(database(site))) as db, db:
        db.execute("PRAGMA user_version=9")
    again = Site(site.data, seed=2)
    with pytest.raises(ValueError, match="use the newer program"):
        again.start()
    assert not list(Path(site.data).glob("*.broken*"))
