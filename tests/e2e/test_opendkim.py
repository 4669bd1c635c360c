"""OpenDKIM verifies what we sign, and signs what we verify: its test mode, without a mail server."""

from __future__ import annotations

import re
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from mailsite import DEADLINE
from twisted.internet.defer import Deferred

from twisted_mail.message.dkim_body import BodyHash
from twisted_mail.policy.dkim_key import Keys
from twisted_mail.policy.dkim_sign import sign
from twisted_mail.policy.dkim_verify import Verification
from twisted_mail.storage.dkim_keys import DkimKey, record_text
from twisted_mail.testing.dns import FakeResolver, Zone

pytestmark = [pytest.mark.e2e, pytest.mark.needs("opendkim")]

NOW = 1_700_000_000  # opendkim has a clock of its own
BODIES = [
    b"",
    b"\n",
    b"one line\n",
    b"a  b \t\n\n\n",
    b"\n\n lead\n \nend\n",
    b"\xff\xc3\xa9\n" * 40,
]
HEADERS = [
    b"From: a@example.org\n",
    b"From: a@example.org\nTo: b\nTo: c\nSubject:\n  folded\n\ttwice  \nX-Any : \xc3\xa9\n"
    b"Date: Mon, 7 Feb 2022 21:52:25 +0000\nList-Id: <l.example.org>\n",
]
CASES = [(header, body) for header in HEADERS for body in BODIES]


@pytest.fixture(scope="module")
def keys():
    return [
        DkimKey("example.org", "rsa", "rsa-sha256", generate_private_key(65537, 2048)),
        DkimKey("example.org", "ed", "ed25519-sha256", Ed25519PrivateKey.generate()),
    ]


def opendkim(tmp_path, settings, header, body):
    """What its test mode says."""
    configuration = tmp_path / "opendkim.conf"
    configuration.write_text(
        "Syslog no\nRequireSafeKeys no\n" + "".join(f"{one}\n" for one in settings)
    )
    message = tmp_path / "message"
    message.write_bytes((header + b"\n" + body).replace(b"\n", b"\r\n"))
    done = subprocess.run(
        ["opendkim", "-x", configuration, "-t", message, "-v", "-v"],
        capture_output=True,
        timeout=DEADLINE,
    )
    return (done.stdout + done.stderr).decode("latin-1")


def zone_file(tmp_path, keys):
    path = tmp_path / "zone"
    path.write_text(
        "".join(
            f"{key.selector}._domainkey.{key.domain} {record_text(key.private)}\n" for key in keys
        )
    )
    return path


@pytest.mark.parametrize(("header", "body"), CASES)
def test_it_verifies_ours(tmp_path, keys, header, body):
    hashing = BodyHash(relaxed=True)
    hashing.update(body)
    signed = sign(keys, header, hashing.digest(), now=NOW) + header
    settings = ["Mode v", f"TestDNSData {zone_file(tmp_path, keys)}"]
    said = opendkim(tmp_path, settings, signed, body)
    assert re.findall(r"dkim=(\w+)[^;]*header\.s=(\w+)", said) == [("pass", "rsa"), ("pass", "ed")]
    said = opendkim(tmp_path, settings, signed.replace(b"a@example", b"b@example"), body)
    assert re.findall(r"dkim=(\w+)", said).count("pass") == 0


@pytest.mark.parametrize("canonical", ["simple/simple", "relaxed/relaxed", "simple/relaxed"])
@pytest.mark.parametrize(("header", "body"), CASES)
def test_we_verify_its(tmp_path, keys, header, body, canonical):
    if canonical.startswith("simple"):
        # a milter is not told what stands around the colon
        header = header.replace(b"Subject:\n ", b"Subject:").replace(b"X-Any :", b"X-Any:")
    pem = tmp_path / "key.pem"
    pem.touch(0o600)
    pem.write_bytes(
        keys[0].private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    settings = [
        *("Mode s", "Domain example.org", "Selector rsa", f"KeyFile {pem}"),
        *("SignatureAlgorithm rsa-sha256", f"Canonicalization {canonical}"),
    ]
    said = opendkim(tmp_path, settings, header, body)
    found = re.search(r"hname='DKIM-Signature' hvalue='([^']*)'", said)
    assert found, said
    field = b"DKIM-Signature:" + found[1].encode("latin-1").replace(b"\r", b"") + b"\n"
    zone = Zone({"rsa._domainkey.example.org": {"TXT": [record_text(keys[0].private)]}})
    for separator in (b"", b" "):
        # how the value is put behind the colon is the mail server's; simple shows it
        text = field.replace(b":", b":" + separator, 1)
        verification = Verification(text + header, Keys(FakeResolver(zone), lambda: NOW), now=NOW)
        verification.update(body)
        out = []
        Deferred.fromCoroutine(verification.results()).addBoth(out.append)
        if out[0][0][0].result == "pass":
            break
    assert [one.result for one in out[0][0]] == ["pass"], (said, out)
