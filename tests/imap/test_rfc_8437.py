"""UNAUTHENTICATE (RFC 8437): section 3 and 4.1. It has no examples."""

from __future__ import annotations

import zlib

from imap_dialogue import MESSAGE, Dialogue


def test_section_3_pipelined_with_the_next_login() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(MESSAGE, flags=["\\Deleted"])
    dialogue.login("INBOX")
    assert b" UNAUTHENTICATE" in dialogue.ask(b"c CAPABILITY\r\n")
    said = dialogue.ask(b"a UNAUTHENTICATE\r\nb AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==\r\n")
    first, second = said.splitlines()
    assert first == b"a OK UNAUTHENTICATE completed"
    assert second.startswith(b"b OK [CAPABILITY ")
    assert len(dialogue.account.box("INBOX").texts) == 1


def test_section_3_not_before_login() -> None:
    assert Dialogue().ask(b"a UNAUTHENTICATE\r\n").startswith(b"a BAD ")


def test_section_4_1_what_was_enabled_saved_and_watched_is_forgotten() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(MESSAGE)
    dialogue.login("INBOX")
    dialogue.ask(
        b"a ENABLE QRESYNC UTF8=ACCEPT\r\nb SEARCH RETURN (SAVE) ALL\r\n"
        b"c NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge))\r\nd UNAUTHENTICATE\r\n"
    )
    dialogue.login("INBOX")
    assert dialogue.account.watchers == []
    dialogue.account.deliver(MESSAGE)
    dialogue.run("""
        C: a NOOP
        S: * 2 EXISTS
        S: a OK ...
        C: b SEARCH $
        S: * SEARCH
        S: b OK ...
        C: c STORE 1 +FLAGS.SILENT (x)
        S: * FLAGS ...
        S: * OK [PERMANENTFLAGS ...
        S: c OK ...
    """)


def test_section_4_1_compression_would_have_to_end() -> None:
    """So it is not announced below it, and refused."""
    dialogue = Dialogue()
    dialogue.login()
    dialogue.ask(b"a COMPRESS DEFLATE\r\n")
    pack, unpack = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)
    packed = pack.compress(b"b CAPABILITY\r\nc UNAUTHENTICATE\r\n") + pack.flush(zlib.Z_SYNC_FLUSH)
    said = unpack.decompress(dialogue.ask(packed))
    assert b" UNAUTHENTICATE" not in said
    assert b"c BAD Not below compression\r\n" in said
