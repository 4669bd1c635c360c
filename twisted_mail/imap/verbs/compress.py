"""COMPRESS=DEFLATE (RFC 4978)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...connection.interfaces import Answer, Then
from ..capability import Capability
from ..commands import Compress
from ..encode import ok
from ..refusal import Bad, No
from ..state import LOGGED_IN
from .registry import Verb, never

if TYPE_CHECKING:
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]


async def compress(session: ImapSession, command: Command) -> Answer:
    args: Compress = command.args
    if args.mechanism != "DEFLATE":
        raise Bad("DEFLATE is what there is")
    if session.compressed:
        # RFC 4978 section 3
        raise No("It is compressed already", "COMPRESSIONACTIVE")
    session.compressed = True
    return Answer(ok(command.tag, "Compressed from now on"), Then.START_COMPRESSION)


VERBS: Final = (Verb("COMPRESS", LOGGED_IN, compress, never),)
CAPABILITIES: Final = (
    # RFC 4978 section 3: not announced once it is active
    Capability("COMPRESS=DEFLATE", "4978", LOGGED_IN, lambda session: not session.compressed),
)
