"""Text from outside made fit for a log line or a header: one line, printable ASCII, not long."""

from __future__ import annotations

import re

__all__ = ["one_line"]

_unfit = re.compile(r"[^ -~]")


def one_line(text: str, limit: int = 200) -> str:
    """At most `limit` characters; what is not printable ASCII becomes ``?``."""
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return text if text.isascii() and text.isprintable() else _unfit.sub("?", text)
