"""What `mailctl explain` tells of mail between sites that judge each other, and what its dry run foretells."""

from __future__ import annotations

import json
import re

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulated_sites import ALICE, BOB, ONE, Site
from test_judged_sites import CAROL, FORGED, STRANGER, Judged, forwarding

from twisted_mail.address import Address
from twisted_mail.cli import mailctl
from twisted_mail.cli.rehearsal import Question, Rehearsal, rehearse
from twisted_mail.cli.rehearsal_text import rehearsed_json, rehearsed_text
from twisted_mail.config import load
from twisted_mail.site import open_directory
from twisted_mail.storage.queued import State
from twisted_mail.storage.spool_view import Filter

GREYLIST = {"greylist": {"enabled": True, "delay_seconds": 300.0}}
ALIAS = "list@two.example"
PLAIN = (
    b"From: Friend <friend@forger.example>\r\nTo: bob@two.example\r\nSubject: secret plan\r\n"
    b"Message-ID: <plain@forger.example>\r\n\r\nThe body is nobody's business.\r\n"
)


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {toml(one)}' for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def configure(site: Site) -> None:
    """Write down how it was started, as a site would have it."""
    tables = {"queue": site.queue, **site.more}
    lines = [f'hostname = "mx.{site.domain}"', 'data = "data"', 'listen = { smtp = ["tcp:25"] }']
    lines += [f"{name} = {toml(table)}" for name, table in tables.items()]
    (site.directory / "mail.toml").write_text("\n".join(lines))


def explain(judged: Judged, site: Site, *words: str, status: int = 0) -> str:
    judged.advance(5)
    configure(site)
    given = ["-c", str(site.directory / "mail.toml"), "explain", *words]
    result = CliRunner().invoke(mailctl, given)
    assert result.exit_code == status, result.output
    return result.output


def told(judged: Judged, site: Site, *words: str):
    return json.loads(explain(judged, site, *words, "--json"))


def lines(story) -> str:
    return "\n".join(one["text"] for one in story["story"])


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(**tables) -> Judged:
        started.append(Judged(tmp_path / str(len(started)), **tables))
        return started[-1]

    yield begin
    for one in started:
        one.stop()


def test_accepted_mail_from_connect_to_its_inbox(start):
    judged = start()
    judged.one.submit(BOB, subject="secret plan")
    judged.advance(10)
    (sent,) = told(judged, judged.one, "--from", ALICE)
    assert sent["account"] == ALICE
    assert [one["state"] for one in sent["queue"]["recipients"]] == ["delivered"]
    text = explain(judged, judged.two, sent["message"])
    flat = " ".join(text.split())
    assert f"message {sent['message']}" in flat
    assert "192.0.2.10 connects" in flat
    assert "its address has the name mx.one.example, which leads back to it" in flat
    assert "it calls itself mx.one.example" in flat
    assert "mail from <alice@one.example>, over TLSv1.3" in flat
    assert "mail to bob@two.example: can be taken, here" in flat
    assert "SPF of MAIL FROM one.example: pass" in flat
    assert "DMARC of one.example: pass" in flat
    assert "bob@two.example: into the inbox of two.example/bob" in flat
    assert "outcome accepted" in flat and "answered 250: accepted as" in flat
    # By each of its names, and as the other side was told
    (story,) = told(judged, judged.two, sent["message"])
    for name in (story["id"], f"250 2.0.0 Ok: queued as {story['id']}", story["connection"]):
        assert story in told(judged, judged.two, name)
    # What is written is the users' own
    assert "secret" not in text and "Dear" not in text


def test_each_message_on_a_connection_has_its_own_story(start):
    judged = start()
    client = judged.two.world.reactor.connect(25, address=STRANGER)
    client.read()
    client.ask(b"EHLO forger.example\r\n")
    for number in range(60):
        client.ask(b"MAIL FROM:<x%d@forger.example>\r\n" % number)
        judged.advance(0.01)
        client.ask(b"RCPT TO:<bob@two.example>\r\n")
        judged.advance(0.01)
        client.ask(b"DATA\r\n")
        content = PLAIN.replace(b"<plain@", b"<plain%d@" % number)
        client.ask(content + b".\r\n")
        judged.advance(0.1)
    client.close()
    (story,) = told(judged, judged.two, "<plain57@forger.example>")
    text = lines(story)
    assert "198.51.100.66 connects" in text and "it calls itself forger.example" in text
    assert re.findall(r"mail from <(.*?)>", text) == ["x57@forger.example"]


def test_junk_says_why(start):
    judged = start()
    judged.zone["_dmarc.one.example"]["TXT"] = ["v=DMARC1; p=quarantine"]
    judged.from_outside(judged.two, FORGED, "x@forger.example", BOB)
    (story,) = told(judged, judged.two, "<forged@one.example>")
    assert story["outcome"] == "junk"
    assert "one.example wants such mail in the junk folder" in lines(story)
    assert "bob@two.example: into the folder for junk of two.example/bob" in lines(story)


def test_refused_first_and_taken_later_are_told_in_order(start):
    judged = start()
    judged.from_outside(judged.two, FORGED, "alice@one.example", BOB)
    judged.advance(60)
    judged.zone["_dmarc.one.example"]["TXT"] = ["v=DMARC1; p=none"]
    judged.advance(600)
    judged.from_outside(judged.two, FORGED, "alice@one.example", BOB)
    first, second = told(judged, judged.two, "forged@one.example")
    assert (first["outcome"], second["outcome"]) == ("refused", "accepted")
    assert "answered: 550 5.7.26" in lines(first)
    assert first["came"] < second["came"]
    text = explain(judged, judged.two, "forged@one.example")
    assert text.index("-- 1 of 2") < text.index("550 5.7.26") < text.index("-- 2 of 2")


def test_greylisting_defers_and_who_comes_again_passes(start):
    judged = start(**GREYLIST)
    said = judged.from_outside(judged.two, FORGED, "x@forger.example", BOB)
    assert said[-2].startswith("451 4.7.1 Greylisted")
    (story,) = told(judged, judged.two, "--from", "x@forger.example", "--to", BOB)
    assert story["outcome"] == "deferred" and story["refused"] == [BOB] and not story["id"]
    assert "mail to bob@two.example: deferred, 451 4.7.1 Greylisted" in lines(story)
    judged.advance(400)
    judged.from_outside(judged.two, PLAIN + b".\r\n", "x@forger.example", BOB)
    listed = explain(judged, judged.two, "--from", "x@forger.example", "--to", BOB)
    heading, *rows = [line.split("\t") for line in listed.splitlines()]
    assert [row[heading.index("outcome")] for row in rows] == ["deferred", "accepted"]
    for row in rows:
        assert "x@forger.example" in explain(judged, judged.two, row[heading.index("explain")])
    (second,) = told(judged, judged.two, "<plain@forger.example>")
    assert "it came again after" in lines(second)


def test_who_names_nobody_here_has_a_story_by_its_connection(start):
    judged = start()
    judged.from_outside(judged.two, FORGED, "x@forger.example", "nobody@two.example", CAROL)
    (story,) = told(judged, judged.two, "--from", "x@forger.example")
    assert story["outcome"] == "refused" and story["refused"] == ["nobody@two.example", CAROL]
    text = " ".join(explain(judged, judged.two, story["connection"]).split())
    assert "mail to nobody@two.example: refused, 550 5.1.1 No such user here" in text
    assert "550 5.7.1 Relaying denied" in text


def test_who_guesses_addresses_does_not_fill_the_stories(start):
    judged = start()
    client = judged.two.world.reactor.connect(25, address=STRANGER)
    client.read()
    client.ask(b"EHLO forger.example\r\n")
    for _ in range(30):
        client.ask(b"MAIL FROM:<x@forger.example>\r\n")
        judged.advance(0.01)
        client.ask(b"RCPT TO:<bob@two.example>\r\n")
        judged.advance(0.01)
        client.ask(b"RSET\r\n")
    client.close()
    stories = told(judged, judged.two, "--from", "x@forger.example")
    assert [one["outcome"] for one in stories] == ["left"] * 20


def test_forwarded_mail_is_told_until_the_next_server_has_it(start):
    judged = start()
    forwarding(judged, judged.two, ALIAS, CAROL)
    judged.one.submit(ALIAS)
    judged.advance(30)
    (story,) = told(judged, judged.two, "--from", ALICE, "--to", ALIAS)
    text = lines(story)
    assert f"{ALIAS}: to {CAROL}, by the queue (as {ALIAS} says)" in text
    assert "sealed (ARC) by two.example" in text and "into the queue" in text
    (to,) = story["queue"]["recipients"]
    assert (to["recipient"], to["alias"]) == (CAROL, ALIAS)
    shown = " ".join(explain(judged, judged.two, story["id"]).split())
    assert "attempts" in shown and "mx.three.example [192.0.2.40], TLSv1.3" in shown


def test_without_stories_the_queue_still_tells_what_left(start):
    judged = start(stories={"days": 0})
    judged.one.submit(BOB)
    judged.advance(30)
    (id_,) = {one.id for one in judged.one._view.page(Filter(states=tuple(State)))}
    text = " ".join(explain(judged, judged.one, id_).split())
    assert "delivered after 1 try" in text and "stories.days is 0" in text
    (value,) = told(judged, judged.one, id_)
    assert value["story"] == [] and value["queue"]["sender"] == ALICE


def test_what_waits_says_for_what_and_until_when(start):
    judged = start()
    judged.three.stop()
    try:
        judged.one.submit(CAROL)
        judged.advance(60)
        (story,) = told(judged, judged.one, "--from", ALICE)
        (to,) = story["queue"]["recipients"]
        assert to["state"] == "deferred" and to["next_try"] is not None
        assert "next in" in explain(judged, judged.one, story["id"]) or "next now" in explain(
            judged, judged.one, story["id"]
        )
    finally:
        judged.three.start()


def test_what_bounced_is_told_with_its_bounce(start):
    judged = start()
    judged.one.submit("nobody@two.example")
    judged.advance(30)
    (sent,) = told(judged, judged.one, "--from", ALICE)
    story, notice = told(judged, judged.one, sent["id"])
    assert [one["state"] for one in story["queue"]["recipients"]] == ["bounced"]
    assert "signed (DKIM)" in lines(story)
    assert any("5.1.1" in one["text"] for one in story["queue"]["attempts"])
    assert notice["notice_of"] == [sent["id"]]
    assert "that it could not be delivered" in lines(notice)
    assert f"{ALICE}: into the inbox of one.example/alice" in lines(notice)


def test_a_user_who_writes_as_somebody_else_is_told_of(start):
    judged = start()
    client = judged.one.dial(465)
    client.ask(b"EHLO laptop.example\r\n")
    client.ask(b"AUTH PLAIN AGFsaWNlQG9uZS5leGFtcGxlAHNlY3JldA==\r\n")
    assert client.ask(b"MAIL FROM:<boss@one.example>\r\n").startswith(b"553 5.7.1")
    client.close()
    (story,) = told(judged, judged.one, "--from", "boss@one.example")
    assert story["outcome"] == "refused" and story["account"] == ALICE
    assert "answered: 553 5.7.1 You may not send as that address" in lines(story)


def test_what_is_not_known_says_what_to_do(start):
    judged = start()
    judged.from_outside(judged.two, PLAIN + b".\r\n", "x@forger.example", BOB)
    said = explain(judged, judged.two, "<PLAIN@forger.example>", status=1)
    assert "stories are kept for 7 days" in said and "Did you mean <plain@forger.example>?" in said
    said = explain(judged, judged.two, "hello", status=1)
    assert "a queue id 12 of 0-9 and a-f" in said and "--from ADDRESS --to ADDRESS" in said
    judged.two.more["stories"] = {"days": 0}
    said = explain(judged, judged.two, "<other@forger.example>", status=1)
    assert "stories.days is 0" in said
    judged.two.more["stories"] = {"days": 7}


# -- what would be


def foretold(judged: Judged, site: Site, sender: str, *to: str, **more) -> Rehearsal:
    configure(site)
    config = load(site.directory / "mail.toml")
    # Beside the server that runs
    world = judged.world.at(site.address, resolver=site.resolver)
    directory = open_directory(config, now=world.now, entropy=world.entropy)
    question = Question(
        Address.parse(sender) if sender else None,
        tuple(Address.parse(one) for one in to),
        more.pop("ip", STRANGER),
        more.pop("helo", "forger.example"),
        **more,
    )
    try:
        found = judged.world.run(rehearse(world, config, directory, question))
    finally:
        directory.close()
    assert "\n".join(rehearsed_text(question, found))
    json.dumps(rehearsed_json(found))
    return found


def heard(found: Rehearsal) -> str:
    return "\n".join(text for _, text in found.lines)


def files(site: Site) -> dict[str, bytes]:
    """What a dry run must not change: all files, but for those that SQLite has beside its own for readers."""
    return {
        str(path): path.read_bytes()
        for path in site.directory.rglob("*")
        if path.is_file() and path.suffix not in (".toml",) and not path.name.endswith("-shm")
    }


def test_a_dry_run_tells_routes_and_what_is_known_without_a_message(start):
    judged = start()
    forwarding(judged, judged.two, ALIAS, CAROL)
    to = (BOB, ALIAS, "nobody@two.example", "x@elsewhere.example")
    found = foretold(judged, judged.two, ALICE, *to, ip=ONE, helo="")
    assert found.helo == "mx.one.example"
    mine, alias, nobody, elsewhere = found.routes
    assert mine.way.mailboxes == ("two.example/bob",)
    assert [str(one) for one in alias.way.remote] == [CAROL] and alias.hops == ("three.example",)
    assert nobody.error.enhanced == "5.1.1" and elsewhere.error.enhanced == "5.7.1"
    assert [one.code for one in found.steps[-4:]] == [250, 250, 550, 550]
    assert "SPF of MAIL FROM one.example: pass" in heard(found)
    assert found.outcome == ""


def test_a_dry_run_changes_nothing(start):
    judged = start(**GREYLIST)
    judged.from_outside(judged.two, FORGED, "x@forger.example", BOB)
    judged.advance(30)
    configure(judged.two)
    before = files(judged.two)
    for _ in range(3):
        foretold(judged, judged.two, "y@forger.example", BOB, content=PLAIN)
        judged.advance(1)
    # Beside a clock that went on
    assert files(judged.two) == before
    # and it does not count as having come
    judged.advance(400)
    said = judged.from_outside(judged.two, FORGED, "y@forger.example", BOB)
    assert said[-2].startswith("451 4.7.1 Greylisted")


def test_a_dry_run_knows_what_greylisting_remembers(start):
    judged = start(**GREYLIST)
    found = foretold(judged, judged.two, "x@forger.example", BOB, content=PLAIN)
    assert found.outcome == "deferred" and "the first time from there" in heard(found)
    judged.from_outside(judged.two, FORGED, "x@forger.example", BOB)
    judged.advance(100)
    found = foretold(judged, judged.two, "x@forger.example", BOB, content=PLAIN)
    assert found.outcome == "deferred" and "it came again too early" in heard(found)
    judged.advance(300)
    found = foretold(judged, judged.two, "x@forger.example", BOB, content=PLAIN)
    assert found.outcome == "accepted" and "it came again after" in heard(found)


def test_a_dry_run_as_a_user(start):
    judged = start()
    content = b"From: alice@one.example\nSubject: x\n\nhello\n"
    found = foretold(judged, judged.one, ALICE, BOB, user=ALICE, content=content)
    assert found.outcome == "accepted" and found.sent
    assert "signed (DKIM) by" in heard(found) and f"by {ALICE}, over TLS" in heard(found)
    found = foretold(judged, judged.one, "boss@one.example", BOB, user=ALICE)
    assert found.outcome == "refused" and found.steps[-1].code == 553
    with pytest.raises(ValueError, match="no user"):
        foretold(judged, judged.one, ALICE, BOB, user="mallory@one.example")
    assert judged.one.waiting() == []


def test_a_file_may_have_any_line_ends(start):
    judged = start(smtp={"bare_newline": "reject"})
    for content in (PLAIN, PLAIN.replace(b"\r\n", b"\n"), PLAIN.rstrip()):
        found = foretold(judged, judged.two, "x@forger.example", BOB, content=content)
        assert found.outcome == "accepted"


def test_filters_are_asked_only_when_that_is_wanted(start):
    there = {"kind": "clamav", "endpoint": "tcp:192.0.2.20:3310", "on_failure": "defer"}
    judged = start(filters=[there])
    asked = ("x@forger.example", BOB)
    found = foretold(judged, judged.two, *asked, content=PLAIN)
    assert found.outcome == "accepted" and "filter" not in heard(found)
    found = foretold(judged, judged.two, *asked, content=PLAIN, filters=True)
    assert found.outcome == "deferred" and "filter clamav fails" in heard(found)


@pytest.mark.parametrize("octets", [4000, 2900])
def test_a_full_mailbox_is_foretold(start, octets):
    # The smaller one has room at RCPT, but not with what stands on top of it.
    judged = start(quota={"storage": "3000"})
    content = PLAIN + (b"x" * 900 + b"\r\n") * 5
    content = content[: octets - 2] + b"\r\n"
    found = foretold(judged, judged.two, "x@forger.example", BOB, content=content)
    said = judged.from_outside(judged.two, content + b".\r\n", "x@forger.example", BOB)
    assert said[-1].startswith(("452 4.2.2", "552 5.2.2"))
    assert found.outcome == ("deferred" if said[-1].startswith("4") else "refused")
    assert found.steps[-1].said.startswith("(the" if octets == 2900 else "RCPT")


SENDERS = ["x@forger.example", "alice@one.example", "carol@three.example", "", "z@nomail.example"]
AUTHORS = [b"alice@one.example", b"x@forger.example", b"carol@three.example", b"a@b@c", b""]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    judged = Judged(
        tmp_path_factory.mktemp("both"),
        reputation={"junk_score": 5.0, "refuse_score": 8.0},
        rates={"address_unknown": ""},
        **GREYLIST,
    )
    judged.zone["nomail.example"] = {"TXT": ["v=spf1 -all"]}
    judged.zone["forger.example"] = {"TXT": ["v=spf1 ip4:198.51.100.0/24 -all"]}
    forwarding(judged, judged.two, ALIAS, CAROL)
    yield judged
    judged.stop()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sender=st.sampled_from(SENDERS),
    author=st.sampled_from(AUTHORS),
    to=st.lists(
        st.sampled_from([BOB, ALIAS, "nobody@two.example", CAROL]),
        min_size=1,
        max_size=3,
        unique=True,
    ),
    policy=st.sampled_from(["none", "quarantine", "reject"]),
    failing=st.booleans(),
    again=st.booleans(),
    helo=st.sampled_from(["forger.example", "mx.two.example", "localhost", "[127.0.0.1]"]),
)
def test_what_a_dry_run_foretells_is_what_the_server_does(
    both, sender, author, to, policy, failing, again, helo
):
    judged, site = both, both.two
    judged.zone["_dmarc.one.example"]["TXT"] = [f"v=DMARC1; p={policy}"]
    judged.zone.failing.clear()
    if failing:
        judged.zone.failing.add("TXT _dmarc.one.example")
    content = b"From: " + author + b"\r\nSubject: x\r\nMessage-ID: <same@x>\r\n\r\nhello\r\n"
    judged.advance(20)  # what was learned is written
    if again:
        send(judged, site, helo, sender, to, content)
        judged.advance(400)
    found = foretold(judged, site, sender, *to, helo=helo, content=content)
    replies = send(judged, site, helo, sender, to, content)
    expected = [one.reply for one in found.steps if one.said[:4] in ("MAIL", "RCPT", "(the")]
    assert [one[:9] for one in expected] == [one[:9] for one in replies]
    (story,) = told(judged, site, "--from", sender or "<>")[-1:]
    assert found.outcome == story["outcome"]
    assert found.sent == story.get("queued", False)


def send(judged, site, helo, sender, to, content):
    """The replies to MAIL, RCPT and the message."""
    client = site.world.reactor.connect(25, address=STRANGER)
    client.read()
    client.ask(b"EHLO " + helo.encode() + b"\r\n")

    def ask(text):
        said = client.ask(text)
        judged.advance(0.1)
        said += client.read()
        return said.decode().splitlines()[-1]

    said = [ask(f"MAIL FROM:<{sender}>\r\n".encode())]
    said += [ask(f"RCPT TO:<{one}>\r\n".encode()) for one in to]
    if any(one.startswith("250") for one in said[1:]):
        assert ask(b"DATA\r\n").startswith("354")
        said.append(ask(content + b".\r\n"))
    client.close()
    return said
