"""The life of a server process: how it starts, is reconfigured, and ends."""

from __future__ import annotations

import os
import poplib
import re
import shutil
import signal
import smtplib
import socket
import ssl
import tempfile
from pathlib import Path

import pytest
import trustme
from mailsite import (
    ALICE,
    BOB,
    DEADLINE,
    LISTENERS,
    PASSWORD,
    TWISTD,
    Site,
    free_ports,
    letter,
    run,
    until,
)
from many import alive

pytestmark = pytest.mark.e2e

CHECKOUT = Path(__file__).parents[2]


# The start without configuration


@pytest.fixture
def unconfigured(tmp_path, default_ports):
    """A directory with nothing in it, for `twistd -n mailserver` as README has it."""
    site = Site(tmp_path / "empty")
    site.config.unlink()
    site.ports = default_ports
    yield site
    site.close()


def first_lines(site):
    """What the server printed for its owner, and what it is worth as a dictionary."""
    lines = site.log.splitlines()
    words = dict(line.split(": ", 1) for line in lines if ": " in line)
    return lines, words


@pytest.mark.needs("curl")
def test_the_first_start_and_the_second(unconfigured):
    site = unconfigured
    command = [str(TWISTD), "-n", "mailserver"]
    site.start(command)
    until(lambda: len(re.findall(r"curl .*\n", site.log)) == 2, "both commands are printed")
    lines, words = first_lines(site)
    assert words["user"] == "alice@localhost"
    assert words["ca"] == "certs/ca.pem"
    assert set(LISTENERS) <= set(words)
    send, read = (line for line in lines if "curl " in line)
    run(["bash", "-c", send], cwd=site.directory)
    assert "Subject: " in run(["bash", "-c", read], cwd=site.directory).stdout
    assert (site.directory / "mail-data").is_dir()
    certificate = site.ca.read_bytes()
    site.stop()

    site.log_file.unlink()
    site.start(command)
    until(lambda: "ca: certs/ca.pem" in site.log, "the second start has printed")
    assert "password" not in site.log
    assert words["password"] not in site.log
    assert site.ca.read_bytes() == certificate
    assert "Subject: " in run(["bash", "-c", read], cwd=site.directory).stdout


# The other ways to start


def test_mail_tac_beside_its_configuration(make_site):
    site = make_site()
    shutil.copy(CHECKOUT / "mail.tac", site.directory)
    site.start([str(TWISTD), "-n", "--pidfile=", "-y", "mail.tac"])
    site.send("by tac")
    assert site.subjects() == ["by tac"]
    site.stop()


def test_mail_tac_with_a_configuration_elsewhere(make_site, monkeypatch):
    site = make_site()
    monkeypatch.setenv("TWISTED_MAIL_CONFIG", str(site.config))
    site.start([str(TWISTD), "-n", "--pidfile=", "-y", str(CHECKOUT / "mail.tac")])
    site.send("by tac")
    assert site.subjects() == ["by tac"]


def test_as_a_daemon(make_site):
    site = make_site()
    pidfile, log = site.directory / "server.pid", site.directory / "daemon.log"
    run([TWISTD, f"--pidfile={pidfile}", f"--logfile={log}", "mailserver", "--config", site.config],
        cwd=site.directory)  # fmt: skip
    until(pidfile.exists, "the pid file is there")
    pid = int(pidfile.read_text())
    try:
        site.wait_until_up()
        site.send("to a daemon")
        assert site.subjects() == ["to a daemon"]
    finally:
        os.kill(pid, signal.SIGTERM)
        # whoever is its parent now may let it lie there, ended
        until(lambda: not alive(pid), lambda: f"{pid} has ended\n{log.read_text()}")
    assert not pidfile.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_privileges_are_dropped_after_binding():
    # not in tmp_path, which only its owner may enter
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        site = Site(directory / "site")
        site.directory.chmod(0o755)
        try:
            # a port that only root may bind, where the kernel still keeps such ports
            site.ports["smtp"] = next(port for port in range(600, 1024) if unused(port))
            site.write_configuration()
            site.start(
                [*site.command[:2], "--pidfile=", "--uid=65534", "--gid=65534", *site.command[3:]]
            )
            status = Path(f"/proc/{site.process.pid}/status").read_text()
            assert "\nUid:\t65534\t65534\t65534\t65534\n" in status
            site.add_users(ALICE)
            site.send("to nobody's server")
            assert site.subjects() == ["to nobody's server"]
            site.stop()
        finally:
            site.close()


def unused(port):
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_a_wrong_configuration_explains_itself(tmp_path):
    ports = free_ports(2)
    config = tmp_path / "mail.toml"
    config.write_text(
        'hostname = "mail.example.org"\n'
        "[smtp]\n"
        "max_recipients = -5\n"
        'bare_newline = "ignore"\n'
        "max_recipient = 7\n"
        "[listen]\n"
        f'smtp = ["tcp:{ports[0]}", "tcp:port"]\n'
        f'pop3 = "tcp:{ports[1]}"\n'
    )
    done = run(
        [TWISTD, "-n", "--pidfile=", "mailserver", "--config", config], cwd=tmp_path, status=1
    )
    said = done.stdout + done.stderr
    for line, key, value in [
        (3, "smtp.max_recipients", "-5"),
        (4, "smtp.bare_newline", "ignore"),
        (5, "smtp.max_recipient", ""),
        (7, "listen.smtp", "tcp:port"),
        (8, "listen.pop3", str(ports[1])),
    ]:
        about = [each for each in said.splitlines() if f"mail.toml:{line}: {key}" in each]
        assert len(about) == 1, (line, key, said)
        assert value in about[0]
    assert "Traceback" not in said
    assert unused(ports[0])


def test_a_file_that_is_no_toml(tmp_path):
    config = tmp_path / "mail.toml"
    config.write_text('hostname = "mail.example.org\n')
    done = run(
        [TWISTD, "-n", "--pidfile=", "mailserver", "--config", config], cwd=tmp_path, status=1
    )
    said = done.stdout + done.stderr
    assert "mail.toml:1" in said
    assert "Traceback" not in said


def test_a_port_that_is_taken(make_site):
    site = make_site()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", site.ports["pop3"]))
        taken.listen()
        process = site.spawn()
        site.others.append(process)
        assert process.wait(DEADLINE) != 0
    assert str(site.ports["pop3"]) in site.log
    assert "Traceback" not in site.log
    assert unused(site.ports["smtp"])


# Accounts change while it runs


def test_a_user_made_while_it_runs(site):
    site.mailctl("user", "add", "dave@example.org", "--password-stdin", input=PASSWORD + "\n")
    site.send("welcome", to=["dave@example.org"])
    assert site.subjects("dave@example.org") == ["welcome"]


def test_a_changed_password_counts_at_once(site):
    assert site.subjects() == []  # the server remembers this password now
    site.mailctl("user", "passwd", ALICE, "--password-stdin", input="another one\n")
    with pytest.raises(poplib.error_proto, match="AUTH"), site.pop(ALICE):
        raise AssertionError("the old password still counts")
    session = poplib.POP3_SSL("localhost", site.ports["pop3s"], timeout=DEADLINE, context=site.tls)
    try:
        session.user(ALICE)
        session.pass_("another one")
        session.quit()
    finally:
        session.close()


def test_aliases_and_removals_while_it_runs(site):
    site.mailctl("alias", "add", "team@example.org", ALICE, BOB)
    site.send("for all", to=["team@example.org"])
    site.send("tagged", to=["alice+list@example.org"])
    assert sorted(site.subjects(ALICE)) == ["for all", "tagged"]
    assert site.subjects(BOB) == ["for all"]
    site.mailctl("alias", "remove", "team@example.org")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        site.send("for nobody", to=["team@example.org"])
    site.mailctl("user", "remove", BOB)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        site.send("for nobody", to=[BOB])


# How it ends


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE).close()
    except ConnectionRefusedError:
        return True
    return False


def test_sigterm_lets_a_running_message_finish(site):
    with site.smtp() as session:
        session.ehlo()
        session.mail("carol@elsewhere.example")
        session.rcpt(ALICE)
        session.putcmd("data")
        assert session.getreply()[0] == 354
        message = letter("in the middle", size=100_000)
        session.send(message[:50_000])
        site.process.send_signal(signal.SIGTERM)
        until(lambda: refused(site.ports["smtp"]), "no new connections")
        session.send(message[50_000:] + b".\r\n")
        assert session.getreply()[0] == 250
        assert session.getreply()[0] == 421
        session.close()
    site.wait_until_ended()
    site.start()
    assert site.subjects() == ["in the middle"]


def test_sigterm_tells_who_is_idle(site):
    with site.connect("smtp") as plain, plain.makefile("rb") as stream:
        assert stream.readline().startswith(b"220 ")
        site.stop()
        assert stream.readline().startswith(b"421 4.3.2")
        assert stream.read() == b""


def test_sigterm_does_not_wait_for_ever(make_site):
    site = make_site(extra="[limits]\ndrain_seconds = 1\n")
    site.start()
    with site.smtp() as session:
        session.ehlo()
        session.mail("carol@elsewhere.example")
        session.rcpt(ALICE)
        session.putcmd("data")
        assert session.getreply()[0] == 354
        session.send(b"Subject: never ends\r\n\r\n")
        site.stop()
        session.close()


# Certificates


def issue(authority, directory):
    leaf = authority.issue_cert("localhost")
    leaf.private_key_pem.write_to_path(directory / "server.key")
    (directory / "server.pem").write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))


def serial(site, tls):
    with tls.wrap_socket(site.connect("submissions"), server_hostname="localhost") as session:
        return session.getpeercert()["serialNumber"]


@pytest.mark.parametrize("signalled", [True, False])
def test_a_new_certificate_drops_no_connection(make_site, signalled):
    site = make_site()
    authority = trustme.CA()
    issue(authority, site.directory)
    site.extra = '[tls]\ncertificate = "server.pem"\nkey = "server.key"\n'
    site.write_configuration()
    site.start()
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    before = serial(site, tls)
    with smtplib.SMTP_SSL("localhost", site.ports["submissions"], context=tls) as session:
        session.login(ALICE, PASSWORD)
        issue(authority, site.directory)
        if signalled:
            site.process.send_signal(signal.SIGHUP)
        until(lambda: serial(site, tls) != before, "the new certificate is shown")
        assert session.noop()[0] == 250
        session.sendmail(ALICE, [BOB], letter("still here", sender=ALICE))


def test_a_broken_certificate_keeps_the_old_one(make_site):
    site = make_site()
    authority = trustme.CA()
    issue(authority, site.directory)
    site.extra = '[tls]\ncertificate = "server.pem"\nkey = "server.key"\n'
    site.write_configuration()
    site.start()
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    before = serial(site, tls)
    (site.directory / "server.pem").write_text("not a certificate\n")
    logged = len(site.log)
    site.process.send_signal(signal.SIGHUP)
    until(lambda: "server.pem" in site.log[logged:], "the log says what is wrong")
    assert serial(site, tls) == before


# What the log says


def test_the_log_has_no_secrets(site):
    with site.smtp(ALICE) as session:
        session.sendmail(ALICE, [BOB], letter("private matter", sender=ALICE))
    assert site.subjects(BOB) == ["private matter"]
    with (
        smtplib.SMTP_SSL("localhost", site.ports["submissions"], context=site.tls) as session,
        pytest.raises(smtplib.SMTPAuthenticationError),
    ):
        session.login(ALICE, "a wrong secret")
    site.stop()
    for secret in (PASSWORD, "a wrong secret", "private matter"):
        assert secret not in site.log
    assert ALICE in site.log
