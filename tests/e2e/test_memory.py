"""Large messages pass through; they are not gathered in memory."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from mailsite import ALICE, DEADLINE, PASSWORD, letter, subject_of

pytestmark = pytest.mark.e2e

MIB = 1 << 20


class Peak:
    """The most memory the server occupied inside a ``with``."""

    def __init__(self, site):
        self.site = site
        self.proc = Path(f"/proc/{site.process.pid}")

    def __enter__(self):
        (self.proc / "clear_refs").write_text("5")  # proc(5): forget the peak so far
        self.before = self.site.resident()
        return self

    def __exit__(self, *_):
        lines = (self.proc / "status").read_text().splitlines()
        high = next(line for line in lines if line.startswith("VmHWM:"))
        self.grown = int(high.split()[1]) * 1024 - self.before


def send_large(site, sessions, size):
    message = letter("large", size=size)
    answers = []

    def send():
        with site.smtp() as session:
            session.timeout = 4 * DEADLINE
            session.sendmail("carol@elsewhere.example", [ALICE], message)
            answers.append("250")

    senders = [threading.Thread(target=send) for _ in range(sessions)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len(answers) == sessions


def test_ten_sessions_of_20_mb(site):
    send_large(site, sessions=10, size=MIB)  # what is allocated once is allocated now
    with Peak(site) as peak:
        send_large(site, sessions=10, size=20 * 1_000_000)
    assert peak.grown < 20 * 1_000_000
    with site.pop(ALICE) as session:
        assert session.stat()[0] == 20
        assert subject_of(session, 20) == "large"


def test_reading_a_large_message(site):
    send_large(site, sessions=1, size=20 * 1_000_000)
    with site.pop(ALICE) as session:
        session.top(1, 0)  # and argon2id's 64 MiB are behind us
        with Peak(site) as peak:
            assert session.retr(1)[2] > 20 * 1_000_000
    assert peak.grown < 5 * 1_000_000


def test_a_client_that_does_not_read(site):
    """Pipelined requests whose answers nobody takes: the server stops answering, it does not gather them."""
    send_large(site, sessions=1, size=4 * 1_000_000)
    assert site.subjects() == [
        "large"
    ]  # the 64 MiB of argon2id are had, and the password is remembered
    tls = site.tls
    with (
        Peak(site) as peak,
        tls.wrap_socket(site.connect("pop3s"), server_hostname="localhost") as lazy,
    ):
        lazy.sendall(f"USER {ALICE}\r\nPASS {PASSWORD}\r\n".encode() + b"RETR 1\r\n" * 50)
        # other sessions go on meanwhile, and give the server the time to do what it should not
        for number in range(20):
            site.send(f"meanwhile {number}")
    assert peak.grown < 5 * 1_000_000
