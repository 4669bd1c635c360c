"""LITERAL+ and LITERAL- (RFC 7888): the example of section 3, and section 5."""

from __future__ import annotations

from typing import Any

from imap_dialogue import Dialogue


def smith() -> Dialogue:
    dialogue = Dialogue()
    login = dialogue.authenticator.login

    async def fred(username: str, password: str, client_ip: str) -> Any:
        assert (username, password) == ("FRED FOOBAR", "fat man")
        return await login("alice", "secret", client_ip)

    dialogue.authenticator.login = fred
    return dialogue


def test_section_3() -> None:
    dialogue = smith()
    dialogue.run("""
        C: A001 LOGIN {11+}
        C: FRED FOOBAR {7+}
        C: fat man
        S: A001 OK [CAPABILITY ...
    """)


def test_section_3_quoted() -> None:
    smith().run("""
        C: A001 LOGIN "FRED FOOBAR" "fat man"
        S: A001 OK [CAPABILITY ...
    """)


def test_section_3_synchronising() -> None:
    """RFC 9051 section 7.6."""
    smith().run("""
        C: A001 LOGIN {11}
        S: + ...
        C: FRED FOOBAR {7}
        S: + ...
        C: fat man
        S: A001 OK [CAPABILITY ...
    """)


def test_section_5_literal_minus_is_4096_octets_before_login() -> None:
    dialogue = Dialogue()
    assert b" LITERAL- " in dialogue.greeting
    said = dialogue.ask(b"A001 LOGIN {4097+}\r\n" + b"x" * 4097 + b" secret\r\n")
    assert said.startswith(b"A001 BAD [TOOBIG] ")
    dialogue = Dialogue()
    dialogue.login()
    assert b" LITERAL+" in dialogue.ask(b"c CAPABILITY\r\n")
