"""An import that is interrupted, or killed, while the server takes mail: the next one makes it whole."""

from __future__ import annotations

import signal
import subprocess
from contextlib import suppress

import pytest
from imapsite import subjects
from mailsite import ALICE, DEADLINE, MAILCTL, until

pytestmark = pytest.mark.e2e

SIZES = (20_000, 80_000)
"""Messages; the second when the first were in before anybody could stop it."""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_an_import_goes_on(site, tmp_path, end):
    assert any(stopped_and_whole(site, tmp_path, end, size) for size in SIZES)


def stopped_and_whole(site, tmp_path, end, messages):
    """Import so many, stopped up to three times. Whether it could be stopped; that all of it is there is asserted."""
    delivered = len(subjects(site))
    with (tmp_path / "m").open("w") as file:
        for number in range(messages):
            file.write(f"From x Wed Jan  3 01:05:34 1996\nSubject: m{number}\n\n{'x' * 70}\n\n")
    box = f"Old {messages}"
    words = ["import", "mbox", str(tmp_path / "m"), "--user", ALICE, "--mailbox", box]
    # Whoever looks at it shall not be slower than it is.
    command = ["nice", "-n", "19", str(MAILCTL), "--config", str(site.config), *words]
    ended = 0
    for round_ in range(1, 4):
        running = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Shells have programs in the background ignore it, and so would this one.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        home = site.data / "mail/example.org/alice"

        def batches(home=home) -> int:
            with suppress(FileNotFoundError):  # it is done, and takes its log away
                return sum(path.read_bytes().count(b"\n") for path in home.glob("import-*.log"))
            return 0

        def enough(running=running, round_=round_) -> bool:
            return running.poll() is not None or batches() > 2 * round_

        until(enough, "some batches are done")
        running.send_signal(end)
        said = running.communicate(timeout=DEADLINE)[0]
        assert "Traceback" not in said
        if running.returncode == 0:
            break
        ended += 1
        if end is signal.SIGINT:
            assert running.returncode == 1
            assert "the same command goes on" in said
        site.send(f"delivered {round_}")
    if running.returncode:
        site.mailctl(*words)
    assert sorted(subjects(site, box)) == sorted(f"m{number}" for number in range(messages))
    assert list(home.glob("import-*")) == []
    assert len(subjects(site)) == delivered + ended
    return ended > 0
