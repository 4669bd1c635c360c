"""The message that tells the owner of an account, or the administrator, that the account is slowed. Pure.

Nothing in it can begin a header field or a line that somebody else chose. It is sent by whom `senders.Teller` joins.
"""

from __future__ import annotations

import re
import textwrap
from typing import Final

from ..message.trace import date
from ..message.words import one_line
from .senders import Alarm

__all__ = ["compose_warning"]

_NOT_HOST: Final = re.compile(r"[^A-Za-z0-9._:\[\]-]")
_WIDTH: Final = 76


def compose_warning(
    alarm: Alarm, *, to: str, sender: str, hostname: str, unique: str, now: float, owner: bool
) -> bytes:
    """The whole message, LF line ends. `to` and `sender` are addresses; `unique` makes the Message-ID.

    `owner`: it goes to the account's owner, else to who looks after the server. Text that is not ASCII is sent as 8bit.
    """
    account = one_line(alarm.account, 200)
    host = _NOT_HOST.sub("", hostname) or "localhost"
    text = "\n\n".join(
        textwrap.fill(one, _WIDTH, break_on_hyphens=False) if not one.startswith("  ") else one
        for one in _paragraphs(alarm, account, host, owner)
    )
    eight = not text.isascii()
    subject = "Your mail account is slowed" if owner else "A mail account is slowed"
    header = [
        f"Date: {date(now)}",
        f"From: <{_address(sender)}>",
        f"To: <{_address(to)}>",
        f"Subject: {subject}",
        f"Message-ID: <{_NOT_HOST.sub('', unique)}@{host}>",
        # RFC 3834 section 5
        "Auto-Submitted: auto-generated",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Transfer-Encoding: {'8bit' if eight else '7bit'}",
    ]
    return ("\n".join(header) + "\n\n" + text + "\n").encode("utf-8", "replace")


def _paragraphs(alarm: Alarm, account: str, host: str, owner: bool) -> list[str]:
    whose = f"your account {account}" if owner else f"the account {account}"
    pace = f"{alarm.slow.most:g} recipients in {_span(alarm.slow.seconds)}"
    paragraphs = [
        f"The mail server {host} has slowed {whose}: {one_line(alarm.cause, 300)}."
        f" Mail of this account to other servers is taken at no more than {pace}; the rest is asked to come again"
        " later. Mail that was taken is sent, and nothing is lost."
        " Reading mail, and writing to people on this server, goes on as ever.",
    ]
    if owner:
        paragraphs += [
            "If that was not you, somebody else knows your password. Change it now, also wherever else you use it,"
            " and look at the programs and devices that know it.",
            "If it was you, nothing is wrong: wait, or ask your postmaster to lift it, best before you write to so"
            " many people again.",
        ]
    else:
        paragraphs += [
            "If the owner did not send that, the password is stolen: give the account a new one, end its sessions,"
            " and look into the queue for what it has sent. If he did: mailctl user forgive.",
        ]
    paragraphs += [
        "\n".join(
            [
                f"  since:                      {date(alarm.since)}",
                f"  ends, if it sends as usual: {date(alarm.until)}",
                f"  recipients today:           {alarm.sent} (different ones: about {alarm.distinct})",
                f"  refused lately:             {alarm.refused}",
                f"  recipients on other days:   {alarm.habit:.0f}",
            ]
        ),
        "It ends by itself. You get this message once.",
    ]
    return paragraphs


def _span(seconds: float) -> str:
    for name, size in (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds >= size:
            count = seconds / size
            return f"a {name}".replace("a h", "an h") if count == 1 else f"{count:g} {name}s"
    return f"{seconds:g} seconds"


def _address(text: str) -> str:
    return one_line(text, 200).replace("<", "").replace(">", "")
