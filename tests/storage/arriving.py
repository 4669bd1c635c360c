"""What the tests of arrivals share: one inbox of a `store_site.Site`, as its files and as a login finds it."""

from __future__ import annotations

import os

__all__ = ["KEY", "checkpoint", "home", "message", "names", "subjects", "uids"]

KEY = "d/a"


def message(number, size=20):
    return b"Subject: %d\n\n" % number + b"x" * size + b"\n"


def home(site, key=KEY):
    return os.path.join(site.data, "mail", key)


def names(site, sub="new", key=KEY):
    return sorted(
        os.listdir(os.path.join(site.maildir(key), sub)), key=lambda n: n.partition(",")[0]
    )


def uids(site, key=KEY):
    """UIDs and contents, as a login finds them."""
    account = site.store._accounts.get(key)
    account.refresh()
    return {row[1]: row[0] for row in account.rows()}


def subjects(site, key=KEY):
    return [int(content.split(b"\n")[0][9:]) for _, content in site.read(key)]


def checkpoint(site):
    site.run(site.world.threads.call(site.store._journal.checkpoint))
