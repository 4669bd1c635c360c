"""What the DNS says decides where mail goes, whether it goes at all, and how well its way is protected."""

from __future__ import annotations

import hashlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mailsite import DEADLINE
from outside import MailSite, Outside

pytestmark = pytest.mark.e2e

ALICE = "alice@asks.example"
RECEIVER = "mx.answers.example"


@pytest.fixture(scope="module")
def sender(sites):
    # nothing is remembered: what is mended counts at once
    return sites("asks.example", "alice", dns="trust_ad = true\ncache_entries = 0\n")


@pytest.fixture(scope="module")
def receiver(sites):
    return sites("answers.example", "bob")


@pytest.fixture(autouse=True)
def nobody_else(sender, receiver):
    yield
    sender.empty(ALICE)
    receiver.empty("bob@answers.example")


@pytest.fixture
def domain(request, outside, receiver) -> str:
    """A domain of the test's own, whose mail is bob's."""
    number = request.node.name.translate(str.maketrans("_[] ", "----"))[5:45].strip("-")
    domain = f"{number}.example"
    outside.domain(domain, RECEIVER)
    receiver.mailctl("domain", "add", domain)
    receiver.mailctl("alias", "add", f"bob@{domain}", "bob@answers.example")
    return domain


def bounces(sender: MailSite, to: str, subject: str):
    """The notice of a message that comes back at once."""
    id_ = sender.submit(ALICE, [to], subject)
    story = sender.wait_for(id_, "bounced")
    assert story["recipients"][0]["tries"] == 1
    notice = sender.notice(ALICE, subject)
    assert notice.recipient["Final-Recipient"] == f"rfc822;{to}"
    assert "Remote-MTA" not in notice.recipient
    return notice


def test_null_mx(sender, outside):
    outside.zone["nomail.example"] = {"MX": [(0, ".")], "A": [outside.address()]}
    outside.publish()
    notice = bounces(sender, "bob@nomail.example", "null mx")
    # RFC 7505 section 4.2
    assert notice.recipient["Status"] == "5.1.10"
    assert "That domain takes no mail at all." in notice.words


def test_no_such_domain(sender):
    notice = bounces(sender, "bob@nowhere.example", "no domain")
    assert notice.recipient["Status"] == "5.1.2"
    assert "There is no such mail domain." in notice.words


def test_a_domain_without_hosts(sender, outside):
    outside.zone["empty.example"] = {"TXT": ["nothing here"]}
    outside.publish()
    notice = bounces(sender, "bob@empty.example", "no hosts")
    assert notice.recipient["Status"] in ("5.4.4", "5.1.2")


def test_the_first_host_is_dead(sender, receiver, outside, domain):
    outside.host(f"dead.{domain}")
    outside.domain(domain, f"dead.{domain}", RECEIVER)
    id_ = sender.submit(ALICE, [f"bob@{domain}"], "the second takes it")
    story = sender.wait_for(id_, "delivered")
    assert story["attempts"][-1]["host"] == RECEIVER
    receiver.wait_for_mail("bob@answers.example", "the second takes it")


def test_a_domain_without_mx_but_with_an_address(sender, receiver, outside, domain):
    outside.zone[domain] = {"A": [receiver.address]}
    outside.publish()
    sender.wait_for(sender.submit(ALICE, [f"bob@{domain}"], "by address"), "delivered")


def test_a_domain_that_is_another_name(sender, receiver, outside, domain):
    outside.zone[f"www.{domain}"] = {"CNAME": [domain]}
    outside.publish()
    to = f"bob@www.{domain}"
    receiver.mailctl("domain", "add", f"www.{domain}")
    receiver.mailctl("alias", "add", to, "bob@answers.example")
    sender.wait_for(sender.submit(ALICE, [to], "cname"), "delivered")
    receiver.wait_for_mail("bob@answers.example", "cname")


def test_our_own_name_ends_the_list(sender, outside):
    """Mail for a domain whose best host is this one, which does not serve it, would go in circles."""
    outside.domain("circle.example", "mx.asks.example", RECEIVER)
    notice = bounces(sender, "bob@circle.example", "circle")
    assert notice.recipient["Status"][:4] in ("5.4.", "5.3.")


def test_a_failing_zone_defers(sender, receiver, outside, domain):
    outside.zone.failing.add(f"MX {domain}")
    outside.publish()
    id_ = sender.submit(ALICE, [f"bob@{domain}"], "servfail")
    sender.wait_for(id_, "deferred")
    outside.zone.failing.clear()
    outside.publish()
    sender.mailctl("queue", "flush")
    sender.wait_for(id_, "delivered")
    assert sender.messages(ALICE) == []


def test_no_dns_at_all(sender, receiver, outside, domain):
    outside.stop_names()
    try:
        id_ = sender.submit(ALICE, [f"bob@{domain}"], "no dns")
        story = sender.wait_for(id_, "deferred")
        assert "DNS" in story["recipients"][0]["reason"]
    finally:
        outside.start_names()
    sender.mailctl("queue", "retry", id_)
    sender.wait_for(id_, "delivered")
    receiver.wait_for_mail("bob@answers.example", "no dns")


# DANE, RFC 7672


def tlsa(receiver: MailSite, *, wrong: bool = False) -> tuple[int, int, int, str]:
    """DANE-EE, the key, SHA-256."""
    certificate = x509.load_pem_x509_certificate(receiver.pair[0].read_bytes())
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashlib.sha256(key if not wrong else key + b"!").hexdigest()
    return 3, 1, 1, digest


@contextmanager
def published(outside: Outside, domain: str, receiver: MailSite, record) -> Iterator[None]:
    """A signed host of the domain, with a TLSA record."""
    host = f"mx.{domain}"
    name = f"_{outside.port}._tcp.{host}"
    outside.zone[host] = {"A": [receiver.address]}
    outside.zone[name] = {"TLSA": [record]}
    outside.zone.secure.add(domain)
    outside.domain(domain, host)
    try:
        yield
    finally:
        del outside.zone[name]
        outside.zone.secure.discard(domain)
        outside.publish()


def test_dane_that_fits(sender, receiver, outside, domain):
    with published(outside, domain, receiver, tlsa(receiver)):
        id_ = sender.submit(ALICE, [f"bob@{domain}"], "dane")
        story = sender.wait_for(id_, "delivered")
    assert story["attempts"][-1]["tls"].startswith("TLSv1.3")
    receiver.wait_for_mail("bob@answers.example", "dane")


def test_dane_that_does_not_fit(sender, receiver, outside, domain):
    with published(outside, domain, receiver, tlsa(receiver, wrong=True)):
        id_ = sender.submit(ALICE, [f"bob@{domain}"], "no dane")
        story = sender.wait_for(id_, "deferred")
        assert "TLSA" in story["recipients"][0]["reason"]
        outside.zone[f"_{outside.port}._tcp.mx.{domain}"]["TLSA"] = [tlsa(receiver)]
        outside.publish()
        sender.mailctl("queue", "retry", id_)
        sender.wait_for(id_, "delivered")
    assert receiver.subjects("bob@answers.example") == ["no dane"]


def test_dane_without_dnssec_counts_for_nothing(sender, receiver, outside, domain):
    with published(outside, domain, receiver, tlsa(receiver, wrong=True)):
        outside.zone.secure.discard(domain)
        outside.publish()
        sender.wait_for(sender.submit(ALICE, [f"bob@{domain}"], "unsigned"), "delivered")


# MTA-STS, RFC 8461


@contextmanager
def policy(
    outside: Outside, domain: str, text: str, *, trusted: bool = True
) -> Iterator[list[str]]:
    """``mta-sts.domain`` over HTTPS, and its record; what was asked for."""
    host = f"mta-sts.{domain}"
    address = outside.host(host)
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.headers['Host'].partition(':')[0]}{self.path}")
            body = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    names = [host] if trusted else ["somebody.example"]
    certificate, key = outside.certificate(outside.directory / host, *names)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer((address, outside.https_port), Handler) as server:
        # the handshake is the handler's, in its own thread
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        outside.zone[f"_mta-sts.{domain}"] = {"TXT": ["v=STSv1; id=1;"]}
        outside.publish()
        try:
            yield asked
        finally:
            server.shutdown()
            serving.join(DEADLINE)


def sts(mode: str, mx: str) -> str:
    return f"version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n"


def test_mta_sts_names_the_host(sender, receiver, outside, domain):
    with policy(outside, domain, sts("enforce", RECEIVER)) as asked:
        id_ = sender.submit(ALICE, [f"bob@{domain}"], "sts")
        story = sender.wait_for(id_, "delivered")
        assert asked == [f"mta-sts.{domain}/.well-known/mta-sts.txt"]
        assert story["attempts"][-1]["tls"].startswith("TLSv1.3")
        sender.wait_for(sender.submit(ALICE, [f"bob@{domain}"], "again"), "delivered")
        assert len(asked) == 1
    receiver.wait_for_mail("bob@answers.example", "sts", "again")


@pytest.mark.parametrize("mode", ["enforce", "testing"])
def test_mta_sts_names_another_host(sender, receiver, outside, domain, mode):
    with policy(outside, domain, sts(mode, "mx.elsewhere.example")):
        id_ = sender.submit(ALICE, [f"bob@{domain}"], mode)
        story = sender.wait_for(id_, "deferred" if mode == "enforce" else "delivered")
    assert ("MTA-STS" in story["recipients"][0]["reason"]) is (mode == "enforce")


def test_mta_sts_wants_a_certificate_for_the_host(sender, receiver, outside, domain):
    """The policy names the host, but what answers there has a certificate for another name."""
    host = f"mx.{domain}"
    outside.zone[host] = {"A": [receiver.address]}
    outside.domain(domain, host)
    with policy(outside, domain, sts("enforce", host)):
        id_ = sender.submit(ALICE, [f"bob@{domain}"], "wrong name")
        story = sender.wait_for(id_, "deferred")
    reason = story["recipients"][0]["reason"]
    assert f"not for {host}" in reason
    assert receiver.subjects("bob@answers.example") == []


def test_a_policy_from_somebody_else_is_none(sender, receiver, outside, domain):
    with policy(outside, domain, sts("enforce", "mx.elsewhere.example"), trusted=False) as asked:
        sender.wait_for(sender.submit(ALICE, [f"bob@{domain}"], "forged"), "delivered")
        assert asked == []


# REQUIRETLS, RFC 8689


def test_requiretls(sender, receiver, outside, domain):
    """What is said to need a protected way does not go where there is none."""
    host = f"mx.{domain}"
    outside.zone[host] = {"A": [receiver.address]}
    outside.domain(domain, host)
    with sender.smtp(ALICE) as session:
        session.ehlo()
        offered = session.has_extn("requiretls")
    assert offered
    id_ = sender.submit(ALICE, [f"bob@{domain}"], "secret", options=["REQUIRETLS"])
    sender.wait_for(id_, "deferred", "bounced")
    assert receiver.subjects("bob@answers.example") == []
