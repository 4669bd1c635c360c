"""Large mail of users: what comes on top has its room in the spill file, and a hash that nobody wants is not made."""

from __future__ import annotations

import os

import pytest
from mailroom import ALICE
from test_filtered import BIG, FAR, NoKeys
from test_sealed_copies import Account, made, next_hop  # noqa: F401 (a fixture)

from twisted_mail.delivery import examination
from twisted_mail.message.dkim_body import BodyHash

MINE = BIG.replace(b"sender@elsewhere.example", b"alice@example.org")
CLAIM = b"Authentication-Results: mx.example.org; spf=pass\r\n"


@pytest.fixture
def hashed(monkeypatch):
    """The sizes of what was hashed."""
    sizes = []

    class Counted(BodyHash):
        def update(self, text):
            sizes.append(len(text))
            super().update(text)

    monkeypatch.setattr(examination, "BodyHash", Counted)
    return sizes


def spilled(site, monkeypatch):
    """The names of all files that are made in the spill directory."""
    names = []
    disk = site.world.disk
    real = disk.open

    def opened(path, flags, mode=0o600):
        if "/spill/" in path and flags & os.O_CREAT:
            names.append(path)
        return real(path, flags, mode)

    monkeypatch.setattr(disk, "open", opened)
    return names


@pytest.mark.parametrize("header", [b"", b"Bcc: x@y.example\r\n", CLAIM, b"Return-Path: <a@b>\r\n"])
@pytest.mark.parametrize("recipients", [[FAR], [FAR, ALICE], [ALICE]])
def test_what_is_signed_is_written_once(made, monkeypatch, header, recipients):  # noqa: F811
    site = made()
    names = spilled(site, monkeypatch)
    caller = site.come(account=Account())
    caller.send(header + MINE, *recipients, sender=ALICE)
    assert len(names) == 1
    texts = [site.leaving(message) for message in site.queued()] + list(site.inbox())
    assert len(texts) == len(recipients)
    for text in texts:
        text = text[text.index(b"DKIM-Signature") :]
        signatures, _ = site.wait(next_hop(site, text))
        assert [one.result for one in signatures] == ["pass", "pass"], signatures
        assert b"\0" not in text
        assert CLAIM[:20] not in text
        assert text.replace(b"\n", b"\r\n").endswith(MINE.partition(b"\r\n\r\n")[2])


def test_another_key_meanwhile_makes_no_difference_but_a_copy(made, monkeypatch, hashed):  # noqa: F811
    site = made()
    names = spilled(site, monkeypatch)
    sealer, keys = site.parts.sealer, site.parts.sealer._keys
    caller = site.come(account=Account())
    caller.mail(ALICE)
    caller.rcpt(FAR)
    message = site.intake.begin(caller.client, caller.envelope)
    sealer._keys = NoKeys()

    async def come():
        for at in range(0, len(MINE), 65_536):
            await message.write(MINE[at : at + 65_536])
        assert sum(hashed) < 300_000
        # the owner runs mailctl
        sealer._keys = keys
        await message.commit()

    site.wait(come())
    assert len(names) == 2
    (queued,) = site.queued()
    signatures, _ = site.wait(next_hop(site, site.leaving(queued)))
    assert [one.result for one in signatures] == ["pass", "pass"], signatures


def test_without_a_key_it_is_told_and_hardly_hashed(made, monkeypatch, hashed):  # noqa: F811
    site = made()
    names = spilled(site, monkeypatch)
    site.parts.sealer._keys = NoKeys()
    caller = site.come(account=Account())
    caller.send(MINE, FAR, sender=ALICE)
    assert sum(hashed) < 300_000
    assert len(names) == 1
    assert "not signed (DKIM): example.org has no key here (mailctl dkim add)" in site.lines()
    (queued,) = site.queued()
    assert b"DKIM-Signature" not in site.leaving(queued)


def test_who_leaves_while_it_spills_leaves_nothing(made):  # noqa: F811
    site = made()
    caller = site.come(account=Account())
    caller.mail(ALICE)
    caller.rcpt(FAR)
    message = site.intake.begin(caller.client, caller.envelope)
    directory = message.draft.spill_directory

    async def come():
        for at in range(0, len(MINE), 65_536):
            await message.write(MINE[at : at + 65_536])
        message.abort()

    site.wait(come())
    site.turn()
    assert os.listdir(directory) == []
    assert site.queued() == []
