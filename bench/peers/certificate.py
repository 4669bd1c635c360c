"""A self-signed certificate for the peers that want one."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness import program

__all__ = ["make_certificate"]


def make_certificate(directory: Path, kind: str = "rsa:2048") -> None:
    """`cert.pem` and `key.pem` in `directory`, readable to every user; `kind` is `rsa:2048` or `ec` (P-256)."""
    key = ["-newkey", kind]
    if kind == "ec":
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = [program("openssl"), "req", "-x509", *key, "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(directory / "key.pem"), "-out", str(directory / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    # a benchmark's own, for two days
    (directory / "key.pem").chmod(0o644)
