"""What a reviewer of the store looks at: the files of a `store_site.Site`, by where they lie."""

from __future__ import annotations

import os

__all__ = ["SMALL", "checkpoint", "files", "journal", "logs", "message", "parked"]

SMALL = b"Subject: one\n\nhello\n"


def message(number, size=20):
    return b"Subject: %d\n\n" % number + b"x" * size + b"\n"


def journal(site, *parts):
    return os.path.join(site.data, "journal", *parts)


def logs(site):
    return sorted(name for name in os.listdir(journal(site)) if name.endswith(".log"))


def files(site, account="d/a"):
    return os.listdir(os.path.join(site.maildir(account), "new"))


def checkpoint(site):
    site.run(site.world.threads.call(site.store._journal.checkpoint))


def parked(site):
    return sorted(os.listdir(os.path.join(site.data, "parked")))
