"""A copy of many messages: others have their turns, and nothing is left behind when who asked goes away."""

from __future__ import annotations

import os

import pytest
from filing_site import append, bases, folder, held, message
from store_site import Site
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred

from twisted_mail.storage import commits


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(commits, "SLICE", 3)
    made = Site(str(tmp_path / "data")).start()
    for number in range(10):
        append(made, "d/a", "Sent", message(b"Subject: %d\n\ntext\n" % number))
    return made


def copying(site):
    ids = folder(site, "d/a", "Sent"), folder(site, "d/a", "Trash")
    return ensureDeferred(site.store.copy("d/a", ids[0], bases(site, "d/a", "Sent"), ids[1]))


@pytest.mark.parametrize("inline", [0, commits.INLINE])
def test_it_is_whole_and_in_order(site, monkeypatch, inline):
    monkeypatch.setattr(commits, "INLINE", inline)
    put = site.run(copying(site))
    assert list(put.sources) == list(put.uids) == list(range(1, 11))
    there = {
        where: [one.content for one in held(site, "d/a") if one.folder == where]
        for where in ("Sent", "Trash")
    }
    assert there["Trash"] == there["Sent"]


def test_others_have_their_turn(site):
    turns = []

    def turn():
        turns.append(len(turns))
        if not waiting.called:
            site.world.reactor.callLater(0, turn)

    def slow(*args, made=commits._copied):
        seen.append(len(turns))
        return made(*args)

    seen: list[int] = []
    patched, commits._copied = commits._copied, slow
    try:
        waiting = copying(site)
        site.world.reactor.callLater(0, turn)
        site.run(waiting)
    finally:
        commits._copied = patched
    assert len(set(seen)) == 4


def test_nothing_is_left_when_it_is_cancelled_between(site, monkeypatch):
    pending: list[Deferred[None]] = []

    def never():
        pending.append(Deferred())
        return pending[-1]

    monkeypatch.setattr(commits, "INLINE", 0)
    monkeypatch.setattr(site.world.turns, "breath", never)
    spill = os.path.join(site.data, "journal", "spill")
    waiting = copying(site)
    waiting.addErrback(lambda failure: failure.trap(CancelledError))
    site.turn()
    assert len(pending) == 1
    assert len(os.listdir(spill)) == 10
    waiting.cancel()
    site.turn()
    assert os.listdir(spill) == []
