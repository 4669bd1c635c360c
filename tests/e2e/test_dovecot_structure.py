"""ENVELOPE, BODYSTRUCTURE, BODY, sections and sizes of odd messages: Debian's Dovecot and ours say the same.

What differs is known, one by one, and stands in docs/imap-differences.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from dovecot_beside import IMAP, PLAIN
from mailsite import DEADLINE
from peers import NOBODY, open_directory

from twisted_mail.message.bodystructure import body, bodystructure
from twisted_mail.message.envelope import envelope
from twisted_mail.message.structure import (
    MESSAGE,
    MULTIPART,
    Part,
    scan,
    section,
    wire_section,
)
from twisted_mail.message.wire import wire_size

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.needs("dovecot", IMAP),
    pytest.mark.skipif(os.geteuid() != 0, reason="Dovecot takes another user's place"),
]

# Lists, strings and words of an answer

_token = re.compile(
    rb'[ \r\n]*(?:([()])|"((?:[^"\\]|\\.)*)"|\{(\d+)\}\r\n|([^ ()\r\n]+))', re.DOTALL
)

_line = re.compile(rb"\* (\d+) FETCH |t(\d+) .*?\r\n|\* [^\r]*\r\n")

Value = bytes | None | list["Value"]


def read_value(data: bytes, at: int) -> tuple[Value, int]:
    found = _token.match(data, at)
    assert found is not None, data[at : at + 80]
    sign, quoted, literal, atom = found.groups()
    at = found.end()
    if quoted is not None:
        return re.sub(rb"\\(.)", rb"\1", quoted, flags=re.DOTALL), at
    if literal is not None:
        end = at + int(literal)
        return data[at:end], end
    if atom is not None:
        # a number is no string, and neither is NIL
        return (None if atom == b"NIL" else b"#" + atom), at
    assert sign == b"("
    out: list[Value] = []
    while not data.startswith(b")", at):
        value, at = read_value(data, at)
        out.append(value)
        while data[at : at + 1] == b" ":
            at += 1
    return out, at + 1


def values(data: bytes) -> Value:
    value, at = read_value(data, 0)
    assert at == len(data), data[at:]
    return value


class Imap:
    """A session of Dovecot's with a Maildir of these messages, one command line after the other."""

    def __init__(self, root: Path, messages: list[bytes]) -> None:
        shutil.rmtree(root / "Maildir", ignore_errors=True)
        for folder in ("new", "cur", "tmp"):
            (root / "Maildir" / folder).mkdir(parents=True)
        for number, message in enumerate(messages, 1):
            (root / "Maildir/cur" / f"{1_000_000 + number}.x.h:2,").write_bytes(message)
        for path in (root, *root.rglob("*")):
            os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
        config = root / "dovecot.conf"
        config.write_text(PLAIN.format(root=root))
        self.command = [IMAP, "-c", str(config)]
        self.environment = {"USER": "x", "HOME": str(root), "PATH": os.environ["PATH"]}

    def fetch(self, commands: list[str]) -> dict[int, dict[bytes, Value]]:
        """All answers: number of the message → item → what it is. Dovecot answers in an order of its own."""
        lines = ["s SELECT INBOX", *[f"t{i} {one}" for i, one in enumerate(commands)], "q LOGOUT"]
        running = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self.environment,
        )
        assert running.stdin is not None and running.stdout is not None
        # Its end must not come before LOGOUT is answered: what is not written by then is lost
        text = "".join(f"{line}\r\n" for line in lines).encode()
        writer = threading.Thread(target=lambda: (running.stdin.write(text), running.stdin.flush()))
        writer.start()
        data = running.stdout.read()
        writer.join()
        running.stdin.close()
        running.stdout.close()
        running.wait(DEADLINE)
        at = data.index(b"\r\n", data.index(b"\r\ns OK") + 2) + 2
        out: dict[int, dict[bytes, Value]] = {}
        over = 0
        while over < len(commands):
            line = _line.match(data, at)
            assert line is not None, data[-300:]
            at = line.end()
            if line[1] is not None:
                value, at = read_value(data, at)
                at += 2
                assert isinstance(value, list)
                answers = out.setdefault(int(line[1]), {})
                for key, item in zip(value[::2], value[1::2], strict=True):
                    assert isinstance(key, bytes)
                    answers[key.removeprefix(b"#")] = item
            elif line[2] is not None:
                over += 1
        return out


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with open_directory() as place:
        yield place


def numbered(part: Part, prefix: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """The numbers of all parts of a message (RFC 9051 section 6.4.5.1)."""
    if part.shape != MULTIPART:
        yield (*prefix, 1)
        if part.shape == MESSAGE:
            yield from numbered(part.children[0], (*prefix, 1))
        return
    for number, child in enumerate(part.children, 1):
        here = (*prefix, number)
        if child.shape == MULTIPART:
            yield here
            yield from numbered(child, here)
        else:
            yield here
            if child.shape == MESSAGE:
                yield from numbered(child.children[0], here)


def ours(message: bytes) -> dict[bytes, Value]:
    root = scan(message)
    return {
        b"RFC822.SIZE": b"#%d" % wire_size(message),
        b"ENVELOPE": values(envelope(message[root.start : root.body])),
        b"BODY": values(body(root)),
        b"BODYSTRUCTURE": values(bodystructure(root)),
    }


def difference(message: bytes, item: object, theirs: object, ours: object) -> str:
    """What to read of a test that failed."""
    one, other = repr(theirs), repr(ours)
    same = next((i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), 0)
    at = max(0, same - 200)
    return f"{message[:500]!r}\n  {item}\n  dovecot {one[at : at + 400]}\n  ours    {other[at : at + 400]}"


def compare(root: Path, messages: list[bytes]) -> list[str]:
    """What differs, message by message."""
    imap = Imap(root, messages)
    answers = imap.fetch(["FETCH 1:* (RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE)"])
    out = []
    asked: list[tuple[int, str]] = []
    for number, message in enumerate(messages, 1):
        theirs = answers.get(number, {})
        mine = ours(message)
        if theirs != mine:
            out += [
                difference(message, key, theirs.get(key), value)
                for key, value in mine.items()
                if theirs.get(key) != value
            ]
            continue
        asked += [(number, name) for name in ("", "HEADER", "TEXT")]
        for numbers in list(islice(numbered(scan(message)), 12)):
            text = ".".join(map(str, numbers))
            asked += [(number, text + name) for name in ("", ".MIME", ".HEADER", ".TEXT")]
    answers = imap.fetch([f"FETCH {number} BODY.PEEK[{name}]" for number, name in asked])
    for number, name in asked:
        message = messages[number - 1]
        parts = [one for one in name.split(".") if one]
        numbers = [int(one) for one in parts if one.isdigit()]
        specifier = parts[-1].encode() if parts and not parts[-1].isdigit() else b""
        found = section(scan(message), numbers, specifier)
        mine_ = None if found is None else wire_section(message, *found)
        theirs_ = answers[number][b"BODY[%b]" % name.encode()]
        # no such section: Dovecot says so with an empty string
        if (theirs_ or b"") != (mine_ or b""):
            out.append(difference(message, f"BODY[{name}]", theirs_, mine_))
    return out


HEADERS = [
    b"Subject: x",
    b"From: a@b, C <c@d>",
    b"MIME-Version: 1.0",
    b"Content-Type: text/plain",
    b"Content-Type: text/html; charset=utf-8",
    b"Content-Type: multipart/mixed; boundary=a",
    b'Content-Type: multipart/alternative; boundary="ab"',
    b"Content-Type: multipart/mixed;\n\tboundary=b",
    b"Content-Type: multipart/digest; boundary=a",
    b"Content-Type: multipart/mixed",
    b"Content-Type: multipart/digest",
    b"Content-Type: message/rfc822",
    b"Content-Type: message/rfc822",
    b"Content-Type: image/png; name=x.png",
    b"Content-Type: text",
    b"Content-Type: nonsense; charset=x",
    b"Content-Transfer-Encoding: base64",
    b"Content-Transfer-Encoding: x-odd (it is)",
    b"Content-Disposition: attachment; filename=a",
    b"Content-ID: <1@2>",
    b"no colon here",
    b" folded",
    b"\tfolded: too",
]
LINES = [
    b"",
    b"",
    b"",
    b"",
    b"--a",
    b"--a",
    b"--a--",
    b"--ab",
    b"--ab--",
    b"--b",
    b"--b--",
    b"--a ",
    b"--abc",
    b"--",
    b"-",
    b"text",
    b"more text.",
    b"--a-- trailing",
    b"a--a",
    b"\xe4\xf6",
]


def shape(random: Random, end: bytes) -> bytes:
    lines = [b"Content-Type: multipart/mixed; boundary=a", b""] if random.random() < 0.6 else []
    for _ in range(random.randrange(1, 20)):
        lines.append(random.choice(HEADERS if random.random() < 0.45 else LINES))
    return b"".join(line + end for line in lines)


WORDS = [
    *[
        b"a",
        b"b.c",
        b".",
        b"..",
        b"@",
        b"@",
        b"x@y.example",
        b"<",
        b">",
        b"<a@b>",
        b",",
        b",",
        b";",
    ],
    *[b":", b'"', b'"q d"', b'"q\\"d"', b"(", b")", b"(a comment)", b"(c (d) \\) e)", b" ", b" "],
    *[b"  ", b"\t", b"\n ", b"\\", b"[", b"]", b"[1.2.3.4]", b"\xc3\xa4", b"=?utf-8?q?=C3?=", b"/"],
    *[b"group:", b"<@r1,@r2:a@b>", b"<>", b"=", b"*", b"'", b"name", b"*0=", b"*1=", b"charset="],
    *[b"boundary=", b";name=", b"; filename*=utf-8''%20", b"en", b"text/plain", b"%"],
]
FIELDS = [b"From", b"To", b"Cc", b"Reply-To", b"Sender", b"Bcc", b"subject", b"Date", b"Message-ID"]
PARTS = [
    b"In-Reply-To",
    b"Content-Type",
    b"Content-Disposition",
    b"Content-Language",
    b"Content-ID",
]
MORE = [b"Content-Transfer-Encoding", b"Content-Location", b"Content-MD5", b"Content-Description"]


def soup(random: Random) -> bytes:
    fields = []
    for _ in range(random.randrange(1, 7)):
        name = random.choice(FIELDS + PARTS + MORE)
        start = b""
        if name == b"Content-Type" and random.random() < 0.7:
            start = random.choice([b"text/plain", b"Image/PNG ", b"text/html;", b"a/b; c=d"])
        if name == b"Content-Disposition" and random.random() < 0.7:
            start = random.choice([b"inline", b"attachment;", b"attachment; filename=x"])
        value = start + b"".join(random.choices(WORDS, k=random.randrange(0, 12)))
        value = re.sub(rb"\n (?=[ \t]*(\n|$))", b" ", value)
        if b"*1" in value and b"e*=" in value:
            continue  # Dovecot 2.3 gives the second the first one's number
        fields.append(name + b": " + value + b"\n")
    return b"MIME-Version: 1.0\n" + b"".join(fields) + b"\nbody\n"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_shapes(root: Path, seed: int, end: bytes) -> None:
    random = Random(seed)
    found = compare(root, [shape(random, end) for _ in range(200)])
    assert not found, "\n".join(found[:10])


@pytest.mark.parametrize("seed", range(4))
def test_fields(root: Path, seed: int) -> None:
    random = Random(seed)
    found = compare(root, [soup(random) for _ in range(500)])
    assert not found, "\n".join(found[:10])


def nested(levels: int) -> bytes:
    out = b""
    for level in range(levels):
        out += b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (level, level)
    return out + b"\ntext\n"


ODD = [
    b"\n",
    b"\n\n",
    b"x\n",
    b"Content-Type: multipart/mixed; boundary=\n\n--\nx\n----\n",
    b'Content-Type: multipart/mixed; boundary=""\n\n--\n\nx\n----\n',
    b"Content-Type: multipart/mixed; boundary=%b\n\n--%b\n\nx\n--%b--\n" % ((b"x" * 90,) * 3),
    b"Content-Type: message/rfc822\n\n" * 120 + b"x\n",
    nested(98),
    nested(99),
    nested(100),
    nested(120),
    b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\nx\n" * 10_050 + b"--a--\n",
    b"Content-Type: multipart/digest; boundary=a\n\n" + b"--a\n\nSubject: x\n\nx\n" * 6_000,
    b"From: " + b", ".join([b"a@b"] * 1000) + b"\n\n",
    b"Subject: " + b"x" * 100_000 + b"\n\n",
]


def test_odd_ones(root: Path) -> None:
    found = compare(root, ODD)
    assert not found, "\n".join(found[:10])


SHARED = os.environ.get("TWISTED_MAIL_SHARED") or Path(__file__).parents[3] / "shared"
CORPUS = Path(SHARED) / "corpora" / "mime4j"


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus is not here")
def test_a_corpus(root: Path) -> None:
    # its last lines may have no end: there is one in the wire form
    messages = [path.read_bytes() for path in sorted(CORPUS.glob("*.msg"))]
    found = compare(root, [one if one.endswith(b"\n") else one + b"\n" for one in messages])
    assert not found, "\n".join(found[:10])
