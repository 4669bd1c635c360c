"""``mailctl explain`` by itself: what it wants to be told, what it says without a story, its reactor."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from twisted.internet.defer import ensureDeferred

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import Cost, hash_password
from twisted_mail.address import Address
from twisted_mail.cli import mailctl
from twisted_mail.storage.stories import Stories, Story
from twisted_mail.testing.world import simulated_world

MAIN = "from twisted_mail.cli import main; main()"
STORY = Story(
    "5f1c0e9a77b2",
    1_705_305_600.0,  # 2024-01-15 08:00:00 UTC
    "<letter@example.net>",
    "abc123",
    {
        "ip": "192.0.2.7",
        "helo": "mx.example.net",
        "sender": "a@example.net",
        "recipients": ["bob@example.org"],
        "refused": ["nobody@example.org"],
        "size": 2048,
        "outcome": "accepted",
        "queued": True,
    },
    [(0.0, "192.0.2.7 connects"), (0.0, "it says \x1b[31m"), (1.5, "answered 250: " + "x " * 60)],
)


@pytest.fixture
def site(empty_site):
    """With bob, and one story."""
    data = empty_site / "data"
    data.mkdir(mode=0o700)
    directory = Directory(str(data / "accounts.sqlite3"), now=lambda: 0.0, entropy=os.urandom)
    directory.add_domain("example.org")
    cost = Cost(memory=8, passes=1, lanes=1, scram_iterations=4096)
    directory.add_user(Address.parse("bob@example.org"), hash_password("x", os.urandom, cost))
    directory.close()
    tell(data, STORY)
    return empty_site


def tell(data, *told):
    world = simulated_world()
    kept = Stories(world, data / "stories.sqlite3", keep=1e12)
    for story in told:
        kept.put(story)
    world.run(_closed(kept))


async def _closed(kept):
    await ensureDeferred(kept.close())


def explain(*words, status=0):
    result = CliRunner().invoke(mailctl, ["explain", *words])
    assert result.exit_code == status, result.output
    return result.output


def test_a_story_is_text_that_fits_a_page_and_does_nothing_to_a_terminal(site):
    text = explain("5f1c0e9a77b2")
    assert max(map(len, text.splitlines())) < 80
    assert "\x1b" not in text
    flat = " ".join(text.split())
    for words in (
        "message <letter@example.net> queue id 5f1c0e9a77b2 connection abc123",
        "client 192.0.2.7 (mx.example.net) from a@example.net to bob@example.org",
        "not to nobody@example.org size 2.0 KiB outcome accepted",
        "0.00 s 192.0.2.7 connects it says [31m 1.50 s answered 250:",
        "The queue knows nothing of it any more",
    ):
        assert words in flat
    (value,) = json.loads(explain("letter@example.net", "--json"))
    assert value["came"] == "2024-01-15T08:00:00+00:00" and value["queue"] is None
    assert value["story"][0] == {"seconds": 0.0, "text": "192.0.2.7 connects"}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--from", "A@EXAMPLE.NET"), True),
        (("--to", "bob@example.org"), True),
        (("--to", "nobody@example.org"), True),
        (("--from", "a@example.net", "--to", "bob@example.org"), True),
        (("--from", "<>"), False),
        (("--from", "b@example.net"), False),
        (("--from", "a@example.net", "--to", "a@example.net"), False),
    ],
)
def test_mail_is_found_by_its_addresses(site, words, found):
    said = explain(*words, status=0 if found else 1)
    assert ("5f1c0e9a77b2" in said) is found
    assert ("no such mail is known" in said) is not found


def test_one_that_is_not_there_is_no_accident(site):
    assert "nothing is known of 000000000000" in explain("000000000000", status=1)
    said = explain("5F1C0E9A77", status=1)
    assert "Did you mean 5f1c0e9a77b2?" in said
    (site / "data" / "stories.sqlite3").write_bytes(b"not a database" * 100)
    assert "the stories cannot be read" in explain("5f1c0e9a77b2", status=1)


def test_without_a_file_of_stories(site):
    for path in (site / "data").glob("stories.sqlite3*"):
        path.unlink()
    assert "stories are kept for 7 days" in explain("5f1c0e9a77b2", status=1)
    assert not (site / "data" / "stories.sqlite3").exists()


def test_without_a_site_nothing_is_made(empty_site):
    assert "there is no site yet" in explain("abc", status=2)
    assert "there is no site yet" in explain(*DRY, "--ip", "192.0.2.1", status=2)
    assert not (empty_site / "data").exists()


DRY = ("--dry-run", "--from", "a@example.net", "--to", "bob@example.org")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("abc", "--from", "a@example.net"),
        ("abc", "--ip", "192.0.2.1"),
        ("--from", "a@example.net", "--filters"),
        DRY,
        (*DRY, "--ip", "192.0.2.1", "--as", "bob"),
        ("abc", *DRY, "--ip", "192.0.2.1"),
        ("--dry-run", "--from", "a@example.net", "--ip", "192.0.2.1"),
        ("--to", "a@example.net", "--to", "b@example.net"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(site, words):
    assert "Usage:" in explain(*words, status=2)


def test_what_is_no_address_is_refused(site):
    assert "is no address of a client" in explain(*DRY, "--ip", "300.0.0.1", status=1)
    assert "is not an address" in explain(
        "--dry-run", "--from", "a", "--to", "bob@example.org", "--ip", "::1", status=1
    )


def test_a_dry_run_has_a_reactor_of_its_own(site):
    (site / "letter.eml").write_bytes(b"From: a@example.net\nSubject: x\n\nhello\n")
    before = sorted(site.rglob("*"))
    # A client that is not checked: nobody's name server is asked
    words = (*DRY, "--ip", "127.0.0.1", "--helo", "me.example", "--message", "letter.eml", "--json")
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "explain", *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["outcome"] == "accepted"
    assert found["recipients"][0]["mailboxes"] == ["example.org/bob"]
    assert found["story"][-1]["text"] == "answered 250: accepted, into its mailboxes"
    assert sorted(site.rglob("*")) == before


def test_without_arguments_it_says_what_is_wanted(empty_site):
    result = CliRunner().invoke(mailctl, ["explain"])
    assert result.exit_code == 2
    assert "a name, or --from or --to" in result.output
