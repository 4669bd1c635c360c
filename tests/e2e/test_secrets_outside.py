"""Of a site at work, with workers and the log at its most talkative: no secret is in the log, in what mailctl says, on
a command line or in an environment of any of its processes.
"""

from __future__ import annotations

import contextlib
import imaplib
import poplib
import re
import smtplib
from collections.abc import Callable
from pathlib import Path

import pytest
from mailsite import ALICE, PASSWORD, Site, letter, until
from many import children
from workload import workload

pytestmark = pytest.mark.e2e

RELAY = "Mark7-password-of-the-smarthost"
SCANNER = "Mark7-password-of-rspamd"
WRONG = "Mark7-wrong-password"
BODY = "Mark7-what-a-letter-says"


def keys(directory: Path) -> list[str]:
    """A line from the middle of each private key."""
    found = []
    for path in directory.rglob("*"):
        if path.is_file() and b"PRIVATE KEY" in (content := path.read_bytes()):
            lines = content.decode().splitlines()
            start = next(n for n, line in enumerate(lines) if "PRIVATE KEY" in line)
            found.append(lines[start + 1][:40])
    return found


def test_secrets_stay_where_they_are(make_site: Callable[..., Site]) -> None:
    site = make_site(
        extra='[dns]\nservers = ["127.0.0.1:9"]\n[log]\nlevel = "debug"\nformat = "json"\n'
        '[[routes]]\ndomain = "relayed.example"\nvia = "smtp://127.0.0.1:9"\n'
        f'username = "me"\npassword = "{RELAY}"\n'
        '[[filters]]\nkind = "rspamd"\nendpoint = "tcp:127.0.0.1:9"\non_failure = "accept"\n'
        f'password = "{SCANNER}"\n'
    )
    site.top = "workers = 2\n"
    site.write_configuration()
    said = site.mailctl("dkim", "add", "example.org").stdout
    site.start()
    assert site.process is not None
    workload(site)
    with site.smtp(ALICE) as session:
        content = letter("relayed", sender=ALICE) + f"{BODY}\r\n".encode()
        session.sendmail(ALICE, ["x@relayed.example"], content)
    for _ in range(2):
        with (
            contextlib.suppress(smtplib.SMTPAuthenticationError),
            smtplib.SMTP_SSL("localhost", site.ports["submissions"], context=site.tls) as wrong,
        ):
            wrong.login(ALICE, WRONG)
        client = imaplib.IMAP4_SSL("localhost", site.ports["imaps"], ssl_context=site.tls)
        with client, contextlib.suppress(imaplib.IMAP4.error):
            client.login(ALICE, WRONG)
        pop = poplib.POP3_SSL("localhost", site.ports["pop3s"], context=site.tls)
        pop.user(ALICE)
        with contextlib.suppress(poplib.error_proto):
            pop.pass_(WRONG)
        pop.close()
    until(lambda: "127.0.0.1:9" in site.log, "the smarthost was asked for")
    for words in (
        ("check",),
        ("status", "--json"),
        ("queue", "list"),
        ("explain", "--from", ALICE),
        ("dns", "example.org"),
        ("dkim", "list"),
        ("user", "list"),
    ):
        done = site.mailctl(*words, status=None)
        said += done.stdout + done.stderr
        assert "Traceback" not in done.stderr, (words, done.stderr)
    for name in re.findall(r"^\w{12}", site.mailctl("queue", "list").stdout, re.MULTILINE):
        said += site.mailctl("queue", "show", name, status=None).stdout
    processes = {site.process.pid, *children(site.process.pid)}
    assert len(processes) >= 4, "the main one, the zygote, two workers"
    for pid in processes:
        for name in ("cmdline", "environ"):
            said += Path(f"/proc/{pid}/{name}").read_text(errors="replace").replace("\0", " ")
    site.stop()
    private = keys(site.directory)
    assert len(private) >= 4, "of the CA, the certificate, DKIM's two"
    places = {"the log": site.log, "what was said": said}
    assert site.log.count("login failed") >= 6 and "relayed.example" in said
    for place, text in places.items():
        for secret in (
            RELAY,
            SCANNER,
            WRONG,
            BODY,
            PASSWORD,
            "$argon2",
            "SCRAM-SHA-256$",
            *private,
        ):
            assert secret not in text, (place, secret)
