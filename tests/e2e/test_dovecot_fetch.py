"""FETCH of header fields, partials and decoded parts: what Dovecot and ours say of the same messages."""

from __future__ import annotations

import os
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
import test_dovecot_structure as structure
from test_dovecot_structure import IMAP, ODD, Imap, difference, numbered, read_value, shape, soup
from twisted.internet.task import Clock

from twisted_mail.imap.fetch_answer import Answering
from twisted_mail.imap.fetch_chosen import chunks
from twisted_mail.imap.fetch_large import Mark
from twisted_mail.imap.fetch_plan import plan
from twisted_mail.imap.grammar_fetch import fetch_item
from twisted_mail.imap.reader import Reader
from twisted_mail.imap.view import View
from twisted_mail.message.structure import scan
from twisted_mail.testing.mailboxes import MemoryAccount
from twisted_mail.turns import Turns

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.needs("dovecot", IMAP),
    pytest.mark.skipif(os.geteuid() != 0, reason="Dovecot takes another user's place"),
]

root = structure.root
# What is not valid in its encoding ends Dovecot's session now and then
CODED = [
    (b"base64", b"aGVsbG8gdGhlcmU=\n"),
    (b"BASE64", b"aGVs\nbG8g\ndGhlcmU=\n"),
    (b"base64", b"aGVsbG8g\n"),
    (b"quoted-printable", b"so=\nft=20x=C3=A9\nhard\n"),
    (b"Quoted-Printable", b"=41=42=\n43\n"),
    (b"8bit", b"pl\xc3\xa4in\n"),
    (b"7bit", b"plain\n"),
]


@pytest.fixture(autouse=True)
def literal8(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 3516: a literal may begin with ``~``."""
    token = re.compile(structure._token.pattern.replace(rb"|\{", rb"|~?\{"), re.DOTALL)
    monkeypatch.setattr(structure, "_token", token)


def ours(messages: list[bytes], asked: list[tuple[int, str]], large: int) -> list[Any]:
    """What we say to each; None where a part cannot be decoded."""
    account = MemoryAccount()
    account.large = large
    for message in messages:
        account.deliver(message)

    async def run() -> list[Any]:
        mailboxes = await account.open_mailboxes()
        view = View(await mailboxes.open("INBOX"))
        said = []
        for number, item in asked:
            wanted = plan([fetch_item(Reader(item.encode()))])
            answering = Answering(view, wanted, wanted, Mark(), Turns(Clock()))
            pieces = [one async for one in answering.pieces(chunks([(number - 1, number, 0)]))]
            line = b"".join(pieces)
            value, _ = read_value(line, line.index(b"("))
            assert isinstance(value, list)
            said.append(None if answering.unknown_cte else value[1])
        return said

    with pytest.raises(StopIteration) as stopped:
        run().send(None)
    return list(stopped.value.value)


def compare(root: Path, messages: list[bytes], asked: list[tuple[int, str]]) -> list[str]:
    theirs = Imap(root, messages)
    said = []
    for at in range(0, len(asked), 400):
        # One at a time: what is asked twice of a message is one answer to who reads them
        some = asked[at : at + 400]
        answers = theirs.fetch([f"FETCH {number} {item}" for number, item in some])
        for number, item in some:
            label = re.sub(r"\.PEEK|(?<=<)(\d+)\.\d+(?=>)", r"\1", item).encode()
            by_name = {key.upper(): one for key, one in answers.get(number, {}).items()}
            said.append(by_name.get(label.upper(), "nothing"))
    out = []
    for large in (1, 1 << 30):
        for (number, item), their, own in zip(
            asked, said, ours(messages, asked, large), strict=True
        ):
            if their != "nothing" and (their or b"") != (own or b""):
                out.append(difference(messages[number - 1], item, their, own))
    return out


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_header_fields(root: Path, end: bytes) -> None:
    random = Random(1)
    messages = [soup(random).replace(b"\n", end) for _ in range(150)]
    messages += [shape(random, end) for _ in range(50)]
    asked = []
    for number in range(1, len(messages) + 1):
        asked += [
            (number, "BODY.PEEK[HEADER.FIELDS (subject FROM content-type)]"),
            (number, "BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT DATE)]"),
            (number, "BODY.PEEK[HEADER.FIELDS (X-NONE)]"),
        ]
    found = compare(root, messages, asked)
    assert not found, "\n".join(found[:10])


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_partials(root: Path, end: bytes) -> None:
    random = Random(2)
    messages = [shape(random, end) for _ in range(100)]
    asked = []
    for number in range(1, 101):
        for name in ("", "TEXT", "HEADER", "1", "1.MIME", "2"):
            first = random.randrange(80)
            asked.append((number, f"BODY.PEEK[{name}]<{first}.{random.randrange(1, 90)}>"))
    found = compare(root, messages, asked)
    assert not found, "\n".join(found[:10])


def test_binary(root: Path) -> None:
    messages = []
    random = Random(3)
    for _ in range(120):
        parts = [
            b"--b\nContent-Transfer-Encoding: %b\n\n%b" % random.choice(CODED) for _ in range(3)
        ]
        messages.append(
            b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n%b\n--b--\n"
            % b"\n".join(parts)
        )
    asked = []
    for number, message in enumerate(messages, 1):
        for numbers in numbered(scan(message)):
            name = ".".join(map(str, numbers))
            asked += [(number, f"BINARY.PEEK[{name}]"), (number, f"BINARY.SIZE[{name}]")]
            # Of a partial Dovecot 2.3 says BYE: internal error
    found = compare(root, messages, asked)
    assert not found, "\n".join(found[:10])


def test_odd_ones(root: Path) -> None:
    asked = [
        (number, f"BODY.PEEK[{name}]<{first}.50>")
        for number in range(1, len(ODD) + 1)
        # 1.1 of a text is the text again for Dovecot, and nothing for us
        for name in ("", "TEXT", "1", "2", "HEADER.FIELDS (Subject)")
        for first in (0, 7)
    ]
    found = compare(root, ODD, asked)
    assert not found, "\n".join(found[:10])
