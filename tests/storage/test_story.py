"""The journal's records as one story: wherever a crash has left messages, it ends where the commands had put them."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mail.storage.record import Kind, Place, Record, filed
from twisted_mail.storage.segments import Loaded
from twisted_mail.storage.settling import accepted, moving, removing
from twisted_mail.storage.story import Story

KEY = "d/a"
FOLDERS = ("", "A", "B", "C")
OLD = ("o1", "o2", "o3", "o4")
"""Messages whose own records are dropped already."""
OF = {"size": 0, "wire": 0, "ascii": None, "crc": 0, "spill": None}


def record(number, kind, meta, writer=1):
    return Record(kind, writer, number, meta, memoryview(b""))


def accept(number, base, folder, removes=(), writer=1):
    meta = accepted(OF, [Place(KEY, folder, base)])
    if removes:
        meta["removes"] = removes
    return record(number, Kind.ACCEPT, meta, writer)


def story(records, boot="2", writers=None):
    return Story(boot, [Loaded(1, "1", records)], writers)


@dataclass
class Mailbox:
    """What the commands do while nothing fails: `at` is where a message is, None when it is gone."""

    at: dict = field(default_factory=dict)
    history: dict = field(default_factory=dict)
    seen: dict = field(default_factory=dict)
    dead: set = field(default_factory=set)
    records: list = field(default_factory=list)

    def put(self, base, folder):
        self.at[base] = folder
        self.history.setdefault(base, [None]).append(folder)

    def standing(self, folder):
        return "" if folder in self.dead else folder

    def run(self, kind, folder, to, bases, fresh):
        number = len(self.records) + 1
        if kind is Kind.ACCEPT:
            self.records.append(accept(number, fresh, to))
            self.put(fresh, self.standing(to))
        elif kind is Kind.FILE:
            parts = [(Place(KEY, to, f"{fresh}{n}", ()), OF) for n in "xy"]
            self.records.append(record(number, kind, filed(parts)))
            for place, _ in parts:
                self.put(place.base, self.standing(to))
        elif kind is Kind.CHANGE:  # stands for REPLACE
            self.records.append(accept(number, fresh, to, [[KEY, folder, bases]]))
            self.put(fresh, self.standing(to))
            self.remove(folder, bases)
        elif kind is Kind.MOVE:
            self.records.append(record(number, kind, moving(KEY, folder, to, bases)))
            for base in bases:
                if self.at.get(base, "-") == folder and folder not in self.dead:
                    self.put(base, self.standing(to))
        elif kind is Kind.REMOVE:
            self.records.append(record(number, kind, removing(KEY, folder, bases, noticed=False)))
            self.remove(folder, bases)
        elif folder and folder not in self.dead:
            meta = {"account": KEY, "folder": folder, "target": f"removed/{folder}"}
            self.records.append(record(number, Kind.FOLDER_REMOVED, meta))
            self.remove(folder, [base for base, at in self.at.items() if at == folder])
            self.dead.add(folder)

    def remove(self, folder, bases):
        for base in bases:
            if self.at.get(base, "-") == folder and folder not in self.dead:
                self.put(base, None)


steps = st.lists(
    st.tuples(
        st.sampled_from([*Kind][1:]),
        st.sampled_from(FOLDERS),
        st.sampled_from(FOLDERS),
        st.lists(st.integers(0, 9), max_size=3),
        st.booleans(),
    ),
    max_size=14,
)


def told(steps):
    mailbox = Mailbox()
    for number, base in enumerate(OLD):
        mailbox.at[base] = FOLDERS[number]
        mailbox.history[base] = [FOLDERS[number]]
        # Where it was moved away from so long ago that the record is dropped.
        mailbox.seen[base] = FOLDERS[number - 1]
    for number, (kind, folder, to, which, stale) in enumerate(steps):
        known = [
            base
            for base, at in mailbox.at.items()
            # Who has not looked lately names messages that were there once.
            if at == folder
            or (stale and folder in mailbox.history[base])
            or (stale and kind is Kind.REMOVE and folder == mailbox.seen.get(base))
        ]
        bases = list(dict.fromkeys(known[n % len(known)] for n in which)) if known else []
        mailbox.run(kind, folder, to, bases, f"n{number}")
    return mailbox


def settled(story, at):
    """What `Filler.settle` and `Settler` make of messages that a crash has left `at`."""
    ends = dict(at)
    for base, wish in story.wanted.get(KEY, {}).items():
        where = ends.get(base)
        if where is None:
            ends[base] = wish.folder if wish.piece is not None else None
        elif where in wish.left:
            ends[base] = wish.folder
    for folder, bases in story.gone.get(KEY, {}).items():
        for base in bases:
            if ends.get(base) == folder:
                ends[base] = None
    for base, where in ends.items():
        if where in story.folders.get(KEY, {}):
            ends[base] = None
    return ends


@given(steps, st.data())
@settings(max_examples=400)
def test_wherever_a_crash_leaves_the_messages_the_story_ends_the_same(steps, data):
    mailbox = told(steps)
    crash = {base: data.draw(st.sampled_from(history)) for base, history in mailbox.history.items()}
    assert settled(story(mailbox.records), crash) == mailbox.at


@given(steps, st.data())
@settings(max_examples=200)
def test_what_others_have_done_is_known_to_who_settles_the_dead(steps, data):
    """Only what a dead process committed may be undone; the others have done theirs, in the same order."""
    mailbox = told(steps)
    dead = data.draw(
        st.sets(st.integers(1, len(mailbox.records))) if mailbox.records else st.just(set())
    )
    records = [
        Record(one.kind, 2 if one.sequence in dead else 1, one.sequence, one.meta, one.content)
        for one in mailbox.records
    ]
    assert settled(story(records, writers=frozenset([2])), mailbox.at) == mailbox.at


def test_a_removal_of_an_older_program_is_of_the_inbox():
    """It knew no other folder, and wrote the inbox's id."""
    old = {"account": KEY, "folder": "c0ffee", "bases": ["a"], "noticed": False}
    told = story([accept(1, "a", ""), record(2, Kind.REMOVE, old)])
    assert told.wanted[KEY] == {}
    assert told.gone == {KEY: {"": {"a": None}}}


def test_what_another_program_took_is_not_wanted_any_more_and_not_deleted():
    noticed = removing(KEY, "", ["a"], noticed=True)
    told = story([accept(1, "a", ""), record(2, Kind.REMOVE, noticed)])
    assert told.wanted[KEY] == {}
    assert told.gone == {}


def test_a_move_of_somebody_who_lives_is_his_own_affair():
    told = story([record(1, Kind.MOVE, moving(KEY, "A", "B", ["o"]))], writers=frozenset([2]))
    assert told.accounts == set()
    assert not told.wanted.get(KEY)


def test_what_a_dead_process_accepted_is_wanted_where_another_has_moved_it():
    records = [
        accept(1, "a", "", writer=2),
        record(2, Kind.MOVE, moving(KEY, "", "B", ["a"])),
    ]
    wish = story(records, writers=frozenset([2])).wanted[KEY]["a"]
    assert (wish.folder, wish.left) == ("B", {""})
    assert wish.piece is not None


def test_a_removed_account_takes_its_folders_with_it():
    over = {"account": KEY, "target": "removed/x"}
    told = story(
        [
            accept(1, "a", "A"),
            record(2, Kind.FOLDER_REMOVED, {"account": KEY, "folder": "B", "target": "removed/b"}),
            record(3, Kind.ACCOUNT_REMOVED, over),
        ]
    )
    assert (told.accounts, told.folders, told.removed) == (set(), {}, {KEY: "removed/x"})
