"""`workers.control` and `workers.orders`: what the processes say to each other."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from twisted_mail.config import load
from twisted_mail.listeners import Socket
from twisted_mail.workers import control
from twisted_mail.workers.control import Channel, encode, read_frame
from twisted_mail.workers.orders import LogPlace, Order, first_frame, read_order

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(st.tuples(st.text(), JSON), max_size=4), st.data())
def test_any_cut_of_the_stream_gives_the_same_frames(frames, data):
    frames = [list(one) for one in frames]
    stream = b"".join(encode(one) for one in frames)
    heard = []
    channel = Channel(heard.append, lambda: None)
    channel.makeConnection(StringTransport())
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        channel.dataReceived(stream[:size])
        stream = stream[size:]
    assert heard == frames


def test_the_first_frame_is_read_before_there_is_a_reactor():
    ours, theirs = socket.socketpair()
    ours.sendall(encode(["start", {"a": "b" * 100_000}]) + encode(["ping"]))
    assert read_frame(theirs) == ["start", {"a": "b" * 100_000}]
    assert read_frame(theirs) == ["ping"]
    ours.close()
    with pytest.raises(EOFError):
        read_frame(theirs)
    theirs.close()


def test_nothing_is_longer_than_it_may_be(monkeypatch):
    monkeypatch.setattr(control, "MAX_FRAME", 1000)
    with pytest.raises(ValueError, match="a frame of"):
        encode(["news", "x" * 1000])
    ours, theirs = socket.socketpair()
    ours.sendall(b"\0\0\4\0")
    with pytest.raises(ValueError, match="a frame of 1024"):
        read_frame(theirs)
    ours.close()
    theirs.close()


@pytest.mark.parametrize("content", [b"{}", b"[]", b"[1]", b"x", b"\xff"])
def test_what_is_no_frame_is_refused(content):
    ours, theirs = socket.socketpair()
    ours.sendall(len(content).to_bytes(4, "big") + content)
    with pytest.raises(ValueError):
        read_frame(theirs)
    ours.close()
    theirs.close()


CONFIGURATION = """\
hostname = "mail.example.org"
data = "data"
workers = 2
[listen]
smtp = ["tcp:25", "unix:/run/smtp"]
[quota]
storage = "1 GiB"
[rates]
account_messages = "100/hour burst 20"
[delivery]
source_ipv4 = "192.0.2.1"
[[routes]]
domain = "one.example"
via = "smtp://relay.example"
[auth]
checkers = ["directory", "memory:alice:secret"]
"""


def test_a_worker_has_the_configuration_that_the_main_process_has(tmp_path):
    file = tmp_path / "mail.toml"
    file.write_text(CONFIGURATION)
    config = load(file)
    order = Order(
        slot=3,
        reactor="twisted.internet.epollreactor",
        path=["/a", "/b"],
        config=config,
        files={Path("/k.pem"): b"\x00key\xff"},
        addresses=[("smtp", "127.0.0.1:25")],
        sockets=[Socket("smtp", "tcp:25", 2, 5)],
        counts=4,
        log=LogPlace(path="/var/log/mail"),
    )
    file.unlink()
    travelled = read_order(json.loads(json.dumps(first_frame(order))))
    assert travelled == order
    assert travelled.config.certificates == config.certificates
    assert travelled.config.file == config.file
    assert type(travelled.config.data) is type(config.data)


def test_another_frame_is_no_order():
    with pytest.raises(ValueError, match="the first frame is ping"):
        read_order(["ping", {}])


# News to who does not read


class Slow(StringTransport):
    """Tells its producer when it has too much, as Twisted's transports do."""

    def write(self, data):
        super().write(data)
        if self.producer is not None and len(self.value()) > 1000:
            self.producer.pauseProducing()

    def read(self):
        self.clear()
        if self.producer is not None:
            self.producer.resumeProducing()


def test_news_do_not_pile_up_before_who_does_not_read():
    transport = Slow()
    channel = Channel(lambda frame: None, lambda: None)
    channel.makeConnection(transport)
    for _ in range(1000):
        channel.send(["news", ["x" * 100]])
    assert len(transport.value()) < 2000
    channel.send(["drain"])
    assert transport.value().endswith(encode(["drain"]))
    transport.read()
    channel.send(["news", []])
    assert transport.value() == encode(["news", []])


def test_what_was_said_last_leaves_before_the_end():
    transport = Slow()
    over = []
    channel = Channel(lambda frame: None, lambda: None)
    channel.makeConnection(transport)
    channel.send(["failed", "no certificate"])
    channel.close(lambda: over.append(1))
    assert transport.disconnecting and transport.producer is None and not over
    channel.connectionLost()
    assert over == [1]
    channel.close(lambda: over.append(2))
    assert over == [1, 2]
