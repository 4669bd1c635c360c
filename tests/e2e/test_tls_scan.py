"""What the TLS of every port takes and refuses: modern suites alone, nothing older than 1.2, no renegotiation.

The probes are ours, by ``openssl s_client``. What testssl.sh and sslyze find is the long form: ``nox -s tls-scan``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mailsite import LISTENERS, Site, free_ports
from tls_probes import ANYTHING, STARTTLS, but, known_ciphers, probe

MODERN = {
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
}
"""Of TLS 1.2, for a key on P-256, as the development certificate has it."""
e2e = [pytest.mark.e2e, pytest.mark.needs("openssl")]


def marked(*marks: pytest.MarkDecorator) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def mark(test: Callable[..., None]) -> Callable[..., None]:
        for one in marks:
            test = one(test)
        return test

    return mark


def certified(certificate: Path, key: Path) -> None:
    """A certificate of nobody's for localhost, and its key of RSA."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )


@pytest.fixture(params=LISTENERS)
def port(request: pytest.FixtureRequest, prepared: Site) -> tuple[str, int]:
    """A listener and its port."""
    return request.param, prepared.ports[request.param]


@marked(*e2e)
def test_a_modern_client_is_served_and_verifies_us(port: tuple[str, int], prepared: Site) -> None:
    verify = ("-CAfile", prepared.ca, "-verify_hostname", "localhost", "-verify_return_error")
    newest = probe(*port, *verify)
    assert newest.version == "TLSv1.3", newest.text
    assert newest.says(r"Verification: OK")
    assert newest.says(r"Compression: NONE")
    # RFC 8446 section 8: who repeats what came early would repeat a login
    assert newest.says(r"Max Early Data: 0") or not newest.says(r"Max Early Data")
    older = probe(*port, "-tls1_2", *verify)
    assert older.version == "TLSv1.2", older.text
    assert older.cipher in MODERN
    assert older.says(r"Secure Renegotiation IS supported")
    assert older.says(r"Extended master secret: yes")
    assert older.says(r"Compression: NONE")


@marked(*e2e)
def test_what_is_old_is_refused(port: tuple[str, int]) -> None:
    for old in ("-tls1", "-tls1_1"):
        assert probe(*port, old, "-cipher", ANYTHING).version is None, old
    # in one handshake: everything that is not modern, in the order of the client's
    weak = but(known_ciphers(ANYTHING), sorted(MODERN))
    answer = probe(*port, "-tls1_2", "-cipher", weak)
    assert answer.cipher is None, answer.text
    # RFC 9155: no signature by SHA-1
    sha1 = ("-tls1_2", "-cipher", ANYTHING, "-sigalgs", "ECDSA+SHA1:RSA+SHA1")
    assert probe(*port, *sha1).cipher is None


@marked(*e2e)
def test_a_client_that_renegotiates_is_told_no(port: tuple[str, int]) -> None:
    answer = probe(*port, "-tls1_2", input="R\n")
    assert answer.version == "TLSv1.2"
    assert answer.says("RENEGOTIATING"), answer.text
    assert answer.says("no renegotiation"), answer.text


def suites(port: int) -> list[str]:
    """What is taken of TLS 1.2, the best first."""
    known, taken = known_ciphers(ANYTHING), []
    while True:
        answer = probe("submissions", port, "-tls1_2", "-cipher", but(known, taken))
        if answer.cipher is None:
            return taken
        assert answer.cipher not in taken
        taken.append(answer.cipher)


@marked(*e2e)
def test_what_there_is_for_a_key_of_rsa(tmp_path: Path) -> None:
    """Suites that carry their key by RSA would be there now (ROBOT), and CBC where it is asked for."""
    certificate, key = tmp_path / "rsa.pem", tmp_path / "rsa.key"
    certified(certificate, key)
    tls = f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    found = {}
    for cbc in ("false", "true"):
        site = Site(tmp_path / f"cbc-{cbc}", f"{tls}cbc = {cbc}\n")
        site.start()
        try:
            found[cbc] = suites(site.ports["submissions"])
        finally:
            site.close()
    modern = {one.replace("ECDSA", "RSA") for one in MODERN}
    assert set(found["false"]) == modern
    assert set(found["true"]) == modern | {"ECDHE-RSA-AES256-SHA384", "ECDHE-RSA-AES128-SHA256"}
    assert set(found["true"][-2:]).isdisjoint(modern), "CBC comes last"


@marked(*e2e)
def test_the_probes_can_see_what_is_weak(tmp_path: Path) -> None:
    """Of a server that takes all that its OpenSSL has."""
    certificate, key = tmp_path / "weak.pem", tmp_path / "weak.key"
    certified(certificate, key)
    (port,) = free_ports(1)
    server = subprocess.Popen(
        [
            *("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", certificate),
            *("-key", key, "-cipher", ANYTHING, "-client_renegotiation", "-legacy_renegotiation"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OPENSSL_CONF": "/dev/null"},
    )
    try:
        assert server.stdout is not None
        while "ACCEPT" not in server.stdout.readline():
            assert server.poll() is None
        old = probe("submissions", port, "-tls1", "-cipher", ANYTHING)
        assert old.version == "TLSv1", old.text
        weak = but(known_ciphers(ANYTHING), sorted(MODERN))
        assert probe("submissions", port, "-tls1_2", "-cipher", weak).cipher is not None
        again = probe("submissions", port, "-tls1_2", input="R\n")
        assert again.says("RENEGOTIATING") and not again.says("no renegotiation"), again.text
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        server.stdin.close()


# The long form


@pytest.fixture
def scanned(tmp_path: Path) -> Iterator[tuple[Site, dict[str, int]]]:
    """A site with its web port, whose limits let a scanner in; and all its ports."""
    (web,) = free_ports(1)
    https = f'https = ["tcp:{web}:interface=127.0.0.1"]\n'
    limits = "[limits]\nconnections_per_address = 500\nerrors = 1000\n"
    site = Site(tmp_path / "site", https + limits)
    site.start()
    yield site, {**site.ports, "https": web}
    site.close()


@pytest.mark.soak
def test_sslyze_finds_it_as_mozilla_wants_it(scanned: tuple[Site, dict[str, int]]) -> None:
    """Mozilla's "intermediate": certificate, versions, suites, groups; and every known attack that it tries."""
    if shutil.which("sslyze") is None:
        pytest.skip("sslyze is not installed")
    site, ports = scanned
    for listener, port in ports.items():
        output = site.directory / f"sslyze-{listener}.json"
        starttls = ["--starttls", STARTTLS[listener]] if listener in STARTTLS else []
        done = subprocess.run(
            [
                *("sslyze", "--mozilla_config", "intermediate", "--certinfo_ca_file", site.ca),
                *("--json_out", output, *starttls, f"localhost:{port}"),
            ],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{listener}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        (result,) = json.loads(output.read_text())["server_scan_results"]
        found = result["scan_result"]
        assert not found["heartbleed"]["result"]["is_vulnerable_to_heartbleed"]
        assert not found["openssl_ccs_injection"]["result"]["is_vulnerable_to_ccs_injection"]
        assert not found["tls_compression"]["result"]["supports_compression"]
        assert not found["session_renegotiation"]["result"][
            "is_vulnerable_to_client_renegotiation_dos"
        ]
        assert found["tls_fallback_scsv"]["result"]["supports_fallback_scsv"]
        assert found["robot"]["result"]["robot_result"].startswith("NOT_VULNERABLE")
        print(f"sslyze: {listener}: clean")


# Of a certificate that nobody but its site knows: there is no authority that would revoke it, or log it.
OF_THE_CERTIFICATE = ("cert_revocation", "cert_crl", "cert_ocsp", "cert_caa", "DNS_CAArecord")


@pytest.mark.soak
def test_testssl_finds_nothing(scanned: tuple[Site, dict[str, int]]) -> None:
    if (program := shutil.which("testssl") or shutil.which("testssl.sh")) is None:
        pytest.skip("testssl.sh is not installed")
    site, ports = scanned
    wrong = []
    for listener, port in ports.items():
        output = site.directory / f"testssl-{listener}.json"
        starttls = ["--starttls", STARTTLS[listener]] if listener in STARTTLS else []
        subprocess.run(
            [
                *(program, "--quiet", "--color", "0", "--warnings", "off", "--add-ca", site.ca),
                *("-p", "-s", "-f", "-P", "-S", "-U", "--jsonfile", output, *starttls),
                f"localhost:{port}",
            ],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=900,
        )
        found = json.loads(output.read_text())
        # It has got through: the last of its questions, and a handshake
        ids = {one["id"] for one in found}
        assert {"RC4", "LUCKY13", "TLS1_3", "secure_client_renego"} <= ids, (listener, ids)
        wrong += [
            f"{listener}: {one['id']}: {one['severity']}: {one['finding']}"
            for one in found
            if one["severity"] not in ("OK", "INFO")
            and not one["id"].startswith(OF_THE_CERTIFICATE)
        ]
        print(f"testssl.sh: {listener}: {len(found)} findings")
    assert not wrong, "\n".join(wrong)
