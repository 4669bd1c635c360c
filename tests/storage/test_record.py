"""Journal records: what is written is read back; damage hides its own record and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.storage import record
from twisted_mail.storage.record import Kind, Place

EPOCH = 0x1122334455667788

entries = st.lists(
    st.tuples(
        st.sampled_from([Kind.ACCEPT, Kind.REMOVE, Kind.VOID, Kind.ACCOUNT_REMOVED, Kind.MOVE]),
        st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
        st.lists(st.binary(max_size=200), max_size=3),
    ),
    max_size=6,
)


def written(entries, epoch=EPOCH):
    return [
        b"".join(record.encode(kind, meta, blocks, epoch=epoch, writer=7, sequence=number))
        for number, (kind, meta, blocks) in enumerate(entries)
    ]


def read(data):
    return [
        (found.sequence, found.kind, found.meta, bytes(found.content))
        for found in record.scan(data, EPOCH)
    ]


def meant(entries):
    return [
        (number, kind, meta, b"".join(blocks))
        for number, (kind, meta, blocks) in enumerate(entries)
    ]


@given(entries)
def test_what_is_written_is_read_back(entries):
    assert read(b"".join(written(entries))) == meant(entries)


@given(entries, st.binary(max_size=100))
def test_a_torn_tail_ends_the_segment(entries, tail):
    data = b"".join(written(entries))
    assert read(data + tail.replace(record.MAGIC, b"")) == meant(entries)


@given(entries, st.data())
def test_any_cut_leaves_the_whole_records_before_it(entries, data):
    buffers = written(entries)
    whole = b"".join(buffers)
    cut = data.draw(st.integers(0, len(whole)))
    fitting, size = 0, 0
    for buffer in buffers:
        size += len(buffer)
        if size > cut:
            break
        fitting += 1
    assert read(whole[:cut]) == meant(entries)[:fitting]


@given(entries.filter(bool), st.data())
def test_a_flipped_byte_hides_its_own_record_only(entries, data):
    buffers = written(entries)
    hit = data.draw(st.integers(0, len(buffers) - 1))
    at = data.draw(st.integers(0, len(buffers[hit]) - 1))
    buffer = bytearray(buffers[hit])
    buffer[at] ^= data.draw(st.integers(1, 255))
    damaged = b"".join([*buffers[:hit], bytes(buffer), *buffers[hit + 1 :]])
    assert read(damaged) == [row for row in meant(entries) if row[0] != hit]


def test_a_message_that_holds_a_record_is_not_taken_for_one():
    inner = b"".join(written([(Kind.REMOVE, {"account": "a"}, [])]))
    foreign = b"".join(written([(Kind.REMOVE, {"account": "b"}, [])], epoch=1))
    outer = b"".join(written([(Kind.ACCEPT, {}, [inner, foreign])]))
    assert [row[1] for row in read(outer)] == [Kind.ACCEPT]
    # Also when the record around it is damaged, what was copied from another segment is passed over.
    assert read(b"x" + b"".join(written([(Kind.ACCEPT, {}, [foreign])]))[1:]) == []


@given(st.binary(max_size=300))
def test_no_bytes_make_it_raise(data):
    read(data)
    record.first(data)
    record.decode_meta(memoryview(data))


def test_what_is_nested_too_deep_is_no_record():
    deep = b'{"x":' + b"[" * 100_000
    assert record.decode_meta(memoryview(len(deep).to_bytes(4, "little") + deep)) is None


def test_the_first_record_tells_the_epoch():
    head = b"".join(record.encode(Kind.SEGMENT, {"boot": "b"}, epoch=EPOCH, writer=0, sequence=3))
    found = record.first(head + b"rest")
    assert found is not None
    assert (found[0], found[1].meta, found[2]) == (EPOCH, {"boot": "b"}, len(head))
    assert record.first(b"".join(written([(Kind.ACCEPT, {}, [])]))) is None
    assert record.first(head[:-1]) is None


places = st.builds(
    Place,
    st.just("d/a"),
    st.just("folder"),
    st.text(max_size=8),
    st.lists(st.text(max_size=8), max_size=3).map(tuple),
    st.none() | st.integers(-(2**40), 2**40),
)
pieces = st.lists(st.tuples(places, st.binary(max_size=20), st.booleans()), min_size=1, max_size=4)


@given(pieces)
def test_several_messages_of_one_record_are_told_apart(messages):
    parts = [
        (
            place,
            {
                "size": len(content),
                "wire": 2 * len(content),
                "ascii": None,
                "crc": 7,
                "spill": f"s{number}" if spilled else None,
            },
        )
        for number, (place, content, spilled) in enumerate(messages)
    ]
    inline = [content for _, content, spilled in messages if not spilled]
    buffers = record.encode(
        Kind.FILE, record.filed(parts), inline, epoch=EPOCH, writer=1, sequence=1
    )
    (found,) = record.scan(b"".join(buffers), EPOCH)
    assert [(piece.meta, to) for piece, to in found.pieces()] == [(of, [to]) for to, of in parts]
    assert [bytes(piece.content) for piece, _ in found.pieces()] == [
        b"" if spilled else content for _, content, spilled in messages
    ]
    assert found.spills() == [of["spill"] for _, of in parts if of["spill"]]


@given(places | st.just(Place("d/a", "", "base")))
def test_a_place_is_read_back(place):
    meta = {"places": [place.to_json()], "spill": None}
    buffers = record.encode(Kind.ACCEPT, meta, [b"x"], epoch=EPOCH, writer=1, sequence=1)
    (found,) = record.scan(b"".join(buffers), EPOCH)
    ((piece, to),) = found.pieces()
    assert (to, bytes(piece.content), found.spills()) == ([place], b"x", [])
