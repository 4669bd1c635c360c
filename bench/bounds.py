"""What hostile input costs, beside plain mail of the same size: time, memory and the longest gap of each.

    python bench/bounds.py [--only NESTED,LITERAL] [--quick] [--steps] [--json FILE]

A server of its own (one process, all checks on; SPF, DKIM and DMARC ask a resolver in memory) is sent each input. Mail
is then read by IMAP (ENVELOPE, BODYSTRUCTURE, a deep part, the whole, PREVIEW, SEARCH, SORT, THREAD) and POP3 (TOP).
A header that SMTP refuses as too long comes in by APPEND, and its beginning by SMTP. Columns:

- `MB`: the input's size on the wire;
- `CPU s`: what the server's process computed for it, in all its threads; `plain`: that of a plain message of the same
  size, and how many times as much this one took;
- `gap ms`: the longest time from one turn of the event loop to the next, and in which step; what other programs took is
  none of it (it is at most what this process computed meanwhile);
- `peak MB`: by how much memory rose at the most, and that of the plain message.

What must hold is looked at in the end: status 1 when a gap is longer than MAX_GAP, or a peak higher than MAX_PEAK.
`--quick`: a tenth of the sizes. `--steps`: what each step cost.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bounds_client import Line, mail
from bounds_messages import HEAD, PLAIN, Blocks, messages, plain_message
from bounds_meter import MAX_GAP, MAX_PEAK, Cost, Meter, measured
from bounds_server import Server
from bounds_streams import Talk, streams


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="names that hold one of these, by commas")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--steps", action="store_true", help="what each step cost")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    n = 10 if options.quick else 1
    wanted = options.only.split(",")
    failed: list[str] = []
    costs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        server = Server(place)
        try:
            fill(server)
            print(
                f"{'input':42} {'MB':>7} {'CPU s':>7} {'wall s':>7} {'plain':>7} {'times':>6} {'gap ms':>7} "
                f"{'in':14} {'peak MB':>8} {'plain':>6}  said",
                flush=True,
            )
            cache: dict[int, Cost] = {}
            for name, (blocks, data) in messages(n).items():
                if any(word in name for word in wanted):

                    def send(meter: Meter, blocks: Blocks = blocks, data: bool = data) -> None:
                        mail(server, meter, blocks, data=data)

                    meter = measured(server, send)
                    cost = meter.cost()
                    tell(name, cost, plain_of(server, cache, cost.size), meter, options, failed)
                    costs[name] = cost._asdict()
            for name, run in streams(n).items():
                if any(word in name for word in wanted):

                    def talk_to(meter: Meter, run: Callable[[Talk], None] = run) -> None:
                        run(Talk(server, meter))

                    meter = measured(server, talk_to)
                    cost = meter.cost()
                    tell(name, cost, None, meter, options, failed)
                    costs[name] = cost._asdict()
        finally:
            server.stop()
    if options.json:
        options.json.write_text(json.dumps(costs, indent=1))
    for line in failed:
        print(line)
    sys.exit(bool(failed))


def fill(server: Server) -> None:
    """A hundred plain letters, for the commands of IMAP."""
    talk = Line(server.ports["smtp"])
    talk.line()
    talk.smtp(b"EHLO plain.example\r\n")
    for _ in range(100):
        talk.smtp(b"MAIL FROM:<a@plain.example>\r\n")
        talk.smtp(b"RCPT TO:<plain@bounds.test>\r\n")
        wire = (HEAD + b"\n" + PLAIN * 20).replace(b"\n", b"\r\n")
        assert talk.smtp(b"BDAT %d LAST\r\n" % len(wire) + wire)[:3] == b"250"
    talk.close()


def plain_of(server: Server, cache: dict[int, Cost], size: int) -> Cost:
    """A plain message about so large: sizes are by powers of two, costs by the octet."""
    near = 1 << min(26, max(16, size.bit_length() - 1))
    if near not in cache:
        meter = Meter(server)
        mail(server, meter, plain_message(near)[0])
        cache[near] = meter.cost()
    one = cache[near]
    factor = max(1.0, size / near)
    return one._replace(size=size, cpu=one.cpu * factor, wall=one.wall * factor)


def tell(
    name: str, cost: Cost, plain: Cost | None, meter: Meter, options: Any, failed: list[str]
) -> None:
    times = f"{cost.cpu / plain.cpu:6.1f}" if plain else " " * 6
    of_plain = f"{plain.cpu:7.2f}" if plain else " " * 7
    peak = f"{plain.peak:6.0f}" if plain else " " * 6
    print(
        f"{name:42} {cost.size / 1e6:7.2f} {cost.cpu:7.2f} {cost.wall:7.2f} {of_plain} {times} "
        f"{cost.gap * 1000:7.1f} {cost.where:14} {cost.peak:8.1f} {peak}  {cost.said[:60]}",
        flush=True,
    )
    if options.steps:
        for step, cpu, gap, rise in meter.steps:
            print(
                f"    {step:14} {cpu:8.3f} s  gap {gap * 1000:7.1f} ms  peak {rise:7.1f} MB",
                flush=True,
            )
    if cost.gap > MAX_GAP:
        failed.append(f"{name}: one turn of the loop took {cost.gap * 1000:.0f} ms ({cost.where})")
    if cost.peak > MAX_PEAK:
        failed.append(f"{name}: {cost.peak:.0f} MB")


if __name__ == "__main__":
    main()
