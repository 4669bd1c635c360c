"""`imap.sequence`: sets of message numbers, against sets of ints."""

from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.imap.sequence import MAX_RANGES, STAR, SequenceSet, compact, join

NUMBERS = st.lists(st.integers(1, 60), unique=True).map(sorted)
END = st.one_of(st.integers(1, 80).map(str), st.just("*"))
PARTS = st.lists(st.one_of(END, st.tuples(END, END).map(":".join)), min_size=1, max_size=8)


def meant(text: str, greatest: int) -> set[int]:
    """RFC 9051 section 9, word by word."""
    found: set[int] = set()
    for part in text.split(","):
        ends = [greatest if end == "*" else int(end) for end in part.split(":")]
        if "*" in part and not greatest:
            continue
        found.update(range(min(ends), max(ends) + 1))
    return found


def at(positions: list[tuple[int, int]]) -> list[int]:
    return [index for start, stop in positions for index in range(start, stop)]


def test_ranges() -> None:
    made = SequenceSet.parse(b"1,3:5,*:7,$")
    assert made.ranges == ((1, 1), (3, 5), (7, STAR))
    assert made.saved
    assert not made.fixed
    assert SequenceSet.parse(b"2,1,3,9:7,8").ranges == ((1, 3), (7, 9))
    assert SequenceSet.parse(b"4294967295").ranges == ((4294967295, 4294967295),)
    assert SequenceSet.parse(b"4294967295,*").ranges == (
        (4294967295, 4294967295),
        (STAR, STAR),
    )
    assert SequenceSet.parse(b"$") == SequenceSet((), True)
    assert SequenceSet.parse(b"$") != SequenceSet.parse(b"*")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0",
        b"01",
        b"1,",
        b",1",
        b"1:",
        b":1",
        b"1:2:3",
        b"a",
        b"-1",
        b"1 ,2",
        b"4294967296",
        b"*,4294967296",
        b"9999999999",
        b"$:1",
        b"1:$",
        b"**",
        b"\xb2",
    ],
)
def test_not_a_set(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"number|\$"):
        SequenceSet.parse(text)


def test_ranges_are_bounded() -> None:
    numbers = b",".join(b"%d" % n for n in range(1, 2 * MAX_RANGES + 2, 2))
    with pytest.raises(ValueError, match="too many"):
        SequenceSet.parse(numbers)
    assert len(SequenceSet.parse(numbers[: numbers.rindex(b",")]).ranges) == MAX_RANGES


@given(PARTS, st.integers(0, 60))
def test_positions_of_sequence_numbers(parts: list[str], messages: int) -> None:
    text = ",".join(parts)
    wanted = meant(text, messages)
    made = SequenceSet.parse(text.encode())
    assert at(made.positions(messages)) == sorted(n - 1 for n in wanted if n <= messages)
    if "*" not in text:
        assert made.exceeds(messages) == any(n > messages for n in wanted)


@pytest.mark.parametrize(
    ("text", "messages", "exceeds"),
    [
        (b"*", 0, True),
        (b"*", 1, False),
        (b"1:*", 0, True),
        (b"3:*", 3, False),
        (b"4:*", 3, True),
        (b"*:4", 3, True),
        (b"4,*", 3, True),
        (b"4,2:*", 3, False),  # 4 is in 2:*, as Dovecot has it
        (b"$", 0, False),
    ],
)
def test_numbers_that_no_message_has(text: bytes, messages: int, exceeds: bool) -> None:
    assert SequenceSet.parse(text).exceeds(messages) is exceeds


@given(PARTS, NUMBERS)
def test_positions_of_uids(parts: list[str], uids: list[int]) -> None:
    text = ",".join(parts)
    wanted = meant(text, uids[-1] if uids else 0)
    made = SequenceSet.parse(text.encode())
    expected = [index for index, uid in enumerate(uids) if uid in wanted]
    for some in (uids, array("I", uids)):
        found = made.positions_of(some)
        assert at(found) == expected
        assert all(stop < start for (_, stop), (start, _) in pairwise(found))


@given(PARTS, st.integers(1, 60), st.integers(1, 60))
def test_holds(parts: list[str], number: int, greatest: int) -> None:
    made = SequenceSet.parse(",".join(parts).encode())
    assert made.holds(number, max(number, greatest)) == (
        number in meant(",".join(parts), max(number, greatest))
    )


@given(PARTS)
def test_text_says_the_same(parts: list[str]) -> None:
    made = SequenceSet.parse(",".join(parts).encode())
    assert SequenceSet.parse(bytes(made)) == made
    assert hash(SequenceSet.parse(bytes(made))) == hash(made)


@given(st.binary())
def test_nothing_but_valueerror(raw: bytes) -> None:
    try:
        SequenceSet.parse(raw)
    except ValueError:
        pass


def test_star_is_the_last_message() -> None:
    # RFC 9051 section 6.4.9: 559:* holds the last message, whatever its UID
    assert SequenceSet.parse(b"559:*").positions_of([3, 5]) == [(1, 2)]
    assert SequenceSet.parse(b"*").positions_of([]) == []
    assert SequenceSet.parse(b"1:*").positions(0) == []


@given(NUMBERS)
def test_compact(numbers: list[int]) -> None:
    for some in (numbers, array("Q", numbers)):
        text = compact(some)
        if not numbers:
            assert text == b""
        else:
            assert meant(text.decode(), 0) == set(numbers)
            made = SequenceSet.of(some)
            assert bytes(made) == text
            assert made == SequenceSet.parse(text)  # no two ranges that touch
            assert len(made) == len(numbers)


def test_compact_over_chunks() -> None:
    assert compact([1, 2, 3, 4, 5, 9]) == b"1:5,9"
    assert compact(range(1, 1_000_001)) == b"1:1000000"
    numbers = [n for n in range(1, 3000) if n not in (512, 513, 1024, 1025, 1537, 2000)]
    assert compact(numbers) == b"1:511,514:1023,1026:1536,1538:1999,2001:2999"
    for hole in (511, 512, 513, 514):
        assert compact([n for n in range(1, 1025) if n != hole]) == b"1:%d,%d:1024" % (
            hole - 1,
            hole + 1,
        )


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 5)).map(lambda p: (p[0], p[0] + p[1] + 1))
    )
)
def test_join(ranges: list[tuple[int, int]]) -> None:
    joined = join(*([one] for one in ranges))
    assert at(joined) == sorted({index for one in ranges for index in range(*one)})
    assert all(stop < start for (_, stop), (start, _) in pairwise(joined))
