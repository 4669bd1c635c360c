"""Messages made to cost much: parts in parts, headers, bodies, and what is sent as it is, octet by octet.

Each is `Blocks`, made block by block as often as one asks. `messages(10)` are a tenth of each; tests/hostile has a
thousandth.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator

__all__ = ["HEAD", "PLAIN", "Blocks", "blocks_of", "messages", "plain_message"]

Blocks = Callable[[], Iterator[bytes]]
"""A message in stored form, LF line ends, in blocks."""
HEAD = b"From: <a@plain.example>\nSubject: hello\nMIME-Version: 1.0\n"
PLAIN = b"Words of a plain letter, line by line, some sixty octets each\n"


def blocks_of(*pieces: bytes | tuple[bytes, int]) -> Blocks:
    """Each piece once, or as often as it says; in blocks of 256 KiB or a bit more."""

    def made() -> Iterator[bytes]:
        held = bytearray()
        for piece in pieces:
            text, times = piece if isinstance(piece, tuple) else (piece, 1)
            together = max(1, (1 << 18) // max(len(text), 1))
            for at in range(0, times, together):
                held += text * min(together, times - at)
                if len(held) >= 1 << 18:
                    yield bytes(held)
                    held.clear()
        if held:
            yield bytes(held)

    return made


def numbered(before: bytes, one: bytes, times: int, after: bytes = b"") -> Blocks:
    """`one` with its number in it, so often."""

    def made() -> Iterator[bytes]:
        held = [before]
        for number in range(times):
            held.append(one.replace(b"#", b"%d" % number))
            if len(held) > 4096:
                yield b"".join(held)
                held = []
        yield b"".join([*held, after])

    return made


def nested(levels: int) -> Blocks:
    """multipart in multipart, each with a boundary of its own."""

    def made() -> Iterator[bytes]:
        yield (
            HEAD
            + b"".join(
                b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n)
                for n in range(levels)
            )
            + b"\ntext\n"
        )

    return made


def same_boundary(levels: int) -> Blocks:
    return blocks_of(
        HEAD, (b"Content-Type: multipart/mixed; boundary=b\n\n--b\n", levels), b"\ntext\n"
    )


def body(kind: bytes, repeated: tuple[bytes, int], encoding: bytes = b"") -> Blocks:
    """A text of the type `kind`."""
    fields = b"Content-Type: %s\n" % kind
    if encoding:
        fields += b"Content-Transfer-Encoding: %s\n" % encoding
    return blocks_of(HEAD, fields + b"\n", repeated)


def of_parts(n: int) -> dict[str, Blocks]:
    """MIME in MIME, and parts beside each other."""
    million = 1_000_000 // n
    mega = (1 << 20) // n
    levels = max(200, 10_000 // n)
    return {
        "NESTED multipart 10 000 levels": nested(levels),
        "NESTED one boundary 10 000 levels": same_boundary(levels),
        "NESTED message/rfc822 10 000 levels": blocks_of(
            HEAD, (b"Content-Type: message/rfc822\n\n", levels), b"text\n"
        ),
        "NESTED digest 10 000 levels": blocks_of(
            HEAD,
            (b"Content-Type: multipart/digest; boundary=z\n\n--z\n\nSubject: d\n", levels),
            b"\n",
        ),
        "PARTS 1 000 000": blocks_of(
            HEAD,
            b"Content-Type: multipart/mixed; boundary=b\n\n",
            (b"--b\n\nx\n", million),
            b"--b--\n",
        ),
        "PARTS 1 000 000 with types": numbered(
            HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n",
            b"--b\nContent-Type: text/x-#; name=#\nContent-Disposition: inline; a=#\n\n",
            million,
            b"--b--\n",
        ),
        "PARTS 100 levels, almost boundaries": blocks_of(
            HEAD,
            b"".join(
                b"Content-Type: multipart/mixed; boundary=%s\n\n--%s\n"
                % (b"b" * (n + 1), b"b" * (n + 1))
                for n in range(78)
            ),
            (b"--a\n" + b"--" + b"b" * 90 + b"\n", million // 10),
        ),
        "BOUNDARY of 1 MB": blocks_of(
            HEAD,
            b'Content-Type: multipart/mixed; boundary="',
            (b"b", mega),
            b'"\n\n--',
            (b"b", mega),
            b"\n\ntext\n",
        ),
    }


def of_headers(n: int) -> dict[str, Blocks]:
    """Fields: many, long, and such as a reader goes wrong in."""
    million = 1_000_000 // n
    mega = (1 << 20) // n
    encoded = b"=?utf-8?q?=C3=A9?= "
    return {
        "HEADER lines 1 000 000": numbered(HEAD, b"X-#: y\n", million, b"\ntext\n"),
        "HEADER Received 1 000 000": blocks_of(HEAD, (b"Received: x\n", million), b"\ntext\n"),
        "HEADER field of 50 MB folded": blocks_of(
            HEAD, b"Subject: s\n", (b" folded\n", 50 * mega // 8), b"\ntext\n"
        ),
        "HEADER Subject words 1 000 000": blocks_of(
            HEAD, b"Subject: ", (encoded, million), b"\n\ntext\n"
        ),
        "HEADER Subject words folded": blocks_of(
            HEAD, b"Subject: s\n", (b" =?utf-8?b?w6k=?=\n", million), b"\ntext\n"
        ),
        "HEADER Subject [[[[": blocks_of(HEAD, b"Subject: ", (b"[", mega), b"\n\ntext\n"),
        "HEADER Subject [a][a]re": blocks_of(HEAD, b"Subject: ", (b"[a] ", mega), b"\n\ntext\n"),
        "HEADER To 1 000 000 addresses": numbered(
            HEAD + b"To: x@y.example", b",\n a#@b.example", million, b"\n\ntext\n"
        ),
        "HEADER To odd addresses": blocks_of(
            HEAD, b"To: x", (b',\n "a" (c(d)) <@r,@s:b@c', million), b"\n\ntext\n"
        ),
        "HEADER To one group": blocks_of(HEAD, b"To: g: a@b", (b",a@b", million), b";\n\ntext\n"),
        "HEADER From 1 000 000": blocks_of((b"From: <a@plain.example>\n", million), b"\ntext\n"),
        "HEADER comment 1 MB deep": blocks_of(
            HEAD, b"Content-Type: text/plain ", (b"(", mega), b"\n\ntext\n"
        ),
        "HEADER To comments deep": blocks_of(
            HEAD, b"To: ", (b"(", mega), (b")", mega), b" a@b\n\ntext\n"
        ),
        "HEADER Content-Type 1 000 000 parameters": numbered(
            HEAD + b"Content-Type: text/plain", b";\n a*#*=%41", million, b"\n\ntext\n"
        ),
        "HEADER Content-Type quotes": blocks_of(
            HEAD, b"Content-Type: text/plain", (b';a="b"', mega), b";\n\ntext\n"
        ),
        "HEADER References 1 000 000": numbered(
            HEAD + b"References:", b"\n <#@x>", million, b"\n\ntext\n"
        ),
        "HEADER Date of 1 MB": blocks_of(HEAD, b"Date: ", (b"(Mon, ", mega // 6), b"\n\ntext\n"),
        "HEADER DKIM-Signature 100 000": numbered(
            HEAD,
            b"DKIM-Signature: v=1; a=rsa-sha256; d=d#.example; s=s; h=from; bh=AA==; b=AA==\n",
            100_000 // n,
            b"\ntext\n",
        ),
        "HEADER DKIM h= 1 000 000 names": blocks_of(
            HEAD,
            b"DKIM-Signature: v=1; a=rsa-sha256; d=plain.example; s=s; bh=AA==; b=AA==; h=from",
            (b":\n from", million),
            b"\n\ntext\n",
        ),
        "HEADER ARC sets 1 000 000": numbered(
            HEAD, b"ARC-Seal: i=#; cv=none\n", million, b"\ntext\n"
        ),
        "HEADER Authentication-Results": blocks_of(
            HEAD,
            b"Authentication-Results: localhost",
            (b"; (a(b)c) spf = pass (x) smtp . mailfrom = y", million // 10),
            b"\n\ntext\n",
        ),
    }


def of_bodies(n: int) -> dict[str, Blocks]:
    """Encodings, character sets, HTML, ends of lines."""
    million = 1_000_000 // n
    mega = (1 << 20) // n
    b64 = base64.encodebytes(b"\0" * 45 * 100).replace(b"\n\n", b"\n")
    return {
        "BODY one line of 100 MB": blocks_of(HEAD, b"\n", (b"x" * 1024, 100 * mega // 1024)),
        "BODY CRs 10 MB": blocks_of(HEAD, b"\n", (b"\r" * 1024, 10 * mega // 1024)),
        "BODY empty lines 20 000 000": blocks_of(HEAD, b"\n", (b"\n" * 1024, 20 * million // 1024)),
        "BODY lines of blanks, DKIM": blocks_of(
            HEAD,
            b"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=plain.example; s=s; h=from; bh=AA==;"
            b" b=AA==\n\n",
            (b" \t \t \n" * 128, 20 * million // 1024),
        ),
        "BODY base64 100 MB": body(b"text/plain", (b64, 100 * mega // len(b64)), b"base64"),
        "BODY base64 of padding": body(
            b"text/plain", (b"QQ==" * 19 + b"\n", 20 * mega // 77), b"base64"
        ),
        "BODY quoted-printable 100 MB": body(
            b"text/plain; charset=utf-8",
            (b"=C3=A9=\n" * 128, 100 * mega // 1024),
            b"quoted-printable",
        ),
        "BODY quoted-printable blanks": body(
            b"text/plain", (b" " * 1024, 20 * mega // 1024), b"quoted-printable"
        ),
        "BODY utf-7": body(b"text/plain; charset=utf-7", (b"+AGE" * 256, 20 * mega // 1024)),
        "BODY iso-2022-jp": body(
            b"text/plain; charset=iso-2022-jp", (b"\x1b$B\x1b(B" * 170, 20 * mega // 1024)
        ),
        "BODY no UTF-8": body(b"text/plain; charset=utf-8", (b"\xffa" * 512, 20 * mega // 1024)),
        "BODY html of '<'": body(b"text/html", (b"<style " * 146, 10 * mega // 1024)),
        "BODY html '<!--'": body(b"text/html", (b"<!-- <p <head>" * 73, 10 * mega // 1024)),
        "BODY html of '&'": body(b"text/html", (b"&#1;&lt" * 146, 10 * mega // 1024)),
    }


def of_octets(n: int) -> dict[str, Blocks]:
    """What is sent as it is, as octets of DATA."""
    mega = (1 << 20) // n
    return {
        "DATA line of 1 GB": blocks_of((b"x" * 1024, (1 << 20) // n)),
        "DATA dots 100 MB": blocks_of((b"..\r\n" * 256, 100 * mega // 1024)),
        "DATA lines of one dot and LF": blocks_of((b"\n.\n.\r" * 170, 50 * mega // 1024)),
    }


def messages(n: int) -> dict[str, tuple[Blocks, bool]]:
    """Name → message, an `n`th of each; True: as octets of DATA, not by BDAT."""
    by_chunks = of_parts(n) | of_headers(n) | of_bodies(n)
    return {name: (blocks, False) for name, blocks in by_chunks.items()} | {
        name: (blocks, True) for name, blocks in of_octets(n).items()
    }


def plain_message(size: int) -> tuple[Blocks, bool]:
    return blocks_of(HEAD, b"\n", (PLAIN, max(1, size // (len(PLAIN) + 1)))), False
