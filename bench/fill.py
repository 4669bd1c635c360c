"""Fills the queue of a prepared data directory of this server, which must not run.

    PYTHONPATH=. python bench/fill.py --data DIR --messages 100000 --domains 1000
    PYTHONPATH=. python bench/fill.py --data DIR --messages 1000000 --domains 1000 --deferred 3600 --linked

Messages have one recipient each, in `d0.test`, `d1.test`, … in turn. `dead` says which of the domains are the dead
ones; `--without-dead` leaves their messages out. Everything goes through the spool, as what the journal says does;
with `--deferred` each has been tried once and is due again in an hour, or up to that many seconds after that.
`--linked`: the contents are a few files with many names, for a queue whose content nobody reads.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from drain import dead
from load import message

from twisted_mail.disk import OsDisk
from twisted_mail.storage.queued import (
    Attempt,
    Change,
    QueuedMessage,
    QueuedRecipient,
    State,
    Verdict,
)
from twisted_mail.storage.spool import Item, Spool

__all__ = ["main"]

_SIZE = 4096
_BATCH = 1000
_LINKS = 30_000
"""Of one file; ext4 allows 65000."""
_HOUR = 3600.0
_LIFETIME = 5 * 86400


class _Content:
    """One message's bytes, in a file of its own or in one with many names."""

    def __init__(self, body: bytes, linked: bool) -> None:
        self._body = body
        self._linked = linked
        self._names = 0
        self._last = ""

    def link(self, target: str) -> None:
        if self._linked and self._names % _LINKS:
            os.link(self._last, target)
        else:
            fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(fd, self._body)
            finally:
                os.close(fd)
            self._last = target
        self._names += 1

    def mend(self, path: str) -> None:
        raise NotImplementedError


def _items(options: argparse.Namespace, content: _Content, size: int, wire: int) -> Iterator[Item]:
    began = time.time() - 60  # noqa: TID251  (a program of its own)
    # what is tried again is spread over the time that it has
    step = options.deferred / options.messages
    nobody = frozenset(dead(options.domains) if options.without_dead else ())
    for number in range(options.messages):
        which = number % options.domains
        if which in nobody:
            continue
        domain = f"d{which}.test"
        to = QueuedRecipient(f"r{number}@{domain}", domain)
        # ids are spread over the folders, as random ones are
        name = f"{number * 2654435761 % 2**32:08x}{number:08x}"
        arrived = began + number * 1e-6
        one = QueuedMessage(
            name,
            "sender@bench.test",
            (to,),
            arrived,
            arrived + _LIFETIME,
            size=size,
            wire=wire,
        )
        changes: tuple[Change, ...] = ()
        if options.deferred:
            attempt = Attempt(began + 30, "", "", "", "connection refused")
            # number * prime: the order in which they are due is not that in which they came
            due = began + _HOUR + number * 7919 % options.messages * step
            changes = (Change(name, (Verdict(0, State.DEFERRED, due, 0),), (attempt,)),)
        yield Item(one, content, changes)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--messages", type=int, required=True)
    parser.add_argument("--domains", type=int, required=True)
    parser.add_argument("--without-dead", action="store_true")
    parser.add_argument("--deferred", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--linked", action="store_true")
    options = parser.parse_args(arguments)
    body = message(_SIZE, "bench.test").replace(b"\r\n", b"\n")
    content = _Content(body, options.linked)
    spool = Spool(OsDisk(), str(options.data))
    spool.prepare()
    batch: list[Item] = []
    for item in _items(options, content, len(body), len(body) + body.count(b"\n")):
        batch.append(item)
        if len(batch) == _BATCH:
            _fill(spool, batch)
            batch = []
    if batch:
        _fill(spool, batch)
    spool.close()
    return 0


def _fill(spool: Spool, batch: list[Item]) -> None:
    spool.fill(batch)
    for item in batch:
        if item.error is not None:
            raise item.error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
