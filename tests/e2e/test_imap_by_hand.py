"""IMAP as it is typed: curl's commands, ``openssl s_client``, and what people and programs get wrong."""

from __future__ import annotations

import socket
from contextlib import suppress

import pytest
from imapsite import Wire, files, imap, letters, ok
from mailsite import ALICE, DEADLINE, PASSWORD, letter, run, until

pytestmark = pytest.mark.e2e


# curl


def curl(site, path: str, *words: str, input: str | None = None, status: int | None = 0):
    return run(
        [
            "curl", "-sS", "--max-time", str(DEADLINE), "--cacert", site.ca, "-u", f"{ALICE}:{PASSWORD}", *words,
            f"imaps://localhost:{site.ports['imaps']}/{path}",
        ],
        input=input,
        status=status,
    )  # fmt: skip


@pytest.mark.needs("curl")
def test_curl_lists_reads_searches_flags_and_uploads(site, tmp_path):
    site.send("one")
    site.send("two")
    assert "Drafts" in curl(site, "").stdout
    assert curl(site, "INBOX;MAILINDEX=1").stdout.endswith("\n\nThis is one.\n")
    assert "This is two.\n" in curl(site, "INBOX;UID=2;SECTION=TEXT").stdout
    assert curl(site, "INBOX?SUBJECT%20two").stdout.split() == ["*", "SEARCH", "2"]
    assert r"\Flagged" in curl(site, "INBOX", "-X", r"STORE 2 +Flags \Flagged").stdout
    assert "STATUS INBOX" in curl(site, "", "-X", "STATUS INBOX (MESSAGES UNSEEN)").stdout
    text = tmp_path / "mail"
    text.write_bytes(letter("uploaded"))
    curl(site, "Drafts", "-T", str(text))
    assert "Subject: uploaded" in curl(site, "Drafts;UID=1").stdout
    curl(site, "", "-X", "CREATE Work")
    assert "Work" in curl(site, "").stdout
    # curl(1): 78 the resource does not exist, 67 the login was denied
    assert curl(site, "INBOX;UID=99", status=None).returncode == 78
    assert curl(site, "", "-u", f"{ALICE}:wrong", status=None).returncode == 67
    assert sorted(letters(path) for path in files(site)) == ["FS", "S"]


@pytest.mark.needs("curl")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_curl_logs_in_by_every_mechanism(running, mechanism):
    done = curl(running, "", "--login-options", f"AUTH={mechanism}", status=None)
    assert done.returncode == 0, done.stderr
    assert "INBOX" in done.stdout


@pytest.mark.needs("curl")
def test_curl_needs_starttls_for_its_password(running):
    url = f"imap://localhost:{running.ports['imap']}/"
    words = ["curl", "-sS", "--max-time", str(DEADLINE), "-u", f"{ALICE}:{PASSWORD}", url]
    assert run(words, status=None).returncode == 67
    done = run([*words, "--ssl-reqd", "--cacert", running.ca])
    assert "INBOX" in done.stdout


# openssl


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(("listener", "words"), [("imap", ("-starttls", "imap")), ("imaps", ())])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_verifies_both_ports_and_types_a_session(running, listener, words, version):
    done = run(
        [
            "openssl", "s_client", "-connect", f"localhost:{running.ports[listener]}", *words, version, "-quiet",
            "-CAfile", running.ca, "-verify_return_error", "-verify_hostname", "localhost",
        ],
        input=f'a LOGIN {ALICE} "{PASSWORD}"\nb SELECT INBOX\n\nd FETCH 1 FLAGS\ne LOGOUT\n',
        status=None,
    )  # fmt: skip
    # bare line feeds, as s_client sends what is typed without -crlf
    assert "b OK [READ-WRITE]" in done.stdout
    assert "e OK" in done.stdout


# What people type


@pytest.fixture
def wire(running):
    with Wire(running) as made:
        made.login()
        yield made


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        (b"HELP", b"BAD"),
        (b"SELECT", b"BAD"),
        (b"SELECT Sent Items", b"BAD"),
        (b"SELECT Nowhere", b"NO [NONEXISTENT]"),
        (b'SELECT "INBOX', b"BAD"),
        (b"FETCH 1 FLAGS", b"BAD"),
        (b"LOGIN alice@example.org secret", b"BAD"),
        (b"APPEND INBOX hello", b"BAD"),
        (b"APPEND INBOX {0}", b"NO"),
        (b"APPEND INBOX {99999999999}", b"NO [TOOBIG]"),
        (b"SEARCH", b"BAD"),
        (b"UID", b"BAD"),
        (b"LIST", b"BAD"),
        (b"CREATE", b"BAD"),
        (b"CREATE INBOX", b"NO [ALREADYEXISTS]"),
        (b"CREATE " + b"x/" * 300, b"NO"),
        (b"CREATE \xff\xfe", b"BAD"),
        (b"DELETE INBOX", b"NO [CANNOT]"),
        (b"STATUS INBOX", b"BAD"),
        (b"IDLE please", b"BAD"),
        (b"STARTTLS", b"BAD"),
        (b"ENABLE", b"BAD"),
        (b"FETCH 99999999999999999999 FLAGS", b"BAD"),
        (b"EXAMINE INBOX (CONDSTORE", b"BAD"),
        (b"\x00\x01\x02", b"BAD"),
    ],
)
def test_what_is_typed_wrong_is_answered_and_the_connection_lives(wire, running, typed, answer):
    wire.send(b"t " + typed + b"\r\n")
    assert wire.until_tagged(b"t")[-1].startswith(b"t " + answer)
    assert wire.do(b"NOOP") == [b"OK NOOP completed"]
    assert "Traceback" not in running.log


def test_a_line_without_a_tag_an_empty_line_and_one_that_never_ends(running, wire):
    wire.send(b"\r\n")
    wire.send(b"NOOP\r\n")
    assert b"BAD" in wire.line()
    wire.send(b"z NOOP\r\n")
    assert wire.until_tagged(b"z")[-1] == b"z OK NOOP completed"
    wire.send(b"y " + b"x" * 300_000 + b"\r\n")
    assert wire.until_tagged(b"y")[-1].startswith(b"y BAD")
    assert wire.do(b"NOOP") == [b"OK NOOP completed"]
    assert "Traceback" not in running.log


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"EHLO localhost\r\nMAIL FROM:<a@b>\r\n",
        b"USER alice\r\nPASS secret\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        bytes(range(256)) * 20,
        b"(" * 100_000 + b"\r\n",
        b"a SEARCH " + b"NOT " * 50_000 + b"ALL\r\n",
    ],
)
def test_another_protocol_on_the_port_in_clear(running, said):
    """Whoever it is: he is answered or let go, and others are served."""
    with running.connect("imap") as plain:
        heard = b""
        # he may be cut off before he has said it all
        with suppress(OSError):
            plain.sendall(said)
            plain.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while block := plain.recv(65536):
                heard += block
    assert heard.startswith(b"* OK")
    with imap(running) as session:
        ok(session.noop())
    assert "Traceback" not in running.log


def test_nothing_pipelined_behind_starttls_is_run(running):
    wire = Wire(running, tls=False)
    with wire:
        wire.send(b"a STARTTLS\r\nb CAPABILITY\r\nc LOGIN alice@example.org secret\r\n")
        rest = wire.rest()
        assert b"c OK" not in rest
        assert b"b OK" not in rest


def test_idle_is_ended_by_anything_but_done_too(wire):
    wire.do(b"SELECT INBOX")
    wire.send(b"i IDLE\r\n")
    assert wire.line().startswith(b"+")
    wire.send(b"x NOOP\r\n")  # what a client that forgot says
    assert wire.line().startswith((b"i BAD", b"i OK"))
    wire.send(b"z NOOP\r\n")
    assert wire.until_tagged(b"z")[-1] == b"z OK NOOP completed"


def test_who_goes_away_in_the_middle_leaves_nothing(site):
    with Wire(site) as wire:
        wire.login()
        wire.send(b"a APPEND INBOX {5000000}\r\n")
        assert wire.line().startswith(b"+")
        wire.send(b"Subject: half\r\n\r\n" + b"x" * 1_000_000)
    until(
        lambda: "disconnected" in site.log.rpartition("protocol=imaps")[0][-400:], "it is noticed"
    )
    assert files(site) == []
    until(lambda: not [p for p in site.data.rglob("spill/*") if p.is_file()], "nothing is left")
