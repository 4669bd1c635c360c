"""What a process has done, counted where it is done."""

from __future__ import annotations

import gc

from twisted_mail.counters import TOTALS, Counters


class Connection:
    def __init__(self, read: int, written: int) -> None:
        self.bytes_read = read
        self.bytes_written = written


class Factory:
    def __init__(self, name: str, *connections: Connection) -> None:
        self.name = name
        self.connections = set(connections)


def test_connections_are_those_that_are_open_now() -> None:
    counters = Counters()
    smtp, pop3 = Factory("smtp", Connection(1, 2)), Factory("pop3")
    # Of a configuration that was before, and has somebody left
    old = Factory("smtp", Connection(3, 4), Connection(5, 6))
    for factory in (smtp, pop3, old):
        counters.serve(factory)
    assert counters.connections() == {"smtp": 3}
    pop3.connections.add(Connection(0, 0))
    assert counters.connections() == {"pop3": 1, "smtp": 3}
    del old, factory
    gc.collect()
    assert counters.connections() == {"pop3": 1, "smtp": 1}


def test_bytes_are_of_connections_that_are_over_and_of_those_that_are_open() -> None:
    counters = Counters()
    factory = Factory("smtp", Connection(10, 20), Connection(1, 2))
    counters.serve(factory)
    counters.bytes_in, counters.bytes_out, counters.logins = 100, 200, 5
    totals = dict(zip(TOTALS, counters.totals(), strict=True))
    assert (totals["bytes_in"], totals["bytes_out"], totals["logins"]) == (111, 222, 5)
