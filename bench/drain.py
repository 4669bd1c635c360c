"""The drain suite: a full queue to many domains, with a tenth of them dead, and without the dead ones.

Both queues are filled beforehand (`fill.py`), on the disk of a server that does not run. It is started, and the watch
stops when the sink has the last message to a domain that is well. The domains' servers have addresses of their own on
loopback, which a small DNS server names: all healthy ones the sink's; of the dead ones every other that of a host that
takes no connection (its backlog is full, so the kernel drops what comes), the others that of one that never greets.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import Peer, end, spawn
from measure import cpu_seconds, fresh, memory, pause
from receiver import Receiver
from rounds import Watch, ready, running
from table import Row

__all__ = ["WITH", "WITHOUT", "checkout", "dead", "rounds"]

WITH = "with"
WITHOUT = "without"
_HERE = Path(__file__).resolve().parent
_SINK = "127.0.0.2"
_FULL = "127.0.0.3"
_SILENT = "127.0.0.4"
_STEP = 0.02
_SAMPLE = 0.5
_SLOWEST = 50.0
"""Messages a second, below which a run is given up."""


def checkout() -> Any:
    """The peers' common module, whose folder is no package."""
    sys.path.insert(0, str(_HERE / "peers"))
    import checkout as module

    return module


def dead(domains: int) -> list[int]:
    """The numbers of the tenth of the domains that is dead, spread evenly."""
    return list(range(0, domains, 10))


def rounds(
    turns: Iterable[int], messages: int, domains: int, directory: Path, rows: list[Row]
) -> bool:
    """All rounds into `rows`; True when one failed."""
    found = ready(["ours-mx"], (), directory)
    for turn in turns:
        # every other round the other way round
        for which in (WITHOUT, WITH)[:: 1 if turn % 2 == 0 else -1]:
            for one in found:
                place = fresh(directory, f"drain-{which}.{turn}")
                try:
                    row = _one(one, which, messages, domains, place)
                except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                    print(f"{which} the dead: failed: {error}", flush=True)
                    return True
                row.turn = turn
                rows.append(row)
                print(f"round {turn + 1}: {row.brief()}", file=sys.stderr, flush=True)
    return False


def _one(one: Any, which: str, messages: int, domains: int, place: Path) -> Row:
    one.place(place)
    fill(place, messages, domains, *(["--without-dead"] if which == WITHOUT else []))
    # who is dead is so for the whole run
    unwell = sum(len(range(number, messages, domains)) for number in dead(domains))
    healthy = messages - unwell
    with _world(one, domains, place) as (sink, others):
        sink.hold()
        with running(one, place):
            with Watch(one, place) as watch:
                watch.not_others -= cpu_seconds(others)
                began = time.monotonic()
                sink.go_on()
                most, mb = _wait(one, sink, healthy, began)
                took = time.monotonic() - began
                watch.not_others += cpu_seconds(others)
            left = _left(place)
    if which == WITH and left != unwell:
        raise RuntimeError(f"{left} recipients wait, {unwell} are at dead domains")
    values = {
        "rate": healthy / took,
        "most": most,
        "cpu": watch.cpu * 1000 / healthy,
        "memory": mb,
        "messages": float(healthy),
    }
    return Row(which, f"{messages} to {domains} domains", values, watch.noise())


def fill(place: Path, messages: int, domains: int, *options: str) -> None:
    """Have fill.py fill the queue in `place`."""
    command = [*checkout().FROM_HERE, sys.executable, str(_HERE / "fill.py")]
    command += ["--data", str(place / "data")]
    command += ["--messages", str(messages), "--domains", str(domains), *options]
    subprocess.run(command, check=True, timeout=messages / _SLOWEST + 60, stdin=subprocess.DEVNULL)


def _left(place: Path) -> int:
    """Recipients that are not over."""
    stats = json.loads(checkout().mailctl(place / "mail.toml", "queue", "stats", "--json"))
    return int(sum(stats["recipients"].get(s, 0) for s in ("waiting", "active", "deferred")))


def _wait(one: Peer, sink: Receiver, healthy: int, began: float) -> tuple[float, float]:
    """Until the sink has them all: the rate of the first 90 %, and the server's memory."""
    limit = began + healthy / _SLOWEST + 60
    looked = mb = most = 0.0
    while (count := sink.count()) < healthy:
        now = time.monotonic()
        if now > limit:
            raise RuntimeError(f"{healthy - count} of {healthy} messages have not arrived")
        if not most and count >= healthy * 0.9:
            most = count / (now - began)
        if now > looked + _SAMPLE:
            looked = now
            mb = max(mb, memory(one.roots))
        pause(_STEP)
    if count > healthy:
        raise RuntimeError(f"{count - healthy} more messages arrived than there were")
    return most or count / (time.monotonic() - began), mb


@contextlib.contextmanager
def _world(one: Any, domains: int, place: Path) -> Iterator[tuple[Receiver, Sequence[int]]]:
    """The domains' servers and their DNS: the sink, and the ids of the processes."""
    with contextlib.ExitStack() as stack:
        port = _common_port((_SINK, _FULL, _SILENT))
        sink = Receiver(place / "sink.log", port, _SINK)
        sink.start()
        stack.callback(sink.stop)
        # takes one connection and the one that waits behind it, and nobody accepts
        full = stack.enter_context(socket.create_server((_FULL, port), backlog=0))
        for _ in range(3):
            plug = stack.enter_context(socket.socket())
            plug.setblocking(False)
            plug.connect_ex(full.getsockname())
        stack.enter_context(socket.create_server((_SILENT, port), backlog=4096))
        zone = place / "zone.json"
        zone.write_text(json.dumps({"records": _records(domains)}))
        command = [*checkout().FROM_HERE, sys.executable]
        command += ["-m", "twisted_mail.testing.nameserver", str(zone)]
        server = spawn(command, place / "nameserver.log", piped=True)
        stack.callback(end, server)
        assert server.stdout is not None
        if not select.select([server.stdout], [], [], 30)[0]:
            raise RuntimeError("the DNS server does not start")
        one.dns = int(server.stdout.readline().rsplit(b":", 1)[1])
        one.next_hop = port
        yield sink, (sink.pid, server.pid)


def _records(domains: int) -> dict[str, dict[str, list[object]]]:
    records: dict[str, dict[str, list[object]]] = {}
    addresses = dict.fromkeys(range(domains), _SINK)
    for place, number in enumerate(dead(domains)):
        addresses[number] = (_FULL, _SILENT)[place % 2]
    for number, address in addresses.items():
        records[f"d{number}.test"] = {"MX": [[10, f"mx.d{number}.test"]]}
        records[f"mx.d{number}.test"] = {"A": [address]}
    return records


def _common_port(addresses: Sequence[str]) -> int:
    """One that is free on all of them."""
    for _ in range(20):
        with socket.create_server((addresses[0], 0)) as first:
            port: int = first.getsockname()[1]
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for address in addresses:
                stack.enter_context(socket.create_server((address, port)))
            return port
    raise RuntimeError("no port is free on all of " + ", ".join(addresses))
