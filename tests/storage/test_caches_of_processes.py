"""Stories and counts for reports are written by all processes of a site at once, from the first moment on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted_mail.disk import OsDisk
from twisted_mail.storage.report_counts import ReportCounts
from twisted_mail.storage.stories import find

PROCESSES = 3
TIMES = 20

STORIES = """
import sys
from pathlib import Path
from twisted_mail.storage.stories import Stories, Story
from twisted_mail.testing import simulated_world
path, own, times = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
stories = Stories(simulated_world(), path)
print(flush=True)
sys.stdin.read(1)
for number in range(times):
    stories._insert([Story(own, number, "", "", {}, ())], 0.0 if number % 5 == 0 else None)
"""

COUNTS = """
import sys
from twisted_mail.disk import OsDisk
from twisted_mail.storage.report_counts import Key, ReportCounts
path, own, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
counts = ReportCounts(OsDisk(), path)
print(flush=True)
sys.stdin.read(1)
for number in range(times):
    counts.add({Key("dmarc", 3, "example.org"): ("head", 9.0, {"a row": 1, own: 1})}, today=3)
counts.close()
"""


def at_once(program: str, path: Path) -> None:
    """Run it in several processes, which begin in the same moment."""
    pipe = subprocess.PIPE
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path), f"process {number}", str(TIMES)],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
        )
        for number in range(PROCESSES)
    ]
    try:
        for one in running:
            assert one.stdout is not None
            assert one.stdout.readline() == b"\n"
        for one in running:
            assert one.stdin is not None
            one.stdin.write(b"!")
            one.stdin.flush()
        failed = [one.communicate(timeout=120)[1].decode() for one in running]
    finally:
        for one in running:
            one.kill()
            one.wait()
    assert [one.returncode for one in running] == [0] * PROCESSES, failed


def test_stories(tmp_path: Path) -> None:
    path = tmp_path / "stories.sqlite3"
    at_once(STORIES, path)
    for number in range(PROCESSES):
        found = find(path, f"process {number}", limit=100)
        assert [story.at for story in found] == list(range(TIMES))
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_counts_for_reports(tmp_path: Path) -> None:
    path = tmp_path / "reports.sqlite3"
    at_once(COUNTS, path)
    counts = ReportCounts(OsDisk(), str(path))
    (due,) = counts.due(10.0, 9)
    rows = dict(counts.rows(due.number))
    counts.close()
    assert rows == {
        "a row": PROCESSES * TIMES,
        **{f"process {number}": TIMES for number in range(PROCESSES)},
    }
