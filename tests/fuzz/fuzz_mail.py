"""Whole messages, whatever they say, on their way in, out and to their readers: the same octets everywhere, sizes that
are true, signatures that hold.
"""

from __future__ import annotations

import re
from typing import Any

from fake_pop3 import Dialogue as Pop3Dialogue
from fuzzing import cut, nothing_failed, target
from imap_dialogue import Dialogue as ImapDialogue
from imap_values import is_body, is_envelope, lines_of, values
from signed_mail import ed25519, signed, verified, zone_of

from twisted_mail.delivery.header import HeaderEditor, HeaderRules
from twisted_mail.message import headers
from twisted_mail.message.lines import LineNormalizer
from twisted_mail.message.wire import LineEnds
from twisted_mail.pop3.retrieval import Top
from twisted_mail.status import MailError


def _stored(data: bytes) -> bytes:
    lines = LineNormalizer()
    return lines.feed(data) + lines.finish()


@target("mime")
def received_header(data: bytes) -> None:
    """Octet 0: cut, and submission; a message as it comes. The header is edited in the same way in any pieces; what
    follows is untouched; a reader sees the fields that are ours, and no others."""
    if not data:
        return
    text = _stored(data[1:])
    rules = HeaderRules(
        3, bool(data[0] & 1), lambda: {b"date": b"Date: x\n", b"message-id": b"Message-ID: <y>\n"}
    )

    def edited(pieces: Any) -> tuple[bytes, bytes, bytes] | int:
        editor = HeaderEditor(rules)
        try:
            rest = b"".join([editor.feed(piece) for piece in pieces])
            rest += editor.finish()
        except MailError as error:
            return error.code
        return editor.received, editor.head, rest

    whole = edited([text])
    assert edited(cut(text, data[0])) == whole
    if isinstance(whole, int):
        return
    received, head, rest = whole
    assert text.startswith(received)
    assert rest in (text[len(received) :], b"\n" + text[len(received) :])
    assert not rest or rest.startswith(b"\n")
    assert headers.split(head + rest) == (head, rest)
    names = [name for name, _, _ in headers.fields(head)]
    assert b"return-path" not in names
    assert names.count(b"received") < 3
    if rules.submission:
        assert b"bcc" not in names and b"date" in names and b"message-id" in names


_ZONE = zone_of(ed25519())


@target("mime")
def signed_mail(data: bytes) -> None:
    """A message that was signed here and has gone over the wire verifies; with another word in it, it does not."""
    text = _stored(data)
    header, rest = headers.split(text)
    body = rest.removeprefix(b"\n")
    whole = signed(header, body, keys=[ed25519()]) + b"\n" + body
    ends = LineEnds()
    there = _stored(ends.encode(whole) + ends.finish())
    assert there == whole or there == whole + b"\n"
    header, rest = headers.split(b"Received: by x; y\n" + there)
    found, _ = verified(header, rest.removeprefix(b"\n"), _ZONE)
    if not re.search(rb"(?im)^from[ \t]*:", header):
        return
    assert found[0].result == "pass", found
    found, _ = verified(header, rest.removeprefix(b"\n") + b"x\n", _ZONE)
    assert found[0].result == "fail", found


@target("mime")
def pop3_mail(data: bytes) -> None:
    """Octet 0: cut; a stored message. LIST, RETR and TOP agree."""
    if not data:
        return
    stored = data[1:]
    for utf8 in (False, True):
        talk = Pop3Dialogue(stored).log_in() if not utf8 else Pop3Dialogue(stored)
        if utf8:
            talk.say("UTF8")
            talk.log_in()
        size = int(talk.say("LIST 1").split()[2])
        said = talk.say("RETR 1")
        nothing_failed()
        head, _, text = said.partition(b"\r\n")
        assert head.startswith(b"+OK") and text.endswith(b".\r\n")
        assert (b"\r\n" + text).count(b"\r\n.\r\n") == 1
        text = re.sub(rb"(?m)^\.", b"", text[:-3])
        assert len(text) == size, (size, len(text))
        top = talk.say("TOP 1 2")
        nothing_failed()
        some = re.sub(rb"(?m)^\.", b"", top.partition(b"\r\n")[2][:-3])
        assert text.startswith(some)
        header = (b"\r\n" + text).partition(b"\r\n\r\n")[0]
        # RFC 6858: a client that did not ask for UTF-8 gets none in the header
        assert utf8 or header.isascii()
        assert some.count(b"\r\n") >= min(header.count(b"\r\n"), text.count(b"\r\n"))
    clean = _stored(stored)
    whole, pieces = Top(2), Top(2)
    found = whole.feed(clean)
    told = b""
    for piece in cut(clean, data[0]):
        if pieces.complete:
            break
        told += pieces.feed(piece)
    assert told == found


_ASKED = (
    b"BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT] BODY.PEEK[1] BODY.PEEK[1.MIME] BODY.PEEK[2.1] BODY.PEEK[]<7.20> "
    b"BODY.PEEK[TEXT]<0.9> RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY BINARY.PEEK[1] BINARY.SIZE[1] PREVIEW "
    b"BODY.PEEK[HEADER.FIELDS (SUBJECT)] BODY.PEEK[HEADER.FIELDS.NOT (SUBJECT)]"
)


@target("mime", 2048)
def imap_mail(data: bytes) -> None:
    """A stored message: FETCH gives octets, sizes and structures that agree; SEARCH, SORT and THREAD take it."""
    talk = ImapDialogue()
    talk.account.deliver(data)
    talk.login("INBOX")
    said = talk.ask(b"a FETCH 1 (" + _ASKED + b")\r\n")
    if b"UNKNOWN-CTE" in said:
        said = talk.ask(b"a FETCH 1 (" + re.sub(rb"BINARY\S* ?", b"", _ASKED) + b")\r\n")
    nothing_failed()
    lines = lines_of(said)
    assert lines[-1].startswith(b"a OK"), lines[-1]
    [line] = [line for line in lines if line.startswith(b"* 1 FETCH (")]
    found = _items(line[10:])
    whole = found[b"BODY[]"]
    assert found[b"RFC822.SIZE"] == len(whole)
    assert found[b"BODY[HEADER]"] + found[b"BODY[TEXT]"] == whole
    assert found[b"BODY[]<7>"] == whole[7:27]
    assert found[b"BODY[TEXT]<0>"] == found[b"BODY[TEXT]"][:9]
    is_envelope(found[b"ENVELOPE"])
    is_body(found[b"BODYSTRUCTURE"], True)
    is_body(found[b"BODY"], False)
    if b"BINARY[1]" in found and found[b"BINARY[1]"] is not None:
        assert found[b"BINARY.SIZE[1]"] == len(found[b"BINARY[1]"])
    # RFC 9051 section 7.5.2: what BODYSTRUCTURE says of part 1 is what it has
    structure = found[b"BODYSTRUCTURE"]
    if not isinstance(structure[0], list):
        assert structure[6] == len(found[b"BODY[TEXT]"])
        assert found[b"BODY[1]"] == found[b"BODY[TEXT]"]
    elif not isinstance(structure[0][0], list) and found[b"BODY[1]"] is not None:
        assert structure[0][6] == len(found[b"BODY[1]"])
    for command in (
        b"SEARCH OR SUBJECT x BODY y",
        b"SEARCH TEXT x FROM b",
        b"SORT (SUBJECT FROM DATE) UTF-8 ALL",
        b"THREAD REFERENCES UTF-8 ALL",
    ):
        answer = lines_of(talk.ask(b"b " + command + b"\r\n"))
        nothing_failed()
        assert answer[-1].startswith(b"b OK"), answer
    talk.client.abort()
    talk.world.reactor.advance(1)
    nothing_failed()


_STEP = re.compile(
    rb"(?:BODY|BINARY(?:\.SIZE)?)\[[A-Z0-9.() ]*\](?:<[0-9]+>)?(?= )|~?\{([0-9]+)\}\r\n|\"(?:[^\"\\]|\\.)*\"",
    re.DOTALL,
).search


def _items(line: bytes) -> dict[bytes, Any]:
    """Of a FETCH; labels as they were said."""
    labels: list[bytes] = []
    made = b""
    at = 0
    # Labels of sections have blanks and parentheses in them; literals may have anything.
    while (found := _STEP(line, at)) is not None:
        made += line[at : found.start()]
        at = found.end()
        if found[1] is not None:
            made += found[0] + line[at : at + int(found[1])]
            at += int(found[1])
        elif found[0][:1] == b'"':
            made += found[0]
        else:
            made += b"LABEL%d" % len(labels)
            labels.append(found[0])
    [items] = values(made + line[at:])
    names = [labels[int(name[5:])] if name.startswith(b"LABEL") else name for name in items[::2]]
    assert len(set(names)) == len(names)
    return dict(zip(names, items[1::2], strict=True))
