"""Journal records: what is written is read back; damage hides its own record and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.storage import record
from twisted_mail.storage.record import Kind

EPOCH = 0x1122334455667788

entries = st.lists(
    st.tuples(
        st.sampled_from([Kind.ACCEPT, Kind.REMOVE, Kind.VOID, Kind.ACCOUNT_REMOVED]),
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


def test_the_first_record_tells_the_epoch():
    head = b"".join(record.encode(Kind.SEGMENT, {"boot": "b"}, epoch=EPOCH, writer=0, sequence=3))
    found = record.first(head + b"rest")
    assert found is not None
    assert (found[0], found[1].meta, found[2]) == (EPOCH, {"boot": "b"}, len(head))
    assert record.first(b"".join(written([(Kind.ACCEPT, {}, [])]))) is None
    assert record.first(head[:-1]) is None
