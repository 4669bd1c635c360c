"""Secrets are compared by `hmac.compare_digest`, in a time that says nothing of them; wherever one comes from outside.

A double stands in its place and notes what it is given: who compares with ``==`` asks it nothing.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from typing import Any

import pytest

from twisted_mail.accounts.checkers import Password
from twisted_mail.accounts.passwords import Cost, PasswordRecord, Remembered, hash_password
from twisted_mail.address import Address
from twisted_mail.delivery.srs import Srs
from twisted_mail.sasl import SaslError, ScramFirst, ScramKeys
from twisted_mail.smtp.client.login import ScramClient
from twisted_mail.status import MailError
from twisted_mail.testing.world import simulated_world

KEYS = ScramKeys.derive("sesame", b"salt" * 4, 4096)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """The pairs that were compared as secrets."""
    pairs: list[tuple[Any, Any]] = []
    compare = hmac.compare_digest

    def note(a: Any, b: Any) -> bool:
        pairs.append((a, b))
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", note)
    return pairs


def test_a_password_that_is_remembered(compared: list[tuple[Any, Any]]) -> None:
    world = simulated_world()
    record: PasswordRecord = hash_password("sesame", world.entropy, Cost(8, 1, 1, 4096))
    remembered = Remembered(world)
    remembered.add(1, record, "sesame")
    for password, known in (("sesame", True), ("sesamf", False)):
        assert remembered.knows(1, record, password) is known
        given, held = compared.pop()
        assert (given == held) is known
        assert b"sesame" not in (given, held), "hashes are compared, not what they are of"


def test_a_password_that_another_checker_has(compared: list[tuple[Any, Any]]) -> None:
    for given, right in ((b"sesame", True), (b"sesamf", False), (b"", False)):
        assert Password(b"alice", given).checkPassword(b"sesame") is right
        assert compared.pop() == (given, b"sesame")


def exchange(password: str) -> tuple[ScramClient, Any]:
    client = ScramClient("alice", password, "clientsnonce")
    challenge = ScramFirst.parse(client.first()).challenge(KEYS, "servers")
    return client, challenge.proof(client.answer(challenge.data))


def test_a_proof_of_scram(compared: list[tuple[Any, Any]]) -> None:
    for password, right in (("sesame", True), ("sesamf", False)):
        _, proof = exchange(password)
        assert proof.matches(KEYS) is right
        assert compared.pop()[1] == KEYS.stored_key


def test_what_a_server_proves_to_us(compared: list[tuple[Any, Any]]) -> None:
    client, proof = exchange("sesame")
    final = proof.server_final(KEYS)
    client.verify(final)
    assert compared.pop() == (final, final)
    with pytest.raises(SaslError):
        client.verify(b"v=" + b64encode(b"x" * 32))
    assert compared.pop()[1] == final


def test_an_address_of_srs(compared: list[tuple[Any, Any]]) -> None:
    srs = Srs(b"s" * 16, simulated_world().now, former=(b"t" * 16,))
    made = srs.forward(Address.parse("a@far.example"), "here.example")
    assert srs.reverse(made) == Address.parse("a@far.example")
    assert len(compared) == 2, "each secret is tried, whichever fits"
    compared.clear()
    kind, digits, rest = made.local.split("=", 2)
    forged = Address(f"{kind}={digits[::-1]}={rest}", made.domain)
    with pytest.raises(MailError):
        srs.reverse(forged)
    assert len(compared) == 2
