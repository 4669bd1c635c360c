"""Commands and streams made to cost much: each gets a connection of its own.

Those of IMAP that log in select a mailbox with a hundred plain letters, `plain@bounds.test`.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import socket
import threading
import zlib
from collections.abc import Callable

from bounds_client import PATIENCE, Line, mail
from bounds_messages import blocks_of
from bounds_meter import Meter
from bounds_server import Server

__all__ = ["Talk", "streams"]


class Talk:
    def __init__(self, server: Server, meter: Meter) -> None:
        self.server = server
        self.meter = meter

    def imap(self, login: bool = True) -> Line:
        talk = Line(self.server.ports["imap"])
        talk.line()
        if login:
            assert talk.imap(b"LOGIN plain@bounds.test secret")[:4] == b"x OK"
            assert talk.imap(b"SELECT INBOX")[:4] == b"x OK"
        return talk

    def command(self, data: bytes) -> None:
        """Its wire form ends before CRLF."""
        talk = self.imap()
        self.meter.size += len(data)
        with self.meter.step("IMAP"):
            try:
                said = talk.imap(data)
            except OSError:
                said = b"cut off"
        self.meter.said.append(said[2:30].decode("latin-1").strip() or "cut off")
        talk.close()

    def flood(
        self, listener: str, first: bytes, block: bytes, count: int, login: bool = False
    ) -> None:
        """`block` so often, or until the server hangs up; what it says is read and dropped."""
        talk = self.imap(login) if listener == "imap" else Line(self.server.ports[listener])
        if listener != "imap":
            talk.line()
        talk.socket.settimeout(PATIENCE)
        last = [b""]

        def read() -> None:
            with contextlib.suppress(OSError):
                while said := talk.socket.recv(1 << 16):
                    last[0] = said

        with self.meter.step(listener.upper()):
            reader = threading.Thread(target=read)
            reader.start()
            with contextlib.suppress(OSError):
                talk.send(first)
                for _ in range(count):
                    talk.send(block)
                    self.meter.size += len(block)
                talk.socket.shutdown(socket.SHUT_WR)
            reader.join()
        lines = last[0].splitlines() or [b"cut off"]
        self.meter.said.append(lines[-1][:24].decode("latin-1"))
        talk.close()


def deflate_bomb(size: int) -> bytes:
    """Of NUL octets, without an end of line."""
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    out = [packed.compress(b"\0" * (1 << 20)) for _ in range(size >> 20)]
    return b"".join([*out, packed.flush(zlib.Z_SYNC_FLUSH)])


def deflate_noops(count: int) -> bytes:
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packed.compress(b"a NOOP\r\n" * count) + packed.flush(zlib.Z_SYNC_FLUSH)


def streams(n: int) -> dict[str, Callable[[Talk], None]]:
    million = 1_000_000 // n
    mega = (1 << 20) // n

    def compressed(what: Callable[[int], bytes], size: int) -> Callable[[Talk], None]:
        def run(talk: Talk) -> None:
            line = talk.imap()
            bomb = what(size)
            said = line.imap(b"COMPRESS DEFLATE")
            with talk.meter.step("DEFLATE"), contextlib.suppress(OSError):
                line.send(bomb)
                line.socket.shutdown(socket.SHUT_WR)
                while line.socket.recv(1 << 16):
                    pass
            talk.meter.size += len(bomb)
            talk.meter.said.append(said[2:8].decode())
            line.close()

        return run

    def report(unpacked: int) -> Callable[[Talk], None]:
        def run(talk: Talk) -> None:
            bomb = gzip.compress(b"<feedback>" + b" " * unpacked)
            blocks = blocks_of(
                b"From: <a@plain.example>\nSubject: Report Domain: bounds.test\nMIME-Version: 1.0\n"
                b"Content-Type: application/gzip; name=r.xml.gz\nContent-Transfer-Encoding: base64\n\n",
                base64.encodebytes(bomb),
            )
            mail(talk.server, talk.meter, blocks)

        return run

    def of(*words: bytes) -> Callable[[Talk], None]:
        return lambda talk: talk.command(b"".join(words))

    def flooding(
        listener: str, first: bytes, block: bytes, count: int, login: bool = False
    ) -> Callable[[Talk], None]:
        return lambda talk: talk.flood(listener, first, block, count, login)

    big = b"x" * (1 << 20)
    kilo = 60_000 if n == 1 else 6_000
    return {
        "SMTP command line of 1 GB": flooding("smtp", b"EHLO ", big, 1024 // n),
        "SMTP RCPT 1 000 000 refused": flooding(
            "smtp",
            b"EHLO plain.example\r\nMAIL FROM:<>\r\n",
            b"RCPT TO:<nobody@bounds.test>\r\n" * 100,
            million // 100,
        ),
        "SMTP NOOP 1 000 000": flooding(
            "smtp", b"EHLO plain.example\r\n", b"NOOP\r\n" * 1000, million // 1000
        ),
        "SMTP BDAT 0 1 000 000": flooding(
            "smtp",
            b"EHLO plain.example\r\nMAIL FROM:<>\r\nRCPT TO:<plain@bounds.test>\r\n",
            b"BDAT 0\r\n" * 1000,
            million // 1000,
        ),
        "SMTP BDAT 1 octet 1 000 000": flooding(
            "smtp",
            b"EHLO plain.example\r\nMAIL FROM:<>\r\nRCPT TO:<plain@bounds.test>\r\n",
            b"BDAT 1\r\nx" * 1000,
            million // 1000,
        ),
        "SMTP AUTH line without end": flooding(
            "smtp", b"EHLO a.example\r\nAUTH PLAIN ", b"A" * (1 << 20), 64 // n + 1
        ),
        "POP3 command line of 1 GB": flooding("pop3", b"USER ", big, 1024 // n),
        "IMAP command line of 1 GB": flooding("imap", b"a NOOP ", big, 1024 // n),
        "IMAP literal of 2^63": flooding("imap", b"a LOGIN {9223372036854775808}\r\n", big, 16),
        "IMAP literal+ of 2^63": flooding(
            "imap", b"a LOGIN {9223372036854775808+}\r\n", big, 1024 // n
        ),
        "IMAP literal+ of 4 GB, logged in": flooding(
            "imap", b"a APPEND INBOX {4294967295+}\r\n", big, 1024 // n, True
        ),
        "IMAP literal+ of 60 000 empty ones": flooding(
            "imap", b"a SEARCH", b" {0+}\r\n" * 10_000, 6, True
        ),
        "IMAP set 1,2,3": of(
            b"FETCH ", b",".join(b"%d" % k for k in range(1, kilo // 6)), b" FLAGS"
        ),
        "IMAP set *:1,*:1": of(b"FETCH ", b"*:1," * (kilo // 4), b"1 (FLAGS ENVELOPE)"),
        "IMAP SEARCH set ORs": of(b"SEARCH ", b"OR 1:* " * (kilo // 7), b"ALL"),
        "IMAP SEARCH NOT deep": of(b"SEARCH ", b"NOT " * (kilo // 4), b"ALL"),
        "IMAP SEARCH ( deep": of(b"SEARCH ", b"(" * (kilo // 2), b"ALL", b")" * (kilo // 2)),
        "IMAP SEARCH OR OR deep": of(b"SEARCH ", b"OR ALL " * (kilo // 8), b"ALL"),
        "IMAP SEARCH many TEXT": of(b"SEARCH ", b"TEXT abcde " * 200, b"ALL"),
        "IMAP SEARCH TEXT long": of(b"SEARCH TEXT ", b"a" * (kilo // 2)),
        "IMAP LIST %*%*%*": of(b'LIST "" "', b"%*" * (kilo // 2 - 50), b'x"'),
        "IMAP LIST many patterns": of(b'LIST "" (', b" ".join([b"*%*%*x"] * (kilo // 7)), b")"),
        "IMAP FETCH BODY[1.1.1…]": of(b"FETCH 1:* BODY.PEEK[", b"1." * (kilo // 2 - 50), b"1]"),
        "IMAP FETCH many BODY[]": of(
            b"FETCH 1:* (", b" ".join([b"BODY.PEEK[]"] * (kilo // 12)), b")"
        ),
        "IMAP FETCH many HEADER.FIELDS": of(
            b"FETCH 1:* BODY.PEEK[HEADER.FIELDS (",
            b" ".join(b"x%d" % k for k in range(kilo // 7)),
            b")]",
        ),
        "IMAP STORE many flags": of(
            b"STORE 1:* FLAGS.SILENT (", b" ".join(b"f%d" % k for k in range(kilo // 7)), b")"
        ),
        "IMAP STATUS, ENABLE, ID": of(b"ID (", b'"a" "b" ' * (kilo // 10), b'"c" "d")'),
        "IMAP CREATE deep": of(b"CREATE ", b"a/" * (kilo // 4), b"a"),
        "IMAP NOOP 1 000 000": flooding("imap", b"", b"a NOOP\r\n" * 1000, million // 1000, True),
        "IMAP bad commands 1 000 000": flooding(
            "imap", b"", b"a X\r\n" * 1000, million // 1000, True
        ),
        "IMAP COMPRESS bomb of 1 GB": compressed(deflate_bomb, 1024 * mega),
        "IMAP COMPRESS of 10 000 000 NOOPs": compressed(deflate_noops, million),
        "DMARC report, gzip of 1 GB": report(1024 * mega),
    }
