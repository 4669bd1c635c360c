"""The files of signing keys: states, what a reader sees of changes, and what a power cut leaves."""

from __future__ import annotations

import json
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from twisted_mail.disk import OsDisk
from twisted_mail.storage import dkim_keys
from twisted_mail.storage.dkim_keys import (
    ACTIVE,
    PREPARED,
    RETIRED,
    DkimKeysError,
    KeyFiles,
    SigningKeys,
    record_strings,
)
from twisted_mail.testing.disk import FaultyDisk

START = 1_800_000_000  # 2027-01-15
DOMAIN = "example.org"


class CountingDisk(OsDisk):
    """Counts what is opened; its files are old as soon as `old` is set."""

    opened = 0
    old = False

    def open(self, path, flags, mode=0o600):
        self.opened += 1
        return super().open(path, flags, mode)

    def clock_ns(self):
        return super().clock_ns() + (10**12 if self.old else 0)


class Site:
    def __init__(self, path, disk=None):
        self.now = START
        self.path = path
        self.disk = disk or CountingDisk()
        self.files = KeyFiles(self.disk, str(path), lambda: self.now)
        self.signing = SigningKeys(self.disk, str(path))

    def states(self):
        return [(row.selector, row.state) for row in self.files.rows()]

    def selectors(self, domain=DOMAIN):
        return [key.selector for key in self.signing.of(domain)]


@pytest.fixture(autouse=True)
def _quick_keys(monkeypatch):
    """One RSA key for all: making one takes long."""
    monkeypatch.setattr(dkim_keys, "generate_private_key", lambda *_: RSA)


RSA = dkim_keys.generate_private_key(65537, 2048)


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def test_a_new_pair_signs_in_this_order(site):
    rows = site.files.add(DOMAIN, ACTIVE)
    assert [(row.selector, row.algorithm) for row in rows] == [
        ("20270115-rsa", "rsa-sha256"),
        ("20270115-ed25519", "ed25519-sha256"),
    ]
    first, second = site.signing.of(DOMAIN)
    assert isinstance(first.private, RSAPrivateKey)
    assert isinstance(second.private, Ed25519PrivateKey)
    assert (first.domain, first.selector, first.algorithm) == (DOMAIN, "20270115-rsa", "rsa-sha256")


def test_records(site):
    first, second = site.files.add(DOMAIN)
    assert first.name == "20270115-rsa._domainkey.example.org"
    assert first.record.startswith("v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A")
    assert len(second.record.partition("k=ed25519; p=")[2]) == 44
    assert [len(one) for one in record_strings(first.record)] == [255, len(first.record) - 255]
    assert record_strings("x" * 255) == ["x" * 255]


def test_modes(site):
    site.files.add(DOMAIN)
    root = site.path / "dkim"
    for path in (root / "state.json", root / DOMAIN / "20270115-rsa.pem"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert root.stat().st_mode & 0o777 == (root / DOMAIN).stat().st_mode & 0o777 == 0o700


def test_from_prepared_to_gone(site):
    site.files.add(DOMAIN, ACTIVE)
    site.now += 86_400
    site.files.add(DOMAIN)
    assert site.selectors() == ["20270115-rsa", "20270115-ed25519"]
    site.files.activate(DOMAIN, keep=100)
    assert site.selectors() == ["20270116-rsa", "20270116-ed25519"]
    old = [row for row in site.files.rows() if row.state == RETIRED]
    assert [(row.since, row.until) for row in old] == [(site.now, site.now + 100)] * 2
    site.now += 99
    assert site.files.sweep() == []
    site.now += 1
    assert site.files.sweep() == old
    assert sorted(os.listdir(site.path / "dkim" / DOMAIN)) == [
        "20270116-ed25519.pem",
        "20270116-rsa.pem",
    ]


def test_pairs_of_one_day_have_names_of_their_own(site):
    site.files.add(DOMAIN, ACTIVE)
    assert [row.selector for row in site.files.add(DOMAIN)] == [
        "20270115b-rsa",
        "20270115b-ed25519",
    ]


def test_only_its_own_domain(site):
    site.files.add(DOMAIN, ACTIVE)
    site.files.add("Bücher.example", ACTIVE)
    assert site.selectors("xn--bcher-kva.example")
    assert site.selectors("mail.example.org") == []
    assert site.selectors("../example.org") == []
    with pytest.raises(DkimKeysError, match="needs a dot"):
        site.files.add("localhost")
    with pytest.raises(DkimKeysError, match="no domain"):
        site.files.add("../x")


def test_removed_keys_leave_nothing(site):
    site.files.add(DOMAIN, ACTIVE)
    site.files.remove(DOMAIN, "20270115-rsa")
    assert site.selectors() == ["20270115-ed25519"]
    site.files.remove(DOMAIN)
    assert (site.selectors(), os.listdir(site.path / "dkim")) == ([], ["state.json"])
    with pytest.raises(DkimKeysError, match="has no key"):
        site.files.remove(DOMAIN)
    with pytest.raises(DkimKeysError, match="no prepared key"):
        site.files.activate(DOMAIN)


# -- what the server sees


def test_without_files_nobody_signs(site):
    assert (site.selectors(), site.signing.problem) == ([], "")


def test_a_look_up_opens_nothing_until_something_changes(site):
    site.files.add(DOMAIN, ACTIVE)
    site.disk.old = True
    first = site.signing.of(DOMAIN)
    opened = site.disk.opened
    for _ in range(10):
        assert site.signing.of(DOMAIN) is first
    assert site.disk.opened == opened
    site.files.add("other.example", ACTIVE)
    assert site.signing.of(DOMAIN) is first
    assert site.selectors("other.example")


def test_two_changes_in_one_tick_of_the_clock_are_seen(site):
    """What is young is read again: its times, and a number that is used again, prove nothing."""
    site.files.add(DOMAIN, ACTIVE)
    found = site.disk.stat(str(site.path / "dkim" / "state.json"))
    site.disk.stat = lambda path: found
    assert len(site.selectors()) == 2
    site.files.remove(DOMAIN)
    assert site.selectors() == []


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "nonsense", '{"version": 1, "keys": [{}]}', '{"version": 2, "keys": []}',
     '{"version": 1, "keys": 7}', "x" * 2_000_000],
)  # fmt: skip
def test_a_state_that_cannot_be_read_changes_nothing(site, content):
    site.files.add(DOMAIN, ACTIVE)
    before = site.selectors()
    (site.path / "dkim" / "state.json").write_text(content)
    assert site.selectors() == before
    assert "state.json" in site.signing.problem
    with pytest.raises(DkimKeysError):
        site.files.add("other.example")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("domain", "../../etc"),
        ("selector", "../x"),
        ("state", "x"),
        ("algorithm", "x"),
        ("since", "x"),
    ],
)
def test_a_state_that_names_what_is_none_of_ours(site, name, value):
    site.files.add(DOMAIN, ACTIVE)
    state = site.path / "dkim" / "state.json"
    content = json.loads(state.read_text())
    content["keys"][0][name] = value
    state.write_text(json.dumps(content))
    assert site.selectors() == []
    assert "not what mailctl wrote" in site.signing.problem


def test_a_key_that_cannot_be_read_leaves_the_other(site):
    site.files.add(DOMAIN, ACTIVE)
    path = site.path / "dkim" / DOMAIN / "20270115-rsa.pem"
    path.write_text("no key")
    assert site.selectors() == ["20270115-ed25519"]
    assert site.signing.problem == f"{path} is not a private key"


def test_whatever_operation_fails_the_state_is_the_old_or_the_new_one(tmp_path):
    number = 0
    while True:
        number += 1
        path = tmp_path / str(number)
        path.mkdir()
        site = Site(path)
        site.files.add(DOMAIN, ACTIVE)
        site.files.add(DOMAIN)
        before = site.states()
        disk = FaultyDisk(number)
        try:
            KeyFiles(disk, str(path), lambda: START).activate(DOMAIN)
        except (OSError, DkimKeysError):
            pass
        after = site.states()
        new = [(name, {ACTIVE: RETIRED, PREPARED: ACTIVE}[state]) for name, state in before]
        assert after in (before, new)
        assert len(site.selectors()) == 2
        assert not site.signing.problem
        if not disk.failed:
            assert after == new
            break
    assert number > 5
