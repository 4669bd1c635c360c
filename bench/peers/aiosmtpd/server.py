"""aiosmtpd as a site would use it: its Controller's SMTP on asyncio, with a handler that keeps mail in Maildirs.

    python server.py SITE.json      {"port", "smtps", "domain", "root", "users", "certificate", "key"}

aiosmtpd's own handler for Maildirs (`aiosmtpd.handlers.Mailbox`) writes and syncs in the event loop. This one does it
in asyncio's threads, so that one message's sync does not hold up all others.

Synced before 250 (seen with strace): the file in tmp (fdatasync), and, when it is linked there, the folder new (fsync).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import ssl
import sys
import time
from typing import Any

from aiosmtpd.smtp import SMTP

_NUMBERS = itertools.count()


class Keeper:
    """What aiosmtpd asks about recipients and gives messages to."""

    def __init__(self, domain: str, root: str, users: list[str]) -> None:
        self._domain = f"@{domain}"
        self._root = root
        self._users = frozenset(users)
        for user in users:
            for part in ("tmp", "new", "cur"):
                os.makedirs(os.path.join(root, user, part), exist_ok=True)

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if not address.endswith(self._domain):
            return "550 not of this site"
        if address.removesuffix(self._domain) not in self._users:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        users = dict.fromkeys(address.removesuffix(self._domain) for address in envelope.rcpt_tos)
        await asyncio.to_thread(self._keep, list(users), envelope.content)
        return "250 OK"

    def _keep(self, users: list[str], content: bytes) -> None:
        name = f"{int(time.time())}.P{os.getpid()}Q{next(_NUMBERS)}.aiosmtpd"  # noqa: TID251
        first = os.path.join(self._root, users[0], "tmp", name)
        fd = os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "wb") as file:
            file.write(content.replace(b"\r\n", b"\n"))
            file.flush()
            os.fdatasync(fd)
        for user in users:
            folder = os.path.join(self._root, user, "new")
            os.link(first, os.path.join(folder, name))
            opened = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(opened)
            finally:
                os.close(opened)
        os.unlink(first)


async def serve(site: dict[str, Any]) -> None:
    """Until SIGTERM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site["certificate"], site["key"])
    keeper = Keeper(site["domain"], site["root"], site["users"])
    common: dict[str, Any] = {
        "hostname": f"mx.{site['domain']}",
        "data_size_limit": 52428800,
        # no bound on the commands of a connection, which its default is as well
        "command_call_limit": None,
    }
    loop = asyncio.get_running_loop()
    await loop.create_server(
        lambda: SMTP(keeper, tls_context=context, **common), "127.0.0.1", site["port"], backlog=1024
    )
    await loop.create_server(
        lambda: SMTP(keeper, **common), "127.0.0.1", site["smtps"], backlog=1024, ssl=context
    )
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        asyncio.run(serve(json.load(file)))
