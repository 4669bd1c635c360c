"""rspamd over HTTP: a message and all that is known of it, posted to ``/checkv2``.

Its normal worker (port 11333), or its proxy (11332) without `milter = yes`, which it has as shipped. A connection a
message.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..world import World
from .http_answer import HttpAnswer, HttpError, request_head
from .interfaces import Context, Message, Opinion
from .rspamd_answer import Greylist, rspamd_verdict
from .scanning import Asking, BadAnswer, Connection, ScannerSettings, message_size, show

__all__ = ["Rspamd", "RspamdSettings", "rspamd_headers"]

_MAX_ANSWER = 2 * 1024 * 1024


class RspamdSettings(NamedTuple):
    """`password`: when rspamd wants one, else "". `settings_id`: which of rspamd's own settings count, "" for none."""

    scanner: ScannerSettings
    password: str = ""
    greylist: Greylist = "none"
    settings_id: str = ""

    def __repr__(self) -> str:
        """Without the password."""
        return f"RspamdSettings({self.scanner.name!r}, {self.scanner.endpoint!r})"


class Rspamd:
    """`interfaces.Scanner`."""

    def __init__(self, world: World, settings: RspamdSettings) -> None:
        self.name = settings.scanner.name
        self._settings = settings
        self._asking = Asking(world, settings.scanner)

    async def scan(self, message: Message) -> Opinion:
        """What rspamd says."""
        size = message_size(message)

        async def talk(connection: Connection) -> Opinion:
            fields = rspamd_headers(message.context)
            fields += [("Password", self._settings.password)]
            fields += [("Settings-ID", self._settings.settings_id)]
            await connection.write(request_head("/checkv2", "localhost", size, fields))
            await show(connection, message, bytes)
            answer = await _answer(connection)
            try:
                return rspamd_verdict(answer, message.fields, self._settings.greylist)
            except ValueError as error:
                raise BadAnswer(str(error)) from None

        return await self._asking.ask(size, talk)


def rspamd_headers(context: Context) -> list[tuple[str, str]]:
    """What rspamd is told beside the content, as fields of the HTTP request."""
    client, tls, login = context.client, context.tls, context.login
    sender = context.sender.address
    fields = [
        ("IP", client.ip),
        ("Helo", context.helo),
        ("Hostname", client.name),
        ("MTA-Name", client.hostname),
        ("From", f"<{'' if sender is None else sender}>"),
        ("Queue-Id", context.queue_id),
        ("User", login.name if login is not None else ""),
    ]
    fields += [("Rcpt", str(one.address)) for one in context.recipients]
    if tls is not None:
        fields += [("TLS-Version", tls.version), ("TLS-Cipher", tls.cipher)]
        fields += [("TLS-Cert-Issuer", tls.issuer)]
    return fields


async def _answer(connection: Connection) -> Any:
    import json

    answer = HttpAnswer(_MAX_ANSWER)
    try:
        while not answer.done:
            data = await connection.read()
            if data:
                answer.receive(data)
            else:
                answer.end()
    except HttpError as error:
        raise BadAnswer(f"rspamd: {error}") from None
    if answer.status != 200:
        raise BadAnswer(f"rspamd: status {answer.status}")
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise BadAnswer("rspamd: no JSON") from None
