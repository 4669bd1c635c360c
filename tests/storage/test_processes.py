"""Several processes on one store: they share nothing but the disk."""

from __future__ import annotations

import os

import pytest
from delivering_process import delivering
from store_site import Site, seen

from twisted_mail.status import MailError
from twisted_mail.storage.journal import Journal
from twisted_mail.storage.parking import Parking


def message(number):
    return b"Subject: %d\n\nhello\n" % number


@pytest.fixture
def two(tmp_path):
    data = str(tmp_path / "data")
    first, second = Site(data, seed=1).start(), Site(data, seed=2).start()
    return first, second


def logs(site):
    return sorted(n for n in os.listdir(os.path.join(site.data, "journal")) if n.endswith(".log"))


def checkpoint(site):
    site.run(site.world.threads.call(site.store._journal.checkpoint))


def test_both_see_what_either_accepts_in_one_order(two):
    first, second = two
    for n in range(10):
        (first if n % 2 else second).deliver(message(n), "d/a")
        first.world.reactor.advance(0.001)
        second.world.reactor.advance(0.001)
    assert [content for _, content in first.read("d/a")] == [message(n) for n in range(10)]
    assert first.read("d/a") == second.read("d/a")
    rows = seen(second.store._accounts.get("d/a"))
    assert [row[0] for row in rows] == list(range(1, 11))


def test_one_removes_what_the_other_accepted_and_no_replay_brings_it_back(two):
    first, second = two
    first.deliver(message(1), "d/a")
    first.deliver(message(2), "d/a")
    second.delete("d/a", 0)
    first.kill()
    second.kill()
    again = Site(first.data, seed=3).start()
    assert again.contents("d/a") == [message(2)]
    again.stop()


def test_an_inbox_is_held_against_the_other_process_too(two):
    first, second = two
    inbox = first.run(first.store.open_inbox("d/a"))
    with pytest.raises(MailError, match="Another session"):
        second.run(second.store.open_inbox("d/a"))
    first.run(inbox.close())
    second.run(second.run(second.store.open_inbox("d/a")).close())


def test_both_go_on_in_the_next_segment_after_a_checkpoint(two):
    first, second = two
    first.deliver(message(1), "d/a")
    second.deliver(message(2), "d/a")
    before = logs(first)
    checkpoint(first)
    assert len(logs(first)) == 1
    assert logs(first) != before
    first.deliver(message(3), "d/a")
    second.deliver(message(4), "d/a")
    checkpoint(second)
    first.deliver(message(5), "d/a")
    assert first.contents("d/a") == [message(n) for n in range(1, 6)]
    first.kill()
    second.kill()
    again = Site(first.data, seed=3).start()
    assert again.contents("d/a") == [message(n) for n in range(1, 6)]
    again.stop()


def test_what_a_dead_process_left_unfilled_is_settled_before_its_segment_goes(two, monkeypatch):
    first, second = two
    first.deliver(message(1), "d/a")
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_committed", lambda *_: None)  # dies between sync and fill
        first.deliver(message(2), "d/a")
    first.kill()
    assert second.contents("d/a") == [message(1)]
    checkpoint(second)
    assert len(logs(second)) == 1
    assert second.contents("d/a") == [message(1), message(2)]
    second.stop()
    assert logs(second) == []


def test_a_process_with_unfilled_places_keeps_every_segment_for_the_others_too(two, monkeypatch):
    first, second = two

    def broken(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(first.disk, "link_fd", broken, raising=False)
        patch.setattr(Parking, "write", broken)
        first.deliver(message(1), "d/a")
    before = logs(second)
    checkpoint(second)
    assert set(before) <= set(logs(second))
    first.world.reactor.advance(31)
    first.turn()
    assert second.contents("d/a") == [] or second.contents("d/a") == [message(1)]
    first.world.reactor.advance(31)
    first.turn()
    assert second.contents("d/a") == [message(1)]
    second.deliver(message(2), "d/a")
    checkpoint(second)
    assert len(logs(second)) == 1
    first.stop()
    second.stop()


def test_the_last_process_to_stop_leaves_the_store_clean(two):
    first, second = two
    first.deliver(message(1), "d/a")
    first.stop()
    assert logs(second)
    second.deliver(message(2), "d/a")
    second.stop()
    assert logs(second) == []


def test_two_real_processes_under_load_with_checkpoints(tmp_path):
    data = str(tmp_path / "data")
    processes = [
        delivering(
            data, name, "d/a", f"d/{name}", sessions=5, count=40, size=1000, segment_size=200_000
        )
        for name in ("p", "q")
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert errors == ""
        assert process.returncode == 0
    site = Site(data, seed=9).start()
    assert len(set(site.contents("d/a"))) == 400
    assert len(site.read("d/a")) == 400
    assert len(site.read("d/p")) == len(site.read("d/q")) == 200
    rows = seen(site.store._accounts.get("d/a"))
    assert len({row[0] for row in rows}) == 400
    site.stop()
