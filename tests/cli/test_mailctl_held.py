"""Why mail is held is seen in the queue, from its acceptance on."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from twisted_mail.cli import mailctl
from twisted_mail.config import load
from twisted_mail.disk import OsDisk
from twisted_mail.storage.queued import (
    Attempt,
    Change,
    QueuedMessage,
    QueuedRecipient,
    State,
    Verdict,
)
from twisted_mail.storage.spool import Item, Spool
from twisted_mail.storage.spool_view import Filter, View

AT = 1_705_305_600.0
TO = (QueuedRecipient("far@away.example", "away.example"),) * 2
MESSAGE = QueuedMessage("0000000000a1", "", TO, AT, AT + 9e9, held="malware: Eicar-Test")


class Bytes:
    def link(self, target):
        with open(target, "xb") as file:
            file.write(b"")

    replace = link


@pytest.fixture
def spool(empty_site):
    (empty_site / "data").mkdir(mode=0o700)
    spool = Spool(OsDisk(), str(load(empty_site / "mail.toml").data))
    spool.fill([Item(MESSAGE, Bytes())])
    yield spool
    spool.close()


def call(*words):
    result = CliRunner().invoke(mailctl, ["queue", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_list_and_show_say_why(spool):
    assert "held: malware: Eicar-Test" in call("list")
    text = call("show", MESSAGE.id)
    assert text.partition("attempts\n")[2].rstrip().endswith("  held: malware: Eicar-Test")
    found = json.loads(call("show", MESSAGE.id, "--json"))
    assert [one["text"] for one in found["attempts"]] == ["held: malware: Eicar-Test"]


def test_it_is_no_try_and_comes_once(spool):
    stored = QueuedMessage.from_json(json.loads(json.dumps(MESSAGE.to_json())))
    assert stored == MESSAGE
    spool.settle([Item(stored, Bytes())])
    story = View(spool).story(MESSAGE.id)
    assert story.attempts == (Attempt(AT, "", "", "", "held: malware: Eicar-Test"),)
    assert [(one.state, one.tries, one.last) for one in story.recipients] == [
        (State.HELD, 0, None)
    ] * 2


def test_what_is_let_go_is_not_said_to_be_held(spool):
    released = Attempt(AT + 5, "", "", "", "released by hand")
    change = Change(MESSAGE.id, (Verdict(0, State.WAITING, AT + 5),), (released,))
    spool.fill([Item(None, None, [change])])
    lasts = [one.last for one in View(spool).page(Filter())]
    assert lasts == ["", "held: malware: Eicar-Test"]


def test_a_journal_of_before_has_no_reason():
    stored = json.loads(json.dumps({**MESSAGE.to_json(), "held": True}))
    assert QueuedMessage.from_json(stored).held == "a filter wants it so"
    del stored["held"]
    assert QueuedMessage.from_json(stored).held == ""
