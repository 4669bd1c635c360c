"""An import that is interrupted, or killed, while the server takes mail: the next one makes it whole."""

from __future__ import annotations

import signal
import subprocess

import pytest
from imapsite import subjects
from mailsite import ALICE, DEADLINE, MAILCTL, until

pytestmark = pytest.mark.e2e

MESSAGES = 20_000


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_an_import_goes_on(site, tmp_path, end):
    with (tmp_path / "m").open("w") as file:
        for number in range(MESSAGES):
            file.write(f"From x Wed Jan  3 01:05:34 1996\nSubject: m{number}\n\n{'x' * 70}\n\n")
    words = ["import", "mbox", str(tmp_path / "m"), "--user", ALICE, "--mailbox", "Old"]
    command = [str(MAILCTL), "--config", str(site.config), *words]
    ended = 0
    for round_ in range(1, 4):
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        home = site.data / "mail/example.org/alice"

        def batches(home=home) -> int:
            return sum(path.read_bytes().count(b"\n") for path in home.glob("import-*.log"))

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
    assert ended
    if running.returncode:
        site.mailctl(*words)
    assert sorted(subjects(site, "Old")) == sorted(f"m{number}" for number in range(MESSAGES))
    assert list(home.glob("import-*")) == []
    assert len(subjects(site)) == ended
