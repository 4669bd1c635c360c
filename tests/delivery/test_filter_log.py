"""What log and story say of what filters do with mail: the filter, why, and which message it was."""

from __future__ import annotations

import pytest
from guarded import LETTER, Guarded
from mailroom import ALICE
from test_filtered import BodyWriter, Scanner
from twisted.logger import capturedLogs

from twisted_mail.address import Address
from twisted_mail.filters import interfaces as filters
from twisted_mail.filters.chain import Chain
from twisted_mail.filters.interfaces import Action, Opinion
from twisted_mail.filters.trouble import failure
from twisted_mail.status import MailError, Reply
from twisted_mail.storage.queued import State
from twisted_mail.storage.spool_view import Filter

GO_AWAY = Reply(550, "5.7.1", ("Go away",))


@pytest.fixture
def made(tmp_path):
    sites = []

    def make(*chain):
        site = Guarded(tmp_path, parts=lambda site: {"incoming": Chain(site.world.reactor, chain)})
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.close()


def logged(site):
    """What the log says of a letter to alice: formats and fields."""
    with capturedLogs() as events:
        site.come().send(LETTER, ALICE)
    wanted = ("connection", "message", "filter", "verdict", "reason", "sender", "to")
    return [
        (one["log_format"], {name: one[name] for name in wanted if name in one})
        for one in events
        if "inspecting" in one["log_namespace"]
    ]


@pytest.mark.parametrize("action", [Action.JUNK, Action.QUARANTINE])
def test_malware_that_is_not_refused_is_in_the_log(made, action):
    malware = Opinion(action=action, reason="malware: Eicar {x}")
    site = made(Scanner(Opinion()), Scanner(malware))
    ((text, fields),) = logged(site)
    assert text == "unwanted message"
    assert fields == {
        "connection": "c1",
        "message": site.told.all[-1].id,
        "filter": "scanner",
        "verdict": str(action),
        "reason": "malware: Eicar {x}",
        "sender": "sender@elsewhere.example",
        "to": "alice@example.org",
    }


@pytest.mark.parametrize("alone", [True, False])
def test_what_is_discarded_has_one_line_with_the_reason(made, alone):
    opinion = (
        Opinion(deleted=(ALICE,))
        if alone
        else Opinion(action=Action.DISCARD, reason="malware: Eicar")
    )
    site = made(Scanner(opinion))
    with capturedLogs() as events:
        site.come().send(LETTER, ALICE)
    (event,) = [one for one in events if "discarded" in str(one.get("log_format"))]
    assert event["log_format"] == "message discarded"
    assert event["message"] == site.told.all[-1].id
    assert event["reason"] == ("a filter has left no recipient" if alone else "malware: Eicar")
    assert event["filter"] == (None if alone else "scanner")
    assert event["to"] == "alice@example.org"


def test_a_failure_is_no_verdict(made):
    assert logged(made(Scanner(failure("accept", "broken")))) == []


class AtRcpt(BodyWriter):
    name = "signer"

    def __init__(self, opinion):
        self.opinion = opinion

    async def rcpt(self, recipient, refused=None):
        return self.opinion


class AtData(AtRcpt):
    async def rcpt(self, recipient, refused=None):
        return filters.Opinion()

    async def data(self, queue_id=""):
        return self.opinion


def say(reason):
    return Opinion(action=Action.REJECT, reply=GO_AWAY, reason=reason)


@pytest.mark.parametrize(
    ("chain", "cause"),
    [
        ((Scanner(say("malware: Eicar")),), "filter scanner: malware: Eicar"),
        ((Scanner(Opinion()), AtRcpt(say("Go away"))), "filter signer"),
        ((AtData(say("Go away")),), "filter signer"),
        (
            (AtData(failure("tempfail", "no connection to tcp:a:1")),),
            "filter signer: no connection to tcp:a:1",
        ),
    ],
)
def test_a_refusal_says_which_filters_it_is_and_nothing_twice(made, chain, cause):
    site = made(*chain)
    caller = site.come()
    with pytest.raises(MailError) as caught:
        caller.send(LETTER, ALICE)
    caller.leave()
    assert caught.value.cause == cause
    assert "filter" not in caught.value.text
    assert any(line.endswith(f" ({cause})") for line in site.lines())


def test_who_was_not_asked_is_told_so(made):
    site = made(Scanner(Opinion(asked=False, reason="it failed before")))
    site.come().send(LETTER, ALICE)
    assert "filter scanner is not asked (it failed before)" in site.lines()


def test_the_queue_knows_why_it_holds_what_leaves(made):
    site = made(Scanner(Opinion(action=Action.QUARANTINE, reason="malware: Eicar")))
    site.directory.add_alias("list@example.org", [Address.parse("far@away.example")])
    site.come().send(LETTER, Address.parse("list@example.org"))
    (listed,) = site.store.queue.view.page(Filter())
    assert (listed.state, listed.last) == (State.HELD, "held: malware: Eicar")
