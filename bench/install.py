"""What the peers need and Debian has, installed; each step is bounded and said.

Services are not started: the benchmark starts its own. Peers that cannot be installed beside others (OpenSMTPD, Exim)
are only fetched and unpacked, when they are measured (`peers/debian.py`); aiosmtpd and Haraka are fetched then as well,
by pip and npm.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness import Missing, program

__all__ = ["install", "wanting"]

_NEEDED = {
    "postfix": ("postfix", "smtp-sink"),
    "dovecot-core": ("dovecot",),
    "dovecot-lmtpd": ("/usr/lib/dovecot/lmtp",),
    "dovecot-pop3d": ("/usr/lib/dovecot/pop3",),
    "dovecot-imapd": ("/usr/lib/dovecot/imap",),
    "openssl": ("openssl",),
    "nodejs": ("node",),
    "npm": ("npm",),
    "valgrind": ("valgrind",),
}
_STEP = 600
_POLICY = Path("/usr/sbin/policy-rc.d")


def wanting() -> list[str]:
    """The packages of which something is not there."""
    found = []
    for package, files in _NEEDED.items():
        for file in files:
            try:
                if file.startswith("/"):
                    if not Path(file).exists():
                        raise Missing(file)
                else:
                    program(file)
            except Missing:
                found.append(package)
                break
    return found


def install() -> None:
    """Whatever is not there. What cannot be installed is said; its peers are left out later."""
    packages = wanting()
    if not packages:
        print("install: everything is there", flush=True)
        return
    try:
        if os.geteuid() != 0:
            raise Missing("only root can")
        apt = program("apt-get")
    except Missing as error:
        print(f"install: {', '.join(packages)} not installed: {error}", flush=True)
        return
    print(f"install: {', '.join(packages)}", flush=True)
    # Debian's Postfix asks; it shall listen to this machine alone
    _step(["debconf-set-selections"], "postfix postfix/main_mailer_type select Local only\n")
    with _no_services():
        _step([apt, "-qq", "update"])
        # one by one: what one of them lacks shall not keep the others away
        for package in packages:
            _step([apt, "-qq", "install", "-y", "--no-install-recommends", package])
    if left := wanting():
        print(f"install: still missing: {', '.join(left)}", flush=True)


def _step(command: Sequence[str], typed: str = "") -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    what = " ".join(Path(part).name for part in command if not part.startswith("-"))
    try:
        done = subprocess.run(
            command, input=typed, capture_output=True, text=True, timeout=_STEP, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"install: {what}: {type(error).__name__}", flush=True)
        return
    # what it prints names hosts
    print(f"install: {what}: {'done' if not done.returncode else done.returncode}", flush=True)


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Debian starts what it installs, unless this file says no (invoke-rc.d(8))."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
