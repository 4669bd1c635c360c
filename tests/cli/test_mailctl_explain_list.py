"""``mailctl explain``: why mail that never came did not, at a glance; a dry run for postmaster."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import Cost, hash_password
from twisted_mail.address import Address
from twisted_mail.cli.explain_text import listed_row
from twisted_mail.storage.stories import Story

MAIN = "from twisted_mail.cli import main; main()"
GREY = "mail to bob@example.org: deferred, 451 4.7.1 Greylisted"
TAKEN = "mail to bob@example.org: can be taken, here"


def last(outcome, *lines):
    told = [(0.0, line) for line in ("192.0.2.7 connects", *lines)]
    return listed_row(Story("", 0.0, "", "c1", {"outcome": outcome}, told))["last"]


@pytest.mark.parametrize(
    ("outcome", "lines", "found"),
    [
        ("deferred", (GREY, "no message came"), GREY),
        ("refused", ("answered: 553 5.7.1 No", "no message came"), "answered: 553 5.7.1 No"),
        ("deferred", (GREY, TAKEN, "no message came"), GREY),
        ("left", (TAKEN, "no message came"), "no message came"),
        ("accepted", (GREY, TAKEN, "answered 250: accepted"), "answered 250: accepted"),
        ("", (), "192.0.2.7 connects"),
    ],
)
def test_the_last_column_says_what_became_of_it(outcome, lines, found):
    assert last(outcome, *lines) == found


@pytest.fixture
def site(empty_site):
    data = empty_site / "data"
    data.mkdir(mode=0o700)
    directory = Directory(str(data / "accounts.sqlite3"), now=lambda: 0.0, entropy=os.urandom)
    directory.add_domain("example.org")
    cost = Cost(memory=8, passes=1, lanes=1, scram_iterations=4096)
    bob = Address.parse("bob@example.org")
    directory.add_user(bob, hash_password("x", os.urandom, cost))
    directory.add_alias("postmaster@example.org", [bob])
    directory.close()
    return empty_site


def test_postmaster_needs_no_domain(site):
    words = "--dry-run --from a@b.example --to Postmaster --ip 127.0.0.1 --helo x.example --json"
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "explain", *words.split()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (step,) = [one for one in found["conversation"] if one["said"].startswith("RCPT")]
    assert step["said"] == "RCPT TO:<Postmaster>"
    assert found["recipients"][0]["address"] == "Postmaster"
    assert found["recipients"][0]["mailboxes"] == ["example.org/bob"]
