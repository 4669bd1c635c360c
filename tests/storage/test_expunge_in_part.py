"""An EXPUNGE of several files of which one cannot be unlinked: what stays on the disk stays known, and goes later."""

from __future__ import annotations

import os

import filing_site as site_of
import pytest
from store_site import Site

from twisted_mail.testing.disk import HookedDisk


class Stubborn(HookedDisk):
    """Does not unlink files whose names hold `kept`."""

    kept = ""

    def before(self, name, args):
        if name == "unlink" and self.kept and self.kept in args[0]:
            raise OSError(5, "Input/output error")


@pytest.fixture
def site(tmp_path):
    started = Site(str(tmp_path / "data"), disk=Stubborn()).start()
    yield started
    started.stop()


def texts(site):
    return [one.content for one in site_of.held(site, "d/a")]


def test_what_could_not_be_unlinked_is_known_until_it_is(site):
    site_of.append(
        site, "d/a", "INBOX", *[site_of.message(b"Subject: %d\n\n" % n) for n in range(3)]
    )
    known = site_of.account(site, "d/a").rows()
    bases = [row[1] for row in known]
    site.disk.kept = bases[1]
    site_of.expunge(site, "d/a", "INBOX", bases)
    assert site_of.account(site, "d/a").rows() == known, "all of it was taken back"
    assert os.listdir(os.path.join(site.maildir("d/a"), "cur"))
    site.disk.kept = ""
    for _ in range(4):
        site.world.reactor.advance(15)
    assert site_of.account(site, "d/a").rows() == []
    assert texts(site) == []


def test_files_that_lie_elsewhere_than_their_rows_say_are_removed(site):
    site_of.append(
        site, "d/a", "INBOX", *[site_of.message(b"Subject: %d\n\n" % n) for n in range(3)]
    )
    bases = [row[1] for row in site_of.account(site, "d/a").rows()]
    cur = os.path.join(site.maildir("d/a"), "cur")
    (name,) = [one for one in os.listdir(cur) if one.startswith(bases[1])]
    os.rename(os.path.join(cur, name), os.path.join(cur, name + "S"))
    site_of.expunge(site, "d/a", "INBOX", bases[:2])
    assert [one.partition(",")[0] for one in os.listdir(cur)] == bases[2:]
    assert texts(site) == [b"Subject: 2\n\n"]
