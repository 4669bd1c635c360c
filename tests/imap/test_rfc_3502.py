"""MULTIAPPEND (RFC 3502): the examples of section 6.3.11."""

from __future__ import annotations

from imap_dialogue import Dialogue

FOOBAR = b"""Date: Mon, 7 Feb 1994 21:52:25 -0800 (PST)
From: Fred Foobar <foobar@Blurdybloop.example.COM>
Subject: afternoon meeting
To: mooch@owatagu.example.net
Message-Id: <B27397-0100000@Blurdybloop.example.COM>
MIME-Version: 1.0
Content-Type: TEXT/PLAIN; CHARSET=US-ASCII

Hello Joe, do you think we can meet at 3:30 tomorrow?
""".replace(b"\n", b"\r\n")
MOOCH = b"""Date: Mon, 7 Feb 1994 22:43:04 -0800 (PST)
From: Joe Mooch <mooch@OWaTaGu.example.net>
Subject: Re: afternoon meeting
To: foobar@blurdybloop.example.com
Message-Id: <a0434793874930@OWaTaGu.example.net>
MIME-Version: 1.0
Content-Type: TEXT/PLAIN; CHARSET=US-ASCII

3:30 is fine with me.
""".replace(b"\n", b"\r\n")


def test_section_6_3_11() -> None:
    dialogue = Dialogue()
    dialogue.account.make("saved-messages")
    dialogue.login()
    said = dialogue.ask(b"A003 APPEND saved-messages (\\Seen) {%d}\r\n" % len(FOOBAR))
    assert said.startswith(b"+ ")
    said = dialogue.ask(FOOBAR + b' (\\Seen) " 7-Feb-1994 22:43:04 -0800" {%d}\r\n' % len(MOOCH))
    assert said.startswith(b"+ ")
    said = dialogue.ask(MOOCH + b"\r\n")
    assert said == b"A003 OK [APPENDUID 3857529046 1:2] APPEND completed\r\n"
    snapshot = dialogue.account.box("saved-messages").snapshot
    assert list(snapshot.sizes) == [len(FOOBAR), len(MOOCH)]
    assert snapshot.dates[1] == 760_689_784
    assert [snapshot.names(bits) for bits in snapshot.flags] == [("\\Seen",)] * 2


def test_section_6_3_11_no_such_mailbox() -> None:
    """A message as short as this is refused when it has come: see `imap.verbs.append.SMALL`."""
    dialogue = Dialogue()
    dialogue.login()
    dialogue.run(r"""
        C: A004 APPEND bogusname (\Flagged) {40000}
        S: A004 NO [TRYCREATE] ...
    """)


def test_section_6_3_11_the_second_is_too_much() -> None:
    dialogue = Dialogue()
    box = dialogue.account.make("test")
    dialogue.account.storage_limit = 30_000
    dialogue.login()
    said = dialogue.ask(b"A005 APPEND test (\\Flagged) {%d}\r\n" % len(FOOBAR))
    assert said.startswith(b"+ ")
    assert dialogue.ask(FOOBAR + b" {35403}\r\n").startswith(b"A005 NO [OVERQUOTA] ")
    assert dialogue.ask(b"A006 NOOP\r\n") == b"A006 OK NOOP completed\r\n"
    assert not box.texts
