"""What others wrote, fit to be told: one line, printable, short. Pure."""

from __future__ import annotations

__all__ = ["told"]


def told(text: str, most: int = 200) -> str:
    """At most `most` characters of `text`, on one line; what is not printable is shown as "?".

    Names in certificates, web servers' answers and errors that quote them end in the log, in bounces, on terminals.
    """
    text = text[: most + 1]
    if not text.isprintable():
        text = "".join(one if one.isprintable() else "?" for one in text)
    return text if len(text) <= most else text[: most - 1] + "…"
