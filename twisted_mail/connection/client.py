"""What a client's address says of it."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address

__all__ = ["is_loopback"]


@lru_cache(maxsize=1024)
def is_loopback(ip: str) -> bool:
    """Whether the client is on this machine; who has no address ("", of a UNIX socket) is not known to be."""
    return bool(ip) and ip_address(ip).is_loopback
