"""Reports as they come: in mails, compressed by gzip or zip or not at all. Bounded, and nothing is believed but bytes.

What something is, its first bytes say; names and media types are often wrong. `attachments` gives what may be reports
in a message, `unpacked` the document in one file. ReportError says in one line why there is none.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from mmap import mmap
from typing import Final, NamedTuple

from ..message.decode import UnknownEncoding, decoded
from ..message.structure import LEAF, scan, walk
from ..policy.wording import one_line

__all__ = ["MAX_DOCUMENT", "MAX_PACKED", "Attachment", "ReportError", "attachments", "unpacked"]

MAX_PACKED: Final = 25 * 1024 * 1024
MAX_DOCUMENT: Final = 64 * 1024 * 1024
MAX_ATTACHMENTS: Final = 20
_MAX_MEMBERS: Final = 1000
_BLOCK: Final = 65_536

_KINDS: Final = frozenset(
    (
        *(b"application/gzip", b"application/x-gzip", b"application/gzip-compressed"),
        *(b"application/zip", b"application/x-zip", b"application/x-zip-compressed"),
        *(b"application/xml", b"text/xml", b"application/octet-stream", b"application/x-gunzip"),
        *(b"application/tlsrpt+gzip", b"application/tlsrpt+json", b"application/json"),
    )
)
_ENDINGS: Final = (b".xml", b".xml.gz", b".gz", b".zip", b".json", b".json.gz")


class ReportError(ValueError):
    """Something is no report that can be read; the text is one line for people."""


class Attachment(NamedTuple):
    """A part of a message that may hold a report. `packed`: its bytes, decoded, at most MAX_PACKED + 1."""

    name: str
    packed: bytes


def attachments(message: bytes | mmap) -> Iterator[Attachment]:
    """Of a message as stored. Never raises."""
    found = 0
    for part in walk(scan(message)):
        if part.shape != LEAF:
            continue
        name = part.param(b"name")
        for key, value in part.disposition_params:
            if key.lower() == b"filename":
                name = value
        if part.kind not in _KINDS and not name.lower().endswith(_ENDINGS):
            continue
        found += 1
        if found > MAX_ATTACHMENTS:
            return
        try:
            packed = b"".join(decoded(message, part, 0, MAX_PACKED + 1))
        except UnknownEncoding:
            continue
        yield Attachment(one_line(name.decode("latin-1"), 200), packed)


def unpacked(packed: bytes) -> bytes:
    """The document in it. Raises ReportError."""
    if len(packed) > MAX_PACKED:
        raise ReportError(f"it is larger than {MAX_PACKED >> 20} MiB")
    if packed[:2] == b"\x1f\x8b":
        return _gunzipped(packed)
    if packed[:4] == b"PK\x03\x04":
        return _unzipped(packed)
    if not packed.strip():
        raise ReportError("it is empty")
    return packed


def _gunzipped(packed: bytes) -> bytes:
    undo = zlib.decompressobj(31)
    out: list[bytes] = []
    size = 0
    try:
        rest = packed
        while rest and not undo.eof:
            block = undo.decompress(rest, _BLOCK)
            rest = undo.unconsumed_tail
            size += len(block)
            if size > MAX_DOCUMENT:
                raise _too_large()
            out.append(block)
        if not undo.eof:
            raise ReportError("its gzip ends too soon")
    except zlib.error as error:
        raise ReportError(f"its gzip is damaged: {one_line(str(error))}") from None
    return b"".join(out)


def _unzipped(packed: bytes) -> bytes:
    import zipfile

    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            members = archive.infolist()
            if len(members) > _MAX_MEMBERS:
                raise ReportError(f"its zip has more than {_MAX_MEMBERS} members")
            # Others may be pictures of the sender's company.
            wanted = [one for one in members if one.filename.lower().endswith((".xml", ".json"))]
            wanted = wanted or [one for one in members if not one.is_dir()]
            if not wanted:
                raise ReportError("its zip is empty")
            if wanted[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Their decompressors cannot be told to stop.
                raise ReportError("its zip is compressed in a way that reports are not")
            if wanted[0].flag_bits & 1:
                raise ReportError("its zip is encrypted")
            with archive.open(wanted[0]) as member:
                out = member.read(MAX_DOCUMENT + 1)
    except ReportError:
        raise
    except (
        zipfile.BadZipFile,
        zlib.error,
        OSError,
        ValueError,
        NotImplementedError,
        EOFError,
    ) as error:
        raise ReportError(f"its zip is damaged: {one_line(str(error))}") from None
    except (
        Exception
    ) as error:  # struct.error, RuntimeError and others: what zipfile makes of hostile bytes
        raise ReportError(f"its zip cannot be read: {one_line(repr(error))}") from None
    if len(out) > MAX_DOCUMENT:
        raise _too_large()
    return out


def _too_large() -> ReportError:
    return ReportError(f"it unpacks to more than {MAX_DOCUMENT >> 20} MiB")
