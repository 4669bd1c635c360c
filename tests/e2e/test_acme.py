"""Certificates of a real CA program: Debian's pebble issues for a twistd, and renews while clients stay connected."""

from __future__ import annotations

import json
import os
import shutil
import smtplib
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from imaplib import IMAP4_SSL
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from mailsite import ALICE, DEADLINE, PASSWORD, Site, free_ports, letter, run, until

pytestmark = [pytest.mark.e2e, pytest.mark.needs("pebble", "pebble-challtestsrv", "openssl")]

HOST = "mail.example.org"


class Pebble:
    """The CA, and a name server that says 127.0.0.1 to everything."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port, self.management, self.dns, self.challenges, self.http, self.tls = free_ports(6)
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(directory / "pebble-ca.pem"))
        own = ca.issue_cert("localhost", "127.0.0.1")
        own.private_key_pem.write_to_path(str(directory / "pebble.key"))
        own.cert_chain_pems[0].write_to_path(str(directory / "pebble.pem"))
        self._trust = str(directory / "pebble-ca.pem")
        settings = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(directory / "pebble.pem"),
            "privateKey": str(directory / "pebble.key"),
            "httpPort": self.http,
            "tlsPort": self.tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": True,
            "externalAccountMACKeys": {
                "kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
            },
        }
        (directory / "eab").write_text(settings["externalAccountMACKeys"]["kid-1"] + "\n")  # type: ignore[index]
        (directory / "pebble.json").write_text(json.dumps({"pebble": settings}))
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def tables(self) -> str:
        return (
            f'[acme]\ndirectory = "https://localhost:{self.port}/dir"\n'
            f'ca_file = "{self._trust}"\neab_kid = "kid-1"\neab_key_file = "{self.directory}/eab"\n'
        )

    @property
    def log(self) -> str:
        return (self.directory / "pebble.log").read_text(errors="replace")

    def start(self) -> None:
        self._spawn(
            "pebble-challtestsrv", "-defaultIPv6", "", "-defaultIPv4", "127.0.0.1",
            "-dns01", f"127.0.0.1:{self.dns}", "-http01", "", "-https01", "", "-tlsalpn01", "",
            "-management", f"127.0.0.1:{self.challenges}",
        )  # fmt: skip
        self._spawn(
            "pebble", "-strict", "-config", str(self.directory / "pebble.json"),
            "-dnsserver", f"127.0.0.1:{self.dns}",
        )  # fmt: skip
        until(lambda: answers(self.port), "pebble listens")

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(DEADLINE)
        self._processes = []

    def root(self) -> str:
        """The authority that it issues by: another one at each start."""
        url = f"https://localhost:{self.management}/roots/0"
        return run(["curl", "-sS", "--cacert", self._trust, url]).stdout

    def _spawn(self, *command: str) -> None:
        with (self.directory / "pebble.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "PEBBLE_VA_NOSLEEP": "1"},
                )
            )


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture
def pebble(tmp_path: Path) -> Iterator[Pebble]:
    (tmp_path / "pebble").mkdir()
    made = Pebble(tmp_path / "pebble")
    yield made
    made.stop()


class CertifiedSite(Site):
    """A site with ``[tls] acme = true``, its web ports where pebble looks."""

    def __init__(self, directory: Path, pebble: Pebble, challenge: str) -> None:
        self._pebble = pebble
        self._challenge = challenge
        super().__init__(directory)

    def write_configuration(self) -> None:
        super().write_configuration()
        pebble = self._pebble
        ports = f'http = ["tcp:{pebble.http}:interface=127.0.0.1"]\n'
        ports += f'https = ["tcp:{pebble.tls}:interface=127.0.0.1"]\n'
        text = self.config.read_text().replace('"localhost"', f'"{HOST}"') + ports
        text += f"[tls]\nacme = true\n{pebble.tables}"
        text += f'challenge = "{self._challenge}"\nnames = ["imap.example.org"]\n'
        text += '[mta_sts]\ndomains = ["example.org"]\nmode = "enforce"\n'
        self.config.write_text(text)

    @property
    def state(self) -> dict[str, Any]:
        (found,) = json.loads(self.mailctl("certs", "--json").stdout)
        assert isinstance(found, dict)
        return found

    def served_everywhere(self, wanted: Callable[[x509.Certificate], bool]) -> x509.Certificate:
        """What new connections get at every process, once that is the same and as it is wanted.

        Processes take turns, and each reads a new certificate at a moment of its own.
        """
        found: set[x509.Certificate] = set()

        def same() -> bool:
            found.clear()
            for port in ("submissions", "pop3s", "imaps"):
                found.update(self.served(port) for _ in range(3))
            return len(found) == 1 and all(map(wanted, found))

        until(same, lambda: f"one certificate, and not {found}\n{self.log}")
        (one,) = found
        return one

    @property
    def has_certificate(self) -> bool:
        return (self.data / "acme/certificate.pem").exists()

    def wait_until_issued(self) -> None:
        until(
            lambda: self.has_certificate,
            lambda: f"a certificate\n{self.log}\n{self._pebble.log[-3000:]}",
        )
        # this process has read it when it says so
        until(lambda: "a new certificate for" in self.log, "it is served")

    def tls_of_development(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.ca))
        context.check_hostname = False  # its clients connect to localhost
        return context

    def served(self, port: str = "imaps", name: str = HOST) -> x509.Certificate:
        """What a new connection gets."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with (
            self.connect(port) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            der = secure.getpeercert(binary_form=True)
            assert der is not None
            return x509.load_der_x509_certificate(der)


@pytest.fixture
def make_certified(
    tmp_path: Path, accounts: Path, pebble: Pebble
) -> Iterator[Callable[[str], CertifiedSite]]:
    made: list[CertifiedSite] = []

    def make(challenge: str) -> CertifiedSite:
        site = CertifiedSite(tmp_path / "site", pebble, challenge)
        shutil.copytree(accounts, site.data)
        made.append(site)
        return site

    yield make
    for site in made:
        site.close()


def names(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return sorted(found.get_values_for_type(x509.DNSName))


def verified(site: CertifiedSite, port: int, root: str) -> ssl.SSLSocket:
    """A connection that believes pebble's root, and nobody else."""
    context = ssl.create_default_context(cadata=root)
    plain = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
    return context.wrap_socket(plain, server_hostname=HOST)


@pytest.mark.parametrize(
    ("challenge", "workers"), [("http-01", 0), ("tls-alpn-01", 0), ("tls-alpn-01", 2)]
)
def test_issued_and_renewed_while_clients_stay_connected(
    make_certified: Callable[[str], CertifiedSite], pebble: Pebble, challenge: str, workers: int
) -> None:
    pebble.start()
    site = make_certified(challenge)
    site.top = f"workers = {workers}\n"
    site.write_configuration()
    site.start()
    site.wait_until_issued()
    assert "a development certificate is served until it is there" in site.log
    wanted = ["imap.example.org", HOST, "mta-sts.example.org"]
    first = site.served_everywhere(lambda one: names(one) == wanted)
    root = pebble.root()
    verified(site, site.ports["submissions"], root).close()

    # two clients that stay
    context = ssl.create_default_context(cadata=root)
    context.check_hostname = False  # they connect to localhost
    imap = IMAP4_SSL("127.0.0.1", site.ports["imaps"], ssl_context=context, timeout=DEADLINE)
    imap.login(ALICE, PASSWORD)
    imap.select("INBOX")
    smtp = smtplib.SMTP("127.0.0.1", site.ports["smtp"], "client.example.net", DEADLINE)
    smtp.starttls(context=context)
    smtp.ehlo()
    smtp.mail("carol@elsewhere.example")

    state = site.state
    assert state["failures"] == 0 and state["last_error"] == state["problem"] == ""
    assert state["issued"] < state["next_try"] < state["expires"]
    assert sorted(state["names"]) == names(first)

    site.mailctl("certs", "renew")
    second = site.served_everywhere(lambda one: one.serial_number != first.serial_number)
    assert names(second) == names(first)
    assert second.public_key() == first.public_key()  # TLSA records stay right

    # they have noticed nothing
    smtp.rcpt(ALICE)
    assert smtp.data(letter("across a renewal"))[0] == 250
    smtp.quit()
    until(lambda: imap.noop()[0] == "OK" and imap.search(None, "ALL")[1] == [b"1"], "the message")
    imap.logout()

    # the next start has it at once
    site.stop()
    site.start()
    assert site.served().serial_number == second.serial_number
    assert site.log.count("asking https://") == 2
    site.mailctl("check", status=None)


def test_the_policy_is_served_with_the_certificate(
    make_certified: Callable[[str], CertifiedSite], pebble: Pebble
) -> None:
    pebble.start()
    site = make_certified("http-01")
    site.start()
    site.wait_until_issued()
    (site.directory / "root.pem").write_text(pebble.root())
    at = f"mta-sts.example.org:{pebble.tls}"
    curl = ["curl", "-sS", "--cacert", site.directory / "root.pem", "--resolve", f"{at}:127.0.0.1"]
    done = run([*curl, f"https://{at}/.well-known/mta-sts.txt"])
    assert done.stdout.splitlines() == [
        "version: STSv1", "mode: enforce", f"mx: {HOST}", "max_age: 604800"
    ]  # fmt: skip
    status = run([*curl, "-o", "/dev/null", "-w", "%{http_code}", f"https://{at}/etc/passwd"])
    assert status.stdout == "404"


def test_mail_goes_on_without_the_ca_and_the_certificate_comes_later(
    make_certified: Callable[[str], CertifiedSite], pebble: Pebble
) -> None:
    site = make_certified("http-01")
    site.start()  # pebble does not run
    until(lambda: "no new certificate: the CA cannot be reached" in site.log, site.log)
    site.send("while there is no CA")
    with site.smtp() as session:
        session.starttls(context=site.tls_of_development())
    state = site.state
    assert state["failures"] == 1 and "cannot be reached" in state["last_error"]
    assert state["problem"] == "none yet: a development certificate is served"

    pebble.start()
    site.mailctl("certs", "renew")
    site.wait_until_issued()
    assert site.state["failures"] == 0


def test_only_the_ca_gets_the_proof(
    make_certified: Callable[[str], CertifiedSite], pebble: Pebble
) -> None:
    """Another client that speaks ACME's ALPN gets the usual certificate, and no ALPN."""
    pebble.start()
    site = make_certified("tls-alpn-01")
    site.start()
    site.wait_until_issued()
    with closing(socket.create_connection(("127.0.0.1", pebble.tls), timeout=DEADLINE)) as plain:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["acme-tls/1"])
        with context.wrap_socket(plain, server_hostname=HOST) as secure:
            assert secure.selected_alpn_protocol() is None
