"""``mailctl queue``: looking at the queue, and changing it by hand, beside a server and without one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from twisted.internet.defer import ensureDeferred
from twisted.python.failure import Failure

from twisted_mail.cli import mailctl
from twisted_mail.cli.queue_changes import BOUNCE, HOLD, PAGE, RELEASE, REMOVE, RETRY, change
from twisted_mail.config import load
from twisted_mail.disk import OsDisk
from twisted_mail.site import make_store
from twisted_mail.storage.queued import (
    Attempt,
    Backoff,
    Change,
    Options,
    QueuedMessage,
    QueuedRecipient,
    State,
    Verdict,
)  # fmt: skip
from twisted_mail.storage.spool import Item, Spool
from twisted_mail.storage.spool_due import Due
from twisted_mail.storage.spool_view import Filter, View
from twisted_mail.testing.world import simulated_world

MAIN = "from twisted_mail.cli import main; main()"
START = 1_705_305_600.0  # 2024-01-15 08:00:00 UTC
NOW = 1_800_000_000.0
"""What time it is in the simulated world."""
DAY = 86_400


class Bytes:
    """A message's content on its way into the queue."""

    def link(self, target):
        with open(target, "xb") as file:
            file.write(b"Subject: x\n\nhello\n")

    replace = link


class Site:
    """A site with a queue, looked at and filled without a server."""

    def __init__(self, path):
        self.path = path
        self.config = load(path / "mail.toml")
        (path / "data").mkdir(mode=0o700)
        self.spool = Spool(OsDisk(), str(self.config.data))
        self.view = View(self.spool)

    def add(self, id_, sender, *recipients, at=START, options=None):
        """Queue a message; `recipients` are addresses or QueuedRecipients."""
        to = tuple(
            one
            if isinstance(one, QueuedRecipient)
            else QueuedRecipient(one, one.rpartition("@")[2])
            for one in recipients
        )
        message = QueuedMessage(
            id_, sender, to, at, at + 5 * DAY, at + 4 * 3600, options or Options(), 0, 18, 21
        )
        self.spool.fill([Item(message, Bytes())])

    def change(self, id_, *verdicts, attempts=()):
        self.spool.fill([Item(None, None, [Change(id_, tuple(verdicts), tuple(attempts))])])

    def fails(self, hop, text, until):
        Due(OsDisk(), self.spool, "").back_off(Backoff(hop, until, 3, START, text))

    def states(self, id_):
        return [one.state.name for one in self.view.story(id_).recipients]

    def by_hand(self, id_):
        """What was done by hand, in its order."""
        return [one.text for one in self.view.story(id_).attempts if "by hand" in one.text]


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWISTED_MAIL_CONFIG", raising=False)
    monkeypatch.setenv("TZ", "Europe/Vienna")
    time.tzset()
    (tmp_path / "mail.toml").write_text(
        'hostname = "mail.example.org"\ndata = "data"\n[listen]\nsmtp = ["tcp:0"]\n'
    )
    made = Site(tmp_path)
    yield made
    made.spool.close()
    monkeypatch.undo()
    time.tzset()


def call(*words, code=0):
    """What a command prints, both ways together; `code` is the exit code it must have."""
    result = CliRunner().invoke(mailctl, ("queue", *words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def read(*words):
    result = CliRunner().invoke(mailctl, ("queue", *words, "--json"))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def process(*words, stdin=subprocess.DEVNULL):
    """The same as a process: the reactor runs, and a process has only one."""
    return subprocess.run(
        [sys.executable, "-c", MAIN, "queue", *words],
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def drive(world, coroutine):
    results = []
    ensureDeferred(coroutine).addBoth(results.append)
    for _ in range(100_000):
        if results:
            break
        world.reactor.advance(0)
    assert results, "nothing more happens"
    if isinstance(results[0], Failure):
        raise results[0].value
    return results[0]


def do(site, verb, *ids, which=None):
    """The change itself, without a process of its own."""
    world = simulated_world(disk=OsDisk())
    return drive(world, change(world, site.config, verb, ids, which))


@pytest.fixture
def three(site):
    """Three messages: deferred behind a dead destination; held and waiting; a bounce by a route."""
    site.add("aa0000000001", "alice@example.org", "bob@example.net", "carol@example.net")
    tried = Attempt(START + 60, "mx.example.net", "192.0.2.1", "TLSv1.3 X verified", "450 4.2.1 no")
    site.change(
        "aa0000000001",
        Verdict(0, State.DEFERRED, START + 360, 0),
        Verdict(1, State.DELIVERED, 0, 1),
        attempts=[tried, tried._replace(text="250 2.0.0 ok")],
    )
    site.add("bb0000000002", "ann@example.org", "dora@example.com", "eve@example.edu", at=START + 5)
    site.change("bb0000000002", Verdict(0, State.HELD))
    site.add(
        "cc0000000003",
        "",
        QueuedRecipient("fred@example.net", "smtp://relay.example", origin="f@example.org"),
        at=START + 9,
    )
    return site


# -- list


def test_a_site_without_data(site):
    (site.path / "data").rmdir()
    assert call("list") == ""
    assert read("list") == []
    assert call("flush", code=0)
    assert call("retry", "--all") == "nothing to retry\n"
    assert call("retry", "aa", code=1) == "mailctl: there is no message aa in the queue\n"
    assert read("stats")["messages"] == 0
    assert not (site.path / "data").exists()


def test_rows_for_machines(three):
    first, *_, last = read("list")
    assert first == {
        "id": "aa0000000001",
        "mark": "1:0",
        "arrived": "2024-01-15T08:00:00+00:00",
        "size": 18,
        "sender": "alice@example.org",
        "recipient": "bob@example.net",
        "destination": "example.net",
        "state": "deferred",
        "next_try": "2024-01-15T08:06:00+00:00",
        "tries": 1,
        "reason": "450 4.2.1 no",
    }
    assert (last["sender"], last["destination"]) == ("", "smtp://relay.example")


def test_lines_for_pipes(three):
    lines = call("list").splitlines()
    assert lines[0] == (
        "aa0000000001\t2024-01-15T08:00:00+00:00\t18\talice@example.org\tbob@example.net\t"
        "deferred\t2024-01-15T08:06:00+00:00\t1\t450 4.2.1 no"
    )
    assert lines[3].split("\t")[3:6] == ["<>", "fred@example.net", "waiting"]


def test_messages_for_people(three, monkeypatch):
    three.fails("example.com", "no server of example.com answers: " + "very long " * 12, START)
    from twisted_mail.cli.queue_text import listed_text

    rows = three.view.page(Filter())
    assert list(listed_text(rows, START + 100)) == [
        "aa0000000001   100 s       18 B  alice@example.org",
        "  bob@example.net deferred after 1 try, next in 4 min",
        "      450 4.2.1 no",
        "bb0000000002    95 s       18 B  ann@example.org",
        "  dora@example.com held",
        "      no server of example.com answers: very long very long very long very long",
        "        very long very long very long very long very long very long very long",
        "        very long",
        "  eve@example.edu waiting, next now",
        "cc0000000003    91 s       18 B  <>",
        "  fred@example.net (smtp://relay.example) waiting, next now",
    ]


def test_its_own_last_try_is_the_reason_when_the_destination_is_tried_again(three):
    three.fails("example.net", "no answer", START)
    (bob,) = read("list", "--recipient", "bob@")
    assert (bob["next_try"], bob["reason"]) == ("2024-01-15T08:06:00+00:00", "450 4.2.1 no")


def test_a_destination_that_fails_is_the_reason_while_it_does(three):
    three.fails("example.net", "no answer", 2e9)
    (bob,) = read("list", "--recipient", "bob@")
    assert (bob["next_try"], bob["reason"]) == ("2033-05-18T03:33:20+00:00", "no answer")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--domain", "Example.NET"), ["bob", "fred"]),
        (("--domain", "ample.net"), []),
        (("--sender", "ALICE"), ["bob"]),
        (("--sender", "<>"), ["fred"]),
        (("--recipient", "e@example"), ["eve"]),
        (("--state", "held"), ["dora"]),
        (("--state", "held", "--state", "delivered"), ["carol", "dora"]),
        (("--state", "waiting", "--domain", "example.net"), ["fred"]),
    ],
)
def test_filters(three, words, found):
    assert [row["recipient"].partition("@")[0] for row in read("list", *words)] == found


def test_pages(three):
    seen = []
    words = ["--limit", "2"]
    for _ in range(5):
        result = CliRunner().invoke(mailctl, ("queue", "list", *words))
        assert len(result.stdout.splitlines()) == 2
        seen += [line.split("\t")[4].partition("@")[0] for line in result.stdout.splitlines()]
        if not result.stderr:
            break
        start, mark = result.stderr.strip().rsplit(" ", 1)
        assert start == "there are more: add --after"
        words = ["--limit", "2", "--after", mark]
    assert seen == ["bob", "dora", "eve", "fred"]


def test_every_row_has_its_mark(three):
    marks = [row["mark"] for row in read("list")]
    assert [row["mark"] for row in read("list", "--after", marks[1])] == marks[2:]


@pytest.mark.parametrize(
    "words",
    [
        ("list", "--after", "7"), ("list", "--after", "a:b"), ("list", "--after", "-1:0"),
        ("list", "--limit", "0"), ("list", "--state", "lost"), ("show",), ("hold",),
        ("hold", "aa0000000001", "--all"), ("remove", "aa0000000001", "--sender", "a"),
    ],
)  # fmt: skip
def test_wrong_usage_is_2(three, words):
    call(*words, code=2)
    assert "HELD" not in three.states("aa0000000001")


def test_what_is_no_domain(three):
    output = call("list", "--domain", "a b", code=1)
    assert output.startswith("mailctl: 'a b' is not a domain: ")


def test_a_terminal_is_safe_from_what_peers_say(three):
    said = Attempt(START + 70, "mx\x1b]0;x\x07", "", "", "450 \x1b[2J\u202eevil\nmore")
    three.change("aa0000000001", Verdict(0, State.DEFERRED, START + 400, 0), attempts=[said])
    for output in (call("list"), call("show", "aa0000000001"), json.dumps(read("list"))):
        assert "\x1b" not in output and "\u202e" not in output and "\\u001b" not in output
    assert read("list")[0]["reason"] == "450 ?[2J?evil more"


def test_a_queue_that_cannot_be_read(site):
    (site.path / "data/queue.sqlite3").write_bytes(b"nonsense" * 1000)
    assert call("list", code=1).startswith("mailctl: cannot open the queue: ")


def test_looking_makes_no_database(site, three):
    """The server would take it for the one it had."""
    database = site.path / "data/queue.sqlite3"
    for file in site.path.glob("data/queue.sqlite3*"):
        file.unlink()
    for words in (["list"], ["show", "aa0000000001"], ["hold", "aa0000000001"]):
        said = call(*words, code=1)
        assert "queue.sqlite3 is gone: the server makes it anew" in said
    assert not database.exists()
    shutil.rmtree(site.path / "data/queue")
    assert call("list") == ""
    assert not database.exists()


# -- show


def test_the_whole_story(three):
    three.fails("example.net", "no server of example.net answers", START + DAY)
    from twisted_mail.cli.queue_text import story_text

    assert "\n".join(story_text(three.view.story("aa0000000001"), START + 3 * 3600)) == (
        """\
message    aa0000000001
from       alice@example.org
arrived    2024-01-15 09:00:00, 3 h ago
size       18 B
given up   2024-01-20 09:00:00, in 4 d

recipients
  bob@example.net
      deferred after 1 try, next in 21 h (2024-01-16 09:00:00)
      450 4.2.1 no
      fails since 2024-01-15 09:00:00: no server of example.net answers
  carol@example.net
      delivered after 1 try
      250 2.0.0 ok

attempts
  2024-01-15 09:01:00  mx.example.net [192.0.2.1], TLSv1.3 X verified
      250 2.0.0 ok
  2024-01-15 09:01:00  mx.example.net [192.0.2.1], TLSv1.3 X verified
      450 4.2.1 no"""
    )


def test_an_address_that_is_the_host_is_told_once(three):
    refused = Attempt(START + 90, "192.0.2.9", "192.0.2.9", "", "192.0.2.9 refused the connection")
    three.change("aa0000000001", Verdict(0, State.DEFERRED, START + 400, 0), attempts=[refused])
    assert call("show", "aa0000000001").endswith(
        "  2024-01-15 09:01:30  192.0.2.9, no TLS\n      192.0.2.9 refused the connection\n"
    )


def test_a_change_by_hand_is_one_line(three):
    do(three, HOLD, "bb0000000002")
    assert call("show", "bb0000000002").endswith(
        "\nattempts\n  2027-01-15 09:00:00  held by hand\n"
    )


def test_a_story_of_every_kind_fits_the_terminal(site):
    site.add(
        "aa0000000001",
        "",
        QueuedRecipient(
            "a@partner.example", "lmtp:/run/x#requiretls", "FAILURE,DELAY", "rfc822;x@y",
            "list@example.org", "SRS0=abcd=xy=example.net=bob@example.org",
        ),
        options=Options("id-1", "HDRS", True, True, True),
    )  # fmt: skip
    clear = Attempt(START, "mx.example.net", "2001:db8::1", "", "550 5.1.1 " + "no such user " * 20)
    site.change("aa0000000001", Verdict(0, State.BOUNCED, 0, 0), attempts=[clear])
    shown = call("show", "aa0000000001")
    assert max(map(len, shown.splitlines())) < 80
    for part in (
        "from       <> (a bounce)",
        "options    8BITMIME, SMTPUTF8, REQUIRETLS, RET=HDRS, ENVID=id-1",
        "over       2024-01-15 09:00:00",
        "  a@partner.example (lmtp:/run/x)\n      bounced after 1 try\n",
        "by the alias list@example.org",
        "sent as SRS0=abcd=xy=example.net=bob@example.org",
        "tell the sender: FAILURE,DELAY",
        "mx.example.net [2001:db8::1], no TLS",
    ):
        assert part in shown
    story = read("show", "aa0000000001")
    assert story["over"] == "2024-01-15T08:00:00+00:00"
    assert story["recipients"][0]["sent_as"].startswith("SRS0")
    assert story["attempts"][0]["address"] == "2001:db8::1"


@pytest.mark.parametrize("id_", ["nonsense", "", "AA0000000001", "aa0000000001'"])
def test_a_story_of_nobody(three, id_):
    assert call("show", id_, code=1) == f"mailctl: there is no message {id_} in the queue\n"


# -- stats


def test_numbers(three):
    assert read("stats") == {
        "messages": 3,
        "octets": 54,
        "oldest": "2024-01-15T08:00:00+00:00",
        "recipients": {
            "waiting": 2, "active": 0, "deferred": 1, "held": 1, "delivered": 1, "bounced": 0,
            "removed": 0,
        },
        "destinations": 4,
        "failing": 0,
    }  # fmt: skip
    lines = call("stats").splitlines()
    assert lines[0].startswith("messages      3, 54 B, the oldest ")
    assert "held          1" in lines


# -- flush


def due(site, now, hop):
    """Who is taken of a destination at `now`."""
    taken, _ = Due(OsDisk(), site.spool, "").take(now, 100, lambda one: 100 * (one == hop), [])
    return [one.message.recipients[one.number].address for one in taken]


def test_flush(three):
    three.fails("example.net", "no answer", START + DAY)
    assert due(three, START + 61, "example.net") == []
    assert call("flush", "--domain", "EXAMPLE.net") == "flushed example.net\n"
    assert due(three, START + 61, "example.net") == ["bob@example.net"]
    assert due(three, START + 61, "example.com") == []  # held stays held


def test_flush_of_all(three):
    three.fails("example.net", "no answer", START + DAY)
    assert call("flush") == "flushed: all that waits is tried now\n"
    assert due(three, START + 61, "example.net") == ["bob@example.net"]


def test_flush_of_nothing(three):
    assert call("flush", "--domain", "nowhere.example") == "nothing waits for nowhere.example\n"


# -- changes


def test_hold_and_release(three):
    assert do(three, HOLD, "aa0000000001") == (1, 1, 0)
    assert three.states("aa0000000001") == ["HELD", "DELIVERED"]
    assert due(three, START + DAY, "example.net") == []
    assert do(three, RELEASE, "aa0000000001", "bb0000000002") == (2, 2, 0)
    assert three.states("aa0000000001") == ["WAITING", "DELIVERED"]
    assert three.by_hand("aa0000000001")[-1:] == ["released by hand"]
    assert due(three, NOW + 1, "example.net") == ["bob@example.net"]


def test_retry_lifts_the_back_off(three):
    three.fails("example.net", "no answer", START + DAY)
    assert do(three, RETRY, "aa0000000001") == (1, 1, 0)
    assert three.by_hand("aa0000000001") == ["retried by hand"]
    assert due(three, NOW + 1, "example.net") == ["bob@example.net"]
    assert three.view.story("aa0000000001").recipients[0].tries == 1


def test_what_is_being_sent_is_not_sent_again_by_a_retry(three):
    assert due(three, START + 400, "example.net") == ["bob@example.net"]
    with pytest.raises(ValueError, match="nothing of aa0000000001 to retry: active, delivered"):
        do(three, RETRY, "aa0000000001")
    assert do(three, RETRY, which=Filter()).recipients == 2
    assert three.states("aa0000000001")[0] == "ACTIVE"
    assert do(three, HOLD, "aa0000000001").recipients == 1


def test_remove(three):
    file = three.spool.path("bb0000000002")
    assert os.path.exists(file)
    assert do(three, REMOVE, "bb0000000002") == (1, 2, 0)
    assert three.states("bb0000000002") == ["REMOVED", "REMOVED"]
    assert not os.path.exists(file)
    assert three.view.story("bb0000000002").finished == NOW


def test_bounce(three):
    """The sender is told by who runs the queue; what is held is let go for that."""
    assert do(three, BOUNCE, "bb0000000002") == (1, 2, 0)
    assert three.states("bb0000000002") == ["WAITING", "WAITING"]
    due = Due(OsDisk(), three.spool, "")
    expired = due.taken(due.expired(START + 10, 100))
    assert [(one.message.id, one.number, one.expires) for one in expired] == [
        ("bb0000000002", 0, 0), ("bb0000000002", 1, 0),
    ]  # fmt: skip
    assert three.by_hand("bb0000000002") == ["given up by hand"]


def test_nothing_is_done_when_one_of_them_is_wrong(three):
    three.change("cc0000000003", Verdict(0, State.REMOVED))
    with pytest.raises(ValueError, match=r"no message nonsense .*; nothing of cc.* hold: removed"):
        do(three, HOLD, "aa0000000001", "nonsense", "cc0000000003")
    assert three.states("aa0000000001")[0] == "DEFERRED"


def test_an_id_twice_is_one(three):
    assert do(three, HOLD, "aa0000000001", "aa0000000001") == (1, 1, 0)


@pytest.mark.parametrize(
    ("which", "held"),
    [
        (Filter(), ["aa:0", "bb:0", "bb:1", "cc:0"]),
        (Filter(domain="example.edu"), ["bb:0", "bb:1"]),
        (Filter(sender="alice@"), ["aa:0", "bb:0"]),
        (Filter(sender="<>"), ["bb:0", "cc:0"]),
        (Filter(recipient="bob@"), ["aa:0", "bb:0"]),
    ],
)
def test_all_that_is_described(three, which, held):
    do(three, HOLD, which=which)
    rows = three.view.page(Filter(states=(State.HELD,)))
    assert [f"{row.id[:2]}:{row.number}" for row in rows] == held


def test_the_story_says_whom_a_change_was_for(three):
    do(three, HOLD, which=Filter(domain="example.edu"))
    assert three.by_hand("bb0000000002") == ["held by hand: eve@example.edu"]


def test_many_recipients_in_many_records(site):
    site.add("aa0000000001", "a@b", *(f"u{n}@example.net" for n in range(PAGE + 10)))
    site.add("bb0000000002", "a@b", *(f"u{n}@example.com" for n in range(PAGE)))
    assert do(site, HOLD, which=Filter()) == (2, 2 * PAGE + 10, 0)
    assert set(site.states("aa0000000001") + site.states("bb0000000002")) == {"HELD"}
    assert do(site, RELEASE, which=Filter(domain="example.net")) == (1, PAGE + 10, 0)
    assert site.by_hand("aa0000000001")[-1].endswith("u2@example.net and 497 more") or (
        "and 7 more" in site.by_hand("aa0000000001")[-1]
    )
    assert do(site, BOUNCE, which=Filter()) == (2, 2 * PAGE + 10, 0)
    assert len(Due(OsDisk(), site.spool, "").expired(START, 9999)) == 2 * PAGE + 10


def test_a_bounce_by_domain_gives_up_nobody_elses_mail(three):
    three.add("dd0000000004", "a@b", "x@example.edu", "y@example.edu", "z@example.com")
    three.change("dd0000000004", Verdict(2, State.DELIVERED))
    do(three, BOUNCE, which=Filter(domain="example.edu"))
    due = Due(OsDisk(), three.spool, "")
    assert {one.message.id for one in due.taken(due.expired(START, 99))} == {"dd0000000004"}
    assert do(three, BOUNCE, which=Filter(domain="example.edu")).left == 1


# -- as processes


def test_every_change_is_a_command(three):
    for words, said in [
        (("hold", "aa0000000001"), "held: 1 recipient of 1 message\n"),
        (("release", "--all"), "released: 2 recipients of 2 messages\n"),
        (("retry", "--sender", "alice"), "retried: 1 recipient of 1 message\n"),
        (("retry", "--domain", "nowhere.example"), "nothing to retry\n"),
        (
            ("bounce", "--domain", "example.edu"),
            "nothing to bounce\nleft: 1 which wait for others, too; name them by their ID\n",
        ),
        (("bounce", "cc0000000003"), "given up: 1 recipient of 1 message\n"),
        (("remove", "--recipient", "eve@"), "removed: 1 recipient of 1 message\n"),
    ]:
        done = process(*words)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", said)
    assert three.by_hand("aa0000000001") == ["held by hand", "released by hand", "retried by hand"]
    assert three.states("bb0000000002") == ["WAITING", "REMOVED"]


def test_a_wrong_id_is_told_and_1(three):
    done = process("release", "aa0000000001", "zz")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "mailctl: nothing of aa0000000001 to release: deferred, delivered; "
        "there is no message zz in the queue\n"
    )


def test_somebody_at_a_terminal_is_asked_before_much_goes(three):
    for words in (("remove", "--all"), ("bounce", "--sender", "a")):
        terminal, stdin = os.openpty()
        os.write(terminal, b"n\n")
        done = process(*words, stdin=stdin)
        os.close(stdin)
        os.close(terminal)
        assert done.returncode == 1
        assert done.stdout.endswith("[y/N]: ") or "Aborted" in done.stderr
    assert "REMOVED" not in three.states("bb0000000002")


def test_beside_a_server_it_counts_at_once(three):
    world = simulated_world(disk=OsDisk())
    store = make_store(three.config, world)
    drive(world, store.start())
    store.queue.changed()
    done = process("hold", "aa0000000001")
    assert (done.returncode, done.stderr) == (0, "")
    assert store.queue.changed()
    assert store.queue.view.story("aa0000000001").recipients[0].state is State.HELD
    call("flush")
    assert store.queue.changed()
    drive(world, store.stop())
    again = make_store(three.config, simulated_world(disk=OsDisk()))
    drive(again._world, again.start())
    assert again.queue.view.story("aa0000000001").recipients[0].state is State.HELD
    drive(again._world, again.stop())
