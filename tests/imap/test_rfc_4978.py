"""COMPRESS=DEFLATE (RFC 4978): the examples of section 3."""

from __future__ import annotations

import zlib

from imap_dialogue import Dialogue


def test_section_3() -> None:
    dialogue = Dialogue()
    dialogue.login()
    dialogue.run("""
        C: c compress deflate
        S: c OK ...
    """)
    pack, unpack = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)

    def ask(data: bytes) -> bytes:
        return unpack.decompress(
            dialogue.ask(pack.compress(data + b"\r\n") + pack.flush(zlib.Z_SYNC_FLUSH))
        )

    assert ask(b"d NOOP") == b"d OK NOOP completed\r\n"
    assert ask(b"e compress deflate").startswith(b"e NO [COMPRESSIONACTIVE] ")
    assert b"COMPRESS" not in ask(b"f CAPABILITY")
