"""Characters that turn into others: one mailbox has one key, one domain one spelling, and no look-alike is local."""

from __future__ import annotations

import os
import unicodedata
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import ALICE, BOB, PASSWORD, Site

from twisted_mail.accounts.directory import Directory, DirectoryError
from twisted_mail.accounts.passwords import Cost, hash_password
from twisted_mail.address import Address, normalize_domain
from twisted_mail.sasl import saslprep

LETTERS = set("abcdefghijklmnopqrstuvwxyz0123456789-.")


def changing() -> Iterator[str]:
    """All characters that a normalisation or folding of case makes something else of."""
    for code in range(0x80, 0x110000):
        one = chr(code)
        if not 0xD800 <= code < 0xE000 and (
            one.casefold() != one or unicodedata.normalize("NFKD", one) != one or one.upper() != one
        ):
            yield one


CHANGING = list(changing())
LONELY = [
    "\u200b",
    "\u200c",
    "\u200d",
    "\u2060",
    "\ufeff",
    "\u00ad",
    "\u034f",
    "\u0345",
    "\u0301",
    "\U000e0041",
]


def test_a_key_is_the_same_for_every_spelling_and_is_its_own_key() -> None:
    assert len(CHANGING) > 15_000
    for one in [*CHANGING, *LONELY]:
        for local in (one, f"a{one}", f"{one}\u0301", f"{one}\u0345", f"i{one}"):
            key = Address(local, "example.org").key
            folded = key.removesuffix("@example.org")
            for spelled in (
                folded,
                unicodedata.normalize("NFC", local),
                unicodedata.normalize("NFD", local),
            ):
                assert Address(spelled, "example.org").key == key, ascii(local)


def test_compatibility_alone_makes_no_two_mailboxes_one() -> None:
    # Only case and NFC count: a full-width letter is another one
    for local in ("\uff41lice", "al\u0131ce", "a\u200dlice", "alice\u2024b"):
        plain = unicodedata.normalize("NFKC", local).replace("\u200d", "").replace("\u0131", "i")
        assert Address(local, "example.org").key != Address(plain, "example.org").key


def test_whoever_would_have_anothers_key_is_refused(tmp_path: Path) -> None:
    directory = Directory(str(tmp_path / "accounts"), now=lambda: 0.0)
    directory.add_domain("example.org")
    cost = Cost(memory=8, passes=1, lanes=1, scram_iterations=4096)
    password = hash_password("x", os.urandom, cost)
    directory.add_user(Address.parse("gro\u00df@example.org"), password)
    for local in ("gross", "GROSS", "gro\u1e9e"):
        with pytest.raises(DirectoryError):
            directory.add_user(Address.parse(f"{local}@example.org"), password)
        with pytest.raises(DirectoryError):
            directory.add_alias(f"{local}@example.org", [Address.parse("x@elsewhere.example")])
    directory.close()


def test_a_domain_is_letters_digits_and_hyphens_and_stays_what_it_is() -> None:
    for one in [*CHANGING[::5], *LONELY, *"\uff20\uff0f\uff1e\u3002\uff0e\uff61\u2488\u2100\u037e"]:
        for text in (f"a{one}b.org", f"ab.{one}org", f"{one}.org", f"ab{one}org"):
            try:
                domain = normalize_domain(text)
            except ValueError:
                continue
            assert set(domain) <= LETTERS, ascii(text)
            assert normalize_domain(domain) == domain


@pytest.mark.parametrize(
    "address",
    [
        "alice@ex\u0430mple.org",  # Cyrillic
        "alice@\u0435xample.org",
        "alice@example.\u043erg",
        "alice@ex\u00e0mple.org",
        "alice@exampl\u0435.org",
        "alice@xn--exmple-4nf.org",
        "al\u0456ce@example.org",
        "\u0430lice@example.org",
        "alice\uff20example.org",
        "alice\u200d@example.org",
        "alice@example.org\u200d",
        "\uff41lice@example.org",
    ],
)
def test_a_look_alike_is_nobody_here(site: Site, address: str) -> None:
    client = site.connect()
    client.ask(b"EHLO c\r\nMAIL FROM:<a@elsewhere.example> SMTPUTF8\r\n")
    said = client.ask(b"RCPT TO:<%b>\r\n" % address.encode())
    assert said[:1] == b"5", said
    assert site.server.messages(ALICE) == []


@pytest.mark.parametrize(
    "address",
    ["alice@ＥＸＡＭＰＬＥ.org", "ALICE@example。org", "alice@exam\u00adple.org"],
)
def test_what_idna_calls_the_same_domain_is_the_same(site: Site, address: str) -> None:
    client = site.connect()
    client.ask(b"EHLO c\r\nMAIL FROM:<a@elsewhere.example> SMTPUTF8\r\n")
    assert client.ask(b"RCPT TO:<%b>\r\nDATA\r\n" % address.encode()).startswith(b"250")
    assert client.ask(b"Subject: x\r\n\r\n.\r\n").startswith(b"250")
    assert len(site.server.messages(ALICE)) == 1


def test_names_of_users_are_prepared_and_no_other_account_is_opened(site: Site) -> None:
    assert saslprep("\uff41lice") == "alice"
    for name in (BOB, "b\u043eb@example.org", "bob@ex\u0430mple.org", "bob@example.org\0alice"):
        client = site.connect("imap")
        client.read()
        plain = b64encode(b"\0%b\0%b" % (name.encode(), b"wrong"))
        said = client.ask(b"a AUTHENTICATE PLAIN %b\r\n" % plain)
        assert not said.startswith(b"a OK")
        client.close()
        site.world.reactor.advance(60)
    client = site.connect("imap")
    client.read()
    # To act as another is for nobody
    plain = b64encode(b"%b\0%b\0%b" % (BOB.encode(), ALICE.encode(), PASSWORD.encode()))
    assert not client.ask(b"a AUTHENTICATE PLAIN %b\r\n" % plain).startswith(b"a OK")
