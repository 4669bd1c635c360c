"""Searching an account's messages over the real store: by reading them first, then by the index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from store_site import Site

from twisted_mail.message.collation import fold
from twisted_mail.storage import matching as module
from twisted_mail.storage.matching import Matching, Searches, look_at

KEY = "d/a"


def mail(number: int) -> bytes:
    return (
        f"From: sender{number}@example.org\nSubject: =?utf-8?q?Caf=C3=A9?= {number}\n"
        "Content-Transfer-Encoding: base64\nContent-Type: text/plain; charset=utf-8\n\n"
        "R3LDvMOfZQ==\n"  # Grüße
    ).encode()


class Mail:
    def __init__(self, path: Path) -> None:
        self.site = Site(str(path)).start()
        self.run: Any = self.site.run
        for number in range(1, 8):
            self.site.deliver(mail(number), KEY)
        self.account: Any = self.site.store._accounts.hold(KEY)
        self.account.refresh()
        self.folder = self.account.inbox
        self.searches = Searches(self.site.world)
        self.matching: Matching = self.searches(self.account)
        self.reads = 0
        self.ways = {name: getattr(module, name) for name in ("whole", "begun")}
        for name, read in self.ways.items():
            setattr(module, name, self.counted(read))

    def counted(self, read: Any) -> Any:
        def reading(*args: Any) -> Any:
            self.reads += 1
            return read(*args)

        return reading

    def undo(self) -> None:
        for name, read in self.ways.items():
            setattr(module, name, read)

    def text(
        self, text: str, uids: Sequence[int] = range(1, 8), body_only: bool = False
    ) -> list[int]:
        return list(
            self.run(self.matching.text(self.folder, fold(text), list(uids), body_only=body_only))
        )

    def header(self, name: str, text: str, uids: Sequence[int] = range(1, 8)) -> list[int]:
        return list(self.run(self.matching.header(self.folder, name, fold(text), list(uids))))

    def learned(self) -> None:
        """Wait until everything is."""
        for _ in range(1000):
            if self.searches.learning.idle:
                return
            self.site.world.reactor.advance(0.01)
        raise AssertionError("it goes on")

    def end(self) -> None:
        self.undo()
        self.matching.close()
        self.learned()
        self.site.world.reactor.advance(1)
        self.site.store._accounts.let_go(KEY)
        self.site.stop()


@pytest.fixture
def box(tmp_path: Path) -> Any:
    made = Mail(tmp_path / "data")
    yield made
    made.end()


def test_first_by_reading_then_by_the_index(box: Mail) -> None:
    for _ in range(2):
        assert box.text("GRÜSSE") == []
        assert box.text("GRÜ") == [1, 2, 3, 4, 5, 6, 7]
        assert box.text("café 3") == [3]
        assert box.text("café", body_only=True) == []
        assert box.text("sender", [2, 4]) == [2, 4]
        assert box.header("from", "sender5") == [5]
        assert box.header("from", "") == [1, 2, 3, 4, 5, 6, 7]
        assert box.header("x-none", "") == []
        box.learned()
        before = box.reads
    assert box.text("café 4") == [4]
    assert box.reads == before


def test_new_messages_are_read_and_learned(box: Mail) -> None:
    box.text("x")
    box.learned()
    box.site.deliver(mail(8), KEY)
    before = box.reads
    assert box.text("café 8", range(1, 9)) == [8]
    assert box.reads == before + 1
    box.learned()
    before = box.reads
    assert box.text("café 8", range(1, 9)) == [8]
    assert box.reads == before


def test_half_learned(box: Mail) -> None:
    assert box.matching.learn(box.folder, [2, 3]) == 2
    before = box.reads
    assert box.text("café") == [1, 2, 3, 4, 5, 6, 7]
    assert box.reads == before + 5


def test_a_slice_has_a_bound(box: Mail) -> None:
    sizes = len(mail(1))
    before, module.LOOKED_AT_BYTES = module.LOOKED_AT_BYTES, 2 * sizes
    other, module.LEARNED_BYTES = module.LEARNED_BYTES, 2 * sizes
    try:
        seen = []
        taken, hits = look_at(
            box.site.disk, box.account, box.folder, [1, 2, 3, 4], lambda text: not seen.append(text)
        )
        assert (taken, hits) == (2, [1, 2])
        assert box.text("café") == [1, 2, 3, 4, 5, 6, 7]
        assert box.matching.learn(box.folder, [1, 2, 3]) == 2
        # One at least
        module.LOOKED_AT_BYTES = 1
        assert box.text("café 7") == [7]
    finally:
        module.LOOKED_AT_BYTES, module.LEARNED_BYTES = before, other


def test_what_is_gone_matches_nothing_and_is_forgotten(box: Mail) -> None:
    box.text("x")
    box.learned()
    bases = [row[1] for row in box.account.rows(box.folder)]
    box.account.remove(box.folder, bases[:3])
    assert 1 not in [row[0] for row in box.account.rows(box.folder)]
    assert box.text("café", [1, 2, 3, 4, 9]) == [1, 2, 3, 4]
    from twisted_mail.storage import fulltext

    slack, fulltext.SLACK = fulltext.SLACK, 1
    try:
        assert not box.matching.tidy(box.folder)
    finally:
        fulltext.SLACK = slack
    # Nothing is known of them, and nothing is there
    assert box.text("café", [1, 2, 3, 4, 9]) == [4]


def test_folders_that_are_gone_are_forgotten(box: Mail) -> None:
    box.matching.index.learn("gone", 1, [module.Learned(1, "k", None)])
    assert box.matching.index.too_many("gone", 1, -1000)
    box.text("x")
    box.learned()
    with box.matching.index._file.opened() as db:
        count = db.execute("SELECT count(*) FROM folder").fetchone()
    assert count == (1,)


def test_without_a_disk_to_write_on_it_reads(box: Mail) -> None:
    path = Path(box.account.home) / "fulltext.sqlite3"
    path.mkdir()
    assert box.text("café 3") == [3]
    box.learned()
    assert box.text("café 3") == [3]


def test_closed_it_learns_nothing(box: Mail) -> None:
    box.text("x")
    box.matching.close()
    box.learned()
    assert box.text("café 3") == [3]
    assert box.searches.learning.idle


def test_what_a_search_asks_in_pieces_is_all_learned(box: Mail) -> None:
    matching, run = box.matching, box.run
    for piece in ([1, 2, 3], [4, 5], [6, 7]):
        run(matching.text(box.folder, "caf", piece, body_only=False))
    box.learned()
    box.reads = 0
    assert box.text("café") == [1, 2, 3, 4, 5, 6, 7]
    assert box.reads == 0
