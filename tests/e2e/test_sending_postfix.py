"""Debian's Postfix as the destination and as a smarthost."""

from __future__ import annotations

import os
from email.message import EmailMessage

import pytest
from mailsite import PASSWORD, until
from outside import Notice, written
from peers import Dovecot, Greylist, Postfix, open_directory

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.needs("postfix", "dovecot", "/usr/lib/dovecot/lmtp"),
    pytest.mark.skipif(os.geteuid() != 0, reason="Postfix and Dovecot are started by root only"),
]

ALICE = "alice@sends.example"
LIMIT = 50_000
DOMAINS = {
    "plain.example": (
        "smtpd_recipient_restrictions=check_recipient_access texthash:{root}/recipients,"
        " check_policy_service inet:127.0.0.1:{greylist}",
    ),
    "seven.example": ("smtpd_discard_ehlo_keywords=8bitmime",),
    "ascii.example": ("smtpd_discard_ehlo_keywords=smtputf8",),
    "small.example": (f"message_size_limit={LIMIT}",),
    "bare.example": ("smtpd_tls_security_level=none",),
    "old.example": (
        "smtpd_discard_ehlo_keywords=pipelining,8bitmime,chunking,dsn,size,enhancedstatuscodes",
    ),
    "smart.example": (
        "smtpd_sasl_auth_enable=yes",
        "smtpd_tls_auth_only=yes",
        "smtpd_sasl_type=dovecot",
        "smtpd_sasl_path={auth}",
        "smtpd_recipient_restrictions=permit_sasl_authenticated, reject",
    ),
}
LOGIN = "relay@smart.example"


@pytest.fixture(scope="module")
def directory():
    with open_directory() as made:
        yield made


@pytest.fixture(scope="module")
def dovecot(directory):
    place = directory / "dovecot"
    place.mkdir()
    made = Dovecot(place, [LOGIN], PASSWORD)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def postfix(directory, dovecot, outside):
    greylist = Greylist()
    place = directory / "postfix"
    place.mkdir()
    (place / "recipients").write_text("refused@plain.example 550 5.7.1 not you\n")
    listeners = {}
    for domain, options in DOMAINS.items():
        outside.domain(domain)
        values = {"root": place, "auth": dovecot.auth, "greylist": greylist.port}
        listeners[outside.address_of(f"mx.{domain}")] = [one.format(**values) for one in options]
    made = Postfix(
        place,
        outside,
        [f"mx.{domain}" for domain in [*DOMAINS, "wrong.example"]],
        [*DOMAINS, "far.example"],
        listeners,
    )
    try:
        made.start()
        yield made
        made.stop()
    finally:
        greylist.close()


@pytest.fixture(scope="module")
def sender(sites, outside):
    port = outside.port
    # one destination has one login
    outside.zone["mx.wrong.example"] = {"CNAME": ["mx.smart.example"]}
    outside.publish()
    routes = f'''
[[delivery.tls_policy]]
domain = "plain.example"
tls = "verified"

[[routes]]
domain = "far.example"
via = "smtp://mx.smart.example:{port}"
username = "{LOGIN}"
password = "{PASSWORD}"

[[routes]]
domain = "wrong.example"
via = "smtp://mx.wrong.example:{port}"
username = "{LOGIN}"
password = "not this one"

[[routes]]
domain = "clear.example"
via = "smtp://mx.bare.example:{port}"
username = "{LOGIN}"
password = "{PASSWORD}"
'''
    return sites("sends.example", "alice", extra=routes)


def arrived(postfix: Postfix, domain: str, subject: str) -> EmailMessage:
    """The message with this subject, delivered once."""
    found: list[EmailMessage] = []

    def there() -> bool:
        found[:] = [one for one in postfix.messages(domain) if one["Subject"] == subject]
        return bool(found)

    until(there, f"{subject} is delivered by postfix")
    (one,) = found
    return one


def bounced(sender, id_: str, subject: str) -> Notice:
    sender.wait_for(id_, "bounced")
    return sender.notice(ALICE, subject)


def test_over_verified_tls(sender, postfix):
    id_ = sender.submit(ALICE, ["bob@plain.example", "carol@plain.example"], "verified")
    story = sender.wait_for(id_, "delivered")
    (attempt,) = story["attempts"]
    assert attempt["tls"] == "TLSv1.3 TLS_AES_256_GCM_SHA384 verified"
    until(lambda: len(postfix.messages("plain.example")) == 2, "both are delivered")
    got = postfix.messages("plain.example")[0]
    assert got["Return-Path"] == f"<{ALICE}>"
    assert "using TLSv1.3" in got.get_all("Received")[0]


def test_each_recipient_has_an_answer_of_its_own(sender, postfix):
    """One is taken, one is refused, one has to wait a while."""
    dave, grey, refused = (f"{name}@plain.example" for name in ("dave", "grey", "refused"))
    id_ = sender.submit(ALICE, [grey, refused, dave], "three")
    wanted = {dave: "delivered", grey: "deferred", refused: "bounced"}
    until(lambda: sender.states(id_) == wanted, "each has its answer")
    notice = sender.notice(ALICE, "three")
    assert notice.recipient["Final-Recipient"] == f"rfc822;{refused}"
    assert notice.recipient["Status"] == "5.7.1"
    assert f"mx.plain.example said: 550 5.7.1 <{refused}>" in notice.words
    assert dave not in notice.words
    assert grey not in notice.words
    # the destination is not blamed
    story = sender.story(id_)
    assert {one["trouble"] for one in story["recipients"]} == {""}
    assert "Greylisted" in story["recipients"][0]["reason"]

    sender.mailctl("queue", "retry", id_)
    until(lambda: sender.states(id_)[grey] == "delivered", "the second try succeeds")
    until(
        lambda: len([m for m in postfix.messages("plain.example") if m["Subject"] == "three"]) == 2,
        "two have it, once",
    )
    sender.empty(ALICE)


def test_nobody_there(sender, postfix):
    """The domain that the MX does not serve."""
    sender.outside.domain("strange.example", "mx.bare.example")
    id_ = sender.submit(ALICE, ["bob@strange.example"], "strange")
    notice = bounced(sender, id_, "strange")
    assert "mx.bare.example said: 5" in notice.words
    sender.empty(ALICE)


def test_in_clear_to_who_has_no_tls(sender, postfix):
    story = sender.wait_for(sender.submit(ALICE, ["bob@bare.example"], "clear"), "delivered")
    assert story["attempts"][-1]["tls"] == ""
    arrived(postfix, "bare.example", "clear")


EIGHT = "Schöne Grüße, žofie\n"


def eight_bit(subject: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = ALICE
    message["To"] = "bob@example.com"
    message["Subject"] = subject
    message.set_content(EIGHT, cte="8bit")
    return message


@pytest.mark.parametrize("domain", ["bare.example", "seven.example", "old.example"])
def test_eight_bits(sender, postfix, domain):
    """The text arrives whatever the other server can take; in another encoding where it has to be."""
    subject = f"eight bits to {domain}"
    options = ["BODY=8BITMIME"]
    id_ = sender.submit(ALICE, [f"bob@{domain}"], eight_bit(subject), options=options)
    sender.wait_for(id_, "delivered")
    got = arrived(postfix, domain, subject)
    assert got.get_content() == EIGHT
    converted = got["Content-Transfer-Encoding"] in ("quoted-printable", "base64")
    assert converted is (domain != "bare.example")


def test_a_signed_part_is_not_converted(sender, postfix):
    text = (
        f"From: {ALICE}\r\nTo: bob@seven.example\r\nSubject: signed\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/signed; protocol="application/pgp-signature"; micalg=pgp-sha256;'
        ' boundary="x"\r\n\r\n--x\r\nContent-Type: text/plain; charset=utf-8\r\n'
        "Content-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n--x\r\n"
        "Content-Type: application/pgp-signature\r\n\r\nsignature\r\n--x--\r\n"
    )
    id_ = sender.submit(ALICE, ["bob@seven.example"], text.encode(), options=["BODY=8BITMIME"])
    notice = bounced(sender, id_, "signed")
    assert notice.recipient["Status"] == "5.6.3"
    sender.empty(ALICE)


def test_international_addresses(sender, postfix):
    id_ = sender.submit(
        ALICE, ["bob@bare.example"], international("known"), options=["SMTPUTF8", "BODY=8BITMIME"]
    )
    sender.wait_for(id_, "delivered")
    assert arrived(postfix, "bare.example", "known")["To"] == "žofie@bare.example"


def test_international_addresses_where_nobody_knows_them(sender, postfix):
    id_ = sender.submit(
        ALICE,
        ["bob@ascii.example"],
        international("unknown"),
        options=["SMTPUTF8", "BODY=8BITMIME"],
    )
    notice = bounced(sender, id_, "unknown")
    assert notice.recipient["Status"] == "5.6.7"
    assert "knows only addresses of plain letters" in notice.words
    sender.empty(ALICE)


def international(subject: str) -> bytes:
    return (
        f"From: {ALICE}\r\nTo: žofie@bare.example\r\nSubject: {subject}\r\n\r\nhello\r\n".encode()
    )


def test_a_message_over_the_other_servers_limit(sender, postfix):
    """Nothing of it is sent: the limit stands in the reply to EHLO."""
    text = "a line of thirty-two characters.\n" * (LIMIT // 30)
    message = written("large", sender=ALICE, to=["bob@small.example"], text=text)
    notice = bounced(sender, sender.submit(ALICE, ["bob@small.example"], message), "large")
    assert notice.recipient["Status"] == "5.3.4"
    assert "The message is too big." in notice.words
    assert str(LIMIT) in notice.words
    sender.empty(ALICE)
    sender.wait_for(sender.submit(ALICE, ["bob@small.example"], "small"), "delivered")


# A smarthost


def test_a_smarthost_with_login(sender, postfix):
    id_ = sender.submit(ALICE, ["bob@far.example"], "by the smarthost")
    story = sender.wait_for(id_, "delivered")
    assert story["attempts"][-1]["host"] == "mx.smart.example"
    assert story["attempts"][-1]["tls"].startswith("TLSv1.3")
    got = arrived(postfix, "far.example", "by the smarthost")
    assert "ESMTPSA" in got.get_all("Received")[0]


def test_a_wrong_password(sender, postfix):
    id_ = sender.submit(ALICE, ["bob@wrong.example"], "wrong password")
    story = sender.wait_for(id_, "deferred")
    assert "535" in story["attempts"][-1]["text"]
    assert "not this one" not in sender.log


def test_no_password_goes_over_the_line_in_clear(sender, postfix):
    id_ = sender.submit(ALICE, ["bob@clear.example"], "clear password")
    story = sender.wait_for(id_, "deferred")
    assert "TLS" in story["attempts"][-1]["text"]
    assert postfix.messages("clear.example") == []
