"""Peers and messages that mean harm: what they ask for is answered, and nobody else waits for it."""

from __future__ import annotations

from typing import Any

from imap_dialogue import Dialogue

PARTS = (
    b"Content-Type: multipart/mixed; boundary=z\n\n"
    + b"".join(b"--z\n\npart %d\n" % n for n in range(1, 2001))
    + b"--z--\n"
)


def test_the_structure_of_a_mime_bomb_is_not_read_on_the_reactor_thread() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(b"Subject: small\n\nx\n")
    dialogue.account.deliver(PARTS)
    dialogue.login("INBOX")
    threads: Any = dialogue.world.threads
    called = []
    call = threads.call

    def counted(work: Any, *args: Any) -> Any:
        called.append(work.__name__)
        return call(work, *args)

    threads.call = counted
    dialogue.run("""
        C: a FETCH 1 BODY.PEEK[1]
        S: * 1 FETCH (BODY[1] {3}
        x
        )
        S: a OK ...
    """)
    assert called == []
    dialogue.run("""
        C: b FETCH 2 (BODY.PEEK[2000] BINARY.SIZE[1])
        S: * 2 FETCH (BODY[2000] {9}
        part 2000 BINARY.SIZE[1] 6)
        S: b OK ...
    """)
    assert called == ["from_bytes"]


def test_searches_for_many_texts_are_refused() -> None:
    dialogue = Dialogue()
    dialogue.account.deliver(b"Subject: x\n\nx\n")
    dialogue.login("INBOX")

    def search(count: int) -> bytes:
        keys = b" ".join(b"NOT HEADER X-%d z" % n for n in range(count))
        return dialogue.lines(b"a SEARCH " + keys)[-1]

    assert search(200).startswith(b"a OK ")
    assert search(300).startswith(b"a NO [LIMIT] ")
    # What is in the index or the file names costs little
    assert dialogue.lines(b"a SEARCH " + b" ".join([b"UNSEEN UID 1:9"] * 1000))[-1][:4] == b"a OK"
