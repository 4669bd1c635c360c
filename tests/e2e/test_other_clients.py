"""swaks, fetchmail, getmail, mutt and ``openssl s_client``: clients that nobody here wrote."""

from __future__ import annotations

import mailbox
import os
import pty
import subprocess
from contextlib import closing

import pytest
from mailsite import ALICE, BOB, DEADLINE, PASSWORD, run

pytestmark = pytest.mark.e2e


def swaks(site, *words, **kwargs):
    return run(
        [
            "swaks",
            "--server",
            "localhost",
            "--timeout",
            str(int(DEADLINE)),
            "--header",
            "Subject: by swaks",
            *words,
        ],
        **kwargs,
    )


TLS = ("--tls-verify", "--tls-ca-path")
LOGIN = ("--auth-user", ALICE, "--auth-password", PASSWORD, "--from", ALICE, "--to", BOB)


@pytest.mark.needs("swaks")
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks_on_submissions(running, mechanism):
    swaks(
        running, "--port", str(running.ports["submissions"]), "--tls-on-connect", *TLS, str(running.ca),
        "--auth", mechanism, *LOGIN,
    )  # fmt: skip
    assert running.subjects(BOB) == ["by swaks"]


@pytest.mark.needs("swaks")
def test_swaks_on_submission_with_starttls(running):
    swaks(
        running, "--port", str(running.ports["submission"]), "--tls", *TLS, str(running.ca),
        "--auth", "PLAIN", *LOGIN,
    )  # fmt: skip
    assert running.subjects(BOB) == ["by swaks"]


@pytest.mark.needs("swaks")
def test_swaks_from_outside_pipelined(running):
    swaks(
        running, "--port", str(running.ports["smtp"]), "--pipeline", "--from", "carol@elsewhere.example",
        "--to", f"{ALICE},{BOB}", "--attach-type", "text/plain", "--attach", "an attachment",
    )  # fmt: skip
    assert running.subjects(ALICE) == running.subjects(BOB) == ["by swaks"]


@pytest.mark.needs("swaks")
def test_swaks_is_not_let_to_relay(running):
    done = swaks(
        running, "--port", str(running.ports["smtp"]), "--from", "carol@elsewhere.example",
        "--to", "dave@elsewhere.example", status=None,
    )  # fmt: skip
    assert done.returncode == 24  # swaks(1): no recipient was accepted
    assert "<** 550 5.7.1" in done.stdout


def private(path, text):
    path.write_text(text)
    path.chmod(0o600)
    return path


def fetchmail(site, tmp_path, port, options, status=0):
    box = tmp_path / "fetched"
    rc = private(
        tmp_path / "fetchmailrc",
        f"""
        poll localhost protocol POP3 service {site.ports[port]} uidl
        user "{ALICE}" password "{PASSWORD}" {options}
        sslcertck sslcertfile "{site.ca}"
        mda "cat >> {box}; echo >> {box}"
        """,
    )
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    done = run(
        ["fetchmail", "--fetchmailrc", rc, "--nodetach", "--nosyslog", "--pidfile", home / "pid"],
        env={"FETCHMAILHOME": str(home), "HOME": str(home)},
        status=status,
    )
    return box.read_text() if box.exists() else "", done


@pytest.mark.needs("fetchmail")
@pytest.mark.parametrize(("port", "options"), [("pop3s", "ssl"), ("pop3", "sslproto TLS1.2+")])
def test_fetchmail_takes_all_and_deletes(running, tmp_path, port, options):
    running.send("one")
    running.send("two")
    fetched, _ = fetchmail(running, tmp_path, port, options)
    assert "Subject: one" in fetched
    assert "Subject: two" in fetched
    assert running.subjects() == []


@pytest.mark.needs("fetchmail")
def test_fetchmail_keeps_and_takes_each_once(running, tmp_path):
    running.send("one")
    first, _ = fetchmail(running, tmp_path, "pop3s", "ssl keep")
    assert first.count("Subject: one") == 1
    running.send("two")
    fetched, _ = fetchmail(running, tmp_path, "pop3s", "ssl keep")
    assert fetched.count("Subject: one") == 1
    assert fetched.count("Subject: two") == 1
    fetchmail(running, tmp_path, "pop3s", "ssl keep", status=1)  # fetchmail(1): no new mail


def subjects_of(mbox):
    with closing(mailbox.mbox(mbox, create=False)) as messages:
        return sorted(message["Subject"] for message in messages)


@pytest.mark.needs("getmail")
def test_getmail_takes_all_and_deletes(running, tmp_path):
    box = tmp_path / "box"
    rc = private(
        tmp_path / "getmailrc",
        f"""[retriever]
type = SimplePOP3SSLRetriever
server = localhost
port = {running.ports["pop3s"]}
username = {ALICE}
password = {PASSWORD}
ca_certs = {running.ca}
[destination]
type = MDA_external
path = /bin/sh
arguments = ("-c", "cat >> {box}; echo >> {box}")
allow_root_commands = true
unixfrom = true
[options]
delete = true
delivered_to = false
received = false
""",
    )
    running.send("one")
    running.send("two")
    run(["getmail", "--getmaildir", tmp_path, "--rcfile", rc])
    assert subjects_of(box) == ["one", "two"]
    assert running.subjects() == []


def mutt(folder, keys, tmp_path):
    """mutt on a terminal of its own, reading `folder` and typing `keys`."""
    ours, theirs = pty.openpty()
    settings = "set quit=yes confirmappend=no confirmcreate=no wait_key=no mbox_type=mbox move=no"
    child = subprocess.Popen(
        ["mutt", "-n", "-F", "/dev/null", "-R", "-f", folder, "-e", settings, "-e", f'push "{keys}"'],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", "HOME": str(tmp_path)},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while block := os.read(ours, 65536):
            shown += block
    except OSError:
        pass  # Linux: the terminal's other end is closed
    finally:
        os.close(ours)
    assert child.wait(DEADLINE) == 0
    return shown


@pytest.mark.needs("mutt")
def test_mutt_reads_the_maildir_as_it_stands(running, tmp_path):
    for subject in ("one", "two", "three"):
        running.send(subject)
    copied = tmp_path / "copied.mbox"
    mutt(
        running.maildir(ALICE),
        "<untag-pattern>~A<enter><tag-pattern>~A<enter>"
        f"<tag-prefix><copy-message><kill-line>{copied}<enter><exit>",
        tmp_path,
    )
    assert subjects_of(copied) == ["one", "three", "two"]
    # what mutt looked at has moved from new/ to cur/; the server finds it there
    assert running.subjects() == ["one", "two", "three"]


@pytest.mark.needs("openssl")
@pytest.mark.parametrize(
    ("listener", "words"),
    [("submission", ("-starttls", "smtp")), ("smtp", ("-starttls", "smtp")), ("submissions", ()),
     ("pop3", ("-starttls", "pop3")), ("pop3s", ())],
)  # fmt: skip
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_verifies_every_port(running, listener, words, version):
    done = run(
        [
            "openssl", "s_client", "-connect", f"localhost:{running.ports[listener]}", *words, version,
            "-CAfile", running.ca, "-verify_return_error", "-verify_hostname", "localhost", "-brief",
        ],
        input="QUIT\r\n",
    )  # fmt: skip
    assert "Verification: OK" in done.stdout + done.stderr
    assert {"-tls1_2": "TLSv1.2", "-tls1_3": "TLSv1.3"}[version] in done.stdout + done.stderr


@pytest.mark.needs("openssl")
def test_openssl_resumes_a_session(running, tmp_path):
    session = tmp_path / "session.pem"
    command = ["openssl", "s_client", "-connect", f"localhost:{running.ports['submissions']}", "-tls1_2",
               "-CAfile", running.ca]  # fmt: skip
    assert "\nNew, TLS" in run([*command, "-sess_out", session], input="QUIT\r\n").stdout
    assert "\nReused, TLS" in run([*command, "-sess_in", session], input="QUIT\r\n").stdout
