"""The first part of a delivery status notification: what happened, in words for somebody who knows nothing of SMTP.

Whom it concerns, why, what happens next, and what can be done; recipients with the same reason stand together.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

import idna

from .notice import Action, Notice, Recipient
from .trace import date
from .words import one_line

__all__ = ["explanation", "subject_words"]

MAX_LISTED: Final = 100
"""Recipients in the text; the report for programs has them all."""
MAX_REPLY: Final = 500
"""Characters of a peer's reply."""
MAX_SUBJECT: Final = 120
WIDTH: Final = 76

_SUBJECTS: Final = {
    Action.FAILED: "Undelivered mail",
    Action.DELAYED: "Delayed mail, still being tried",
    Action.DELIVERED: "Delivered mail",
    Action.RELAYED: "Mail passed on",
    Action.EXPANDED: "Mail passed on to a list",
}

_HEADINGS: Final = {
    Action.FAILED: "{what} could not be delivered to:",
    Action.DELAYED: "{what} could not be delivered yet to:",
    Action.DELIVERED: "{what} was delivered to:",
    Action.RELAYED: "{what} was passed on to the mail server of:",
    Action.EXPANDED: "{what} was passed on to all members of:",
}

_NEXT: Final = {
    Action.FAILED: "Nothing more will be tried.",
    Action.DELAYED: "It will be tried again{until}. You need not do anything; you will only hear of it again"
    " if it fails.",
    Action.DELIVERED: "",
    Action.RELAYED: "That server does not report deliveries: you will only hear of it again if it fails.",
    Action.EXPANDED: "No further notice of success will come.",
}

_OWN_NOTICE: Final = "A notice of this server to the sender of a message"

# RFC 3463 section 3 without the class, and the registry it founded; of a failure
_ADVICE: Final = {
    "1.1": "There is no such address there. Check its spelling, or ask the recipient for the right one.",
    "1.2": "There is no such mail domain. Check the spelling of what stands behind the @.",
    "1.3": "The address is not a valid one. Check its spelling.",
    "1.6": "The recipient has moved and left no new address. Ask for it by another way.",
    "1.10": "That domain takes no mail at all. Check the spelling of what stands behind the @.",
    "2.1": "The mailbox is closed. Ask the recipient for another address.",
    "2.2": "The mailbox is full. Send it again later, or tell the recipient by another way.",
    "2.3": "The message is too big for that mailbox. Send less at once, or a link to your files.",
    "3.4": "The message is too big. Send less at once, or a link to your files.",
    "4.4": "No mail server is known for that domain. Check the spelling of what stands behind the @.",
    "4.6": "The message went round in circles between mail servers. Those who run them must mend that.",
    "6.3": "The other server cannot take a message of this form. Send it as plain text.",
    "6.7": "The other server knows only addresses of plain letters. Ask the recipient for another one.",
    "7.30": "You asked for a protected way, and there is none to that server.",
}
_REFUSED: Final = "The other server's rules refuse it. The recipient, or whoever runs that server, can tell you why."
_OWN_RULES: Final = "The rules of this server refuse it. Whoever runs it can tell you why."


def subject_words(notice: Notice, original: str) -> tuple[str, str]:
    """What the Subject says: what happened, and the message's own (`original`), bounded."""
    found = {recipient.action for recipient in notice.recipients}
    first = next((_SUBJECTS[action] for action in Action if action in found), "Mail")
    return first, one_line(original, MAX_SUBJECT)


def explanation(notice: Notice, subject: str, attached: str) -> str:
    """The text; lines end with LF. `subject` is the message's own, `attached` what comes with the report."""
    paragraphs: list[str] = []
    listed = 0
    for action in Action:
        concerned = [recipient for recipient in notice.recipients if recipient.action is action]
        if concerned:
            shown = concerned[: max(0, MAX_LISTED - listed)]
            listed += len(shown)
            paragraphs += _section(notice, action, shown, len(concerned) - len(shown))
    paragraphs += _about(notice, subject, attached)
    return "\n\n".join(paragraphs) + "\n"


def _section(
    notice: Notice, action: Action, shown: Sequence[Recipient], more: int
) -> Iterator[str]:
    yield _HEADINGS[action].format(what=_OWN_NOTICE if notice.double else "Your message")
    groups: dict[tuple[str, str], list[Recipient]] = {}
    for recipient in shown:
        key = (_reason(recipient), _advice(recipient, notice))
        groups.setdefault(key, []).append(recipient)
    for (reason, advice), members in groups.items():
        yield "\n".join(f"    {_shown_address(recipient)}" for recipient in members)
        if reason:
            yield _filled(reason)
        if advice:
            yield _filled(advice)
    if more:
        yield f"    and {more} more, which the report below lists"
    until = max((r.retry_until for r in shown if r.retry_until is not None), default=None)
    following = _NEXT[action].format(until="" if until is None else f" until {date(until)}")
    if following:
        yield _filled(following)


def _about(notice: Notice, subject: str, attached: str) -> Iterator[str]:
    lines = []
    if subject:
        lines.append(f"    Subject: {one_line(subject, MAX_SUBJECT)}")
    if notice.arrived is not None:
        lines.append(f"    Arrived here: {date(notice.arrived)}")
    if lines:
        yield "The message:"
        yield "\n".join(lines)
    below = f" and {attached}" if attached else ""
    yield _filled(
        f"This notice was written by the mail server {one_line(notice.host, 255)}."
        f" A report for programs{below} {'are' if below else 'is'} attached."
    )


def _shown_address(recipient: Recipient) -> str:
    shown = _readable(recipient.address)
    if recipient.origin and recipient.origin != recipient.address:
        return f"{_readable(recipient.origin)} (which leads to {shown})"
    return shown


def _readable(address: str) -> str:
    """The address, its domain in the letters of its language (RFC 5890 section 2.3.2.1)."""
    local, at, domain = one_line(address, 400).rpartition("@")
    if "xn--" in domain:
        try:
            domain = idna.decode(domain)
        except UnicodeError:
            pass
    return local + at + domain


def _reason(recipient: Recipient) -> str:
    if recipient.action not in (Action.FAILED, Action.DELAYED):
        return ""
    text = one_line(recipient.diagnostic, MAX_REPLY)
    if not text:
        return ""
    if not recipient.said:
        return f"Reason: {text}"
    return f"{one_line(recipient.host, 255) or 'The other mail server'} said: {text}"


def _advice(recipient: Recipient, notice: Notice) -> str:
    if recipient.action is not Action.FAILED:
        return ""
    kind, _, rest = recipient.status.partition(".")
    if kind == "4":
        # RFC 3463 section 3.5, 4.4.7: tried until the message was too old
        since = "" if notice.arrived is None else f" for {_duration(notice.now - notice.arrived)}"
        return (
            f"It was tried{since} and is given up now. Send it again later if it is still wanted."
        )
    if rest in _ADVICE:
        return _ADVICE[rest]
    if rest.startswith("7."):
        return _REFUSED if recipient.said else _OWN_RULES
    return ""


def _duration(seconds: float) -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = round(seconds / size)
        if seconds >= size:
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return "less than a minute"


def _filled(text: str) -> str:
    return "\n".join(textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))
