"""STORE and UID STORE (RFC 9051 section 6.4.6 and 6.4.9), with UNCHANGEDSINCE (RFC 7162 section 3.1.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...mailboxes import SYSTEM_FLAGS
from ..changing import last_words, there, writable
from ..encode import compact
from ..outcome import Outcome
from ..refusal import Bad
from ..state import State
from ..view import Quiet
from .registry import Verb, by_uid

if TYPE_CHECKING:
    from ...connection.interfaces import Answer
    from ..commands import Store
    from ..events import Command
    from ..session import ImapSession

__all__ = ["VERBS"]


async def store(session: ImapSession, command: Command) -> Answer:
    args: Store = command.args
    for flag in args.flags:
        # RFC 9051 section 2.3.2: what begins with a backslash is the server's to define
        if flag.startswith("\\") and flag not in SYSTEM_FLAGS:
            raise Bad("There is no such system flag")
    view = session.view
    chosen = view.chosen(view.positions(args.sequence, args.uid))
    writable(view)
    said = b""
    if args.unchanged_since is not None:
        # RFC 7162 section 3.1: a CONDSTORE enabling command
        said = session.enable_condstore()
    uids = there(view, chosen)
    outcome = Outcome()
    if len(uids) < len(chosen) and not args.uid:
        # RFC 2180 section 4.2.1
        outcome = Outcome("Some of the messages are gone", "EXPUNGEISSUED", "NO")
    failed: frozenset[int] = frozenset()
    if uids:
        stored = await view.opened.store(uids, args.mode, args.flags, args.unchanged_since)
        failed = frozenset(stored.failed)
        if failed:
            numbers = sorted(failed if args.uid else map(view.number, failed))
            outcome.text = "Conditional STORE failed"
            outcome.code = b"MODIFIED " + compact(numbers)
    if args.silent:
        known = failed.symmetric_difference(uids) if failed else frozenset(uids)
        view.quiet = Quiet(known, args.mode, view.opened.snapshot.bits(args.flags))
    return last_words(session, command, said, outcome, expunges=args.uid, uid=args.uid)


VERBS: Final = (Verb("STORE", State.SELECTED, store, by_uid),)
