"""Two sites of this project: alice at one writes to bob at two, and to nobody there; what they hear of it."""

from __future__ import annotations

import smtplib

import pytest
from mailsite import DEADLINE, PASSWORD, run, until
from outside import Notice, submitted, written

pytestmark = pytest.mark.e2e

ALICE = "alice@one.example"
BOB = "bob@two.example"
DAVE = "dave@two.example"
NOBODY = "nobody@two.example"


@pytest.fixture(scope="module")
def one(sites):
    return sites("one.example", "alice")


@pytest.fixture(scope="module")
def second(sites):
    return sites("two.example", "bob", "dave")


@pytest.fixture
def two(one, second):
    """The second site, running; nobody has mail, nothing is queued."""
    yield second
    if second.process is None:
        second.start()
    one.mailctl("queue", "remove", "--all", "--yes")
    one.mailctl("queue", "flush")  # nothing is held against two.example any more
    one.empty(ALICE)
    second.empty(BOB)
    second.empty(DAVE)


# Letters and notices


def test_to_bob_and_to_nobody(one, two):
    id_ = one.submit(ALICE, [BOB, NOBODY], "hello")
    one.wait_for(id_, "delivered", "bounced")
    assert one.states(id_) == {BOB: "delivered", NOBODY: "bounced"}

    (got,) = two.wait_for_mail(BOB, "hello")
    assert got["Return-Path"] == f"<{ALICE}>"
    hops = got.get_all("Received")
    assert len(hops) == 2
    assert "by mx.two.example with ESMTPS" in hops[0].replace("\n", " ")
    assert "TLSv1.3" in hops[0]
    assert "by mx.one.example with ESMTPSA" in hops[1]
    assert got.get_content() == "This is hello.\n"

    notice = one.notice(ALICE, "hello")
    assert notice.message["Subject"] == "Undelivered mail: hello"
    assert notice.message["Return-Path"] == "<>"
    assert notice.message["Auto-Submitted"] == "auto-replied"
    assert notice.message["To"] == ALICE
    assert notice.message["In-Reply-To"] == got["Message-ID"]
    told = notice.words.splitlines()
    assert told[:4] == [
        "Your message could not be delivered to:",
        NOBODY,
        "mx.two.example said: 550 5.1.1 No such user here",
        "There is no such address there. Check its spelling, or ask the recipient for the right one.",
    ]
    assert "Nothing more will be tried." in told
    assert "Subject: hello" in notice.words
    assert BOB not in notice.words
    assert notice.about_message["Reporting-MTA"] == "dns;mx.one.example"
    report = notice.recipient
    assert report["Final-Recipient"] == f"rfc822;{NOBODY}"
    assert report["Action"] == "failed"
    assert report["Status"] == "5.1.1"
    assert report["Diagnostic-Code"] == "smtp; 550 5.1.1 No such user here"
    assert report["Remote-MTA"] == f"dns;mx.two.example ([{two.address}])"
    assert notice.original["Message-ID"] == got["Message-ID"]


def test_starttls_and_login(one, two):
    with smtplib.SMTP("localhost", one.ports["submission"], "me", DEADLINE) as session:
        session.ehlo()
        assert not session.has_extn("auth")
        code, _ = session.mail(ALICE)
        assert code in (530, 550)
        session.starttls(context=one.tls)
        session.login(ALICE, PASSWORD)
        id_ = submitted(session, ALICE, [BOB], "by starttls")
    one.wait_for(id_, "delivered")
    two.wait_for_mail(BOB, "by starttls")


@pytest.mark.needs("swaks")
def test_swaks_writes_outside(one, two):
    port = str(one.ports["submission"])
    command = ["swaks", "--server", f"127.0.0.1:{port}", "--tls", "--auth", "PLAIN"]
    command += ["--auth-user", ALICE, "--auth-password", PASSWORD, "--h-Subject", "by swaks"]
    said = run([*command, "--from", ALICE, "--to", BOB]).stdout
    one.wait_for(said.rpartition("queued as ")[2].split()[0], "delivered")
    two.wait_for_mail(BOB, "by swaks")


@pytest.mark.needs("curl")
def test_curl_writes_outside(one, two, tmp_path):
    letter = tmp_path / "letter"
    letter.write_bytes(written("by curl", sender=ALICE, to=[BOB, NOBODY]))
    port = one.ports["submissions"]
    command = ["curl", "-sS", "--url", f"smtps://localhost:{port}", "--cacert", str(one.ca)]
    command += ["--user", f"{ALICE}:{PASSWORD}", "--mail-from", ALICE, "--mail-rcpt", BOB]
    run([*command, "--mail-rcpt", NOBODY, "--upload-file", str(letter)])
    two.wait_for_mail(BOB, "by curl")
    until(lambda: one.messages(ALICE), "alice has the notice")
    assert one.notice(ALICE, "by curl").recipient["Status"] == "5.1.1"


def test_nobody_is_told_who_does_not_want_to_hear(one, two):
    id_ = one.submit(ALICE, [NOBODY], "never", rcpt_options=["NOTIFY=NEVER"])
    one.wait_for(id_, "bounced")
    assert one.messages(ALICE) == []


def test_success_is_told_by_the_server_that_has_the_mailbox(one, two):
    asked = ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;robert@two.example"]
    id_ = one.submit(ALICE, [BOB], "was it read", options=["ENVID=ticket7"], rcpt_options=asked)
    one.wait_for(id_, "delivered")
    until(lambda: one.messages(ALICE), "alice is told")
    notice = one.notice(ALICE, "was it read")
    assert notice.message["From"] == "Mail Delivery System <MAILER-DAEMON@mx.two.example>"
    assert notice.words.startswith(f"Your message was delivered to:\n{BOB}\n")
    assert notice.about_message["Original-Envelope-Id"] == "ticket7"
    assert notice.recipient["Action"] == "delivered"
    assert notice.recipient["Status"][0] == "2"
    assert notice.recipient["Original-Recipient"] == "rfc822;robert@two.example"
    two.wait_for_mail(BOB, "was it read")


def test_what_comes_back_with_a_bounce(one, two):
    for asked in ("", "RET=FULL", "RET=HDRS"):
        subject = asked or "nothing"
        id_ = one.submit(ALICE, [NOBODY], subject, options=[asked] if asked else [])
        one.wait_for(id_, "bounced")
        notice = one.notice(ALICE, subject)
        assert notice.whole is (asked != "RET=HDRS")
        if notice.whole:
            assert notice.original.get_content() == f"This is {subject}.\n"


def test_a_stranger_does_not_relay(one, two):
    with one.smtp() as session, pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        session.sendmail("carol@three.example", [BOB], written("spam", sender=ALICE, to=[BOB]))
    assert refused.value.recipients[BOB][0] == 550


# Forwarding


def test_an_alias_that_leads_outside(one, two):
    one.mailctl("alias", "add", "info@one.example", BOB)
    try:
        two.wait_for(two.submit(DAVE, ["info@one.example"], "a question"), "delivered")
        (got,) = two.wait_for_mail(BOB, "a question")
        rewritten = got["Return-Path"].strip("<>")
        assert rewritten.startswith("SRS0=")
        assert rewritten.endswith("=two.example=dave@one.example")

        # who answers to the envelope reaches dave, whoever brings it
        with one.smtp() as session:
            session.sendmail("", [rewritten], written("away", sender=BOB, to=[DAVE]))
        (back,) = two.wait_for_mail(DAVE, "away")
        assert back["Return-Path"] == "<>"

        # nobody else can make such an address
        kind, hash_, rest = rewritten.split("=", 2)
        forged = f"{kind}={'A' if hash_[0] != 'A' else 'B'}{hash_[1:]}={rest}"
        with one.smtp() as session, pytest.raises(smtplib.SMTPRecipientsRefused):
            session.sendmail("", [forged], written("forged", sender=BOB, to=[DAVE]))
    finally:
        one.mailctl("alias", "remove", "info@one.example")


def test_an_alias_whose_target_is_not_there(one, two):
    one.mailctl("alias", "add", "old@one.example", NOBODY, ALICE)
    try:
        two.wait_for(two.submit(DAVE, ["old@one.example"], "to old"), "delivered")
        one.wait_for_mail(ALICE, "to old")
        until(lambda: two.messages(DAVE), "dave is told")
        notice = two.notice(DAVE, "to old")
        assert f"old@one.example (which leads to {NOBODY})" in notice.words
        assert notice.recipient["Action"] == "failed"
    finally:
        one.mailctl("alias", "remove", "old@one.example")


# The other site is away


def trouble(site, id_):
    """Wait until the message waits because of its destination; it may never have been tried itself."""

    def there() -> bool:
        (to,) = site.story(id_)["recipients"]
        return to["state"] in ("waiting", "deferred") and "refused" in to["trouble"]

    until(there, "the destination is in trouble")


def test_a_site_that_is_down(one, two):
    two.stop()
    id_ = one.submit(ALICE, [BOB], "later")
    one.wait_for(id_, "deferred")
    (row,) = one.queue("list")
    assert (row["id"], row["sender"], row["recipient"]) == (id_, ALICE, BOB)
    assert (row["state"], row["tries"], row["destination"]) == ("deferred", 1, "two.example")
    assert "refused" in row["reason"]
    assert row["next_try"] > row["arrived"]
    assert one.queue("list", "--domain", "three.example") == []
    assert one.queue("list", "--state", "held") == []
    story = one.queue("show", id_)
    (attempt,) = story["attempts"]
    assert (attempt["host"], attempt["address"]) == ("mx.two.example", two.address)
    assert "refused" in attempt["text"]
    assert one.queue("stats")["recipients"]["deferred"] == 1
    assert one.messages(ALICE) == []

    two.start()
    one.mailctl("queue", "flush")
    one.wait_for(id_, "delivered")
    two.wait_for_mail(BOB, "later")
    story = one.queue("show", id_)
    assert story["over"] is not None
    assert [one["tls"][:7] for one in story["attempts"]] == ["", "TLSv1.3"]
    assert story["attempts"][1]["text"].startswith("250 2.0.0 Ok: queued as ")
    text = one.mailctl("queue", "show", id_).stdout
    assert "delivered after 2 tries" in text
    assert "refused" in text
    assert one.queue("list") == []
    one.mailctl("queue", "flush")
    assert two.subjects(BOB) == ["later"]


def test_retry_of_one_message(one, two):
    two.stop()
    first, second = (one.submit(ALICE, [BOB], f"retry {n}") for n in (1, 2))
    trouble(one, first)
    trouble(one, second)
    two.start()
    one.mailctl("queue", "retry", second)
    one.wait_for(second, "delivered")
    assert "retry 2" in two.subjects(BOB)


def test_by_hand_beside_the_running_server(one, two):
    two.stop()
    given_up, held, removed = (
        one.submit(ALICE, [BOB], subject) for subject in ("given up", "held", "removed")
    )
    for id_ in (held, removed, given_up):
        trouble(one, id_)
    one.mailctl("queue", "hold", held)
    one.mailctl("queue", "remove", removed)
    one.mailctl("queue", "bounce", given_up)
    assert one.states(held) == {BOB: "held"}
    assert one.states(removed) == {BOB: "removed"}
    one.wait_for(given_up, "bounced")
    notice = one.notice(ALICE, "given up")
    assert notice.recipient["Action"] == "failed"
    assert "refused" in notice.words
    assert "is given up now" in notice.words

    two.start()
    one.mailctl("queue", "flush")
    sentinel = one.submit(ALICE, [BOB], "sentinel")
    one.wait_for(sentinel, "delivered")
    assert one.states(held) == {BOB: "held"}
    one.mailctl("queue", "release", held)
    one.wait_for(held, "delivered")
    two.wait_for_mail(BOB, "sentinel", "held")
    assert [one.about for one in map(Notice, one.messages(ALICE))] == ["given up"]


def test_commands_without_a_server(one, two):
    """The queue can be seen and changed while nothing runs; the next start goes on with it."""
    two.stop()
    stays, goes = (one.submit(ALICE, [BOB], subject) for subject in ("stays", "goes"))
    trouble(one, stays)
    trouble(one, goes)
    one.stop()
    assert {row["id"] for row in one.queue("list")} == {stays, goes}
    one.mailctl("queue", "remove", goes)
    one.mailctl("queue", "flush")
    two.start()
    one.start()
    one.wait_for(stays, "delivered")
    two.wait_for_mail(BOB, "stays")
    assert one.states(goes) == {BOB: "removed"}


def test_names_that_are_not_there(one):
    assert "no message" in one.mailctl("queue", "show", "0123456789ab", status=None).stderr
    for verb in ("retry", "hold", "release", "bounce", "remove"):
        done = one.mailctl("queue", verb, "0123456789ab", status=None)
        assert done.returncode != 0
        assert "no message 0123456789ab" in done.stderr


def test_a_sender_is_told_of_a_delay_once(sites):
    quick = sites(
        "quick.example",
        "alice",
        queue="retry_first_seconds = 1\nretry_max_seconds = 1\nwarn_after_seconds = 1\n",
    )
    quick.outside.domain("down.example")
    id_ = quick.submit("alice@quick.example", ["bob@down.example"], "slow")

    def tries() -> int:
        return quick.story(id_)["recipients"][0]["tries"]

    until(lambda: tries() >= 2, "it is tried again")
    for _ in range(2):
        # it looks for what is late once a minute, and when it starts
        quick.stop()
        quick.start()
        until(lambda: quick.messages("alice@quick.example"), "alice is told")
        now = tries()
        until(lambda now=now: tries() > now, "it is tried again")
    (message,) = quick.messages("alice@quick.example")
    assert message["Subject"] == "Delayed mail, still being tried: slow"
    notice = Notice(message)
    assert notice.recipient["Action"] == "delayed"
    assert notice.recipient["Status"][0] == "4"
    assert "Will-Retry-Until" in notice.recipient
    assert "You need not do anything" in notice.words
    assert quick.mailctl("queue", "list").stdout.startswith(id_)
