"""mutt and neomutt on a terminal of their own, typing what they are told, at an IMAP account."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from pathlib import Path

from mailsite import ALICE, DEADLINE, PASSWORD, Site

_SETTINGS = """\
set ssl_ca_certificates_file="{ca}" certificate_file="{ca}" ssl_force_tls=yes
set imap_user="{user}" imap_pass="{password}"
set folder="imaps://localhost:{port}/" spoolfile="=INBOX" record="=Sent" postponed="=Drafts"
set quit=yes confirmappend=no confirmcreate=no wait_key=no move=no delete=yes mark_old=no pipe_decode=no
set mail_check=1 timeout=1 imap_keepalive=30 {more}
"""


def mutt(
    program: str,
    site: Site,
    keys: str,
    directory: Path,
    *,
    folder: str = "=INBOX",
    more: str = "",
    seconds: float = DEADLINE,
) -> bytes:
    """Run `program` (mutt or neomutt) on `folder`, type `keys` (as in ``push``, without the last <quit>); what it
    showed, its status having been 0."""
    directory.mkdir(exist_ok=True)
    rc = directory / "muttrc"
    settings = _SETTINGS.format(
        ca=site.ca, user=ALICE, password=PASSWORD, port=site.ports["imaps"], more=more
    )
    rc.write_text(settings + f'push "{keys}<quit>"\n')
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [program, "-n", "-F", str(rc), "-f", folder],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "HOME": str(directory), "LC_ALL": "C.UTF-8"},
    )
    os.close(theirs)
    shown = b""
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            if select.select([ours], [], [], 0.2)[0]:
                shown += os.read(ours, 65536)
        child.kill()
        raise AssertionError(f"{program} has not ended\n{shown[-3000:]!r}")
    except OSError:
        pass  # Linux: the terminal's other end is closed
    finally:
        os.close(ours)
        status = child.wait(DEADLINE)
    assert status == 0, shown[-3000:]
    return shown
