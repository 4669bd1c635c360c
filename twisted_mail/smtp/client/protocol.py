"""The SMTP client's transport: connecting, TLS, timers, back-pressure."""

from __future__ import annotations

from typing import Any

from ...world import World
from .conversation import SmtpConversation
from .interfaces import Timeouts

__all__ = ["connect"]


async def connect(
    world: World,
    host: str,
    port: int = 25,
    *,
    helo: str,
    name: str = "",
    lmtp: bool = False,
    source: str = "",
    tls: Any = None,
    clear_login: bool = False,
    timeouts: Timeouts | None = None,
) -> SmtpConversation:
    """A connection to `host`, an IP address, or the path of a unix socket, which begins with "/".

    `helo`: our own name, for EHLO. `name`: the peer's, for texts ("" is `host`). `source`: the local IP address to
    bind, "" for any. `tls`: an IOpenSSLClientConnectionCreator for TLS before the greeting, None for none; the
    handshake is over when this returns. `clear_login`: whether `login` may send a password without TLS.

    Raises SessionError. Nothing was read yet: `hello` comes first. Cancelled, it stops and closes.
    """
    raise NotImplementedError
