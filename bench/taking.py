"""Times the queue's own steps on a data directory of this server, which must not run; prints JSON, milliseconds.

    PYTHONPATH=. python bench/taking.py --data DIR

`nothing due`: a take that finds nothing. `500 due`: one that takes what it may, from 50 destinations; what it took is
put back, untimed. `page`: the query behind a page of ``mailctl queue list``; `last page`: the one at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from twisted_mail.disk import OsDisk
from twisted_mail.storage.queued import Taken
from twisted_mail.storage.spool import Spool
from twisted_mail.storage.spool_due import Due
from twisted_mail.storage.spool_view import Filter, View

__all__ = ["main"]

_TIMES = 50
_SHARE = 10
_TAKEN = 500
_LATER = 30 * 86400


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    data = str(parser.parse_args(arguments).data)
    spool = Spool(OsDisk(), data)
    due = Due(OsDisk(), spool, os.path.join(data, "queue.lock"))
    view = View(spool)
    if not due.lock():
        print("another process runs the queue", file=sys.stderr)
        return 1
    due.begin()
    now = time.time()  # noqa: TID251  (a program of its own)
    taken: list[Taken] = []

    def nothing() -> None:
        due.take(now, _TAKEN, lambda _: _SHARE, ())

    def some() -> None:
        taken.extend(due.take(now + _LATER, _TAKEN, lambda _: _SHARE, ()).taken)

    def back() -> None:
        due.put_back([(one.message.id, one.number) for one in taken], now + 3600)
        taken.clear()

    found = {
        "take, nothing due, ms": _timed(nothing),
        "take of 500, ms": _timed(some, back),
        "page of 100, ms": _timed(lambda: view.page(Filter(), None, 101)),
        "page of 100 of a domain, ms": _timed(
            lambda: view.page(Filter(domain="d7.test"), None, 101)
        ),
    }
    due.release()
    spool.close()
    print(json.dumps(found))
    return 0


def _timed(work: Callable[[], object], after: Callable[[], object] = lambda: None) -> float:
    """The median, in milliseconds."""
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
        after()
    return median(times) * 1000


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
