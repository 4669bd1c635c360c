"""``mailctl dns`` and ``mailctl dns check`` as an operator uses them."""

from __future__ import annotations

import ipaddress
import json
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme
from click.testing import CliRunner
from cryptography.x509 import load_pem_x509_certificate

from twisted_mail.acme.certificates import make_key
from twisted_mail.acme.files import AcmeFiles
from twisted_mail.cli import dns_facts, mailctl
from twisted_mail.config import load
from twisted_mail.disk import OsDisk
from twisted_mail.records.facts import spki_digest
from twisted_mail.testing.dns import Zone
from twisted_mail.testing.nameserver import running_nameserver
from twisted_mail.web.site import hosting_of

BASE = 'hostname = "mail.example.org"\ndata = "data"\n'
LISTEN = """[listen]
smtp = ["tcp:25"]
submissions = ["tcp:465"]
submission = ["tcp:587:interface=127.0.0.1"]
imaps = ["tcp:9993"]
imap = ["systemd:domain=INET:name=imap"]
"""
SOURCES = '[delivery]\nsource_ipv4 = "192.0.2.10"\nsource_ipv6 = "2001:db8::10"\n'


def call(*words, code=0):
    result = CliRunner().invoke(mailctl, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


class Site:
    def __init__(self, path):
        self.path = path
        self.write()

    def write(self, text=LISTEN + SOURCES, base=BASE):
        (self.path / "mail.toml").write_text(base + text)

    def zone(self, *words):
        return Zone.from_text(call("dns", "example.org", *words))


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWISTED_MAIL_CONFIG", raising=False)
    site = Site(tmp_path)
    call("domain", "add", "example.org")
    return site


# -- what is shown


def test_the_records_of_a_domain(site):
    call("dkim", "add", "example.org")
    call("dkim", "rotate", "example.org")
    zone = site.zone()
    assert zone["example.org"] == {
        "MX": [(10, "mail.example.org")],
        "TXT": [[b"v=spf1 mx ~all"]],
    }
    assert zone["mail.example.org"]["A"] == ["192.0.2.10"]
    assert zone["mail.example.org"]["AAAA"] == ["2001:db8::10"]
    assert len([name for name in zone if "._domainkey." in name]) == 4
    assert not any(name.startswith(("_mta-sts", "mta-sts", "_25")) for name in zone)


def test_services_as_others_find_them(site):
    found = {
        name.partition(".")[0]: kinds["SRV"][0][2] for name, kinds in site.zone().items() if "SRV" in kinds
    }  # fmt: skip
    assert found == {
        "_submissions": 465,
        "_submission": 0,  # for this machine alone
        "_imaps": 9993,
        "_imap": 143,  # a socket that somebody else has opened
        "_pop3s": 0,
        "_pop3": 0,
    }


def test_services_that_a_proxy_may_offer(site):
    line = "; _submission._tcp.example.org. 3600 IN SRV 0 1 587 mail.example.org."
    assert line not in call("dns", "example.org")
    text = call("dns", "example.org", "--address", "192.0.2.20")
    assert line in text.splitlines()
    assert text.count("IN SRV") == 7


@pytest.mark.parametrize("source", ["127.0.0.9", "192.0.2.40", "10.0.0.5"])
def test_one_choice_of_address(site, monkeypatch, source):
    """Of a site that listens on loopback: its name leads where its mail comes from."""
    monkeypatch.setattr(dns_facts, "_routed", lambda: iter(["192.0.2.99", "2001:db8::99"]))
    site.write(
        f'[listen]\nsmtp = ["tcp:25:interface=127.0.0.9"]\n[delivery]\nsource_ipv4 = "{source}"\n'
    )
    rows = json.loads(call("dns", "example.org", "--json"))
    found = [row["value"] for row in rows if row["type"] == "A"]
    assert found == ([] if source.startswith("10.") else [source])
    back = [row["name"] for row in rows if row["type"] == "PTR" and "in-addr" in row["name"]]
    assert back == [ipaddress.ip_address(one).reverse_pointer for one in found]


def test_addresses_that_are_said(site):
    site.write(LISTEN)
    zone = site.zone("--address", "192.0.2.20", "--address", "2001:DB8::0:20")
    assert zone["mail.example.org"]["A"] == ["192.0.2.20"]
    assert zone["mail.example.org"]["AAAA"] == ["2001:db8::20"]
    site.write()
    assert site.zone("--address", "192.0.2.10")["mail.example.org"]["AAAA"] == ["2001:db8::10"]
    assert "'x' is no IP address" in call("dns", "example.org", "--address", "x", code=2)


def test_addresses_that_are_listened_on(site):
    text = '[listen]\nsmtp = ["tcp:25:interface=192.0.2.30", "tcp:25:interface=10.0.0.1"]\n'
    site.write(text)
    assert site.zone()["mail.example.org"]["A"] == ["192.0.2.30"]


def test_addresses_that_this_machine_would_send_from(site, monkeypatch):
    monkeypatch.setattr(dns_facts, "_routed", lambda: iter(["10.0.0.5", "2001:db8::5"]))
    site.write(LISTEN)
    assert site.zone()["mail.example.org"] == {"AAAA": ["2001:db8::5"], "TXT": [[b"v=spf1 a -all"]]}
    site.write(LISTEN + '[delivery]\nsource_ipv4 = "10.0.0.5"\n')
    assert site.zone()["mail.example.org"].get("AAAA") == ["2001:db8::5"]


def test_another_name_in_ehlo(site):
    site.write(LISTEN + SOURCES + 'hostname = "out.example.org"\n')
    zone = site.zone()
    assert zone["example.org"]["TXT"] == [[b"v=spf1 mx a:out.example.org ~all"]]
    assert zone["out.example.org"]["TXT"] == [[b"v=spf1 a -all"]]
    assert zone["out.example.org"]["A"] == ["192.0.2.10"]


def test_an_mta_sts_policy_that_is_hosted(site):
    more = 'https = ["tcp:443"]\n[mta_sts]\ndomains = ["example.org"]\n'
    site.write(LISTEN + more)
    zone = site.zone()
    id = hosting_of(load(site.path / "mail.toml")).id_for("example.org")
    assert zone["_mta-sts.example.org"]["TXT"] == [[f"v=STSv1; id={id}".encode()]]
    assert zone["mta-sts.example.org"] == {"CNAME": ["mail.example.org"]}


def dmarc(site, *words):
    return site.zone(*words)["_dmarc.example.org"]["TXT"][0][0].decode().partition("rua=")[2]


def test_who_gets_reports(site):
    assert dmarc(site) == "mailto:postmaster@example.org"
    call("alias", "add", "dmarc@example.org", "alice@example.net")
    assert dmarc(site) == "mailto:dmarc@example.org"
    assert dmarc(site, "--reports", "x@reports.example") == "mailto:x@reports.example"
    assert "is not an address" in call("dns", "example.org", "--reports", "x", code=1)


def certificate(path, *names):
    authority = trustme.CA()
    made = authority.issue_cert(*names)
    made.private_key_and_cert_chain_pem.write_to_path(path)
    return authority, spki_digest(load_pem_x509_certificate(path.read_bytes()).public_key())


def tlsa(site):
    return [one[3] for one in site.zone().get("_25._tcp.mail.example.org", {}).get("TLSA", [])]


def test_tlsa_of_ones_own_certificates(site):
    pem, other, third = (site.path / f"{one}.pem" for one in ("a", "b", "c"))
    _, first = certificate(pem, "mail.example.org")
    _, second = certificate(other, "*.example.org")
    certificate(third, "mail.example.net")
    assert tlsa(site) == []  # a development certificate
    text = f'[tls]\ncertificate = "{pem}"\nkey = "{pem}"\n'
    for one in (other, third):
        text += f'[[tls.sni]]\ncertificate = "{one}"\nkey = "{one}"\n'
    site.write(text)
    assert tlsa(site) == [first, second]


def test_tlsa_of_a_certificate_that_renews_itself(site):
    acme = 'http = ["tcp:80"]\n[tls]\nacme = true\n'
    site.write(LISTEN + acme)
    assert "no certificate yet" in call("dns", "example.org")
    assert 'CAA 0 issue "letsencrypt.org"' in call("dns", "example.org")
    files = AcmeFiles(OsDisk(), site.path / "data")
    files.make()
    _, served = certificate(files.certificate_path, "mail.example.org")
    assert tlsa(site) == [served]
    (site.path / "data/acme/key.pem").write_bytes(make_key())
    assert len(tlsa(site)) == 2 and tlsa(site)[0] == served
    site.write(LISTEN + acme + "[acme]\nkeep_key = false\n")
    assert tlsa(site) == []
    assert "acme.keep_key is false" in call("dns", "example.org")


def test_mail_that_leaves_through_a_smarthost(site):
    site.write(LISTEN + '[[routes]]\ndomain = "*"\nvia = "smtp://smtp.provider.example:587"\n')
    assert "Mail leaves through smtp.provider.example" in call("dns", "example.org")


def test_for_programs(site):
    rows = json.loads(call("dns", "example.org", "--json"))
    assert json.loads(call("dns", "--json", "example.org")) == rows
    assert {row["type"] for row in rows} >= {"MX", "A", "TXT", "PTR", "SRV"}


@pytest.mark.parametrize(
    ("domain", "text"),
    [
        ("other.example", "no domain of this site: mailctl domain add other.example"),
        ("localhost", "no domain that others can write to"),
        ("[192.0.2.1]", "no domain that others can write to"),
        ("a b", "'a b' is no domain"),
    ],
)
def test_refusals(site, domain, text):
    assert text in call("dns", domain, code=1)
    assert text in call("dns", "check", domain, code=1)


def test_a_server_without_a_name(site):
    site.write(LISTEN, base='data = "data"\n')
    assert "such as mail.example.org" in call("dns", "example.org", code=1)


def test_no_site_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWISTED_MAIL_CONFIG", raising=False)
    Site(tmp_path)
    assert "there is no site yet" in call("dns", "example.org", code=2)
    assert not (tmp_path / "data").exists()


def test_help_names_both():
    assert "DOMAIN | check DOMAIN" in call("dns", "--help")
    assert "Exit code 1" in call("dns", "check", "--help")


# -- what is checked: by a process, over sockets


def check(*words):
    """Findings by record; the exit code."""
    done = subprocess.run(
        [sys.executable, "-c", "from twisted_mail.cli import main; main()", "dns", "check", "--json",
         "example.org", *words],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stderr == ""
    return {one["record"]: one for one in json.loads(done.stdout)}, done.returncode


@contextmanager
def policy_server(path, text):
    """An MTA-STS policy over HTTPS on loopback; its port, and who vouches for it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("mta-sts.example.org").configure_cert(context)
    authority.cert_pem.write_to_path(path / "policy-ca.pem")

    class Policy(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            self.wfile.write(text().encode())

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Policy) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def test_pasted_and_checked(site):
    """The whole way: shown, pasted into a zone, asked for over UDP, the policy fetched by HTTPS; then it is broken."""
    call("dkim", "add", "example.org")
    call("alias", "add", "dmarc@example.org", "alice@example.net")
    pem = site.path / "server.pem"
    certificate(pem, "mail.example.org")
    text = ""

    with running_nameserver(Zone()) as server, policy_server(site.path, lambda: text) as port:
        site.write(
            LISTEN
            + 'https = ["tcp:443"]\n'
            + f'[dns]\nservers = ["{server.address}"]\ntrust_ad = true\ntimeout_seconds = 1\n'
            + f'[delivery]\nsource_ipv4 = "127.0.0.1"\nhttps_port = {port}\nca_file = "policy-ca.pem"\n'
            + f'[tls]\ncertificate = "{pem}"\nkey = "{pem}"\n'
            + '[mta_sts]\ndomains = ["example.org"]\nmode = "enforce"\n'
            + '[reputation]\nlists = ["zen.example*3"]\n'
        )
        text = hosting_of(load(site.path / "mail.toml")).policy_for("example.org")
        # 127.0.0.1 is nobody's address, so it has to be said
        shown = call("dns", "example.org", "--address", "127.0.0.1")
        zone = Zone.from_text(shown.replace("; 1.0.0.127", "1.0.0.127"))
        zone.secure.add("example.org")
        server.serve(zone)
        findings, code = check("--address", "127.0.0.1")
        assert {one["state"] for one in findings.values()} == {"right"}, findings
        assert code == 0
        assert findings["TLSA _25._tcp.mail.example.org"]["meaning"] == ""

        zone["example.org"]["MX"] = [(10, "mx.elsewhere.example")]
        zone["_dmarc.example.org"]["TXT"] = ["v=DMARC1; p=none; rua=mailto:nobody@example.org"]
        zone.silent.add("_imaps._tcp.example.org")
        del zone["_pop3._tcp.example.org"]
        text = "version: STSv1\nmode: none\nmax_age: 86400\n"
        server.serve(zone)
        findings, code = check("--address", "127.0.0.1")
        assert code == 1
        bad = {record: one["state"] for record, one in findings.items() if one["state"] != "right"}
        assert bad == {
            "MX example.org": "wrong",
            "SPF example.org": "wrong",
            "DMARC _dmarc.example.org": "wrong",
            "MTA-STS https://mta-sts.example.org": "wrong",
            "SRV _imaps._tcp.example.org": "unknown",
            "SRV _pop3._tcp.example.org": "optional",
        }
        assert "no such address here" in findings["DMARC _dmarc.example.org"]["detail"]


def test_an_empty_zone_as_lines(site):
    with running_nameserver(Zone()) as server:
        site.write(LISTEN + SOURCES + f'[dns]\nservers = ["{server.address}"]\n')
        done = subprocess.run(
            [sys.executable, "-c", "from twisted_mail.cli import main; main()", "dns", "check",
             "example.org"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert all(len(line) == 4 for line in lines)
    assert lines[0][:2] == ["missing", "MX example.org"]
    assert ["missing", "DKIM example.org"] in [line[:2] for line in lines]
    assert {line[0] for line in lines} == {"missing", "optional"}


def test_the_help_has_the_options_of_the_command_without_a_name():
    told = CliRunner().invoke(mailctl, ["dns", "--help"]).output
    assert "mailctl dns DOMAIN [--address IP]" in told
    assert "mailctl dns check DOMAIN" in told
