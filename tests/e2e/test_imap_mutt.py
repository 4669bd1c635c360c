"""mutt and neomutt on a terminal: a mail is read, flagged, filed, saved, deleted, written."""

from __future__ import annotations

import pytest
from imapsite import files, letters, subjects
from mailsite import until
from terminal import mutt

pytestmark = pytest.mark.e2e


@pytest.fixture(
    params=[
        pytest.param("mutt", marks=pytest.mark.needs("mutt")),
        pytest.param("neomutt", marks=pytest.mark.needs("neomutt")),
    ]
)
def program(request):
    return request.param


def flags(site, folder: str = "") -> dict[str, str]:
    """Subject → the letters in its file's name."""
    found = {}
    for path in files(site, folder):
        subject = next(
            line[9:] for line in path.read_text().splitlines() if line.startswith("Subject: ")
        )
        found[subject] = letters(path)
    return found


def test_it_reads_flags_files_and_deletes(site, program, tmp_path):
    for subject in ("one", "two", "three", "four"):
        site.send(subject)
    read = tmp_path / "read"
    mutt(
        program,
        site,
        # with keys waiting it paints nothing: what it read goes to a file
        f"<first-entry><display-message><pipe-message>cat > {read}<enter><exit>"
        "2<enter><flag-message>"
        "3<enter><save-message><kill-line>=Archive<enter>"
        "4<enter><delete-message><sync-mailbox>",
        tmp_path / "home",
    )
    assert "\nThis is one." in read.read_text()
    assert flags(site)["one"] == "S"
    assert "F" in flags(site)["two"]
    assert set(flags(site)) == {"one", "two"}
    assert subjects(site, "Archive") == ["three"]
    # and it looks so the next time
    shown = mutt(program, site, "", tmp_path / "home")
    assert b"two" in shown
    assert b"four" not in shown


def test_it_makes_and_removes_folders(site, program, tmp_path):
    site.send("for the folder")
    mutt(
        program,
        site,
        "<copy-message><kill-line>=Work/Größe<enter><sync-mailbox>"
        "<change-folder><kill-line>=Work/Größe<enter><display-message><exit><sync-mailbox>",
        tmp_path / "home",
        more="confirmcreate=no",
    )
    assert subjects(site, "Work/Gr&APYA3w-e") == ["for the folder"]
    assert subjects(site) == ["for the folder"]


def test_search_on_the_server_and_tag(site, program, tmp_path):
    for subject in ("apples", "pears", "apples again"):
        site.send(subject)
    mutt(
        program,
        site,
        "<tag-pattern>=b'This is apples'<enter><tag-prefix><flag-message><sync-mailbox>",
        tmp_path / "home",
    )
    assert flags(site) == {"apples": "F", "pears": "", "apples again": "F"}


def test_it_writes_and_keeps_a_copy_in_sent(site, program, tmp_path):
    site.send("a question")
    keys = "<reply><kill-line>alice@example.org<enter><kill-line>an answer<enter><send-message>"
    mutt(
        program,
        site,
        keys,
        tmp_path / "home",
        more=f'editor="sed -i s/x/x/" from=alice@example.org fast_reply=no include=no abort_unmodified=no autoedit=no '
        f'smtp_url="smtps://alice@example.org@localhost:{site.ports["submissions"]}/" '
        'smtp_pass="correct horse battery staple" copy=yes edit_headers=no askcc=no askbcc=no recall=no',
    )
    until(lambda: "an answer" in subjects(site), "it comes back")
    assert subjects(site, "Sent") == ["an answer"]
    assert letters(files(site, ".Sent")[0]) == "S"
