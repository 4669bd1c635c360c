"""TLS in buffers of memory, with a client of the standard library on the other side."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from toy import tls_options
from twisted.internet.ssl import CertificateOptions
from twisted.python.failure import Failure

from twisted_mail.connection.layer import BARREN, FEED, GATHER, Layer, for_client, for_server

SERVER = tls_options()


class End:
    """The owner of a layer; `on_data` answers."""

    def __init__(self, creator: Any = SERVER) -> None:
        self.sent: list[bytes] = []
        self.said: list[str] = []
        self.got: list[bytes] = []
        self.on_data: Callable[[bytes], object] = lambda data: None
        self.layer = Layer(self, for_server(creator))

    def encrypted(self, data: bytes) -> None:
        self.sent.append(data)

    def shaken(self) -> None:
        self.said.append("shaken")

    def decrypted(self, data: bytes) -> None:
        self.got.append(data)
        self.on_data(data)

    def tls_ended(self) -> None:
        self.said.append("ended")

    def tls_failed(self, error: BaseException) -> None:
        self.said.append("failed")


class Client:
    def __init__(self, end: End, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        context = ssl.create_default_context(cadata=SERVER.authority.decode())
        context.maximum_version = version
        self.end = end
        self.goodbye = False
        """Whether the server's was read."""
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    def shake(self) -> Client:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.give(self.out())
                self.take()
            else:
                self.give(self.out())
                return self

    def out(self) -> bytes:
        return self._out.read()

    def give(self, data: bytes) -> None:
        if data:
            self.end.layer.receive(data)

    def take(self) -> None:
        self._in.write(b"".join(self.end.sent))
        self.end.sent.clear()

    def read(self) -> bytes:
        self.take()
        found = b""
        try:
            while data := self.tls.read(100_000):
                found += data
            self.goodbye = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.goodbye = True
        return found


class Records:
    """A client in TLS 1.3 that makes its records itself (RFC 8446 sections 5.2 and 7), so that it may say anything."""

    def __init__(self, end: End) -> None:
        lines: list[bytes] = []
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_keylog_callback(lambda _, line: lines.append(line))
        context.set_tls13_ciphersuites(b"TLS_AES_256_GCM_SHA384")
        client = SSL.Connection(context, None)
        client.set_connect_state()
        for _ in range(2):
            try:
                client.do_handshake()
            except SSL.WantReadError:
                pass
            end.layer.receive(client.bio_read(100_000))
            client.bio_write(b"".join(end.sent))
            end.sent.clear()
        (secret,) = (
            line.split()[2] for line in lines if line.startswith(b"CLIENT_TRAFFIC_SECRET_0 ")
        )
        self._secret = bytes.fromhex(secret.decode())
        self._rekey()

    def data(self, octets: bytes) -> bytes:
        return self._record(octets + b"\x17")

    def key_update(self) -> bytes:
        """Asks the other side for one, too."""
        record = self._record(b"\x18\0\0\x01\x01\x16")
        self._secret = self._derived(b"traffic upd", 48)
        self._rekey()
        return record

    def _rekey(self) -> None:
        self._key, self._iv = AESGCM(self._derived(b"key", 32)), self._derived(b"iv", 12)
        self._number = 0

    def _derived(self, label: bytes, size: int) -> bytes:
        label = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\0"
        return HKDFExpand(SHA384(), size, info).derive(self._secret)

    def _record(self, inner: bytes) -> bytes:
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        nonce = int.from_bytes(self._iv, "big") ^ self._number
        self._number += 1
        return header + self._key.encrypt(nonce.to_bytes(12, "big"), inner, header)


@pytest.fixture
def end() -> End:
    return End()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_came_together_is_handed_over_together(end: End, version: ssl.TLSVersion) -> None:
    client = Client(end, version).shake()
    assert end.said == ["shaken"]
    for word in (b"x" * 20_000, b"two", b"three"):
        client.tls.write(word)
    client.give(client.out())
    assert end.got == [b"x" * 20_000 + b"twothree"]


@given(st.lists(st.integers(1, 3000), max_size=12))
def test_any_cut_of_the_stream_gives_the_same(cuts: list[int]) -> None:
    end = End()
    client = Client(end).shake()
    client.tls.write(b"y" * 40_000)
    stream = client.out()
    for cut in cuts:
        client.give(stream[:cut])
        stream = stream[cut:]
    client.give(stream)
    assert b"".join(end.got) == b"y" * 40_000


def test_answers_go_out_with_the_tickets_and_the_goodbye(end: End) -> None:
    def answer(data: bytes) -> None:
        end.layer.write(b"one")
        end.layer.write(b"two")
        end.layer.close()

    end.on_data = answer
    client = Client(end)
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.do_handshake()
    client.give(client.out())
    client.take()
    client.tls.do_handshake()
    client.tls.write(b"hello")  # with the end of the handshake
    client.give(client.out())
    assert len(end.sent) == 1
    assert client.read() == b"onetwo"
    assert client.goodbye


def test_much_does_not_wait(end: End) -> None:
    written: list[int] = []

    def answer(data: bytes) -> None:
        for _ in range(3):
            end.layer.write(b"z" * (GATHER // 2 + 1))
            written.append(sum(map(len, end.sent)))

    client = Client(end).shake()
    client.read()
    end.on_data = answer
    client.tls.write(b"go")
    client.give(client.out())
    assert written[0] == 0
    assert written[1] > GATHER
    assert written[2] == written[1]
    assert client.read() == b"z" * (GATHER // 2 + 1) * 3


def test_large_writes_are_whole(end: End) -> None:
    client = Client(end).shake()
    data = bytes(range(256)) * 1000
    end.layer.write(data)
    assert client.read() == data


def test_the_peers_goodbye_is_answered_after_what_it_had_asked(end: End) -> None:
    client = Client(end).shake()
    client.read()
    end.on_data = lambda data: end.layer.write(b"answer")
    client.tls.write(b"question")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    client.give(client.out())
    assert end.said == ["shaken", "ended"]
    assert end.layer.over
    assert end.layer.error is None
    assert client.read() == b"answer"
    assert client.goodbye


def test_our_goodbye_waits_for_the_peers(end: End) -> None:
    client = Client(end).shake()
    assert end.layer.close()
    end.layer.write(b"too late")
    client.tls.write(b"on its way")
    client.give(client.out())
    assert client.read() == b""
    assert client.goodbye
    assert end.said == ["shaken"]
    client.tls.unwrap()
    client.give(client.out())
    assert end.said == ["shaken", "ended"]
    assert not end.sent


def test_nobody_to_say_goodbye_to(end: End) -> None:
    assert not end.layer.close()
    assert not end.sent


def test_a_failure_is_an_alert_and_told_once(end: End) -> None:
    end.layer.receive(b"\x16\x03\x01\x00\x09\x01\x00\x00\x05hello")
    assert end.said == ["failed"]
    assert isinstance(end.layer.error, SSL.Error)
    alert = b"".join(end.sent)
    assert alert[:1] == b"\x15"
    end.layer.receive(b"more")
    end.layer.write(b"words")
    assert end.said == ["failed"]
    assert b"".join(end.sent) == alert


def test_a_record_that_was_changed(end: End) -> None:
    client = Client(end).shake()
    client.read()
    client.tls.write(b"first")
    first = client.out()
    client.tls.write(b"second")
    client.give(first + client.out()[:-1] + b"\0")
    assert end.got == [b"first"]
    assert end.said == ["shaken", "failed"]
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        client.read()


def test_key_updates_change_nothing(end: End) -> None:
    records = Records(end)
    for number in range(4):
        end.layer.receive(records.key_update() + records.data(b"%d" % number))
    assert end.got == [b"0", b"1", b"2", b"3"]
    assert end.said == ["shaken"]


def test_records_that_say_nothing_end_it_before_they_cost_much(end: End) -> None:
    records = Records(end)
    stream = bytearray()
    while len(stream) < 2 * FEED:
        stream += records.key_update()
    answered = len(records.key_update())
    end.layer.receive(bytes(stream))
    assert end.said == ["shaken", "failed"]
    assert "say nothing" in str(end.layer.error)
    # One for each that was looked at, and those were one piece.
    assert len(b"".join(end.sent)) <= FEED + answered


def test_records_that_say_nothing_are_counted_over_all_that_comes(end: End) -> None:
    records = Records(end)
    came = 0
    while not end.layer.over:
        stream = records.data(b"x") + b"".join(records.key_update() for _ in range(9))
        end.layer.receive(stream)
        came += len(stream)
        assert came < 2 * BARREN
    assert end.said == ["shaken", "failed"]


def test_many_small_records_with_something_in_them_are_heard(end: End) -> None:
    records = Records(end)
    for _ in range(20):
        end.layer.receive(b"".join(records.data(b"x") for _ in range(200)))
    assert sum(map(len, end.got)) == 4000
    assert end.said == ["shaken"]


def test_after_our_goodbye_nothing_is_answered(end: End) -> None:
    records = Records(end)
    assert end.layer.close()
    end.sent.clear()
    for _ in range(20):
        end.layer.receive(records.key_update() + records.data(b"x" * 100))
    assert not end.sent
    assert end.said == ["shaken"]
    with pytest.raises(SSL.WantReadError):
        end.layer.connection.bio_read(1)


@pytest.mark.parametrize("after", [b"", b"QUIT\r\n"])
def test_nobody_negotiates_again(end: End, after: bytes) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    client = SSL.Connection(context, None)
    client.set_connect_state()
    for _ in range(2):
        with contextlib.suppress(SSL.WantReadError):
            client.do_handshake()
        end.layer.receive(client.bio_read(100_000))
        client.bio_write(b"".join(end.sent))
        end.sent.clear()
    client.do_handshake()
    assert end.said == ["shaken"]
    if after:
        client.send(after)
    client.renegotiate()
    with contextlib.suppress(SSL.WantReadError):
        client.do_handshake()
    end.layer.receive(client.bio_read(100_000))
    client.bio_write(b"".join(end.sent))
    assert b"".join(end.got) == after
    with pytest.raises(SSL.Error, match="no renegotiation"):
        client.do_handshake()


def test_an_owner_that_loses_its_transport_meanwhile(end: End) -> None:
    client = Client(end).shake()
    end.sent.clear()
    end.on_data = lambda data: end.layer.lost()
    client.tls.write(b"bye")
    client.give(client.out())
    client.tls.write(b"and more")
    client.give(client.out())
    assert end.got == [b"bye"]
    assert end.layer.connection is None
    assert not end.sent


def test_a_creator_of_twisteds() -> None:
    class Creator:
        """With what `CertificateOptions` asks of a layer."""

        def __init__(self) -> None:
            self._options = CertificateOptions()

        def serverConnectionForTLS(self, layer: Any) -> SSL.Connection:
            self._options.serverConnectionForTLS(layer)
            return SERVER.serverConnectionForTLS(layer)

    end = End(Creator())
    Client(end).shake()
    assert end.said == ["shaken"]


def test_a_creator_that_does_not_like_the_peer() -> None:
    class Other(End):
        def __init__(self) -> None:
            super().__init__()
            self.layer = Layer(self, for_client(self))
            self.layer.start()

        def clientConnectionForTLS(self, layer: Layer) -> SSL.Connection:
            context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            disliked = Failure(ValueError("not this one"))
            context.set_info_callback(lambda *_: layer.failVerification(disliked))
            return SSL.Connection(context, None)

    end, other = End(), Other()
    for _ in range(3):
        for one, its in ((other, end), (end, other)):
            sent = b"".join(one.sent)
            one.sent.clear()
            if sent:
                its.layer.receive(sent)
    assert other.said == ["failed"]
    assert isinstance(other.layer.error, ValueError)
