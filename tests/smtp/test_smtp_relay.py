"""From RCPT to what the store is given: who reaches other sites, and in which spellings nobody does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from smtp_conversation import Conversation, plain

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import Cost, hash_password
from twisted_mail.address import Address
from twisted_mail.delivery.intake import IntakeSettings, MailIntake
from twisted_mail.delivery.routes import Routes, make_route
from twisted_mail.delivery.srs import Srs
from twisted_mail.smtp.session import Profile
from twisted_mail.storage.draft import Draft
from twisted_mail.storage.queued import Options, QueuedMessage, QueuedRecipient
from twisted_mail.testing.world import simulated_world

RECORD = hash_password(
    "secret", Random(1).randbytes, Cost(memory=8, passes=1, lanes=1, scram_iterations=4096)
)
LETTER = ("DATA", "Subject: x", "", "hi", ".")


class Kept:
    """A store that remembers what it was given: keys and the queue's part of each message."""

    def __init__(self, world: Any) -> None:
        self._world = world
        self.accepted: list[tuple[tuple[str, ...], QueuedMessage | None]] = []

    def draft(self) -> Draft:
        return Draft(self._world, "nowhere")

    def check_space(self, size: int) -> None:
        pass

    async def check_quota(self, keys: Sequence[str], size: int) -> None:
        pass

    async def accept(
        self, draft: Draft, accounts: Sequence[str], *, queue: QueuedMessage | None, **_: Any
    ) -> None:
        await draft.finish()
        self.accepted.append((tuple(accounts), queue))


class Relay:
    """bob@hamburger.edu has a mailbox, out@hamburger.edu leads outside, backup.example is open to all."""

    def __init__(self, path: Path) -> None:
        world = simulated_world()
        self.directory = Directory(str(path), now=world.now, entropy=world.entropy)
        self.directory.add_domain("hamburger.edu")
        self.directory.add_user(Address.parse("bob@hamburger.edu"), RECORD)
        self.directory.add_alias("out@hamburger.edu", [Address.parse("who@elsewhere.example")])
        self.srs = Srs(b"s" * 32, world.now)
        routes = Routes(
            [
                make_route("backup.example", "mx", accept=True),
                make_route("closed.example", "fail: we have moved"),
            ]
        )
        self.store = Kept(world)
        settings = IntakeSettings("mail.hamburger.edu", literals=frozenset(("[192.0.2.1]",)))
        self.intake = MailIntake(
            world, settings, self.store, self.directory, routes=routes, srs=self.srs
        )

    def stranger(self, **settings: Any) -> Conversation:
        conversation = Conversation(intake=self.intake, **settings)
        conversation.say("EHLO a", "MAIL FROM:<s@elsewhere.example>")
        return conversation

    def user(self) -> Conversation:
        conversation = Conversation(Profile.SUBMISSIONS, intake=self.intake)
        conversation.say("EHLO a", f"AUTH PLAIN {plain('bob@hamburger.edu', 'secret')}")
        return conversation


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    relay = Relay(tmp_path / "accounts.sqlite3")
    yield relay
    relay.directory.close()


SPELLINGS = [
    "<who@elsewhere.example>",
    "who@elsewhere.example",
    "<WHO@ELSEWHERE.EXAMPLE>",
    '<"who"@elsewhere.example>',
    "<@hamburger.edu:who@elsewhere.example>",
    "<@hamburger.edu,@mail.hamburger.edu:who@elsewhere.example>",
    "<@elsewhere.example:who@hamburger.edu>",
    "<who%elsewhere.example@hamburger.edu>",
    "<who%elsewhere.example%hamburger.edu@hamburger.edu>",
    '<"who@elsewhere.example"@hamburger.edu>',
    r'<"who\@elsewhere.example"@hamburger.edu>',
    '<"<who@elsewhere.example>"@hamburger.edu>',
    "<elsewhere.example!who@hamburger.edu>",
    "<elsewhere.example!who>",
    "<hamburger.edu!elsewhere.example!who@hamburger.edu>",
    "<who@[192.0.2.99]>",
    "<who@[IPv6:2001:db8::1]>",
    "<who@[IPv6:::ffff:192.0.2.1]>",
    "<who%elsewhere.example@[192.0.2.1]>",
    "<who@192.0.2.99>",
    "<who@elsewhere.example@hamburger.edu>",
    "<who@hamburger.edu@elsewhere.example>",
    "<who@hamburger.edu.elsewhere.example>",
    "<who@mail.hamburger.edu>",
    "<who@elsewhere.example.>",
    "<who@hamburger.edu\x00.elsewhere.example>",
    "<who@elsewhere.example\x00@hamburger.edu>",
    "<who@elsewhere.example> ORCPT=rfc822;bob@hamburger.edu",
    "<postmaster@elsewhere.example>",
    "<SRS0=AAAAAA=AA=elsewhere.example=who@hamburger.edu>",
    "<SRS0-AAAAAA=AA=elsewhere.example=who@hamburger.edu>",
    "<SRS1=AAAAAA=third.example==BBBBBB=AA=elsewhere.example=who@hamburger.edu>",
    "<who@closed.example>",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("strict", [False, True])
def test_a_stranger_cannot_relay_in_any_spelling(relay: Relay, spelling: str, strict: bool) -> None:
    conversation = relay.stranger(strict=strict)
    reply = conversation.say(f"RCPT TO:{spelling}")
    assert reply[:3] in ("550", "501")
    assert conversation.say("DATA") == "554 5.5.1 No valid recipients"
    assert relay.store.accepted == []


def test_a_stranger_writes_to_us_to_aliases_that_lead_outside_and_where_a_route_says_so(
    relay: Relay,
) -> None:
    conversation = relay.stranger()
    conversation.play(
        """
        C RCPT TO:<bob@hamburger.edu>
        S 250 2.1.5 Ok
        C RCPT TO:<bob@[192.0.2.1]>
        S 250 2.1.5 Ok
        C RCPT TO:<out@hamburger.edu>
        S 250 2.1.5 Ok
        C RCPT TO:<who@third.example>
        S 550 5.7.1 Relaying denied: that domain is not served here
        C RCPT TO:<who@backup.example> NOTIFY=NEVER
        S 250 2.1.5 Ok
        """
    )
    assert conversation.say(*LETTER).endswith("queued as " + self_id(relay))
    ((keys, queue),) = relay.store.accepted
    assert set(keys) == {"hamburger.edu/bob"}
    assert queue is not None
    forwarded, backup = queue.recipients
    mail_from = str(relay.srs.forward(Address.parse("s@elsewhere.example"), "hamburger.edu"))
    assert forwarded == QueuedRecipient(
        "who@elsewhere.example",
        "elsewhere.example",
        "",
        "rfc822;out@hamburger.edu",
        "out@hamburger.edu",
        mail_from,
    )
    assert backup == QueuedRecipient("who@backup.example", "backup.example", "NEVER")
    # The bounce of what was forwarded comes from anybody, and goes back.
    assert conversation.say("MAIL FROM:<>", f"RCPT TO:<{mail_from}>", *LETTER).count("250") == 3
    _, bounce = relay.store.accepted[1]
    assert bounce is not None
    assert [one.address for one in bounce.recipients] == ["s@elsewhere.example"]


def self_id(relay: Relay) -> str:
    _, queue = relay.store.accepted[-1]
    assert queue is not None
    return queue.id


def test_a_user_writes_to_the_whole_world(relay: Relay) -> None:
    conversation = relay.user()
    conversation.play(
        """
        C MAIL FROM:<bob@hamburger.edu> RET=HDRS ENVID=QQ+2B1 REQUIRETLS SMTPUTF8 BODY=8BITMIME
        S 250 2.1.0 Ok
        C RCPT TO:<who@elsewhere.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;who+2B@elsewhere.example
        S 250 2.1.5 Ok
        C RCPT TO:<who@closed.example>
        S 550 5.7.1 we have moved
        C RCPT TO:<nobody@hamburger.edu>
        S 550 5.1.1 No such user here
        C RCPT TO:<who@[192.0.2.99]>
        S 250 2.1.5 Ok
        """
    )
    conversation.say(*LETTER)
    ((keys, queue),) = relay.store.accepted
    assert keys == ()
    assert queue is not None
    assert queue.sender == "bob@hamburger.edu"
    assert queue.options == Options(envid="QQ+1", ret="HDRS", requiretls=True)
    assert queue.recipients == (
        QueuedRecipient(
            "who@elsewhere.example",
            "elsewhere.example#requiretls",
            "SUCCESS,FAILURE",
            "rfc822;who+@elsewhere.example",
        ),
        QueuedRecipient("who@[192.0.2.99]", "[192.0.2.99]#requiretls"),
    )


def test_local_mail_has_nothing_for_the_queue(relay: Relay) -> None:
    relay.stranger().say("RCPT TO:<bob@hamburger.edu>", *LETTER)
    assert relay.store.accepted == [(("hamburger.edu/bob",), None)]
