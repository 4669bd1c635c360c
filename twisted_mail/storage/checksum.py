"""The CRC-32 of two contents, one behind the other, of which only the checksums and the second one's size are known.

`zlib.crc32` as a function is linear: what the first content adds to the checksum of the whole is its own, carried on
over as many zero octets as the second one is long. That is a product of polynomials over GF(2), modulo the CRC's, the
lowest power in the highest bit (as zlib's own `crc32_combine` does it, which Python does not show).
"""

from __future__ import annotations

from typing import Final

__all__ = ["crc32_of_both"]

_POLYNOMIAL: Final = 0xEDB88320  # RFC 1952 section 8
_ONE: Final = 1 << 31


def crc32_of_both(first: int, second: int, size: int) -> int:
    """The checksum of `first`'s content followed by `second`'s, which has `size` octets."""
    return _product(_zeros(size), first) ^ second


def _zeros(octets: int) -> int:
    """x to the power of eight times `octets`."""
    power, result = 1 << 23, _ONE  # x**8
    while octets:
        if octets & 1:
            result = _product(power, result)
        power = _product(power, power)
        octets >>= 1
    return result


def _product(a: int, b: int) -> int:
    result = 0
    while a:
        if a & _ONE:
            result ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1
    return result
