"""A server that finds what an older one stored, and what a newer one stored; and the way back."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from mailsite import DEADLINE, Site, until


def age(data: Path) -> None:
    """As the releases before stored it: version 2 of the site, 1 of the accounts."""
    path = data / "site.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
    db = sqlite3.connect(data / "accounts.sqlite3")
    for column in ("storage", "messages"):
        db.execute(f"ALTER TABLE users DROP COLUMN {column}")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()


def versions(site: Site) -> list[tuple[str, int, int | None]]:
    rows = json.loads(site.mailctl("upgrade", "--json").stdout)
    return [(row["what"], row["stored"], row["undo"]) for row in rows]


@pytest.mark.e2e
def test_there_and_back_and_there_again(make_site) -> None:
    site: Site = make_site()
    site.start()
    site.send("one")
    known = site.uidls()
    refused = site.mailctl("upgrade", "--undo", status=1)
    assert "the server is up" in refused.stderr
    site.stop()
    age(site.data)
    site.start()
    assert site.uidls() == known
    site.kill()
    refused = site.mailctl("upgrade", "--undo", status=1)
    assert "not stopped in good order" in refused.stderr
    site.start()
    site.send("two")
    site.stop()
    assert versions(site) == [("site", 3, 2), ("accounts", 2, 1), ("queue", 1, None)]
    site.mailctl("upgrade", "--undo")
    assert json.loads((site.data / "site.json").read_text())["version"] == 2
    # The accounts are not looked at by that: whoever opens them brings them up to date.
    assert versions(site)[:2] == [("site", 2, None), ("accounts", 1, None)]
    site.start()
    assert sorted(site.subjects()) == ["one", "two"]
    site.stop()
    # After a clean stop the old form of the site's files is over; that of the accounts when it is said
    site.start()
    site.stop()
    assert versions(site)[:2] == [("site", 3, None), ("accounts", 2, 1)]
    site.mailctl("upgrade", "--done")
    assert versions(site)[:2] == [("site", 3, None), ("accounts", 2, None)]


@pytest.mark.e2e
def test_what_a_newer_one_stored_is_refused(make_site) -> None:
    site: Site = make_site()
    site.start()
    site.stop()
    path = site.data / "site.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 4}))
    process = site.spawn()
    site.others.append(process)
    until(lambda: process.poll() is not None, "it ends", DEADLINE)
    assert process.returncode != 0
    assert "version 4 of the format, this program knows 3; use the newer program" in site.log
