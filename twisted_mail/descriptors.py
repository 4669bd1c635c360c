"""How many files a process may have open: as many as the system lets it.

The soft limit is 1024 on most systems, for programs that use select(2); the hard one is hundreds of thousands. A server
that runs out of them cannot take a connection, nor a message.
"""

from __future__ import annotations

import resource
from typing import Final

__all__ = ["MOST", "for_connections", "raise_limit"]

MOST: Final = 1 << 20
"""More is never asked for: where the limit is infinite a program that closes all of them would do so for hours."""
OTHERS: Final = 128
"""Files that are open whoever is connected: databases, the journal, listeners, pipes, what threads have open."""


def raise_limit() -> int:
    """Raise this process's own limit as far as it may, and give it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return MOST if soft == resource.RLIM_INFINITY else soft


def for_connections(descriptors: int) -> int:
    """How many connections have room in so many: a quarter is for the files of their messages and mailboxes."""
    return max(1, (descriptors - OTHERS) * 3 // 4)
