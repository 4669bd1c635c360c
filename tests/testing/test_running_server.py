"""The server for other people's tests, used as they would."""

from __future__ import annotations

import os
import poplib
import re
import smtplib
import ssl
import subprocess
import sys

import pytest

from twisted_mail.testing import running_server

USERS = {"alice@example.org": "secret"}
LETTER = b"From: bob@elsewhere.example\r\nSubject: hello\r\n\r\n.dot\r\n"


@pytest.fixture(scope="module")
def server():
    with running_server(users=USERS) as server:
        yield server


def test_send_look_and_fetch(server):
    with smtplib.SMTP("127.0.0.1", server.ports["smtp"]) as session:
        session.sendmail("bob@elsewhere.example", ["alice@example.org"], LETTER)
    (message,) = server.messages("alice@example.org")
    assert message.endswith(b"Subject: hello\n\n.dot\n")
    session = poplib.POP3_SSL(
        "localhost", server.ports["pop3s"], context=ssl.create_default_context(cafile=server.ca)
    )
    session.user("alice@example.org")
    session.pass_("secret")
    assert session.stat()[0] == 1
    session.dele(1)
    session.quit()
    assert server.messages("alice@example.org") == []


def test_its_log_begins_without_warnings(server):
    assert "Warning" not in (server.directory / "server.log").read_text()


def test_a_user_made_later(server):
    server.add_user("dave@example.net", "another secret")
    assert server.messages("dave@example.net") == []
    with smtplib.SMTP_SSL(
        "localhost",
        server.ports["submissions"],
        context=ssl.create_default_context(cafile=server.ca),
    ) as session:
        session.login("dave@example.net", "another secret")
        session.sendmail("dave@example.net", ["dave@example.net"], LETTER)
    assert len(server.messages("dave@example.net")) == 1


def test_what_cannot_be_done_is_said(server):
    with pytest.raises(RuntimeError, match=r"nobody@example\.org"):
        server.messages("nobody@example.org")
    with pytest.raises(RuntimeError, match="DirectoryError"):
        server.add_user("alice@example.org", "again")


def test_a_directory_is_kept_and_taken_up_again(tmp_path):
    with running_server(users=USERS, directory=tmp_path) as server:
        with smtplib.SMTP("127.0.0.1", server.ports["smtp"]) as session:
            session.sendmail("bob@elsewhere.example", ["alice@example.org"], LETTER)
        ca = server.ca.read_bytes()
    with running_server(directory=tmp_path) as server:
        assert len(server.messages("alice@example.org")) == 1
        assert server.ca.read_bytes() == ca


def test_configuration_is_that_of_mail_toml():
    small = {
        "smtp": {"max_message_bytes": 65536},
        "listen": {"smtp": ["tcp:0:interface=127.0.0.1"]},
    }
    with running_server(users=USERS, configuration=small) as server:
        assert set(server.ports) == {"smtp"}
        with smtplib.SMTP("127.0.0.1", server.ports["smtp"]) as session:
            session.ehlo()
            assert session.esmtp_features["size"] == "65536"


def test_a_wrong_configuration_is_said():
    with (
        pytest.raises(RuntimeError, match="max_message_bytes"),
        running_server(configuration={"smtp": {"max_message_bytes": 1}}),
    ):
        raise AssertionError("it has started")


def test_a_key_that_is_nearly_one_is_said_as_for_a_file():
    near = re.escape("configuration: imap.max_depht: unknown key; did you mean imap.max_depth?")
    with (
        pytest.raises(RuntimeError, match=near),
        running_server(configuration={"imap": {"max_depht": 2}}),
    ):
        raise AssertionError("it has started")


def test_nothing_is_left_behind(server):
    with running_server(users=USERS) as other:
        pid, place = other._process.pid, other.directory
        assert place.exists()
    assert not place.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_child_ends_with_its_parent():
    """The parent is gone without a word; the child sees its input end."""
    program = (
        "import os\n"
        "from twisted_mail.testing import running_server\n"
        "server = running_server().__enter__()\n"
        "print(server.ports['smtp'], server.directory, flush=True)\n"
        "os._exit(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    # its standard output was inherited by nobody, so that the run has ended says that it is closed
    port = int(done.stdout.split()[0])
    with pytest.raises(OSError), smtplib.SMTP("127.0.0.1", port, timeout=5) as session:
        while session.noop()[0] == 250:
            pass
