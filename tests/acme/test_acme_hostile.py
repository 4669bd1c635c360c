"""A CA that lies, hangs and talks nonsense, files that are none, and a disk that is full: what is served stays."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from renewing import DAY, NAMES, Site

from twisted_mail.acme.certificates import checked_chain, make_key
from twisted_mail.acme.challenges import HTTP, TLS_ALPN, Challenges
from twisted_mail.acme.client import retry_after
from twisted_mail.acme.files import AcmeFiles, State
from twisted_mail.acme.interfaces import AuthorityError, said
from twisted_mail.disk import OsDisk
from twisted_mail.testing.disk import FaultyDisk


def other_key(chain: bytes) -> bytes:
    made = trustme.CA().issue_cert(*NAMES)
    return made.cert_chain_pems[0].bytes()


def cut(chain: bytes) -> bytes:
    return chain[: len(chain) // 3]


def unlinked(chain: bytes) -> bytes:
    leaf = x509.load_pem_x509_certificates(chain)[0]
    return leaf.public_bytes(serialization.Encoding.PEM) + trustme.CA().cert_pem.bytes()


LIES: dict[str, tuple[Callable[[Site], None], str]] = {
    "another key's certificate": (lambda site: setattr(site.ca, "sends", other_key), "our key"),
    "half a certificate": (lambda site: setattr(site.ca, "sends", cut), "no PEM"),
    "nothing": (lambda site: setattr(site.ca, "sends", lambda chain: b""), "no PEM"),
    "certificates that are no chain": (
        lambda site: setattr(site.ca, "sends", unlinked),
        "are no chain",
    ),
    "a very long chain": (
        lambda site: setattr(site.ca, "sends", lambda chain: chain * 20),
        "has 40 certificates",
    ),
    "a name that nobody ordered": (
        lambda site: setattr(site.ca, "extra_names", ("evil.example",)),
        "more than was ordered",
    ),
    "no challenge of our kind": (
        lambda site: setattr(site.ca, "kinds", ("dns-01",)),
        "has no http",
    ),
    "an order that never comes to an end": (
        lambda site: setattr(site.ca, "order_status", "processing"),
        "not come to an end in 600 seconds",
    ),
    "an order that is invalid": (
        lambda site: setattr(site.ca, "order_status", "invalid"),
        "refused the order",
    ),
    "a status that nobody knows": (
        lambda site: setattr(site.ca, "order_status", "marvellous"),
        "not come to an end",
    ),
    "authorizations that stay pending": (
        lambda site: setattr(site.ca, "polls", 10**9),
        "not come to an end",
    ),
    "no answer": (
        lambda site: setattr(site.ca, "fails", AuthorityError("cannot be reached")),
        "cannot be reached",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_ca_that_lies_changes_nothing(site: Site, lie: str) -> None:
    site.start()
    first = site.served
    begin, words = LIES[lie]
    begin(site)
    asked = site.ca.times_asked
    site.ask()
    site.advance(900)
    assert site.served == first
    assert words in site.state["error"]
    assert site.state["failures"] >= 1
    assert list((site.data / "acme/challenges").iterdir()) == []
    site.advance(61 * DAY)
    assert site.served == first
    assert site.ca.times_asked - asked < 40  # three days, every six hours, and the pauses before
    assert not any("failure in" in line for _, line in site.log)


def test_a_certificate_that_is_nearly_over_is_not_taken_for_ever_anew(site: Site) -> None:
    site.start()
    first = site.served
    kept: list[bytes] = []
    site.ca.sends = lambda chain: kept[0] if kept else (kept.append(chain) or chain)  # type: ignore[func-returns-value]
    site.ask()
    site.advance(60)
    second = site.served
    assert second != first
    site.advance(62 * DAY)
    assert site.served == second
    assert "nearly over already" in site.state["error"]
    assert site.ca.times_asked < 40


def test_a_certificate_for_other_names_is_refused(site: Site) -> None:
    site.start()
    key = site.files.key(new=False)
    pem = site.files.certificate_path.read_bytes()
    with pytest.raises(ValueError, match=r"not for more\.example"):
        checked_chain(pem, key, [*NAMES, "more.example"], site.world.now())
    with pytest.raises(ValueError, match="not valid now"):
        checked_chain(pem, key, NAMES, site.world.now() + 91 * DAY)
    with pytest.raises(ValueError, match="not for our key"):
        checked_chain(pem, make_key(), NAMES, site.world.now())


def test_a_ca_that_hangs_costs_one_thread_and_the_next_try_is_made(site: Site) -> None:
    class Hanging:
        """A thread pool's worst: work that never ends."""

        def submit(self, work: Callable[[], None]) -> None:
            self.work = work

        def stop(self) -> None:
            raise AssertionError("waits for ever")

    site.start()
    first = site.served
    lane = site.world.threads.lane
    hung: list[str] = []

    def hang(name: str) -> object:
        hung.append(name)
        return Hanging()

    site.world.threads.lane = hang  # type: ignore[method-assign,assignment]
    assert site.renewal is not None
    site.renewal._worker._lane = None
    site.ask()
    site.advance(3600)
    assert len(hung) > 1
    assert any("no answer in 120 seconds" in line for line in site.lines("error"))
    site.world.threads.lane = lane  # type: ignore[method-assign]
    site.advance(600)
    site.advance(60)
    assert site.served != first


def test_the_server_stops_at_once_while_a_ca_lets_it_wait(site: Site) -> None:
    site.ca.polls = 10**9
    site.start()
    assert site.ca.asked.count("authorization") > 2
    before = site.world.now()
    site.stop()
    assert site.world.now() == before
    asked = len(site.ca.asked)
    site.advance(DAY)
    assert len(site.ca.asked) == asked


def test_the_server_stops_at_once_while_a_ca_says_nothing(site: Site) -> None:
    class Silent:
        def submit(self, work: Callable[[], None]) -> None:
            """Never done."""

        def stop(self) -> None:
            raise AssertionError("waits for ever")

    site.world.threads.lane = lambda name: Silent()  # type: ignore[method-assign,assignment]
    site.start()
    site.stop()
    site.advance(DAY)


def test_whatever_fails_unexpectedly_is_said_and_tried_again(site: Site) -> None:
    site.ca.fails = RuntimeError("a bug")
    site.start()
    assert any("failure in the renewal" in line for line in site.lines("critical"))
    site.advance(3600)
    site.ca.fails = None
    site.advance(DAY)
    assert site.served


def test_an_account_that_the_ca_forgot_is_made_anew(site: Site) -> None:
    site.start()
    site.ca.fails = AuthorityError("accountDoesNotExist", account_gone=True)
    site.ask()
    site.advance(60)
    site.ca.fails = None
    site.ask()
    site.advance(60)
    assert site.ca.accounts == 2


def test_a_disk_that_fails_leaves_what_is_served_whole(tmp_path: Path) -> None:
    """Every operation of a renewal once, until it passes."""
    disk = FaultyDisk(number=errno.ENOSPC)
    site = Site(tmp_path, disk=disk)
    site.start()
    for fail_at in range(1, 500):
        before = site.served
        asked = site.ca.times_asked
        site.ask()
        disk.count, disk.fail_at, disk.failed = 0, fail_at, []
        site.advance(120)
        failed, disk.fail_at = disk.failed, 0
        assert site.files.certificate() is not None
        assert site.ca.times_asked - asked <= 1
        if not failed:
            assert site.served != before
            break
        site.advance(DAY)  # whatever it was, it is over
    else:
        raise AssertionError("never passed")
    assert fail_at > 30
    assert not [name for name in os.listdir(tmp_path / "acme") if name.endswith(".draft")]
    site.close()


def test_a_full_disk_is_no_reason_to_ask_a_ca_again_and_again(tmp_path: Path) -> None:
    disk = FaultyDisk(number=errno.ENOSPC, counted=("write",))
    site = Site(tmp_path, disk=disk)
    site.start()
    first = site.served
    site.advance(50 * DAY)
    site.advance(site.state["next"] - site.world.now() - 3600)
    disk.lasting, disk.fail_at = True, disk.count + 1
    asked = len(site.ca.asked)
    site.advance(DAY)
    assert site.served == first
    assert len(site.ca.asked) == asked  # nothing is asked that could not be written down
    assert any("No space left" in line for line in site.lines("error"))
    disk.fail_at = 0
    site.advance(DAY)
    assert site.served != first
    site.close()


class TestFiles:
    @given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
    def test_no_content_of_a_state_makes_it_raise(self, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as directory:
            files = AcmeFiles(OsDisk(), Path(directory))
            files.make()
            Path(directory, "acme/state.json").write_bytes(content)
            assert isinstance(files.state(), State)

    @pytest.mark.parametrize(
        "content",
        [
            '{"wait_until": 1e400, "failures": true, "error": 5}',
            '{"wait_until": NaN}',
            "[]",
            "[" * 9999,
        ],
    )
    def test_a_state_that_is_none(self, tmp_path: Path, content: str) -> None:
        files = AcmeFiles(OsDisk(), tmp_path)
        files.make()
        (tmp_path / "acme/state.json").write_text(content)
        assert files.state() == State()

    def test_it_comes_back_as_it_was(self, tmp_path: Path) -> None:
        files = AcmeFiles(OsDisk(), tmp_path)
        files.make()
        state = State(tried=5.5, failures=3, error="ä", wait_until=7.0, serial="ab")
        files.keep_state(state)
        assert files.state() == state

    def test_an_account_key_that_is_none_is_not_thrown_away(self, tmp_path: Path) -> None:
        files = AcmeFiles(OsDisk(), tmp_path)
        files.make()
        (tmp_path / "acme/account.key").write_text("secret")
        with pytest.raises(ValueError) as caught:
            files.account_key()
        assert "secret" not in str(caught.value)
        assert (tmp_path / "acme/account.key").read_text() == "secret"

    def test_the_lock_is_held_by_one(self, tmp_path: Path) -> None:
        one, other = AcmeFiles(OsDisk(), tmp_path), AcmeFiles(OsDisk(), tmp_path)
        one.make()
        assert one.lock() and one.lock() and not other.lock()
        one.unlock()
        assert other.lock()
        with open(tmp_path / "acme/lock") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other.unlock()

    def test_a_certificate_that_is_none_counts_as_none(self, site: Site) -> None:
        site.start()
        site.files.certificate_path.write_bytes(b"-----BEGIN CERTIFICATE-----\n")
        site.advance(DAY)
        assert site.served and site.ca.times_asked == 2


class TestChallenges:
    @pytest.fixture
    def challenges(self, tmp_path: Path) -> Challenges:
        (tmp_path / "http-secret").write_text("not in the directory of challenges")
        (tmp_path / "challenges").mkdir()
        return Challenges(OsDisk(), str(tmp_path / "challenges"))

    def test_a_token_is_answered_by_its_exact_name(self, challenges: Challenges) -> None:
        challenges.put(HTTP, "mail.example.org", "aB3-_x", "aB3-_x.thumb")
        assert challenges.page("aB3-_x") == b"aB3-_x.thumb"
        for other in ("ab3-_x", "aB3-_", "aB3-_xx", "", "./aB3-_x", "*"):
            assert challenges.page(other) is None
        challenges.clear()
        assert challenges.page("aB3-_x") is None

    @pytest.mark.parametrize(
        "token", ["../http-secret", "a/b", "", "a b", "é", "x" * 201, "a\0b", "."]
    )
    def test_a_token_that_is_none_is_no_file(self, challenges: Challenges, token: str) -> None:
        assert challenges.page(token) is None
        for kind in (HTTP, TLS_ALPN):
            with pytest.raises(ValueError):
                challenges.put(kind, "mail.example.org", token, "x")

    @given(token=st.text(max_size=300))
    def test_no_token_makes_it_raise(self, token: str) -> None:
        assert Challenges(OsDisk(), "/nonexistent").page(token) is None
        assert Challenges(OsDisk(), "/nonexistent").certificate(token, 0.0) is None

    def test_the_certificate_says_the_digest(self, challenges: Challenges) -> None:
        challenges.put(TLS_ALPN, "mail.example.org", "token", "token.thumb")
        assert challenges.certificate("other.example.org", 1.8e9) is None
        found = challenges.certificate("mail.example.org", 1.8e9)
        assert found is not None
        # RFC 8737 section 3: critical, an OCTET STRING with the SHA-256 of the key authorization
        (one,) = [
            part for part in found[0].extensions if part.oid.dotted_string.endswith("5.7.1.31")
        ]
        assert one.critical
        digest = hashlib.sha256(b"token.thumb").digest()
        assert one.value.public_bytes() == b"\x04\x20" + digest


def test_what_a_ca_says_is_fit_for_a_line() -> None:
    assert said("a\nb\x1b[31m\0 c") == "a b [31m c"
    assert len(said("x" * 10_000)) < 400


@pytest.mark.parametrize(
    "said_later",
    [
        "1 Jan 2000 24444444444444444444444444444444:00:00 +0000",
        "Thu, 13 Feb 1969 23:32 -0330000000000000000000000000000000",
        "soon",
        "",
    ],
)
def test_a_retry_after_that_says_nothing(said_later: str) -> None:
    response = requests.Response()
    response.headers["Retry-After"] = said_later
    assert retry_after(response, 1_800_000_000.0) is None
