"""ENABLE (RFC 5161): extensions that change what the server says unasked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...connection.interfaces import Answer
from ..capability import Capability
from ..commands import Enable
from ..events import Terms
from ..state import ANY, LOGGED_IN
from .registry import Verb

if TYPE_CHECKING:
    from ..events import Command
    from ..session import ImapSession

__all__ = ["CAPABILITIES", "VERBS"]

_KNOWN: Final = {
    "CONDSTORE": "CONDSTORE",
    "QRESYNC": "QRESYNC",
    "UTF8=ACCEPT": "UTF8=ACCEPT",
    "IMAP4REV2": "IMAP4rev2",
}
_IMPLIED: Final = {"QRESYNC": "CONDSTORE"}


async def enable(session: ImapSession, command: Command) -> Answer:
    args: Enable = command.args
    wanted = args.capabilities
    # RFC 5161 section 3.1: what is not known is passed over
    new = [name for name in wanted if name in _KNOWN and name not in session.enabled]
    said = b""
    if "CONDSTORE" in new or "QRESYNC" in new:
        said = session.enable_condstore()
    session.enable(new)
    names = "".join(f" {_KNOWN[name]}" for name in new)
    answer = session.ok(command, data=f"* ENABLED{names}\r\n".encode() + said)
    answer.expect = Terms(True, session.utf8)
    return answer


VERBS: Final = (Verb("ENABLE", LOGGED_IN, enable),)
CAPABILITIES: Final = (
    # Before login, too: imaplib asks only then
    Capability("ENABLE", "5161", ANY),
    Capability(
        "UTF8=ACCEPT",
        "6855",
        LOGGED_IN,
        note="APPEND of a header with 8-bit octets is taken without it, too: old mail has them",
    ),
)
