"""Clients of a server whose start takes long: real sockets, one process and several."""

from __future__ import annotations

import smtplib
import sys
from collections.abc import Callable

import pytest
from mailsite import ALICE, LISTENERS, Site, until

pytestmark = pytest.mark.e2e

START = """
import os, sys, time
import twisted_mail.starting as starting
import twisted_mail.storage.store as store
starting.PATIENCE = float(sys.argv.pop(1))
begin = store.MailStore._start
def slowly(self):
    while not os.path.exists("go on"):
        time.sleep(0.02)
    begin(self)
store.MailStore._start = slowly
from twisted.scripts.twistd import run
run()
"""
WORDS = {
    "smtp": b"421 4.3.2 localhost The server is starting, try again soon\r\n",
    "pop3": b"-ERR [SYS/TEMP] The server is starting, try again soon\r\n",
    "imap": b"* BYE [UNAVAILABLE] The server is starting, try again soon\r\n",
}


def words(name: str) -> bytes:
    return WORDS[name.removesuffix("s") if name[:4] in WORDS else "smtp"]


def everything(site: Site, name: str) -> bytes:
    """All that a client is told until the server closes."""
    client = site.connect(name)
    if name in ("submissions", "pop3s", "imaps"):
        client = site.tls.wrap_socket(client, server_hostname="localhost")
    with client, client.makefile("rb") as stream:
        return stream.read()


@pytest.fixture
def slow(make_site: Callable[..., Site], request: pytest.FixtureRequest) -> Site:
    workers, patience = request.param
    site = make_site()
    # once, for its certificates
    site.start()
    site.stop()
    site.top = f"workers = {workers}\n"
    site.write_configuration()
    site.process = site.spawn([sys.executable, "-c", START, str(patience), *site.command[1:]])
    for name in LISTENERS:
        until(lambda name=name: site._listens(site.ports[name], site.process), f"{name} listens")
    return site


@pytest.mark.parametrize("slow", [(0, 0.2), (2, 0.2)], indirect=True)
def test_they_are_told_to_come_later_and_not_refused(slow: Site) -> None:
    for _ in range(2):
        for name in LISTENERS:
            assert everything(slow, name) == words(name), name
    with pytest.raises(smtplib.SMTPConnectError) as told, slow.smtp():
        pass
    assert told.value.smtp_code == 421
    (slow.directory / "go on").touch()
    slow.wait_until_up(slow.process)
    slow.send("afterwards", to=[ALICE])
    assert slow.subjects() == ["afterwards"]
    assert "Traceback" not in slow.log
    slow.stop()


@pytest.mark.parametrize("slow", [(2, 3600.0)], indirect=True)
def test_at_first_they_wait(slow: Site) -> None:
    with slow.connect("smtp") as early:
        early.settimeout(0.3)
        with pytest.raises(TimeoutError):
            early.recv(1)
        early.settimeout(30)
        (slow.directory / "go on").touch()
        assert early.recv(100).startswith(b"220 ")
    slow.stop()
