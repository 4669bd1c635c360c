"""What a TLS server takes and refuses, asked with ``openssl s_client`` as a scanner does: one handshake a question.

The program's own system-wide configuration does not count (``OPENSSL_CONF``): it would keep the probe from offering
what is to be refused.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mailsite import DEADLINE

STARTTLS = {"smtp": "smtp", "submission": "smtp", "pop3": "pop3", "imap": "imap"}
"""Listener → what `s_client` calls its protocol; the others have TLS from the first byte."""
ANYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
"""Ciphers: whatever the program knows, however weak."""


@dataclass(frozen=True)
class Answer:
    """`version` and `cipher` are None when there was no handshake; `text` is all that the program said."""

    version: str | None
    cipher: str | None
    text: str

    def says(self, pattern: str) -> bool:
        return re.search(pattern, self.text) is not None


def probe(listener: str, port: int, *options: str | Path, input: str = "") -> Answer:
    """One connection to a port of loopback, with these options of ``s_client``; then `input`, and the end."""
    words: list[str | Path] = ["openssl", "s_client", "-connect", f"localhost:{port}", *options]
    if listener in STARTTLS:
        words += ["-starttls", STARTTLS[listener]]
    done = subprocess.run(
        words,
        input=input,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=DEADLINE,
        env={**os.environ, "OPENSSL_CONF": "/dev/null"},
    )
    text = done.stdout + done.stderr
    agreed = re.search(r"^New, (TLSv[\d.]+), Cipher is (\S+)$", text, re.MULTILINE)
    if agreed is None:
        # "New, (NONE), Cipher is (NONE)": it has to have come that far, else the refusal is something else's
        assert "CONNECTED(" in text, text
        return Answer(None, None, text)
    spoken = re.search(r"^ *Protocol *: (\S+)$", text, re.MULTILINE)
    return Answer(spoken[1] if spoken else agreed[1], agreed[2], text)


def known_ciphers(selection: str) -> list[str]:
    """The suites of TLS 1.2 and before that the program knows of `selection`."""
    done = subprocess.run(
        ["openssl", "ciphers", "-s", "-tls1_2", selection],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE,
        env={**os.environ, "OPENSSL_CONF": "/dev/null"},
    )
    return done.stdout.strip().split(":")


def but(known: Sequence[str], those: Sequence[str]) -> str:
    """A cipher list of `known` without `those`."""
    return ":".join([one for one in known if one not in those]) + ":@SECLEVEL=0"
