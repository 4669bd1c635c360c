"""The load generators against their sinks, on loopback: what they say they did is what came."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import harness
import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def sink(tmp_path):
    one = harness.load("sink-large", [])
    one.prepare(tmp_path)
    one.start(tmp_path)
    yield one
    one.stop()


def result(program, *options):
    done = subprocess.run(
        [sys.executable, BENCH / program, *options],
        input="\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["clear", "starttls", "tls"])
def test_large_messages_each_way(sink, way):
    port = sink.smtps if way == "tls" else sink.smtp
    options = [
        "--port",
        str(port),
        "--way",
        way,
        "--sessions",
        "2",
        "--seconds",
        "0.2",
        "--size",
        "300000",
    ]
    found = result("large.py", *options)
    assert found["accepted"] >= 2
    assert found["refused"] == 0


def test_the_sessions_that_were_resumed_are_counted(sink):
    found = result("handshakes.py", "--port", str(sink.smtp), "--count", "5", "--resumed")
    assert (found["accepted"], found["resumed"]) == (5, 4)
    found = result("handshakes.py", "--port", str(sink.smtp), "--count", "5")
    assert (found["accepted"], found["resumed"]) == (5, 0)


def test_a_server_that_is_not_there_is_no_result(sink):
    sink.stop()
    found = result("large.py", "--port", str(sink.smtp), "--seconds", "0.1")
    assert found["accepted"] == 0
    assert found["refused"] > 0
