"""A worker, which asks no CA, shows a CA the proofs that the main process has it look for."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from renewing import NAMES, Site

from twisted_mail.acme.challenges import TLS_ALPN
from twisted_mail.acme.site import SiteCertificates
from twisted_mail.certs import make_development_certificates
from twisted_mail.config import Config
from twisted_mail.serving import make_tls
from twisted_mail.testing import simulated_world


def worker_of(directory: Path, secret: Path) -> SiteCertificates:
    """As a worker makes it, which may not read what only root may."""
    values = {
        "hostname": NAMES[0],
        "data": str(directory),
        "tls": {"acme": True},
        "acme": {"challenge": TLS_ALPN, "eab_kid": "kid", "eab_key_file": str(secret)},
        "listen": {"https": ["tcp:443"]},
    }
    config = Config.model_validate(values, context={"directory": directory})
    return SiteCertificates(config, simulated_world(), renews=False)


def is_proof(certificate: x509.Certificate) -> bool:
    return any(part.oid.dotted_string == "1.3.6.1.5.5.7.1.31" for part in certificate.extensions)


def test_the_proof_is_shown_by_a_worker_when_the_ca_looks_and_not_before_or_after(
    tmp_path: Path,
) -> None:
    (tmp_path / "data").mkdir()
    site = Site(tmp_path / "data", kind=TLS_ALPN)
    worker = worker_of(tmp_path / "data", tmp_path / "secret")
    shown: list[bool] = []

    def look(token: str) -> bytes | None:
        # The CA has just been told that it may look
        for name in NAMES:
            found = worker.prove(name)
            shown.append(found is not None and is_proof(found[0]))
        assert worker.prove("other.example.org") is None
        return f"{token}.thumbprint".encode()

    site.ca.look = look
    assert worker.prove(NAMES[0]) is None
    site.start()
    assert site.renewed == 1
    assert shown and all(shown)
    assert worker.prove(NAMES[0]) is None
    site.close()


def test_a_worker_that_is_told_serves_the_new_certificate_at_once(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    site = Site(tmp_path / "data", kind=TLS_ALPN)
    site.ca.look = lambda token: f"{token}.thumbprint".encode()
    worker = worker_of(tmp_path / "data", tmp_path / "secret")
    world = simulated_world()
    made = make_development_certificates(tmp_path / "certs", NAMES[0], now=world.now())
    tls = make_tls([(made.certificate, made.key)], worker, world)
    before = tls.files
    site.start()
    tls.reload()
    new = tls.files[worker.certificate]
    assert worker.certificate not in before
    (served,) = [one for one in x509.load_pem_x509_certificates(new) if one == site.served]
    assert served.public_bytes(serialization.Encoding.PEM) in new
    site.close()
