"""What is read from the disk and from other processes: configurations, the journal, Maildirs, reports, frames."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import tempfile
import warnings
import zipfile
import zlib
from pathlib import Path

from fuzzing import several, target

from twisted_mail.config import Config, ConfigError, load
from twisted_mail.reports import aggregate, aggregate_read, aggregate_xml, reading, tls, unpack
from twisted_mail.reports.unpack import ReportError
from twisted_mail.storage import dovecot, flags, record
from twisted_mail.storage.importing_dovecot import (
    NotForUsError,
    is_config,
    not_plain,
    read_config,
    uidl_format,
)
from twisted_mail.storage.maildir import (
    FileName,
    FolderState,
    arrival_order,
    base_of,
    is_arriving,
    numbered,
    parse_state,
)
from twisted_mail.workers import control

# -- configuration

_HEAD = 'hostname = "mail.example.org"\ndata = "data"\n'
_PASSWORD = "pa55-word-of-nobody"


@target("toml")
def configuration(data: bytes) -> None:
    """Any TOML: a configuration, or a ConfigError that says where; never a password."""
    text = data.replace(b"SECRET", _PASSWORD.encode())
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "mail.toml")
        for head in (b"", _HEAD.encode()):
            path.write_bytes(head + text)
            try:
                assert isinstance(load(path), Config)
            except ConfigError as error:
                assert error.mistakes
                for mistake in error.mistakes:
                    assert mistake.allowed
                    assert mistake.line is None or mistake.line >= 1
                    # A secret's value is never shown, nor that of a key that is not known.
                    if re.search(r"(password|eab_key|checkers(\[[0-9]+\])?)$", mistake.key):
                        assert _PASSWORD not in f"{mistake.value}", mistake
                    if (
                        re.search("(password|eab_key)$", mistake.key)
                        or "unknown" in mistake.allowed
                    ):
                        assert _PASSWORD not in f"{mistake.value} {mistake.allowed}", mistake
                    assert f":{_PASSWORD}@" not in f"{mistake.value}", mistake
                assert str(error)


# -- the journal


@target("", 2048)
def journal(data: bytes) -> None:
    """Octet 0: which bit of whole records is flipped, and where they are cut; more octets around them. What is read are
    records that were written, in their order.
    """
    if len(data) < 4:
        return
    where, cut = int.from_bytes(data[:2]), data[2]
    before, between, after = several(data[3:], 3)
    written = [
        b"".join(
            record.encode(
                record.Kind.REMOVE,
                {"number": number, "x": between[:40].decode("latin-1")},
                [between],
                epoch=7,
                writer=1,
                sequence=number,
            )
        )
        for number in range(4)
    ]
    segment = bytearray(
        before + written[0] + written[1] + between + written[2] + after + written[3]
    )
    clean = list(record.scan(bytes(segment), 7))
    assert [one.meta["number"] for one in clean] == [0, 1, 2, 3] or record.MAGIC in data
    flipped = where % (len(segment) * 8)
    segment[flipped // 8] ^= 1 << flipped % 8
    if cut & 1:
        del segment[len(segment) - cut :]
    found = list(record.scan(bytes(segment), 7))
    numbers = [one.sequence for one in found]
    assert numbers == sorted(set(numbers))
    for one in found:
        # What was not written is not read: CRC-32 notices each flipped bit.
        assert bytes(one.content) == between and one.meta["number"] == one.sequence
    assert len(found) >= len(clean) - 1 - (bool(cut & 1) * len(clean))
    record.first(bytes(segment))
    record.epoch_of(bytes(segment))
    record.first(data)
    record.epoch_of(data)
    for one in record.scan(data, 0):
        assert one.kind in record.Kind


@target("")
def journal_whole(data: bytes) -> None:
    """Octets with a checksum that is right: whatever they say, no exception but what replay expects."""
    payload = memoryview(data)
    decoded = record.decode_meta(payload)
    assert decoded is None or isinstance(decoded[0], dict)


# -- Maildir


@target("mime")
def file_names(data: bytes) -> None:
    """Names in a Maildir, and what lies beside: Dovecot's files, keywords, our own state."""
    text = os.fsdecode(data.replace(b"\0", b"").replace(b"/", b""))
    name = FileName.parse(text)
    assert name.base == base_of(text)
    for number in (name.size, name.wire, name.ascii, name.validity, name.uid):
        assert number is None or number >= 0
    if name.uid and name.validity and name.size is not None and name.wire is not None and name.base:
        again = numbered(name.base, name.size, name.wire, name.ascii, name.validity, name.uid)
        assert FileName.parse(again) == name
    is_arriving(text)
    assert arrival_order(text) <= arrival_order(text)
    bits = flags.bits_of(text)
    assert flags.bits_of(name.base + flags.info_of(text, bits)) == bits
    keywords = flags.parse_keywords(data)
    assert len(keywords) <= 26
    assert flags.parse_keywords(flags.format_keywords(keywords)) == keywords
    state = parse_state(data)
    assert state is None or isinstance(state, FolderState)


@target("mime")
def dovecot_files(data: bytes) -> None:
    """dovecot-uidlist, subscriptions, doveconf's output, any file that is to be imported."""
    found = dovecot.parse_uidlist(data)
    if found is not None:
        assert 0 < found.validity < 1 << 32
        uids = list(found.uids.values())
        assert uids == sorted(set(uids))
        assert not uids or (uids[0] > 0 and uids[-1] < max(found.uidnext, 1 << 32))
    names = dovecot.parse_subscriptions(data)
    assert len(names) == len(set(names))
    # What is no name of a mailbox need not come back.
    names = [one for one in names if all(one.split("/")) and one.isprintable() and len(one) < 200]
    assert dovecot.parse_subscriptions(dovecot.format_subscriptions(names)) == names
    text = data.decode("utf-8", "replace")
    is_config(text)
    config = read_config(text)
    try:
        make = uidl_format(config.pop3_uidl_format)
    except NotForUsError as error:
        assert "--pop3-uidl-format" in str(error)
    else:
        assert make is None or make(1, 2, "a") == make(1, 2, "a")
    not_plain(data)


# -- reports


@target("mime")
def aggregate_reports(data: bytes) -> None:
    """DMARC: a report, which can be written again and read as the same; or a ReportError in one line."""
    try:
        found = aggregate_read.read(data)
    except ReportError as error:
        assert str(error).isprintable()
        return
    again = aggregate_read.read(aggregate_xml.write(found))
    assert len(again.records) == len(found.records)
    for one, count in found.records:
        assert count >= 0
        assert aggregate.from_text(aggregate.to_text(one)) == one


@target("mime")
def tls_reports(data: bytes) -> None:
    """TLS: the same."""
    try:
        found = tls.read(data)
    except ReportError as error:
        assert str(error).isprintable()
        return
    for policy in found.policies:
        assert policy.successes >= 0 and policy.failed >= 0
    tls.read(tls.write(found))


@target("mime", 8192)
def report_mails(data: bytes) -> None:
    """Octet 0: how it is packed; unpacking is bounded, and gives what was packed."""
    if not data:
        return
    how, document = data[0], data[1:]
    packed = document
    if how & 3 == 1:
        packed = gzip.compress(document, 1)
    elif how & 3 == 2:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.xml", document)
        packed = file.getvalue()
    if how & 4:
        packed = packed[: len(packed) * (how >> 3) // 32]
    elif how & 3 in (1, 2) and document.strip():
        assert unpack.unpacked(packed) == document
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            assert len(unpack.unpacked(packed)) <= unpack.MAX_DOCUMENT
        except ReportError as error:
            assert str(error).isprintable()
        for found in reading.in_message(data):
            assert found.problem.isprintable()
        for found in reading.in_file("x.xml", packed):
            assert found.problem.isprintable()


# -- other processes of the site


@target("")
def frames(data: bytes) -> None:
    """The control channel: lists that begin with a word, or ValueError."""
    try:
        frame = control._frame(data)
    except (ValueError, RecursionError):
        return
    assert isinstance(frame[0], str)
    try:
        assert control._frame(control.encode(frame)[4:]) == frame or json.dumps(frame)
    except ValueError:
        pass
    assert zlib.crc32(data) >= 0
