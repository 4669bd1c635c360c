"""What of IMAP is there, as a table for `docs/imap.md`: made from what the commands register, so it cannot say more."""

from __future__ import annotations

from typing import Final

from .capability import Capability
from .state import LOGGED_IN, State
from .verbs import CAPABILITIES, STREAMS, VERBS

__all__ = ["BEGIN", "END", "table", "updated"]

BEGIN: Final = "<!-- made by `python -m twisted_mail.imap`: do not edit -->"
END: Final = "<!-- end of what is made -->"


def table() -> str:
    """Capabilities with their RFCs, when they are announced and what they lack; then the commands. Markdown."""
    lines = ["| capability | RFC | announced | not, or otherwise |", "|---|---|---|---|"]
    for one in sorted(CAPABILITIES, key=lambda one: (not one.name.startswith("IMAP4"), one.name)):
        number = one.rfc.split()[0]
        link = f"[{one.rfc}](https://www.rfc-editor.org/rfc/rfc{number})"
        lines.append(f"| `{one.name}` | {link} | {_when(one)} | {one.note} |")
    commands = ", ".join(f"`{name}`" for name in sorted({*VERBS, *STREAMS}))
    return "\n".join([*lines, "", f"Commands: {commands}."])


def updated(text: str) -> str:
    """`text` with the table between its marks made anew. Raises ValueError when they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the marks of the table are missing")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


def _when(one: Capability) -> str:
    if not one.states & LOGGED_IN:
        return "before login"
    return "always" if State.NOT_AUTHENTICATED & one.states else "after login"
