"""Sites that sign and check: mail from one passes at the other, a forged one does not, a forwarded one does by ARC."""

from __future__ import annotations

import json
import re
import smtplib
from collections import Counter

import dkim
import pytest
from flowing import flow
from imapsite import imap, ok, quoted
from mailsite import DEADLINE, PASSWORD, letter, run, until
from outside import submitted, written
from trusted import judging, paste, publish, results, story, unpublish

pytestmark = pytest.mark.e2e

ALICE = "alice@signs.example"
BOB = "bob@checks.example"
LIST = "list@checks.example"
CAROL = "carol@far.example"
BOTH = Counter({("pass", "ed25519-sha256"): 1, ("pass", "rsa-sha256"): 1})


@pytest.fixture(scope="module")
def signs(sites):
    return judging(sites, "signs.example", "alice")


@pytest.fixture(scope="module")
def checks(sites, signs):
    site = judging(sites, "checks.example", "bob")
    site.mailctl("alias", "add", LIST, CAROL)
    return site


@pytest.fixture(scope="module")
def far(sites, checks):
    return judging(sites, "far.example", "carol", checks='trusted_sealers = ["checks.example"]\n')


@pytest.fixture(autouse=True)
def nobody_else(signs, checks):
    yield
    publish(signs)
    for site, user in ((signs, ALICE), (checks, BOB)):
        if site.process is None:
            site.start()
        site.mailctl("queue", "remove", "--all", "--yes")
        site.mailctl("queue", "flush")
        site.empty(user)


def swaks(*options: str, status: int = 0) -> str:
    done = run(["swaks", "--suppress-data", *options], status=status)
    return done.stdout + done.stderr


def from_outside(outside, site, *options: str, address: str = "", status: int = 0) -> str:
    """Somebody who just connects; what swaks prints."""
    address = address or outside.address()
    server = f"{site.address}:{outside.port}"
    return swaks(
        "--server", server, "--local-interface", address, "--to", BOB, *options, status=status
    )


def signatures(found: list[dict[str, str]]) -> Counter:
    return Counter((one["dkim"], one["header.a"]) for one in found if "dkim" in one)


def of(found: list[dict[str, str]], method: str) -> list[dict[str, str]]:
    return [one for one in found if method in one]


@pytest.mark.needs("swaks")
def test_mail_from_one_passes_at_the_other(signs, checks):
    login = ["--auth", "PLAIN", "--auth-user", ALICE, "--auth-password", PASSWORD]
    server = f"127.0.0.1:{signs.ports['submission']}"
    said = swaks(
        *("--server", server, "--tls", *login, "--from", ALICE, "--to", BOB),
        *("--h-Subject", "trust me", "--header", "To: Bob <bob@checks.example>"),
    )
    signs.wait_for(said.rpartition("queued as ")[2].split()[0], "delivered")
    (message,) = checks.wait_for_mail(BOB, "trust me")
    assert message.keys()[:3] == ["Return-Path", "Delivered-To", "Authentication-Results"]
    found = results(message)
    assert found[0] == {"": "mx.checks.example"}
    assert signatures(found) == BOTH
    assert {one["header.d"] for one in of(found, "dkim")} == {"signs.example"}
    (iprev,) = of(found, "iprev")
    assert iprev["iprev"] == "pass"
    spf = {one.get("smtp.mailfrom", one.get("smtp.helo")): one["spf"] for one in of(found, "spf")}
    assert spf[ALICE] == "pass"
    assert set(spf.values()) == {"pass"}
    (dmarc,) = of(found, "dmarc")
    assert (dmarc["dmarc"], dmarc["header.from"]) == ("pass", "signs.example")
    assert not of(found, "arc") or of(found, "arc")[0]["arc"] == "none"


def test_records_that_were_pasted_into_the_zone(sites, checks):
    """As a new site does it: what is printed, and nothing else; then mail passes."""
    site = sites("new.example", "nora", start=False, checks="", dns="cache_entries = 0\n")
    site.mailctl("dkim", "add", "new.example")
    site.start()
    check = ["dns", "check", "new.example", "--address", site.address, "--json"]
    before = json.loads(site.mailctl(*check, status=1).stdout)
    assert {"missing", "right"} <= {one["state"] for one in before}
    paste(site)
    after = json.loads(site.mailctl(*check).stdout)
    # what is not hosted here cannot be pasted
    left = {one["record"] for one in after if one["state"] != "right"}
    assert left <= {"MTA-STS _mta-sts.new.example"}, after
    assert {one["record"] for one in before} <= {one["record"] for one in after}

    id_ = site.submit("nora@new.example", [BOB], "from the new one")
    site.wait_for(id_, "delivered")
    (message,) = checks.wait_for_mail(BOB, "from the new one")
    found = results(message)
    assert signatures(found) == BOTH
    assert {one["spf"] for one in of(found, "spf")} == {"pass"}
    assert of(found, "dmarc")[0]["dmarc"] == "pass"
    assert of(found, "iprev")[0]["iprev"] == "pass"

    # what each of the two tells of it
    story(site, id_)  # is written soon
    told = site.mailctl("explain", id_).stdout
    assert "nora@new.example" in told
    assert BOB in told
    story(checks, message["Message-ID"])
    told = checks.mailctl("explain", message["Message-ID"]).stdout
    assert "DMARC of new.example: pass" in told
    assert f"SPF of HELO {site.hostname}: pass" in told

    # the key is gone from the DNS: it is said what is missing
    unpublish(site)
    after = json.loads(site.mailctl(*check, status=1).stdout)
    assert {one["record"].split()[0] for one in after if one["state"] == "missing"} == {"DKIM"}


@pytest.mark.needs("swaks")
def test_what_was_refused_is_explained(outside, signs, checks):
    from_outside(
        *(outside, checks, "--from", ALICE, "--ehlo", "mx.signs.example"),
        *("--header", "Message-Id: <forged@signs.example>"),
        status=26,
    )
    stranger = outside.address()
    story(checks, "<forged@signs.example>")  # is written soon
    told = checks.mailctl("explain", "<forged@signs.example>").stdout
    assert "SPF of MAIL FROM signs.example: fail" in told
    assert "550 5.7.26" in told
    dry = ["explain", "--dry-run", "--from", ALICE, "--to", BOB, "--ip", stranger]
    told = checks.mailctl(*dry, "--helo", "mx.signs.example").stdout
    assert "SPF of MAIL FROM signs.example: fail" in told
    assert checks.messages(BOB) == []


@pytest.mark.needs("swaks")
def test_a_forged_one_is_refused(outside, signs, checks):
    said = from_outside(
        outside, checks, "--from", ALICE, "--ehlo", "mx.signs.example", status=26
    )  # swaks: the final dot was not answered with 250
    assert "550 5.7.26 " in said
    assert "signs.example" in said.partition("550 5.7.26 ")[2]
    # nor one with an envelope of the forger's own
    outside.zone["forger.example"] = {"TXT": ["v=spf1 ip4:127.0.0.0/8 -all"]}
    outside.publish()
    said = from_outside(
        *(outside, checks, "--from", "x@forger.example", "--ehlo", "forger.example"),
        *("--header", f"From: Alice <{ALICE}>"),
        status=26,
    )
    assert "550 5.7.26 " in said
    # nor one that says itself that it is right
    lie = "Authentication-Results: mx.checks.example; dmarc=pass header.from=signs.example"
    said = from_outside(outside, checks, "--from", ALICE, "--add-header", lie, status=26)
    assert "550 5.7.26 " in said
    assert checks.messages(BOB) == []


@pytest.mark.needs("swaks")
def test_results_in_our_name_that_a_stranger_wrote_are_taken_off(outside, checks):
    lie = "Authentication-Results: MX.Checks.example; dmarc=pass header.from=signs.example"
    from_outside(
        *(outside, checks, "--from", "x@nothing.example", "--h-Subject", "lies"),
        *("--add-header", lie, "--add-header", "Authentication-Results: other.example; spf=pass"),
    )
    (message,) = checks.wait_for_mail(BOB, "lies")
    every = [" ".join(str(one).split()) for one in message.get_all("Authentication-Results")]
    assert len(every) == 2
    assert every[0].startswith("mx.checks.example;")
    assert "pass" not in every[0]
    assert every[1] == "other.example; spf=pass"


@pytest.mark.needs("swaks")
def test_quarantine_is_the_folder_for_junk(outside, signs, checks):
    publish(signs, policy="quarantine")
    from_outside(outside, checks, "--from", ALICE, "--h-Subject", "suspicious")
    assert checks.messages(BOB) == []
    with imap(checks, BOB) as session:
        folders = [one.decode() for one in ok(session.list())]
        (junk,) = [one for one in folders if r"\Junk" in one]
        folder = junk.split()[-1].strip('"')
        ok(session.select(quoted(folder)))
        data = ok(session.fetch("1:*", "(BODY.PEEK[])"))
    (text,) = [part[1].decode() for part in data if isinstance(part, tuple)]
    assert "Subject: suspicious" in text
    assert re.search(r"dmarc=fail[^;]*header\.from=signs\.example", text)
    with imap(checks, BOB, folder) as session:
        ok(session.store("1:*", "+FLAGS", r"(\Deleted)"))
        ok(session.expunge())


@pytest.mark.needs("swaks")
def test_a_dns_that_fails_only_defers(outside, signs, checks):
    outside.zone.failing.add("TXT _dmarc.signs.example")
    outside.publish()
    try:
        said = from_outside(outside, checks, "--from", ALICE, status=26)
        assert "451 4." in said
        id_ = signs.submit(ALICE, [BOB], "put off")
        signs.wait_for(id_, "deferred")
    finally:
        outside.zone.failing.clear()
        outside.publish()
    signs.mailctl("queue", "flush")
    signs.wait_for(id_, "delivered")
    (message,) = checks.wait_for_mail(BOB, "put off")
    assert of(results(message), "dmarc")[0]["dmarc"] == "pass"


@pytest.mark.parametrize("trusted", [True, False])
def test_a_forwarded_one_whose_signature_is_lost_passes_by_arc(signs, checks, far, trusted):
    asked = far.tables["checks"]
    far.stop()
    if not trusted:
        far.tables["checks"] = "exempt_networks = []\n"
        far.write_configuration()
    try:
        subject = f"to the list, {trusted}"
        signs.wait_for(signs.submit(ALICE, [LIST], subject), "delivered")
        (row,) = checks.queue("list")
        unpublish(signs)
        far.start()
        checks.mailctl("queue", "flush")
        if not trusted:
            checks.wait_for(row["id"], "bounced")
            assert "5.7.26" in checks.story(row["id"])["recipients"][0]["reason"]
            assert far.messages(CAROL) == []
            return
        checks.wait_for(row["id"], "delivered")
        (message,) = far.wait_for_mail(CAROL, subject)
        found = results(message)
        assert of(found, "arc")[0]["arc"] == "pass"
        assert of(found, "dmarc")[0]["dmarc"] == "fail"
        assert {one["dkim"] for one in of(found, "dkim")} == {"permerror"}
        assert of(found, "spf")[-1]["spf"] == "pass"
        sealed = results(message, "ARC-Authentication-Results")
        assert sealed[0] == {"": "i=1"}
        assert signatures(sealed) == BOTH
        assert of(sealed, "dmarc")[0]["dmarc"] == "pass"
        assert "checks.example, whom we trust, saw it pass" in story(far, message["Message-ID"])
        far.empty(CAROL)
    finally:
        # a new process has not learned that the keys are gone
        if far.process is not None:
            far.stop()
        far.tables["checks"] = asked
        far.write_configuration()
        publish(signs)
        far.start()


def test_a_forwarded_one_keeps_its_signature(signs, checks, far):
    signs.wait_for(signs.submit(ALICE, [LIST], "as it was"), "delivered")
    (message,) = far.wait_for_mail(CAROL, "as it was")
    found = results(message)
    assert signatures(found) == BOTH
    assert of(found, "dmarc")[0]["dmarc"] == "pass"
    far.empty(CAROL)


def test_a_large_one_is_signed_and_verified(signs, checks, far):
    """To its reader, and through the alias of another site, which seals it."""
    content = letter("large", size=20_000_000, sender=ALICE)
    with signs.smtp(ALICE) as session:
        session.timeout = 4 * DEADLINE
        id_ = submitted(session, ALICE, [BOB, LIST], content)
    signs.wait_for(id_, "delivered", seconds=4 * DEADLINE)
    (message,) = checks.wait_for_mail(BOB, "large")
    assert signatures(results(message)) == BOTH
    until(lambda: far.subjects(CAROL) == ["large"], "it was forwarded", 4 * DEADLINE)
    (message,) = far.messages(CAROL)
    found = results(message)
    assert signatures(found) == BOTH
    assert of(found, "arc")[0]["arc"] == "pass"
    far.empty(CAROL)


def test_processes_that_are_killed_lose_nothing(signs, checks):
    """What was accepted arrives, signed and passing, whoever of the two is killed."""
    new = checks.data / "mail/checks.example/bob/Maildir/new"
    signs.stop()
    signs.tables["queue"] = "retry_first_seconds = 1\nretry_max_seconds = 1\n"
    signs.write_configuration()
    signs.start()
    with flow(signs, ALICE, BOB, messages=120, senders=3) as accepted:
        for moment, site in ((10, checks), (30, signs), (50, checks), (70, signs)):
            until(
                lambda moment=moment: len(list(new.glob("*"))) >= moment,
                f"{moment} are there",
                4 * DEADLINE,
            )
            site.kill()
            site.start()
    try:
        until(lambda: signs.left() == 0, "the queue is empty", 4 * DEADLINE)
    except AssertionError as error:
        raise AssertionError(f"{error}: {signs.queue('list')}\n{signs.log[-3000:]}") from None
    messages = checks.messages(BOB)
    found = Counter(str(one["Subject"]) for one in messages)
    assert set(accepted) <= set(found)
    assert len(accepted) >= 120 - 2 * 3  # an answer that was lost with the process
    for one in messages:
        said = results(one)
        assert signatures(said) == BOTH
        assert of(said, "dmarc")[0]["dmarc"] == "pass"
    assert signs.messages(ALICE) == []


# Other people's signatures


def zone_text(outside):
    """The DNS as dkimpy asks it."""

    def text(name: bytes, timeout: float = 5) -> bytes | None:
        found = outside.zone.find("TXT", name.decode().rstrip(".")).records
        return found[0].encode() if found else None

    return text


@pytest.mark.needs("python:dkim")
@pytest.mark.parametrize(
    "content",
    [
        written("plain", sender=ALICE, to=[BOB]),
        # what relaxed has to look at: folds, blanks, an empty body, 8 bits
        b"From:  Alice\r\n\t<alice@signs.example>\r\nSubject: folded\r\n   and   wide \r\n"
        b"To: bob@checks.example\r\n\r\n a\t b  \r\n\r\nc \r\n\r\n\r\n",
        b"From: alice@signs.example\r\nSubject: nothing\r\n\r\n",
        b"From: alice@signs.example\r\nSubject: latin\r\n\r\n\xfc\xe9\r\n.. dots\r\n. \r\n",
        letter("long", size=400_000, sender=ALICE),
    ],
    ids=["plain", "blanks", "empty", "8bit", "long"],
)
def test_dkimpy_verifies_what_arrives(outside, signs, checks, content):
    signs.wait_for(signs.submit(ALICE, [BOB], content), "delivered")
    with checks.pop(BOB) as session:
        data = b"\r\n".join(session.retr(1)[1]) + b"\r\n"
    assert data.count(b"DKIM-Signature:") == 2
    checker = dkim.DKIM(data)
    for number in range(2):
        assert checker.verify(idx=number, dnsfunc=zone_text(outside))


@pytest.mark.needs("python:dkim")
def test_dkimpy_verifies_our_seal(outside, signs, checks, far):
    signs.wait_for(signs.submit(ALICE, [LIST], "sealed"), "delivered")
    far.wait_for_mail(CAROL, "sealed")
    with far.pop(CAROL) as session:
        data = b"\r\n".join(session.retr(1)[1]) + b"\r\n"
    far.empty(CAROL)
    verdict, sets, why = dkim.arc_verify(data, dnsfunc=zone_text(outside))
    assert verdict == dkim.CV_Pass, (sets, why)


@pytest.mark.needs("python:dkim")
@pytest.mark.parametrize("canonical", ["simple/simple", "relaxed/simple", "simple/relaxed"])
def test_what_dkimpy_signs_passes(outside, signs, checks, canonical):
    """Sent from an address that SPF does not know: the signature alone carries it."""
    row = key_file(signs, "rsa-sha256")
    content = written(canonical, sender=ALICE, to=[BOB], text="a  b \n\n.c\n\n\n")
    header, body = canonical.encode().split(b"/")
    field = dkim.sign(
        content, *row, canonicalize=(header, body), include_headers=[b"From", b"Subject"]
    )
    with stranger(outside, checks) as session:
        session.sendmail("x@nothing.example", [BOB], field + content)
    (message,) = checks.wait_for_mail(BOB, canonical)
    found = results(message)
    assert signatures(found) == Counter({("pass", "rsa-sha256"): 1})
    assert of(found, "dmarc")[0]["dmarc"] == "pass"
    with stranger(outside, checks) as session, pytest.raises(smtplib.SMTPDataError) as refused:
        session.sendmail("x@nothing.example", [BOB], field + content + b"and more\r\n")
    assert refused.value.smtp_code == 550
    assert b"5.7.26" in refused.value.smtp_error


def stranger(outside, site) -> smtplib.SMTP:
    """A session from an address that nobody knows."""
    source = (outside.address(), 0)
    return smtplib.SMTP(site.address, outside.port, "x.example", DEADLINE, source_address=source)


def key_file(site, algorithm: str) -> tuple[bytes, bytes, bytes]:
    """Selector, domain and PEM of a key of `site`."""
    (row,) = [
        one
        for one in json.loads(site.mailctl("dkim", "list", site.domain, "--json").stdout)
        if one["algorithm"] == algorithm
    ]
    (path,) = [
        path for path in site.data.rglob(f"*{row['selector']}*") if b"PRIVATE" in path.read_bytes()
    ]
    return row["selector"].encode(), site.domain.encode(), path.read_bytes()
