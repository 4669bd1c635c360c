"""curl as a mail client: the commands of the documentation, on every port."""

from __future__ import annotations

import pytest
from mailsite import ALICE, BOB, DEADLINE, PASSWORD, letter, run

pytestmark = [pytest.mark.e2e, pytest.mark.needs("curl")]


@pytest.fixture
def mail(tmp_path):
    path = tmp_path / "mail.txt"
    path.write_bytes(letter("by curl", sender=ALICE))
    return path


def curl(site, *words, **kwargs):
    return run(["curl", "-sS", "--max-time", str(DEADLINE), "--cacert", site.ca, *words], **kwargs)


def test_submissions(running, mail):
    curl(
        running, f"smtps://localhost:{running.ports['submissions']}", "--user", f"{ALICE}:{PASSWORD}",
        "--mail-from", ALICE, "--mail-rcpt", BOB, "--upload-file", mail,
    )  # fmt: skip
    assert running.subjects(BOB) == ["by curl"]


def test_submission_with_starttls(running, mail):
    curl(
        running, f"smtp://localhost:{running.ports['submission']}", "--ssl-reqd",
        "--user", f"{ALICE}:{PASSWORD}", "--mail-from", ALICE, "--mail-rcpt", BOB, "--upload-file", mail,
    )  # fmt: skip
    assert running.subjects(BOB) == ["by curl"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_each_mechanism(running, mail, mechanism):
    curl(
        running, f"smtps://localhost:{running.ports['submissions']}", "--user", f"{ALICE}:{PASSWORD}",
        "--login-options", f"AUTH={mechanism}", "--mail-from", ALICE, "--mail-rcpt", BOB,
        "--upload-file", mail,
    )  # fmt: skip
    assert running.subjects(BOB) == ["by curl"]


def test_pop3s_lists_and_reads(running):
    running.send("for curl")
    url = f"pop3s://localhost:{running.ports['pop3s']}"
    listing = curl(running, f"{url}/", "--user", f"{ALICE}:{PASSWORD}").stdout
    assert listing.split()[0] == "1"
    assert "Subject: for curl" in curl(running, f"{url}/1", "--user", f"{ALICE}:{PASSWORD}").stdout


def test_pop3_with_stls(running):
    running.send("for curl")
    url = f"pop3://localhost:{running.ports['pop3']}"
    assert (
        "Subject: for curl"
        in curl(running, f"{url}/1", "--ssl-reqd", "--user", f"{ALICE}:{PASSWORD}").stdout
    )


def test_pop3_in_clear_gives_nothing(running):
    done = curl(
        running,
        f"pop3://localhost:{running.ports['pop3']}/",
        "--user",
        f"{ALICE}:{PASSWORD}",
        status=None,
    )
    assert done.returncode != 0


def test_a_wrong_password_is_login_denied(running, mail):
    done = curl(
        running, f"smtps://localhost:{running.ports['submissions']}", "--user", f"{BOB}:not this one",
        "--mail-from", BOB, "--mail-rcpt", ALICE, "--upload-file", mail, status=None,
    )  # fmt: skip
    assert done.returncode == 67
