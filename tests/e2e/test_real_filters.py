"""Mail goes through filters that others have written, and through one that hangs."""

from __future__ import annotations

import re
import smtplib
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from filter_peers import EICAR, GTUBE, GTUBE_JUNK, Hung, clamd, opendkim, rspamd, spamd
from imapsite import imap, listed, uids
from mailsite import ALICE, BOB, DEADLINE, free_ports, until
from outside import parsed, written
from trusted import judging, results

pytestmark = pytest.mark.e2e

CAROL = "carol@elsewhere.example"
SMTP = 'on = ["smtp"]\n'


def table(kind: str, endpoint: str, more: str = "") -> str:
    return f'[[filters]]\nkind = "{kind}"\nendpoint = "{endpoint}"\n{more}'


def deliver(site, subject: str, text: str) -> tuple[int, bytes]:
    """Bring a message for alice to ``smtp``; the answer to its content."""
    with site.smtp() as session:
        session.ehlo()
        session.mail(CAROL)
        session.rcpt(ALICE)
        return session.data(written(subject, sender=CAROL, to=[ALICE], text=text))


def refused(answer: tuple[int, bytes]) -> None:
    code, text = answer
    assert code == 550, text
    assert text.startswith(b"5.7.1 "), text


def folder(site, name: str = "INBOX") -> list[str]:
    with imap(site, ALICE, name) as session:
        return [subject for _, (_, subject) in sorted(listed(session).items())]


def junk(site) -> list[str]:
    with imap(site, ALICE) as session:
        answer, data = session.list('""', "Junk")
        assert answer == "OK"
        if not data or data[0] is None:
            return []
        assert rb"\Junk" in data[0]
    return folder(site, "Junk")


# rspamd


@pytest.fixture(scope="module")
def running_rspamd():
    with rspamd() as running:
        yield running


@pytest.mark.needs("rspamd")
@pytest.mark.parametrize("way", ["http", "milter"])
def test_rspamd(make_site, running_rspamd, way):
    kind = {"http": "rspamd", "milter": "milter"}[way]
    site = make_site(extra=table(kind, getattr(running_rspamd, way)))
    site.start()
    assert deliver(site, "fine", "Nothing is wrong with me.")[0] == 250
    code, text = deliver(site, "gtube", GTUBE)
    assert code in (550, 554), text
    assert b"Gtube pattern" in text
    assert deliver(site, "perhaps", GTUBE_JUNK)[0] == 250
    assert folder(site) == ["fine"]
    assert junk(site) == ["perhaps"]
    # and what users send
    with site.smtp(BOB) as session:
        with pytest.raises(smtplib.SMTPDataError) as answer:
            session.sendmail(BOB, [ALICE], written("spam", sender=BOB, to=[ALICE], text=GTUBE))
        assert answer.value.smtp_code in (550, 554)
        session.sendmail(BOB, [ALICE], written("good", sender=BOB, to=[ALICE]))
    assert folder(site) == ["fine", "good"]


@pytest.mark.needs("rspamd")
def test_rspamd_is_told_who_it_is(make_site, running_rspamd):
    """It writes what it was told into its log, also of what came in pieces: a large message."""
    site = make_site(extra=table("rspamd", running_rspamd.http))
    site.start()
    code, text = deliver(site, "large", "x" * 60 + ("\n" + "y" * 70) * 30_000)
    assert code == 250, text
    id_ = text.decode().rpartition("queued as ")[2].strip()
    (line,) = [one for one in running_rspamd.log.splitlines() if f"qid: <{id_}>" in one]
    assert "ip: 127.0.0.1" in line
    assert f"from: <{CAROL}>" in line
    assert f"rcpts: <{ALICE}>" in line


# ClamAV


@pytest.fixture(scope="module")
def running_clamd():
    with clamd() as running:
        yield running


@pytest.mark.needs("clamd")
@pytest.mark.parametrize("way", ["unix", "tcp"])
def test_clamd(make_site, running_clamd, way):
    site = make_site(extra=table("clamav", getattr(running_clamd, way)))
    site.start()
    assert deliver(site, "fine", "Nothing is wrong with me.")[0] == 250
    refused(deliver(site, "eicar", EICAR))
    # behind what is larger than what is kept in memory
    refused(deliver(site, "hidden", ("y" * 70 + "\n") * 10_000 + EICAR))
    assert folder(site) == ["fine"]
    assert junk(site) == []


@pytest.mark.needs("clamd")
@pytest.mark.parametrize("malware", ["junk", "hold", "discard"])
def test_what_becomes_of_malware(make_site, running_clamd, malware):
    site = make_site(extra=table("clamav", running_clamd.unix, f'malware = "{malware}"\n'))
    site.start()
    assert deliver(site, "eicar", EICAR)[0] == 250
    assert deliver(site, "fine", "Nothing is wrong with me.")[0] == 250
    assert folder(site) == ["fine"]
    assert junk(site) == ([] if malware == "discard" else ["eicar"])


# SpamAssassin


@pytest.mark.needs("spamd")
def test_spamd(make_site):
    with spamd() as endpoint:
        site = make_site(extra=table("spamassassin", endpoint, "headers = true\n"))
        site.start()
        assert deliver(site, "fine", "Nothing is wrong with me.")[0] == 250
        assert deliver(site, "pills", "buy these pills\n")[0] == 250
        refused(deliver(site, "more pills", "buy all these pills\n"))
    assert folder(site) == ["fine"]
    assert junk(site) == ["pills"]
    for name, said in (("INBOX", "No, score=0.0"), ("Junk", "Yes, score=7.0")):
        with imap(site, ALICE, name) as session:
            (uid,) = uids(session)
            data = session.uid("FETCH", str(uid), "(BODY.PEEK[])")[1]
        message = parsed(data[0][1])
        assert message["X-Spam-Status"].startswith(said)
        assert message.get_content_type() == "text/plain"
        assert len(message.get_all("From")) == len(message.get_all("Received")) == 1


# All of them


@pytest.mark.needs("rspamd", "clamd", "spamd")
def test_one_after_the_other(make_site, running_rspamd, running_clamd):
    with spamd() as endpoint:
        site = make_site(
            extra=table("clamav", running_clamd.unix, SMTP)
            + table("rspamd", running_rspamd.http, SMTP)
            + table("spamassassin", endpoint, SMTP)
        )
        site.start()
        assert deliver(site, "fine", "Nothing is wrong with me.")[0] == 250
        refused(deliver(site, "eicar", EICAR))
        refused(deliver(site, "gtube", GTUBE))
        assert deliver(site, "pills", "buy these pills\n")[0] == 250
        refused(deliver(site, "more pills", "buy all these pills\n"))
        with site.smtp(BOB) as session:
            session.sendmail(BOB, [ALICE], written("eicar", sender=BOB, to=[ALICE], text=EICAR))
    assert folder(site) == ["fine", "eicar"]
    assert junk(site) == ["pills"]


# OpenDKIM


@pytest.mark.needs("opendkim")
def test_opendkim_verifies_as_a_milter(sites, outside):
    signs = judging(sites, "signs2.example", "alice")
    more = "AuthservID opendkim.example\nAlwaysAddARHeader yes\n"
    with opendkim(["Mode v", *more.splitlines()], outside.names_port) as endpoint:
        checks = judging(sites, "milter.example", "bob", extra=table("milter", endpoint))
        to = "bob@milter.example"
        signs.wait_for(signs.submit("alice@signs2.example", [to], "signed"), "delivered")
        (message,) = checks.wait_for_mail(to, "signed")
    ours, its = message.get_all("Authentication-Results")
    assert ours.startswith("mx.milter.example;")
    assert "opendkim.example;" in its
    assert re.findall(r"dkim=(\w+)", str(ours)) == ["pass", "pass"]
    assert re.findall(r"dkim=(\w+)", str(its)) == ["pass", "pass"]


@pytest.mark.needs("opendkim")
@pytest.mark.parametrize("canonical", ["simple/simple", "relaxed/relaxed"])
def test_opendkim_signs_as_a_milter(sites, outside, tmp_path, canonical):
    """For who has logged in, wherever he is; what it signed is what leaves."""
    domain = f"{canonical[:3]}.example"
    key, record = rsa_key(tmp_path)
    settings = ["Mode s", f"Domain {domain}", "Selector other", f"KeyFile {key}"]
    # nobody is near: the login counts
    settings += [f"Canonicalization {canonical}", "InternalHosts 192.0.2.1"]
    with opendkim(settings, outside.names_port) as endpoint:
        signs = judging(
            sites,
            domain,
            "alice",
            extra="[signing]\ndkim = false\n" + table("milter", endpoint, 'on = ["submission"]\n'),
        )
        outside.zone[f"other._domainkey.{domain}"] = {"TXT": [record]}
        checks = judging(sites, f"to-{domain}", "bob")
        alice, bob = f"alice@{domain}", f"bob@to-{domain}"
        content = written("by the milter", sender=alice, to=[bob], text="a  b \n\n.c\n\n\n")
        signs.wait_for(signs.submit(alice, [bob], content), "delivered")
    (message,) = checks.wait_for_mail(bob, "by the milter")
    assert len(message.get_all("DKIM-Signature")) == 1
    (one,) = [one for one in results(message) if "dkim" in one]
    assert (one["dkim"], one["header.s"]) == ("pass", "other")


def rsa_key(tmp_path):
    """A file that opendkim reads, and the record."""
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    from twisted_mail.storage.dkim_keys import record_text

    private = generate_private_key(65537, 2048)
    path = tmp_path / "key.pem"
    path.touch(0o600)
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path, record_text(private)


# A filter that hangs


@pytest.fixture
def hung():
    with closing(Hung()) as hung:
        yield hung


FAILURES = {"accept": 250, "defer": 451, "refuse": 550}


@pytest.mark.parametrize("kind", ["milter", "clamav", "rspamd", "spamassassin"])
def test_a_filter_that_hangs_holds_its_own_messages_only(make_site, hung, kind):
    """They are answered when it is gone; meanwhile others flow, on the same port, too."""
    site = make_site(
        extra=table(
            kind, hung.endpoint, 'on = ["submission"]\nseconds = 600\non_failure = "accept"\n'
        )
    )
    site.start()

    def send(number: int) -> None:
        with site.smtp(BOB) as session:
            session.sendmail(BOB, [ALICE], written(f"held {number}", sender=BOB, to=[ALICE]))

    with ThreadPoolExecutor(3) as senders:
        try:
            held = [senders.submit(send, number) for number in range(3)]
            until(lambda: hung.connections == 3, "all of them are shown to it")
            for number in range(20):
                site.send(f"free {number}")
            assert site.subjects() == [f"free {number}" for number in range(20)]
            assert not any(one.done() for one in held)
            with site.smtp(BOB) as session:
                assert session.noop()[0] == 250
        finally:
            hung.close()
        for one in held:
            one.result(DEADLINE)
    assert sorted(site.subjects()[20:]) == ["held 0", "held 1", "held 2"]


@pytest.mark.parametrize("kind", ["milter", "clamav", "rspamd", "spamassassin"])
def test_who_leaves_a_filter_that_hangs_leaves_nothing_behind(make_site, hung, kind):
    site = make_site(extra=table(kind, hung.endpoint, SMTP + "seconds = 600\nconnections = 2\n"))
    site.start()
    for number in range(1, 5):
        session = smtplib.SMTP("localhost", site.ports["smtp"], "x.example", DEADLINE)
        session.ehlo()
        commands = f"MAIL FROM:<{CAROL}>\r\nRCPT TO:<{ALICE}>\r\nDATA\r\n".encode()
        session.sock.sendall(commands)
        if kind != "milter":
            for _ in range(3):
                session.getreply()
            session.sock.sendall(written("gone", sender=CAROL, to=[ALICE]) + b".\r\n")
        until(lambda number=number: hung.connections == number, "it is asked")
        # who only stops writing may still wait for his answer
        linger = struct.pack("ii", 1, 0)
        session.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        session.close()
    until(lambda: hung.closed() == 4, "the server has let go of all of them")
    assert site.subjects() == []


@pytest.mark.parametrize("on_failure", FAILURES)
@pytest.mark.parametrize("there", [True, False], ids=["hangs", "is not there"])
def test_a_filter_that_fails(make_site, hung, on_failure, there):
    (nobody,) = free_ports(1)
    endpoint = hung.endpoint if there else f"tcp:127.0.0.1:{nobody}"
    more = f'seconds = 1\non_failure = "{on_failure}"\n'
    site = make_site(
        extra=table("milter", endpoint, more + 'on = ["submission"]\n')
        + table("clamav", endpoint, more + SMTP)
    )
    site.start()
    expected = FAILURES[on_failure]
    code, text = deliver(site, "from outside", "Hello.")
    assert code == expected, text
    with site.smtp(BOB) as session:
        try:
            session.sendmail(BOB, [ALICE], written("by bob", sender=BOB, to=[ALICE]))
            code, text = 250, b""
        except smtplib.SMTPResponseException as error:
            code, text = error.smtp_code, error.smtp_error
    assert code == expected, text
    if code != 250:
        assert re.match(rb"[45]\.7\.1 |4\.3\.0 ", text), text
    assert folder(site) == (["from outside", "by bob"] if code == 250 else [])
