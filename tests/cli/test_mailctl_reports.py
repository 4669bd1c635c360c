"""``mailctl dmarc reports`` and ``mailctl tls reports``, as an operator gives them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import Cost, hash_password
from twisted_mail.address import Address
from twisted_mail.cli import mailctl
from twisted_mail.policy.verdicts import Dkim, Dmarc, Spf
from twisted_mail.reports import tls
from twisted_mail.reports.aggregate import Report, of_message, published
from twisted_mail.reports.aggregate_xml import write
from twisted_mail.reports.mail import Letter, compose
from twisted_mail.testing.dns import Zone
from twisted_mail.testing.nameserver import running_nameserver

BOB = "bob@example.org"
MAIN = "from twisted_mail.cli import main; main()"
DAY = 86_400
YESTERDAY = (int(time.time()) // DAY - 1) * DAY  # noqa: TID251  # the command's clock is the real one
DMARC = Dmarc(
    *("fail", "example.org", "example.org", "example.org", "reject"),
    record="v=DMARC1; p=reject",
)


def report(*rows, begin=YESTERDAY, organization="Big Mail", id="1@big.example"):
    return Report(
        *(organization, "x@big.example", id, begin, begin + DAY - 1),
        *(published("example.org", DMARC.record, "treewalk"), rows),
    )


def row(ip="192.0.2.1", count=1, dmarc=DMARC, disposition="reject", **more):
    return of_message(ip, more.get("mail"), more.get("dkim", ()), dmarc, disposition, ""), count


GOOD = row(
    "198.51.100.1",
    7,
    DMARC._replace(result="pass", aligned=("spf", "dkim example.org")),
    "none",
)
FORGED = row("192.0.2.66", 3, mail=Spf("fail", "mailfrom", "evil.example"))


@pytest.fixture
def site(empty_site):
    assert CliRunner().invoke(mailctl, ("domain", "add", "example.org")).exit_code == 0
    directory = Directory(str(empty_site / "data/accounts.sqlite3"), now=lambda: 1_800_000_000.0)
    directory.add_user(Address.parse(BOB), hash_password("secret", os.urandom, Cost(8, 1, 1, 4096)))
    directory.add_alias("reports@example.org", [Address.parse(BOB)])
    directory.close()
    return empty_site


def call(*words, status=0):
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def lines(*words):
    done = call(*words, "--json")
    return json.loads(done.stdout)


def letter(document, kind="dmarc", begin=YESTERDAY):
    return compose(
        Letter(
            *(kind, "big.example", "example.org", begin, begin + DAY - 1, "Big Mail"),
            *("x@big.example", "reports@example.org", begin + DAY, gzip.compress(document)),
        )
    )


def deliver(site, *messages):
    """As another program does."""
    new = site / "data/mail/example.org/bob/Maildir/new"
    for part in ("new", "cur", "tmp"):
        (new.parent / part).mkdir(parents=True, exist_ok=True)
    for number, message in enumerate(messages):
        (new / f"{YESTERDAY + DAY}.{number}.host").write_bytes(message)
    return new


def test_files_of_all_kinds(site):
    document = write(report(GOOD, FORGED))
    (site / "a.xml").write_bytes(document)
    (site / "b.xml.gz").write_bytes(gzip.compress(write(report(FORGED, id="2@big.example"))))
    (site / "c.eml").write_bytes(letter(document).replace(b"\n", b"\r\n"))
    (site / "d.xml").write_bytes(b"<html/>")
    files = [word for name in ("a.xml", "b.xml.gz", "c.eml", "d.xml") for word in ("--file", name)]
    done = call("dmarc", "reports", *files, status=1)
    head, forged, good, total = done.stdout.splitlines()
    assert head.split("\t")[:4] == ["source", "from", "messages", "dmarc"]
    assert forged.split("\t")[:8] == [
        *("192.0.2.66", "example.org", "6", "fail", "fail", "fail", "reject", "Big Mail"),
    ]
    assert "forged" in forged.split("\t")[8]
    assert good.split("\t")[:8] == [
        *("198.51.100.1", "example.org", "7", "pass", "pass", "pass", "pass", "Big Mail"),
    ]
    # a.xml and what is in c.eml are the same report
    assert total.startswith("2 reports by 1 site, ") and total.endswith(
        "13 messages, 7 passed, 6 failed"
    )
    assert done.stderr == "mailctl: d.xml: it is no aggregate report: it begins with <html>\n"


def test_the_mailbox_that_the_dns_names(site):
    old = YESTERDAY - 100 * DAY
    new = deliver(
        site,
        letter(write(report(FORGED))),
        b"Subject: hello\n\nno report\n",
        letter(write(report(row(count=1000), begin=old, id="old@x")), begin=old),
        letter(b"no XML"),
    )
    before = {path.name for path in new.iterdir()}
    zone = Zone({"_dmarc.example.org": {"TXT": ["v=DMARC1; rua=mailto:reports@example.org!10m"]}})
    with running_nameserver(zone) as server:
        with (site / "mail.toml").open("a") as file:
            file.write(f'[dns]\nservers = ["{server.address}"]\n')
        done = call("dmarc", "reports", "--json")
    (found,) = json.loads(done.stdout)
    assert (found["source"], found["messages"], found["dmarc"]) == ("192.0.2.66", 3, 0)
    assert "neither XML nor JSON" in done.stderr and done.stderr.count("\n") == 1
    # Read, and nothing more: no flags
    after = {
        path.name for path in new.parent.glob("*/*host*") if path.parent.name in ("new", "cur")
    }
    assert {name.partition(",")[0] for name in after} == before
    assert not any(":2,S" in name for name in after)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (None, "no record of the DNS (_dmarc.example.org) names anybody"),
        (
            "v=DMARC1; p=none; rua=mailto:x@elsewhere.example",
            "x@elsewhere.example, where this site",
        ),
    ],
)
def test_when_nobody_here_gets_them(site, record, said):
    zone = Zone({"_dmarc.example.org": {"TXT": [record]}} if record else {})
    with running_nameserver(zone) as server:
        with (site / "mail.toml").open("a") as file:
            file.write(f'[dns]\nservers = ["{server.address}"]\n')
        done = call("dmarc", "reports", status=1)
    assert said in done.stderr


def test_an_account_without_reports(site):
    deliver(site, b"Subject: hello\n\nno report\n")
    done = call("dmarc", "reports", "--user", BOB)
    assert (done.stdout, done.stderr) == ("no aggregate reports\n", "")
    assert "no user" in call("dmarc", "reports", "--user", "eve@example.org", status=1).stderr


def test_a_mailbox_that_is_not_there(site):
    deliver(site, b"Subject: hello\n\nno report\n")
    done = call("dmarc", "reports", "--user", BOB, "--mailbox", "Nope", status=1)
    assert done.stderr == f"mailctl: {BOB} has no mailbox Nope\n"


@pytest.mark.parametrize("kind", ["dmarc", "tls"])
def test_a_file_that_is_no_report(site, kind):
    (site / "d.xml").write_bytes(b"<html/>")
    for more in ((), ("--json",)):
        done = call(kind, "reports", "--file", "d.xml", *more, status=1)
        assert "mailctl: d.xml: " in done.stderr
    assert "No such file" in call(kind, "reports", "--file", "e.xml", status=1).stderr


def test_about_one_domain(site):
    (site / "a.xml").write_bytes(write(report(FORGED)))
    assert lines("dmarc", "reports", "--file", "a.xml", "--domain", "other.example") == []
    assert len(lines("dmarc", "reports", "--file", "a.xml", "--domain", "example.org")) == 1


def test_what_is_advised(site):
    signed = (Dkim("pass", "service.example", "s1"),)
    broken = (Dkim("fail", "example.org", "s2"),)
    rows = [
        row("192.0.2.1", dkim=signed),
        row("192.0.2.2", dkim=broken),
        row("192.0.2.3", mail=Spf("pass", "mailfrom", "bounces.service.example")),
        row("192.0.2.4", dmarc=DMARC._replace(result="pass", aligned=("spf",))),
        row("192.0.2.5", dmarc=DMARC._replace(result="pass", aligned=("dkim example.org",))),
        row("192.0.2.6"),
    ]
    (site / "a.xml").write_bytes(write(report(*rows)))
    advice = {one["source"]: one["advice"] for one in lines("dmarc", "reports", "--file", "a.xml")}
    assert "signed by service.example, not by example.org" in advice["192.0.2.1"]
    assert "s2._domainkey.example.org" in advice["192.0.2.2"]
    assert "bounces.service.example passes SPF" in advice["192.0.2.3"]
    assert "SPF alone" in advice["192.0.2.4"]
    assert "DKIM alone" in advice["192.0.2.5"]
    assert "neither signed" in advice["192.0.2.6"]


def test_reports_about_tls(site):
    failure = (tls.TlsFailure("certificate-expired", "mx.example.org"), 2)
    policy = tls.TlsPolicyResult("sts", "example.org", (), (), 40, 2, (failure,))
    found = tls.TlsReport("Big Mail", "", "1", YESTERDAY, YESTERDAY + DAY - 1, (policy,))
    deliver(site, letter(tls.write(found), "tls"), letter(write(report(FORGED))))
    done = call("tls", "reports", "--user", BOB)
    _, bad, good, total = done.stdout.splitlines()
    assert bad.split("\t")[:5] == [
        *("example.org", "sts", "certificate-expired", "mx.example.org", "2"),
    ]
    assert "certificate is over" in bad
    assert good.split("\t")[:5] == ["example.org", "sts", "right", "", "40"]
    assert total == "1 report: 42 sessions, 2 failed"
