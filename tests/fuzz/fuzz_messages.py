"""What a message says: its structure, its fields, what is made of them for clients and peers."""

from __future__ import annotations

import base64
import hashlib
import re
from email import message_from_bytes
from email.policy import compat32
from email.utils import parsedate_to_datetime
from itertools import pairwise

from fuzzing import cut, several, target
from imap_values import is_body, is_envelope, values

from twisted_mail.message import addresses as lists
from twisted_mail.message import authres, downgrade, dsn, headers, mbox, mime, seven_bit
from twisted_mail.message.bodystructure import body, bodystructure
from twisted_mail.message.content_fields import content_fields
from twisted_mail.message.date import parse_date
from twisted_mail.message.decode import UnknownEncoding, decoded, decoded_size, decoder
from twisted_mail.message.digest import digest, header_digest, read_header, split_references
from twisted_mail.message.dkim_body import BodyHash
from twisted_mail.message.dkim_header import HeaderFields
from twisted_mail.message.envelope import envelope, unfolded_block
from twisted_mail.message.lines import LineNormalizer
from twisted_mail.message.plain_header import plain_digest
from twisted_mail.message.preview import preview
from twisted_mail.message.searchable import contains, has_field, may_contain, searchable
from twisted_mail.message.structure import (
    LEAF,
    MAX_NESTING,
    MAX_PARTS,
    MESSAGE,
    MULTIPART,
    Part,
    from_bytes,
    scan,
    section,
    to_bytes,
    walk,
    wire_section,
)
from twisted_mail.message.subject import base_subject
from twisted_mail.message.surrogate import Surrogate
from twisted_mail.message.text import texts
from twisted_mail.message.threading import Threaded, ordered_subject, references
from twisted_mail.message.wire import DotStuffer, LineEnds, OctetCounter, wire_size
from twisted_mail.message.words import MAX_VALUE, decode_words, unencoded
from twisted_mail.smtp import engine as smtp

# -- structure


def _checked(part: Part, start: int, end: int, depth: int) -> int:
    """The number of parts in it."""
    assert depth <= MAX_NESTING + 1
    assert start <= part.start <= part.body <= part.end <= end
    assert part.shape in (LEAF, MULTIPART, MESSAGE)
    assert part.header_octets >= 0 and part.octets >= 0 and part.lines >= 0
    if part.shape == LEAF:
        assert not part.children
    if part.shape == MESSAGE:
        assert len(part.children) == 1
    for before, after in pairwise(part.children):
        assert before.end <= after.start
    return 1 + sum(_checked(one, part.body, part.end, depth + 1) for one in part.children)


@target("mime")
def structure(content: bytes) -> None:
    """Parts within their bounds and within each other; a BODYSTRUCTURE that can be read; a cache that keeps it all."""
    root = scan(content)
    parts = _checked(root, 0, len(content), 0)
    assert parts == len(list(walk(root))) <= MAX_PARTS
    assert (root.start, root.end) == (0, len(content))
    assert from_bytes(to_bytes(root)) == root
    whole = wire_section(content, root.start, root.end)
    assert root.header_octets + root.octets == len(whole) == wire_size(content)
    for part in walk(root):
        # What is told of a part is what is sent of it. The line end that the wire form adds is of the last part.
        if part.end < len(content) or part.body == len(content):
            assert part.octets == len(wire_section(content, part.body, part.end))
        if part.end < len(content) or part.body < len(content):
            assert part.header_octets == len(wire_section(content, part.start, part.body))
    for rev2 in (False, True):
        [value] = values(bodystructure(root, rev2))
        is_body(value, True)
        [value] = values(body(root, rev2))
        is_body(value, False)
    [value] = values(envelope(content[: root.body]))
    is_envelope(value)
    for specifier in (b"", b"HEADER", b"TEXT", b"MIME"):
        for numbers in ((), (1,), (2,), (1, 1), (1, 2, 1)):
            found = section(root, numbers, specifier)
            assert found is None or 0 <= found[0] <= found[1] <= len(content)
    made = digest(content, root)
    assert made == digest(content)


@target("mime")
def part_contents(content: bytes) -> None:
    """Parts decoded, in one piece or from anywhere; their text; the preview; what is searched."""
    root = scan(content)
    for part in walk(root):
        if part.children:
            continue
        try:
            whole = b"".join(decoded(content, part))
        except UnknownEncoding:
            continue
        assert decoded_size(content, part) == len(whole)
        assert b"".join(decoded(content, part, 3, 5)) == whole[3:8]
    said = preview(content, root)
    assert len(said) <= 200
    assert not re.search("[\x00-\x1f\x7f]", said)
    text = "".join(texts(content, root, overlap=0))
    found = searchable(content)
    assert 0 <= found.fields <= found.body <= len(found.text)
    # What is found word by word is not ruled out beforehand.
    for word in text.split()[:20]:
        needle = word[:12].casefold()
        if needle and contains(content, needle, body_only=False):
            assert may_contain(content, needle)
    has_field(content, "subject", "a")


@target("mime")
def structure_cache(data: bytes) -> None:
    """What a damaged cache says of a structure: a part, or ValueError. Pairs of octets, which number becomes what; then
    0xFF and the message that the structure was of."""
    changes, message = several(data, 2)
    head, _, tail = to_bytes(scan(message)).partition(b"\n")
    numbers = head.split(b" ")
    for at, value in zip(changes[::2], changes[1::2], strict=False):
        # The most hostile ones are large, negative, or none.
        numbers[at % len(numbers)] = (b"%d" % (value - 2), b"9" * value, b"-1", b"x")[value >> 6]
    for damaged in (b" ".join(numbers) + b"\n" + tail, data):
        try:
            root = from_bytes(damaged)
        except ValueError:
            continue
        assert len(list(walk(root))) <= len(numbers)


@target("mime")
def plain_headers(header: bytes) -> None:
    """The quick reader of headers says the same as the thorough one, or nothing."""
    block = unfolded_block(header)
    quick = plain_digest(block)
    full = read_header(block)
    assert quick is None or tuple(quick) == tuple(full)
    assert header_digest(block) == full
    [value] = values(full.envelope)
    is_envelope(value)
    assert "\n" not in full.base_subject + full.message_id + full.display_from + full.sort_from
    split_references(full.references)
    content_fields(block)


_PLAIN_DATE = re.compile(
    rb"(?:[A-Z][a-z]{2}, )?[0-3]?[0-9] [A-Z][a-z]{2} (?:19|20)[0-9]{2} "
    rb"[0-9]{2}:[0-9]{2}:[0-5][0-9] [+-][01][0-9][0-5][0-9]"
)


@target("mime")
def threads(data: bytes) -> None:
    """THREAD: each message once, parentheses in pairs."""
    messages = []
    for number, line in enumerate(data.split(b"\n")[:60], 1):
        own, _, before = line.partition(b" ")
        messages.append(
            Threaded(
                number,
                len(line) % 7,
                before[-3:].decode("latin-1"),
                line[:1] > b"m",
                own.decode("latin-1"),
                [one.decode("latin-1") for one in before.split()[:8]],
            )
        )
    for method in (references, ordered_subject):
        written = method(messages)
        assert written.count(b"(") == written.count(b")")
        assert sorted(map(int, re.findall(rb"[0-9]+", written))) == [one.number for one in messages]
    base_subject(data.decode("latin-1"))
    found = parse_date(data)
    if found is not None and _PLAIN_DATE.fullmatch(data):
        # A second opinion of what no program writes in two ways
        try:
            moment = parsedate_to_datetime(data.decode("ascii"))
        except ValueError:
            return
        assert found[0] == moment.timestamp()


# -- fields


@target("mime")
def words(value: bytes) -> None:
    """Encoded-words: one line for people, whatever they hold."""
    text = decode_words(value)
    assert len(text) <= MAX_VALUE
    assert not re.search(
        "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text
    )
    unencoded(value)


@target("mime")
def address_lists(value: bytes) -> None:
    """Lists of addresses: in the shape of RFC 9051, groups that begin and end; the shortcut reads as the lexer does."""
    found = lists.addresses(value)
    assert len(found) <= lists.MAX_ADDRESSES
    for one in found:
        assert len(one) == 4
    [answer] = values(envelope(b"To: " + value.replace(b"\n", b"\n ") + b"\n\n"))
    is_envelope(answer)


@target("mime")
def header_blocks(content: bytes) -> None:
    """Header and rest, fields within their bounds, fields left out, names of Authentication-Results claimed."""
    block, rest = headers.split(content)
    assert block + rest == content
    at = 0
    for name, start, end in headers.fields(block):
        assert at <= start < end <= len(block)
        assert name == name.lower()
        at = end
    less = headers.without(block, {b"subject", b"from"})
    assert not {b"subject", b"from"} & {name for name, _, _ in headers.fields(less)}
    ours = authres.names_of(["mail.example.org"])
    kept = authres.without_claimed(block, ours)
    if len(authres.claimed(block, ours)) < authres.MAX_FIELDS:
        assert not authres.claimed(kept, ours)
    for name, start, end in headers.fields(block):
        read = authres.read(block[start:end].partition(b":")[2])
        if read is None or name != b"authentication-results":
            continue
        written = authres.field(read.authserv_id, read.results)
        assert written.isascii()
        assert written.count(b"\n") == len(re.findall(rb"\n[ \t]", written)) + 1
        again = authres.read(written.partition(b":")[2])
        assert again is not None


@target("mime")
def downgrading(content: bytes) -> None:
    """For clients without UTF-8: ASCII fields only, the sizes that were promised, the same however it is cut."""
    block = headers.split(LineNormalizer().feed(content[1:]))[0] if content else b""
    made = downgrade.downgrade_header(block)
    assert made.isascii()
    assert downgrade.needs_downgrade(block) or made == block
    saving = downgrade.ascii_saving(block)
    if saving is not None:
        assert wire_size(block) - wire_size(made) == saving
    lines = LineNormalizer()
    stored = lines.feed(content[1:]) + lines.finish()
    whole = Surrogate()
    said = whole.feed(stored) + whole.finish()
    pieces = Surrogate()
    assert (
        b"".join([*map(pieces.feed, cut(stored, content[0] if content else 1)), pieces.finish()])
        == said
    )


@target("mime")
def seven_bits(content: bytes) -> None:
    """For servers without 8BITMIME: 7 bits, lines that fit, the same content once decoded."""
    try:
        made = b"".join(seven_bit.convert(content))
    except seven_bit.CannotConvert:
        return
    assert made.isascii()
    if content.isascii():
        assert made == content
        return
    content = content.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    before, after = scan(content), scan(made)
    boundaries = [part.param(b"boundary") for part in walk(before) if part.shape == MULTIPART]
    if len(set(boundaries)) < len(boundaries):
        return  # which of two that are the same is meant, two readers may see in two ways
    for part in walk(before):
        # A line that is no field ends a header for who converts, and for nobody else.
        if headers.split(content[part.start : part.body])[1].strip(b"\n"):
            return
    assert len(list(walk(before))) == len(list(walk(after)))


@target("mime")
def signed_fields(data: bytes) -> None:
    """DKIM's canonical forms: the same however the body is cut, and as RFC 6376 has them."""
    seed, content = data[:1], LineNormalizer().feed(data[1:])
    block, text = headers.split(content)
    text = text.removeprefix(b"\n")
    fields = HeaderFields(block, 50)
    for number in range(fields.count):
        assert fields.relaxed(number).endswith(b"\r\n")
        assert b"\n" not in fields.relaxed(number)[:-2]
        # RFC 6376 section 3.4.2
        name, _, value = fields.field(number).partition(b":")
        value = re.sub(rb"[ \t]+", b" ", value.replace(b"\n", b"")).strip(b" ")
        name = name.rstrip(b" \t").lower()
        assert fields.relaxed(number) == name + b":" + value + b"\r\n"
        fields.value(number)
    assert fields.signed([b"from", b"subject", b"from"], True) is not None
    for relaxed in (False, True):
        whole = BodyHash(relaxed)
        whole.update(text)
        pieces = BodyHash(relaxed)
        for piece in cut(text, seed[0] if seed else 1):
            pieces.update(piece)
        digest = whole.digest()
        assert pieces.digest() == digest
        wire = text if text.endswith(b"\n") or not text else text + b"\n"
        if b"\r" in wire:
            continue
        if relaxed:
            wire = re.sub(rb"[ \t]+", b" ", wire)
            wire = re.sub(rb" \n", b"\n", wire)
        wire = wire.rstrip(b"\n") + b"\n" if wire else wire
        if wire == b"\n":
            wire = b"" if relaxed else b"\n"
        if not wire and not relaxed:
            wire = b"\n"
        assert hashlib.sha256(wire.replace(b"\n", b"\r\n")).digest() == digest


# -- forms


@target("smtp")
def wire_forms(data: bytes) -> None:
    """Out and in again: what is stored comes through SMTP's end of data as it was, in any pieces, as one message."""
    if not data:
        return
    seed, content = data[0], data[1:]
    lines = LineNormalizer()
    stored = lines.feed(content) + lines.finish()
    pieces = LineNormalizer()
    assert b"".join([*map(pieces.feed, cut(content, seed)), pieces.finish()]) == stored
    assert b"\r" not in stored and (not stored or stored.endswith(b"\n"))
    for source in (stored, content):
        ends = LineEnds()
        wire = ends.encode(source) + ends.finish()
        ends = LineEnds()
        assert b"".join([*map(ends.encode, cut(source, seed)), ends.finish()]) == wire
        assert len(wire) == wire_size(source)
        counter = OctetCounter()
        for piece in cut(source, seed):
            counter.add(piece)
        assert counter.octets == len(wire)
        assert not re.search(rb"\r(?!\n)|(?<!\r)\n", wire)
        stuffer = DotStuffer()
        stuffed = b"".join([*map(stuffer.encode, cut(source, seed)), stuffer.finish()])
        # RFC 5321 section 4.5.2: exactly one end of data, the last line
        assert (b"\r\n" + stuffed).count(b"\r\n.\r\n") == 1
        engine = smtp.SmtpEngine()
        engine.receive(b"DATA\r\n" + stuffed)
        found = b""
        ended = 0
        while not isinstance(event := engine.next_event(), smtp.Signal):
            if isinstance(event, smtp.Block):
                found += event.data
            ended += isinstance(event, smtp.EndOfData)
            engine.resume(smtp.DATA if isinstance(event, smtp.Command) else None)
        assert ended == 1 and not engine.buffered
        assert found == wire.replace(b"\0", b" ")


@target("mime")
def decoders(data: bytes) -> None:
    """base64 and quoted-printable: the same in any pieces."""
    if not data:
        return
    seed, content = data[0], data[1:]
    for name in (b"base64", b"quoted-printable", b"7bit"):
        whole = decoder(name)
        said = whole.decode(content) + whole.finish()
        pieces = decoder(name)
        assert b"".join([*map(pieces.decode, cut(content, seed)), pieces.finish()]) == said
    plain = decoder(b"base64")
    assert plain.decode(base64.encodebytes(content)) + plain.finish() == content


@target("mime")
def mboxes(data: bytes) -> None:
    """A file of messages: all octets are somebody's, messages come out whole; quoting is undone."""
    if not data:
        return
    seed, content = data[0], data[1:]
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        size = min(size, 1 + seed * 7)
        at += size
        return content[at - size : at]

    try:
        entries = [(one.date, one.flags, b"".join(one.blocks)) for one in mbox.Mbox(read)]
    except mbox.NotMboxError:
        entries = []
    for _, flags, text in entries:
        assert all(flag for flag in flags)
        mbox.without_flags(mbox.split_header(text)[0])
    # Ours, read back
    stored = content.replace(b"\r\n", b"\n").replace(b"\r", b" ")
    if stored and not stored.endswith(b"\n"):
        stored += b"\n"
    quoter = mbox.Quoter()
    quoted = b"".join([*map(quoter.feed, cut(stored, seed)), quoter.finish()])
    file = b"".join((mbox.envelope_line(b"a@b.example", 1_000_000), b"A: b\n\n", quoted, b"\n") * 2)
    at = 0
    parts = iter(cut(file, seed | 1)) if len(file) < 300 else iter([file])
    found = [b"".join(one.blocks) for one in mbox.Mbox(lambda size: next(parts, b""))]
    if stored:
        assert found == [b"A: b\n\n" + stored] * 2


@target("mime")
def notices(data: bytes) -> None:
    """DSNs of what anybody said: fields that are ours alone, lines that fit, parts that end where we end them."""
    to, host, text, address, orcpt, envid, original, more = several(data, 8)
    recipient = dsn.Recipient(
        address.decode("utf-8", "replace"),
        list(dsn.Action)[len(text) % 5],
        more[:9].decode("latin-1"),
        text.decode("utf-8", "replace"),
        len(more) * 7,
        bool(len(text) & 1),
        host.decode("latin-1"),
        host.decode("latin-1"),
        orcpt.decode("utf-8", "replace"),
        more.decode("utf-8", "replace"),
        float(len(more)),
        None,
    )
    made = dsn.compose(
        dsn.Notice(
            to.decode("utf-8", "replace"),
            host.decode("utf-8", "replace"),
            "1.A",
            1_000_000.0,
            [recipient, recipient],
            envid=envid.decode("utf-8", "replace"),
            queue_id=more.decode("utf-8", "replace"),
            original=original,
            whole=bool(len(original) & 1),
            smtputf8=bool(len(envid) & 1),
        )
    )
    assert b"\r" not in made or b"\r" in original
    block, rest = headers.split(made)
    names = [name for name, _, _ in headers.fields(block)]
    allowed = {b"in-reply-to", b"references", b"content-transfer-encoding"}
    assert [name for name in names if name not in allowed] == [
        b"date", b"from", b"to", b"subject", b"message-id", b"auto-submitted", b"mime-version", b"content-type",
    ]  # fmt: skip
    assert rest.startswith(b"\n")
    assert max(map(len, block.split(b"\n"))) <= 998
    if to.isascii():
        assert block.isascii()
    root = scan(made)
    assert root.kind == b"multipart/report"
    kinds = [one.kind for one in root.children]
    assert kinds[:2] in (
        [b"text/plain", b"message/delivery-status"],
        [b"text/plain", b"message/global-delivery-status"],
    )
    assert len(kinds) <= 3
    status = made[root.children[1].body : root.children[1].end]
    groups = status.strip(b"\n").split(b"\n\n")
    assert len(groups) == 3
    for group in groups:
        for line in group.split(b"\n"):
            assert len(line) <= 998
            assert re.match(rb"[A-Z][A-Za-z-]*: +[^ ]|[ \t]+[^ \t]", line), line
    for group in groups[1:]:
        found = [line.partition(b":")[0] for line in group.split(b"\n") if line[:1] not in b" \t"]
        assert len(found) == len(set(found))
        assert (
            found.count(b"Final-Recipient") == found.count(b"Action") == found.count(b"Status") == 1
        )
    assert message_from_bytes(made, policy=compat32).get_content_type() == "multipart/report"


@target("mime")
def mime_reading(content: bytes) -> None:
    """The reader that conversion uses: delimiters in their order, within their bounds."""
    header = mime.read_header(content, 0, len(content))
    assert 0 <= header.body <= len(content)
    if header.boundary:
        at = header.body
        try:
            for start, end, last in mime.delimiters(
                content, header.body, len(content), header.boundary
            ):
                # The line end between two is that of both.
                assert at - 1 <= start < end <= len(content) + 1
                at = end
                if last:
                    break
        except mime.TooComplex:
            pass
