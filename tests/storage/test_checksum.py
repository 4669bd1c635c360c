from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.storage.checksum import crc32_of_both


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 3000))
def test_it_is_the_checksum_of_both(first: bytes, second: bytes, zeros: int) -> None:
    second = second + bytes(zeros)
    both = crc32_of_both(zlib.crc32(first), zlib.crc32(second), len(second))
    assert both == zlib.crc32(first + second)


def test_large_ones() -> None:
    first, second = b"header\n" * 100, bytes(range(256)) * 5000
    both = crc32_of_both(zlib.crc32(first), zlib.crc32(second), len(second))
    assert both == zlib.crc32(first + second)
