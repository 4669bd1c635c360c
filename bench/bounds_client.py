"""Clients of bench/bounds.py: one connection, and a message's way in by SMTP and out by IMAP and POP3."""

from __future__ import annotations

import socket
import time

from bounds_messages import Blocks
from bounds_meter import Meter
from bounds_server import PASSWORD, Server

__all__ = ["PATIENCE", "READING", "Line", "mail"]

PATIENCE = 120.0
"""Seconds for one answer."""

READING = (
    ("ENVELOPE", b"FETCH 1 (ENVELOPE RFC822.SIZE)"),
    ("BODYSTRUCTURE", b"FETCH 1 BODYSTRUCTURE"),
    ("PART", b"FETCH 1 (BODY.PEEK[1] BODY.PEEK[1.1.1.1.1.1.1.1.MIME] BINARY.SIZE[2])"),
    ("FIELDS", b"FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT X-Z)]"),
    ("WHOLE", b"FETCH 1 BODY.PEEK[]"),
    ("PREVIEW", b"FETCH 1 PREVIEW"),
    ("SEARCH", b"SEARCH TEXT wordthatisnowhere"),
    ("BODY", b"SEARCH BODY wordthatisnowhere HEADER X-Z nowhere"),
    ("SORT", b"SORT (SUBJECT FROM TO CC DATE DISPLAYFROM) UTF-8 ALL"),
    ("THREAD", b"THREAD REFERENCES UTF-8 ALL"),
)


class Line:
    """One connection, blocking."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.stream = self.socket.makefile("rb", buffering=1 << 16)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def line(self) -> bytes:
        return self.stream.readline()

    def smtp(self, data: bytes) -> bytes:
        """One SMTP reply, its last line."""
        self.send(data)
        line = self.line()
        while line[3:4] == b"-":
            line = self.line()
        return line

    def pop3(self, data: bytes) -> bytes:
        """The first line of an answer; a multi-line one is read to its end for TOP."""
        self.send(data)
        first = self.line()
        if first[:3] == b"+OK" and data[:3] == b"TOP":
            while self.line() not in (b".\r\n", b""):
                pass
        return first

    def imap(self, data: bytes) -> bytes:
        """The tagged line; literals are passed over."""
        self.send(b"x " + data + b"\r\n")
        while line := self.line():
            while line.endswith(b"}\r\n"):
                size = int(line[line.rindex(b"{") + 1 : -3])
                while size:
                    size -= len(self.stream.read(min(size, 1 << 20)))
                line = self.line()
            if line[:2] == b"x ":
                return line
        return b""

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


def mail(server: Server, meter: Meter, blocks: Blocks, *, data: bool = False) -> None:
    """In by SMTP, out by IMAP and POP3."""
    name = f"u{time.monotonic_ns()}@bounds.test"
    server.ask("add", name)
    talk = Line(server.ports["smtp"])
    talk.line()
    with meter.step("SMTP"):
        talk.smtp(b"EHLO plain.example\r\n")
        talk.smtp(b"MAIL FROM:<a@plain.example>\r\n")
        said = talk.smtp(b"RCPT TO:<%s>\r\n" % name.encode())
        assert said[:3] == b"250", said
        if data:
            talk.smtp(b"DATA\r\n")
            try:
                for block in blocks():
                    meter.size += len(block)
                    talk.send(block)
                said = talk.smtp(b"\r\n.\r\n")
            except OSError:
                said = b"cut off"
        else:
            for block in blocks():
                wire = block.replace(b"\n", b"\r\n")
                meter.size += len(wire)
                said = talk.smtp(b"BDAT %d\r\n" % len(wire) + wire)
                if said[:3] != b"250":
                    break
            else:
                said = talk.smtp(b"BDAT 0 LAST\r\n")
    meter.said.append(said[:9].decode())
    talk.close()
    talk = Line(server.ports["imap"])
    talk.line()
    talk.imap(b"LOGIN %s %s" % (name.encode(), PASSWORD.encode()))
    if said[:3] != b"250":
        if data:
            return
        # SMTP takes no such header. Its beginning it does; and who has an account can put the whole into it.
        with meter.step("SMTP, its begin"):
            wire = beginning(blocks)
            other = Line(server.ports["smtp"])
            other.line()
            other.smtp(b"EHLO plain.example\r\n")
            other.smtp(b"MAIL FROM:<a@plain.example>\r\n")
            other.smtp(b"RCPT TO:<begin@bounds.test>\r\n")
            said = other.smtp(b"BDAT %d LAST\r\n" % len(wire) + wire)
            other.close()
        meter.said.append(said[:9].decode())
        with meter.step("APPEND"):
            whole = b"".join(blocks()).replace(b"\n", b"\r\n")
            talk.send(b"y APPEND INBOX {%d}\r\n" % len(whole))
            talk.line()
            talk.send(whole + b"\r\n")
            said = talk.line()
        meter.said.append(said[2:12].decode())
    with meter.step("SELECT"):
        talk.imap(b"SELECT INBOX")
    for step, command in READING:
        with meter.step(step):
            said = talk.imap(command)
        if said[:4] != b"x OK":
            meter.said.append(f"{step}: {said[2:40].decode().strip()}")
    talk.close()
    talk = Line(server.ports["pop3"])
    talk.line()
    talk.pop3(b"USER %s\r\n" % name.encode())
    with meter.step("PASS"):
        talk.pop3(b"PASS %s\r\n" % PASSWORD.encode())
    with meter.step("TOP"):
        talk.pop3(b"TOP 1 10\r\n")
    talk.close()


def beginning(blocks: Blocks) -> bytes:
    """As much of a message's header as SMTP takes, with a body; wire form."""
    held = b""
    for block in blocks():
        held += block
        if len(held) > 120_000:
            break
    text = held.partition(b"\n\n")[0].replace(b"\n", b"\r\n")[:126_000]
    return text.rpartition(b"\r\n")[0] + b"\r\n\r\ntext\r\n"
