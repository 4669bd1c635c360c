"""What rspamd's JSON answer to ``/checkv2`` means. Pure.

Read as rspamd's own milter proxy does (its ``src/libserver/milter.c``), but for spam: what rspamd wants marked with a
header goes to Junk. Whatever is not what it should be is left out, so that one odd module of rspamd's costs no message;
an answer without an action is `ValueError`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, Literal

from ..address import Address, reverse_path
from ..status import Reply
from .edits import field_name, make_field
from .interfaces import Action, Add, Change, Delete, Edit, Insert, Opinion, Recipient, Sender

__all__ = ["Greylist", "rspamd_verdict"]

Greylist = Literal["none", "tempfail"]
"""What the action "greylist" does. rspamd's own greylisting says "soft reject" when it is to be."""

_ACTIONS: Final = {
    "no action": Action.NONE,
    "accept": Action.NONE,
    "greylist": Action.NONE,
    "add header": Action.JUNK,
    "rewrite subject": Action.JUNK,
    "quarantine": Action.QUARANTINE,
    "soft reject": Action.TEMPFAIL,
    "reject": Action.REJECT,
    "discard": Action.DISCARD,
}
_MAX_EDITS: Final = 1000
_MAX_SYMBOLS: Final = 200


def rspamd_verdict(answer: Any, fields: tuple[bytes, ...], greylist: Greylist = "none") -> Opinion:
    """The opinion in an answer, already read from JSON, on a message with these `fields`."""
    said = answer.get("action") if isinstance(answer, dict) else None
    action = _ACTIONS.get(said) if isinstance(said, str) else None
    if action is None:
        raise ValueError("rspamd: an answer without an action")
    # "is_skipped" says only that no rules ran, also for a GTUBE message that is to be refused: the action counts.
    milter = answer.get("milter")
    milter = milter if isinstance(milter, dict) else {}
    if said == "greylist" and greylist == "tempfail":
        action = Action.TEMPFAIL
    if action is Action.REJECT and milter.get("reject") in ("discard", "quarantine"):
        action = Action(milter["reject"])
    if milter.get("no_action") is True:
        action = Action.NONE
    score, required = _number(answer.get("score")), _number(answer.get("required_score"))
    reason = f"{said}, score {score:g} of {required:g}"
    symbols = _symbols(answer.get("symbols"))
    if action.final:
        reply = _reply(action, answer) if action is not Action.DISCARD else None
        return Opinion(action=action, reply=reply, reason=reason, score=score, symbols=symbols)
    edits = list(_edits(milter, fields))
    edits += _signatures(answer.get("dkim-signature"))
    if said == "rewrite subject":
        edits += _made(b"subject", answer.get("subject"), "Subject")
    return Opinion(
        action=action,
        reason=reason,
        edits=tuple(edits[:_MAX_EDITS]),
        added=tuple(Recipient(one) for one in _addresses(milter.get("add_rcpt"))),
        deleted=tuple(_addresses(milter.get("del_rcpt"))),
        sender=_sender(milter.get("change_from")),
        score=score,
        symbols=symbols,
    )


def _reply(action: Action, answer: dict[str, Any]) -> Reply:
    messages = answer.get("messages")
    said = messages.get("smtp_message") if isinstance(messages, dict) else None
    if action is Action.REJECT:
        code, enhanced, text = 550, "5.7.1", "The message looks like spam"
    else:
        code, enhanced, text = 451, "4.7.1", "Try again later"
    if isinstance(said, str):
        text = "".join(c if " " <= c <= "~" else "?" for c in said.strip())[:400] or text
    return Reply(code, enhanced, (text,))


def _edits(milter: dict[str, Any], fields: tuple[bytes, ...]) -> Iterator[Edit]:
    removed = milter.get("remove_headers")
    if isinstance(removed, dict):
        for name, n in removed.items():
            if type(n) is int:
                yield from _removal(name.encode("utf-8", "replace").lower(), n, fields)
    added = milter.get("add_headers")
    if isinstance(added, dict):
        for name, values in added.items():
            for value in values[:_MAX_EDITS] if isinstance(values, list) else [values]:
                yield from _addition(name, value, len(fields))
    spam_header = milter.get("spam_header")
    if isinstance(spam_header, dict):
        for name, value in spam_header.items():
            yield from _made(name.encode("utf-8", "replace").lower(), value, name)


def _removal(name: bytes, n: int, fields: tuple[bytes, ...]) -> Iterator[Edit]:
    if n < 0:
        # From the end: -1 is the last
        n += 1 + sum(field_name(field) == name for field in fields)
        if n < 1:
            return
    yield Delete(name, n)


def _addition(name: str, value: Any, count: int) -> Iterator[Edit]:
    order: Any = None
    if isinstance(value, dict):
        order = value.get("order", value.get("index"))
        value = value.get("value")
    field = _field(name, value)
    if field is None:
        return
    if type(order) is not int:
        yield Add(field)
    elif order >= 0:
        # As for milters: 0 is above our own Received, which stays on top
        yield Insert(max(0, order - 1), field)
    else:
        yield Insert(max(0, count + order + 1), field)


def _made(name: bytes, value: Any, written: str) -> Iterator[Edit]:
    field = _field(written, value)
    if field is not None:
        yield Change(name, 1, field)


def _signatures(found: Any) -> Iterator[Edit]:
    for n, value in enumerate(found[:10] if isinstance(found, list) else [found]):
        field = _field("DKIM-Signature", value)
        if field is not None:
            yield Insert(n, field)


def _field(name: str, value: Any) -> bytes | None:
    if not isinstance(value, str):
        return None
    try:
        return make_field(name.encode("utf-8", "replace"), value.encode("utf-8", "replace"))
    except ValueError:
        return None


def _addresses(found: Any) -> Iterator[Address]:
    for one in found[:_MAX_EDITS] if isinstance(found, list) else ():
        address = _path(one)
        if address is not None and address.address is not None:
            yield address.address


def _sender(found: Any) -> Sender | None:
    return _path(found) if found is not None else None


def _path(text: Any) -> Sender | None:
    if not isinstance(text, str):
        return None
    text = text.strip()
    if not text.startswith("<"):
        text = f"<{text}>"
    try:
        path = reverse_path(text.encode("utf-8", "replace"))
    except ValueError:
        return None
    return None if path.rest else Sender(path.address)


def _symbols(found: Any) -> tuple[str, ...]:
    if not isinstance(found, dict):
        return ()
    weighed = (
        (name[:100], _number(one.get("score")))
        for name, one in found.items()
        if isinstance(one, dict) and name.isascii() and name.isprintable()
    )
    most = sorted(weighed, key=lambda one: -abs(one[1]))[:_MAX_SYMBOLS]
    return tuple(f"{name}({score:g})" for name, score in most)


def _number(found: Any) -> float:
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return 0.0
    try:
        number = float(found)
    except OverflowError:
        return 0.0
    return number if math.isfinite(number) else 0.0
