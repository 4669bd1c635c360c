"""What leaves is signed and sealed as it leaves, whatever was done to it here: dkimpy's opinion, and the next hop's."""

from __future__ import annotations

from types import SimpleNamespace

import dkim
import pytest
from guarded import Guarded
from mailroom import ALICE
from test_filtered import BIG, FAR, LETTER, LIST, BodyWriter, Scanner

from twisted_mail.delivery.sealing import Sealer
from twisted_mail.filters import interfaces as filters
from twisted_mail.filters.chain import Chain
from twisted_mail.policy.dkim_key import Keys
from twisted_mail.policy.dkim_verify import Verification
from twisted_mail.storage.dkim_keys import ACTIVE, KeyFiles, SigningKeys


class Account:
    name = "alice@example.org"

    def may_send_as(self, address):
        return True


@pytest.fixture
def made(tmp_path, monkeypatch):
    sites = []

    def make(*chain):
        def parts(site):
            files = KeyFiles(site.world.disk, str(tmp_path / "keys"), site.world.now)
            for row in files.add("example.org", ACTIVE):
                site.resolver.zone[row.name] = {"TXT": [row.record]}
            keys = SigningKeys(site.world.disk, str(tmp_path / "keys"))
            return {
                "incoming": Chain(site.world.reactor, chain),
                "submitted": Chain(site.world.reactor, chain),
                "sealer": Sealer(keys, site.world.now),
            }

        site = Guarded(tmp_path, parts=parts)
        site.directory.add_alias(str(LIST), [FAR, ALICE])
        sites.append(site)
        # dkimpy's clock
        monkeypatch.setattr(dkim, "time", SimpleNamespace(time=site.world.now))
        return site

    yield make
    for site in sites:
        site.close()


def looked_up(site):
    def txt(name, timeout=5):
        found = site.resolver.zone.find("TXT", name.decode().rstrip("."))
        return found.records[0].encode() if found.records else None

    return txt


def wire(text):
    return text.replace(b"\n", b"\r\n")


async def next_hop(site, text):
    header, _, body = text.partition(b"\n\n")
    found = Verification(header + b"\n", Keys(site.resolver, site.world.now), now=site.world.now())
    found.update(body)
    return await found.results()


EDITS = filters.Opinion(
    edits=(
        filters.Change(b"subject", 1, b"Subject: [list] hello\n"),
        filters.Insert(0, b"X-Scanned: yes\n"),
        filters.Add(b"X-Last: yes\n"),
    )
)
UTF8 = LETTER.replace(b"hello", "grüße".encode()).replace(b"body", "äöü".encode())
CASES = {
    "plain": (LETTER, ()),
    "spilled": (BIG, ()),
    "edited": (LETTER, (Scanner(EDITS),)),
    "another body": (LETTER, (BodyWriter(b"quite another body\n"),)),
    "another large body": (LETTER, (Scanner(EDITS), BodyWriter(b"other line\n" * 50_000))),
    "a small body for a large one": (BIG, (BodyWriter(b"small \t\n\n\n"),)),
    "UTF-8": (UTF8, ()),
    "no body": (LETTER.partition(b"\r\n\r\n")[0] + b"\r\n", ()),
    "no body, no empty line, no end": (LETTER.partition(b"\r\n\r\n")[0], ()),
    "an empty body for one": (LETTER, (BodyWriter(b""),)),
    "empty lines at the end": (LETTER + b"\r\n \r\n\r\n", ()),
    "no line end at the end": (LETTER + b"end", ()),
    "dots": (LETTER + b".\r\n..\r\n. \r\n", ()),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("piece", [65_536, 1000])
def test_what_is_forwarded_is_sealed_as_it_leaves(made, case, piece):
    content, chain = CASES[case]
    site = made(*chain)
    caller = site.come()
    caller.mail(smtputf8=case == "UTF-8")
    caller.rcpt(LIST)
    caller.data(content, piece)
    (message,) = site.queued()
    text = site.leaving(message)
    assert text.startswith(b"ARC-Seal:")
    arc = site.wait(next_hop(site, text))[1]
    assert (arc.result, arc.reason) == ("pass", "")
    sealed = dkim.arc_verify(wire(text), dnsfunc=looked_up(site))
    assert sealed[0] == b"pass", sealed
    # the mailbox's copy is the same behind its own fields
    (kept,) = site.inbox()
    assert kept.endswith(text)


@pytest.mark.parametrize("case", CASES)
def test_what_a_user_sends_is_signed_as_it_leaves(made, case):
    content, chain = CASES[case]
    site = made(*chain)
    caller = site.come(account=Account())
    caller.mail(ALICE, smtputf8=case == "UTF-8")
    caller.rcpt(FAR, ALICE)
    caller.data(content.replace(b"sender@elsewhere.example", b"alice@example.org"))
    (message,) = site.queued()
    text = site.leaving(message)
    signatures, _ = site.wait(next_hop(site, text))
    assert [one.result for one in signatures] == ["pass", "pass"], signatures
    assert {one.domain for one in signatures} == {"example.org"}
    assert dkim.verify(wire(text), dnsfunc=looked_up(site))
    (kept,) = site.inbox()
    assert kept.endswith(text)
