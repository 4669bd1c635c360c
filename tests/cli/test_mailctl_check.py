"""``mailctl check`` and ``mailctl certs``."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from twisted_mail.certs import make_development_certificates
from twisted_mail.cli import mailctl
from twisted_mail.cli.findings import certificates
from twisted_mail.cli.outgoing import outgoing
from twisted_mail.cli.ports import ports
from twisted_mail.config import default, load

NOW = 1_800_000_000.0
DAY = 86_400


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWISTED_MAIL_CONFIG", raising=False)
    return tmp_path


def configure(site, endpoint="tcp:0", more="", listener="smtp"):
    (site / "mail.toml").write_text(
        f'hostname = "localhost"\n{more}\n[listen]\n{listener} = ["{endpoint}"]\n'
    )


def check(code=0):
    """The findings, as pairs of state and detail, by their subjects (paths: relative to the site)."""
    result = CliRunner().invoke(mailctl, ["check", "--json"])
    assert result.exit_code == code, result.output
    here = f"{Path.cwd()}/"
    return {
        one["subject"].replace(here, ""): (one["state"], one["detail"])
        for one in json.loads(result.stdout)
    }


# -- certs dev


def test_certs_dev_makes_them_once(site):
    configure(site)
    first = CliRunner().invoke(mailctl, ["certs", "dev"])
    assert first.output.splitlines() == [
        f"ca: {site}/certs/ca.pem",
        f"certificate: {site}/certs/localhost.pem",
        f"key: {site}/certs/localhost.key",
    ]
    before = (site / "certs/localhost.pem").read_bytes()
    again = CliRunner().invoke(mailctl, ["certs", "dev"])
    assert again.output.endswith("nothing to do: they are good for some time yet\n")
    assert (site / "certs/localhost.pem").read_bytes() == before


def test_certs_dev_touches_nobodys_own_certificate(site):
    configure(site)
    (site / "certs").mkdir()
    (site / "certs/ca.pem").write_text("mine")
    (site / "certs/ca.key").write_text("mine")
    result = CliRunner().invoke(mailctl, ["certs", "dev"])
    assert result.exit_code == 1
    assert result.output.startswith("mailctl: ") and "ca.pem" in result.output
    assert (site / "certs/ca.pem").read_text() == "mine"


# -- configuration


def test_a_new_site(site):
    configure(site)
    assert check() == {
        "configuration": ("ok", f"{site}/mail.toml"),
        "certificate": ("ok", "a development certificate is made at the first start"),
        "data mail-data": ("ok", "is made at the first start"),
    }


def test_a_postmaster_who_is_not_there(site):
    configure(site, more='postmaster = "eve@two.example"')
    assert "postmaster eve@two.example" not in check()  # nothing is made yet, so nobody is missed
    assert CliRunner().invoke(mailctl, ["domain", "add", "two.example"]).exit_code == 0
    state, detail = check()["postmaster eve@two.example"]
    assert state == "warning"
    assert "no user or alias is called that" in detail and "the first user" in detail
    words = ["alias", "add", "eve@two.example", "eve@elsewhere.example"]
    assert CliRunner().invoke(mailctl, words).exit_code == 0
    assert check()["postmaster eve@two.example"] == ("ok", "there")


def test_the_password_of_a_filter(site):
    table = '[[filters]]\nkind = "rspamd"\nendpoint = "unix:/r"\npassword_file = "password"'
    configure(site, more=table)
    result = CliRunner().invoke(mailctl, ["check"])
    assert result.exit_code == 1
    assert "filters[0].password_file" in result.output and "No such file" in result.output
    (site / "password").write_text("secret\n")
    (site / "password").chmod(0o644)
    assert check(1)["file password"][0] == "error"
    (site / "password").chmod(0o600)
    assert check()["file password"] == ("ok", "ours alone")


def test_each_mistake_of_the_configuration_is_a_finding(site):
    (site / "mail.toml").write_text('hostname = ""\ncolour = 1\n')
    result = CliRunner().invoke(mailctl, ["check", "--json"])
    assert result.exit_code == 1
    assert [one["state"] for one in json.loads(result.stdout)] == ["error", "error"]


# -- certificates


def found(site, *, days, hostname="localhost", made_for="localhost"):
    """What is said `days` after a development certificate was made."""
    make_development_certificates(site / "certs", made_for, now=NOW)
    (site / "mail.toml").write_text(
        f'hostname = "{hostname}"\n[tls]\n'
        f'certificate = "certs/{made_for}.pem"\nkey = "certs/{made_for}.key"\n'
    )
    config = load(site / "mail.toml")
    return [(one.state, one.detail) for one in certificates(config, now=NOW + days * DAY)]


def test_a_good_certificate(site):
    (certificate, key) = found(site, days=0)
    assert certificate == ("ok", "for localhost, 127.0.0.1, ::1 until 2028-01-15")
    assert key == ("ok", "ours alone")


def test_a_certificate_that_ends_soon(site):
    assert found(site, days=358)[0] == ("warning", "expires on 2028-01-15")


def test_a_certificate_that_has_ended(site):
    assert found(site, days=368)[0] == ("error", "expired on 2028-01-15")


def test_a_certificate_of_tomorrow(site):
    assert found(site, days=-1)[0] == ("error", "not valid yet")


def test_a_certificate_of_another_host(site):
    assert found(site, days=0, hostname="mail.example.org")[0] == (
        "warning", "is for localhost, 127.0.0.1, ::1, not for mail.example.org",
    )  # fmt: skip


def test_a_key_that_everybody_may_read(site):
    found(site, days=0)
    (site / "certs/localhost.key").chmod(0o644)
    state, detail = found(site, days=0)[1]
    assert state == "error" and "chmod 600" in detail
    (site / "certs/localhost.key").chmod(0o640)
    assert found(site, days=0)[1] == ("warning", "its group may read it")


def test_a_key_of_another_certificate(site):
    make_development_certificates(site / "certs", "localhost", now=NOW)
    make_development_certificates(site / "certs", "other.example", now=NOW)
    (site / "certs/other.example.key").replace(site / "certs/localhost.key")
    first = next(certificates(default(site), now=NOW))
    assert first.state == "error" and first.detail.endswith("is not its key")


# -- permissions


def test_data_that_others_may_read(site):
    configure(site)
    CliRunner().invoke(mailctl, ["domain", "add", "example.org"])
    findings = check()
    assert findings["data mail-data"] == ("ok", "ours alone")
    assert findings["file mail-data/accounts.sqlite3"] == ("ok", "ours alone")
    (site / "mail-data").chmod(0o755)
    (site / "mail-data/accounts.sqlite3").chmod(0o644)
    findings = check(code=1)
    assert findings["data mail-data"][0] == "warning"
    assert findings["file mail-data/accounts.sqlite3"][0] == "error"


def test_a_configuration_that_others_may_write(site):
    configure(site)
    (site / "mail.toml").chmod(0o646)
    state, text = check(1)["file mail.toml"]
    assert state == "error"
    assert f"chmod go-w {site}/mail.toml" in text


def test_a_file_where_the_data_should_be(site):
    configure(site)
    (site / "mail-data").write_text("")
    assert check(code=1)["data mail-data"] == ("error", "is not a directory")


# -- mail that leaves


def leaving(site, text, resolv="nameserver 127.0.0.1\n"):
    """What is found about outgoing mail, as triples."""
    (site / "mail.toml").write_text(text)
    (site / "resolv.conf").write_text(resolv)
    found = outgoing(load(site / "mail.toml"), site / "resolv.conf")
    return [(one.state, one.subject, one.detail) for one in found]


ROUTE = '[[routes]]\ndomain = "*"\nvia = "smtps://relay.example"\nusername = "u"\n'


def test_nothing_to_say_of_the_defaults(site):
    assert leaving(site, "") == []


def test_a_password_file_that_everybody_may_read(site):
    (site / "secret").write_text("hunter2\n")
    (site / "secret").chmod(0o644)
    text = ROUTE + 'password_file = "secret"\n'
    assert leaving(site, text) == [
        ("error", f"file {site}/secret", f"everybody may read it: chmod 600 {site}/secret")
    ]
    (site / "secret").chmod(0o600)
    assert leaving(site, text) == [("ok", f"file {site}/secret", "ours alone")]


def test_a_password_in_a_configuration_that_everybody_may_read(site):
    (site / "mail.toml").touch(0o644)
    ((state, subject, detail),) = leaving(site, ROUTE + 'password = "hunter2"\n')
    assert (state, subject) == ("error", f"file {site}/mail.toml")
    assert "hunter2" not in detail


def test_the_socket_of_a_route(site):
    text = f'[[routes]]\ndomain = "a.example"\nvia = "lmtp:{site}/lmtp"\n'
    assert leaving(site, text)[0][0] == "warning"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(site / "lmtp"))
        assert leaving(site, text) == [("ok", f"socket {site}/lmtp", "there")]
    (site / "lmtp").unlink()
    (site / "lmtp").touch()
    assert leaving(site, text) == [("error", f"socket {site}/lmtp", "is not a socket")]


def test_addresses_to_connect_from(site):
    text = '[delivery]\nsource_ipv4 = "{}"\n'
    assert leaving(site, text.format("127.0.0.2"))[0][0] == "ok"
    ((state, subject, _),) = leaving(site, text.format("192.0.2.77"))
    assert (state, subject) == ("error", "source 192.0.2.77")


@pytest.mark.parametrize(
    ("servers", "resolv", "warned"),
    [
        ('["127.0.0.1:5301", "[::1]"]', "", []),
        ('["127.0.0.1", "192.0.2.53"]', "", ["192.0.2.53"]),
        ("[]", "# x\nnameserver 127.0.0.53\nnameserver\nsearch 192.0.2.1\n", []),
        ("[]", "nameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver x\n",
         ["192.0.2.1", "fe80::1"]),
    ],
)  # fmt: skip
def test_whom_dnssec_is_believed_from(site, servers, resolv, warned):
    found = leaving(site, f"[dns]\ntrust_ad = true\nservers = {servers}\n", resolv)
    assert [(one[0], one[1]) for one in found] == [("warning", f"name server {a}") for a in warned]
    assert leaving(site, f"[dns]\nservers = {servers}\n", resolv) == []


def test_a_queue_that_does_not_run(site):
    assert leaving(site, "[queue]\nrun = false\n") == [
        ("warning", "queue", "nothing is sent: queue.run is false")
    ]


def test_a_name_that_other_servers_refuse(site):
    make_development_certificates(site / "certs", "localhost", now=NOW)
    text = '[tls]\ncertificate = "certs/localhost.pem"\nkey = "certs/localhost.key"\n'
    assert leaving(site, text)[0][:2] == ("warning", "name localhost")
    assert leaving(site, text + '[delivery]\nhostname = "a.example"\n') == []


def test_all_of_it_is_in_the_answer(site):
    configure(site, more="")
    text = (site / "mail.toml").read_text() + "[queue]\nrun = false\n"
    (site / "mail.toml").write_text(text)
    assert check()["queue"][0] == "warning"


# -- ports


@contextmanager
def greeter(greeting, tls=None):
    """A server that greets one client and hangs up. Gives its port."""

    def serve():
        client, _ = server.accept()
        with client if tls is None else tls.wrap_socket(client, server_side=True) as stream:
            stream.sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def ports_found(site):
    return [(one.state, one.detail) for one in ports(load(site / "mail.toml"))]


def test_a_free_port(site):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    configure(site, f"tcp:{port}:interface=127.0.0.1")
    assert check()[f"smtp tcp:{port}:interface=127.0.0.1"] == ("ok", "free")


def test_a_port_of_another_program(site):
    with greeter(b"220 another.example ESMTP\r\n") as port:
        configure(site, f"tcp:{port}")
        assert check(code=1)[f"smtp tcp:{port}"] == ("error", "in use by another program")


def test_a_port_that_our_own_server_has(site):
    with greeter(b"220 localhost ESMTP ready\r\n") as port:
        configure(site, f"tcp:{port}:interface=127.0.0.1")
        assert ports_found(site) == [("ok", "in use: localhost answers")]


@pytest.mark.parametrize(
    ("listener", "greeting"),
    [
        ("pop3s", b"+OK localhost POP3 server ready\r\n"),
        (
            "imaps",
            b"* OK [CAPABILITY IMAP4rev1 %s] localhost IMAP server ready\r\n" % (b"X" * 1000),
        ),
    ],
)
def test_a_port_with_tls_that_our_own_server_has(site, listener, greeting):
    made = make_development_certificates(site / "certs", "localhost", now=NOW)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate, made.key)
    with greeter(greeting, tls) as port:
        configure(site, f"tcp:{port}", listener=listener)
        assert ports_found(site) == [("ok", "in use: localhost answers")]


@pytest.mark.parametrize("endpoint", ["unix:mail.sock", "systemd:domain=INET:index=0"])
def test_what_is_no_tcp_port_is_not_looked_at(site, endpoint):
    configure(site, endpoint)
    assert ports_found(site) == [("ok", "not looked at: not a TCP port")]
