"""What a peer writes stays a word of what we write: in the log, in headers, in what mailctl shows."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from email import message_from_bytes
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hostile import ALICE, Site
from twisted.logger import globalLogPublisher

from twisted_mail.cli import mailctl, output
from twisted_mail.log import make_observer

EVIL = [
    "a\rX-Evil: 1\rb",
    "a\nX-Evil: 1",
    "\x1b[2J\x1b]0;evil\x07",
    "\x9b31m",
    "\u202eevil\u2066",
    "x\u2028X-Evil: 1\u2029",
    "a\0b",
    '"> connection=forged message=forged client=192.0.2.99',
    "\x85X-Evil: 1",
    "e\u0301\u200d\ufeff",
    "(((((",
    "\x7f\x08\x08",
]
ACTING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(params=["text", "json"])
def log(request: pytest.FixtureRequest) -> Iterator[tuple[str, StringIO, list[int]]]:
    lines, events = StringIO(), [0]
    write = make_observer(request.param, lines)

    def observe(event: Any) -> None:
        at = lines.tell()
        write(event)
        events[0] += lines.tell() > at and lines.getvalue().count("\n", at) != 1

    globalLogPublisher.addObserver(observe)
    yield request.param, lines, events
    globalLogPublisher.removeObserver(observe)


def speak(site: Site, word: bytes) -> None:
    """In every place of every protocol."""
    quoted = b'"' + word.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"@elsewhere.example'
    literal = b"{%d+}\r\n%b" % (len(word), word)
    for lines in (
        [
            b"EHLO " + word,
            b"HELO " + word,
            b"MAIL FROM:<>",
            b"RCPT TO:<alice@example.org>",
            b"DATA",
        ],
        [
            b"EHLO [" + word + b"]",
            b"MAIL FROM:<" + quoted + b"> SMTPUTF8",
            b"RCPT TO:<" + quoted + b">",
        ],
        [b"EHLO c", b"MAIL FROM:<a@b.example> ENVID=" + word, b"MAIL FROM:<a@" + word + b">"],
        [
            b"EHLO c",
            b"MAIL FROM:<a@b.example>",
            b"RCPT TO:<alice@example.org> ORCPT=rfc822;" + word,
        ],
        [
            b"EHLO c",
            b"MAIL FROM:<" + quoted + b"> SMTPUTF8",
            b"RCPT TO:<alice@example.org>",
            b"DATA",
        ],
        [word, b"VRFY " + word, b"AUTH PLAIN " + b64encode(b"\0" + word + b"\0x"), b"RSET " + word],
    ):
        client = site.connect()
        for line in lines:
            said = client.ask(line + b"\r\n")
        if said.startswith(b"354"):
            client.ask(
                b"Subject: " + word + b"\r\nMessage-ID: <" + word + b"@x>\r\nFrom: " + word
                + b" <a@b.example>\r\nX-Own: 1\r\n\r\nbody\r\n.\r\n"
            )  # fmt: skip
        client.close()
    client = site.connect("pop3")
    client.ask(word + b"\r\nUSER " + word + b"\r\nPASS x\r\nAUTH " + word + b"\r\n")
    client.close()
    site.world.reactor.advance(60)
    client = site.connect("imap")
    client.ask(b"a LOGIN " + literal + b" x\r\n" + word + b" NOOP\r\nb " + word + b"\r\n")
    client.ask(b'c ID ("name" ' + literal + b")\r\n")
    client.close()
    site.world.reactor.advance(60)
    client = site.imap()
    client.ask(
        b"d CREATE "
        + literal
        + b"\r\ne SELECT "
        + literal
        + b"\r\nf SEARCH SUBJECT "
        + literal
        + b"\r\n"
    )
    client.ask(b"g STORE 1 +FLAGS (" + word + b")\r\n")
    client.close()


def test_the_log_has_one_line_for_an_event_and_nothing_acts_in_it(
    site: Site, log: tuple[str, StringIO, list[int]]
) -> None:
    form, lines, events = log
    for word in EVIL:
        speak(site, word.encode())
    text = lines.getvalue()
    assert text.count("\n") > 5 * len(EVIL)
    assert events == [0]
    for line in text[:-1].split("\n"):
        assert ACTING.search(line) is None, line
        if form == "json":
            json.loads(line)
            continue
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line)
        # No field of a line that is not ours
        bare = re.sub(r'"(?:\\.|[^"\\])*"', "", line)
        assert "forged" not in bare and "192.0.2.99" not in bare, line


OURS = {"return-path", "delivered-to", "received", "authentication-results", "received-spf"}
THEIRS = {"subject", "message-id", "from", "x-own"}


def test_no_field_is_added_to_a_message_but_ours(site: Site) -> None:
    seen = 0
    for word in EVIL:
        speak(site, word.encode())
        messages = site.server.messages(ALICE)
        assert len(messages) > seen
        check_fields(word, messages[seen:])
        seen = len(messages)


def check_fields(word: str, messages: list[bytes]) -> None:
    # A LF in the message itself is the sender's own line end
    own = {"x-evil"} if "\n" in word else set()
    for message in messages:
        header = message.partition(b"\n\n")[0]
        trace = header[: header.index(b"Subject: ")]
        for line in trace.splitlines():
            assert re.match(rb"[ \t]|[A-Za-z-]+: ", line), line
            # An address may hold what turns a line around (RFC 6531 section 3.3), but nothing that ends one
            assert re.search("[\0-\x1f\x7f-\x9f\u2028\u2029]", line.decode().lstrip("\t")) is None
        names = {name.lower() for name in message_from_bytes(message).keys()}  # noqa: SIM118
        assert names <= OURS | THEIRS | own, names


def test_mailctl_shows_what_does_nothing_to_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path)
    for word in EVIL:
        speak(site, word.encode())
    site.stop()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWISTED_MAIL_CONFIG", raising=False)
    (tmp_path / "mail.toml").write_text(
        'hostname = "localhost"\ndata = "data"\n[listen]\nsmtp = ["tcp:0"]\n'
    )
    for command in (["explain", "--list"], ["queue", "list"], ["user", "list"], ["status"]):
        for more in ([], ["--json"]):
            result = CliRunner().invoke(mailctl, [*command, *more])
            acting = ACTING.search(result.output.replace("\n", "").replace("\t", ""))
            assert acting is None, (command, more, result.output)
            assert "Traceback" not in result.output


def test_a_value_is_one_column_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for word in EVIL:
        output.show([{"first": word, "second": [word, word]}])
        output.show_blocks([{"first": word, "second": word}])
        shown = capsys.readouterr().out
        assert [line.count("\t") for line in shown.split("\n")] == [1, 1, 1, 1, 0]
        assert ACTING.search(shown.replace("\t", "").replace("\n", "")) is None
        output.show([{"first": word}], True)
        shown = capsys.readouterr().out
        assert json.loads(shown) == [{"first": word}]
        assert ACTING.search(shown.replace("\n", "")) is None
