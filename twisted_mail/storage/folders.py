"""The folders of one account: which there are, made, renamed, removed; subscriptions and annotations.

Each change is on the disk, synced, when the method returns. A folder is known by its id for ever; its name is where its
directory lies (`storage.names`). The methods block.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import NamedTuple

from ..disk import make_directories
from ..status import MailError
from . import maildir, names
from .dovecot import format_subscriptions, parse_subscriptions
from .home import Home
from .maildir import FolderState
from .names import INBOX, directory_of, name_of

__all__ = ["Box", "Folders"]

SPECIAL_USE = {
    "Drafts": "\\Drafts",
    "Sent": "\\Sent",
    "Trash": "\\Trash",
    "Junk": "\\Junk",
    "Archive": "\\Archive",
}
"""The folders of a new account, and what they are for (RFC 6154 section 2)."""
SUBSCRIPTIONS = "subscriptions"
METADATA = "twisted-mail.metadata"
MAX_SUBSCRIPTIONS = 1024 * 1024
MAX_METADATA = 16 * 1024 * 1024


class Box(NamedTuple):
    """One folder: its id, the mailbox's name, its directory, its special uses (RFC 6154)."""

    folder: str
    name: str
    path: str
    special_use: tuple[str, ...]


class Folders:
    """What `Home` knows of folders, for people."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._disk = home.disk
        self._seen: dict[str, str | None] = {}
        """The names of the folders that were there when all were looked at, by their directories. What was removed
        since may be among them, nothing else is wrong."""

    def furnish(self) -> None:
        """Make the folders of a new account, once: one that has folders already keeps to those, and what its user
        deletes stays away. Mail that arrives does not wait for this: it is done at the first login."""
        with self._home.locked():
            path, state = self._home.find("") or (None, None)
            if path is None or state is None or state.furnished:
                return
            if len(self._home.look()) == 1 and not state.taken_over:
                wanted = {self._path(name): (use,) for name, use in SPECIAL_USE.items()}
                subscriptions = os.path.join(path, SUBSCRIPTIONS)
                if not any(map(self._disk.exists, (*wanted, subscriptions))):
                    # As below, in a quarter of the time
                    names = format_subscriptions([INBOX, *SPECIAL_USE])
                    self._home.made_together(wanted, {subscriptions: names})
                    return
                for one, uses in wanted.items():
                    self._home.made(one, uses)
                if not self._disk.exists(subscriptions):
                    # Some clients show what is subscribed to, and nothing else.
                    self._subscribed([INBOX, *SPECIAL_USE])
            state = maildir.read_state(self._disk, path) or state
            self._home.keep(path, replace(state, furnished=True))

    def all(self) -> list[Box]:
        """The inbox first, then by name."""
        with self._home.locked() as locked:
            found = list(self._all().values())
            # Or their mail would count for ever.
            locked.drop_gone()
            return found

    def _all(self) -> dict[str, Box]:
        found: dict[str, Box] = {}
        self._seen.clear()
        for path, state in self._home.look():
            name = self._name(path, state)
            self._seen[os.path.basename(path)] = name
            if name is not None and name not in found:
                found[name] = Box(state.folder, name, path, state.special_use)
        inbox = found.pop(INBOX)
        return {INBOX: inbox, **dict(sorted(found.items()))}

    def _name(self, path: str, state: FolderState) -> str | None:
        if path == self._home.maildir:
            return INBOX
        directory = os.path.basename(path)
        return state.name or None if names.is_digest(directory) else name_of(directory)

    def find(self, name: str) -> Box | None:
        """The folder of this name."""
        with self._home.locked():
            return self._find(name)

    def _find(self, name: str) -> Box | None:
        # The short way, for names as we write them
        path = os.path.join(self._home.maildir, directory_of(name)).rstrip("/")
        state = maildir.read_state(self._disk, path)
        if state is not None and self._name(path, state) == name:
            known = self._home.find(state.folder)
            if known is not None and known[0] == path:
                return Box(state.folder, name, path, state.special_use)
        return None if self._missing(name) else self._all().get(name)

    def _missing(self, name: str) -> bool:
        """Whether it is plain that there is no such folder: every state file need not be read."""
        if not self._seen or name in self._seen.values():
            return False
        return not any(
            maildir.is_maildir(self._disk, os.path.join(self._home.maildir, directory))
            for directory in self._disk.names(self._home.maildir)
            if directory.startswith(".") and directory not in self._seen
        )

    def junk(self) -> str:
        """The id of the folder that unwanted mail goes to (RFC 6154 section 2): the one with that use, else the one of
        that name, else it is made."""
        self.furnish()
        for box in self.all():
            if "\\Junk" in box.special_use:
                return box.folder
        try:
            return self.create("Junk", ("\\Junk",))
        except MailError:
            box_of_that_name = self.find("Junk")
            if box_of_that_name is None:
                raise
            return box_of_that_name.folder

    def create(self, name: str, special_use: tuple[str, ...] = ()) -> str:
        """Gives the new folder's id. Raises MailError imap="ALREADYEXISTS"."""
        with self._home.locked():
            if self._find(name) is not None:
                raise exists(name)
            path = self._path(name)
            state = self._home.made(path, special_use, name=self._own_name(name))
            self._seen[os.path.basename(path)] = name
            # Maildir++: what is a folder, and not an account
            maildir.write_small(self._disk, os.path.join(path, "maildirfolder"), b"")
            return state.folder

    def rename(self, name: str, to: str) -> None:
        """A folder, and those below it. Raises MailError imap="NONEXISTENT", "ALREADYEXISTS", "CANNOT"."""
        with self._home.locked():
            boxes = self._all()
            moving = [box for box in boxes.values() if _within(box.name, name)]
            if not moving:
                raise nonexistent(name)
            if name == INBOX or _within(to, name):
                raise MailError(550, "5.2.0", "A mailbox cannot be put below itself", imap="CANNOT")
            pairs = [(box, to + box.name[len(name) :]) for box in moving]
            for _, new in pairs:
                if new in boxes:
                    raise exists(new)
            for box, new in pairs:
                path = self._path(new)
                state = maildir.read_state(self._disk, box.path)
                own = self._own_name(new)
                if state is not None and state.name != own:
                    maildir.write_state(self._disk, box.path, replace(state, name=own))
                self._disk.rename(box.path, path)
            self._disk.sync_directory(self._home.maildir)
            self._home.look()

    def remove(self, folder: str, target: str) -> None:
        """Move a folder's directory to the path `target`, out of the Maildir. One that is gone is no error."""
        with self._home.locked(make=False) as locked:
            known = self._home.find(folder)
            if known is None:
                return
            if known[0] == self._home.maildir:
                raise MailError(550, "5.2.0", "The inbox cannot be deleted", imap="CANNOT")
            make_directories(self._disk, os.path.dirname(target))
            self._disk.rename(known[0], target)
            self._disk.sync_directory(self._home.maildir)
            locked.drop(folder)
            self._home.look()

    def _path(self, name: str) -> str:
        return os.path.join(self._home.maildir, directory_of(name))

    def _own_name(self, name: str) -> str:
        """What the state file has to say of the name."""
        return name if names.is_digest(directory_of(name)) else ""

    # -- subscriptions

    def subscriptions(self) -> list[str]:
        """Names of mailboxes, which need not exist."""
        path = os.path.join(self._home.maildir, SUBSCRIPTIONS)
        return parse_subscriptions(maildir.read_small(self._disk, path, MAX_SUBSCRIPTIONS) or b"")

    def subscribe(self, name: str, wanted: bool) -> None:
        """Raises MailError imap="LIMIT" when the list would become too long."""
        with self._home.locked():
            known = self.subscriptions()
            if (name in known) == wanted:
                return
            known = [*known, name] if wanted else [one for one in known if one != name]
            self._subscribed(known)

    def _subscribed(self, names: list[str]) -> None:
        data = format_subscriptions(names)
        if len(data) > MAX_SUBSCRIPTIONS:
            raise MailError(550, "5.2.0", "Too many subscriptions", imap="LIMIT")
        maildir.write_small(self._disk, os.path.join(self._home.maildir, SUBSCRIPTIONS), data)

    # -- annotations (RFC 5464)

    def metadata(self, folder: str | None) -> dict[str, bytes]:
        """Those of a folder (its id); of the account for None."""
        with self._home.locked():
            return self._metadata(self._metadata_path(folder))

    def set_metadata(
        self, folder: str | None, entries: dict[str, bytes | None], limit: int
    ) -> None:
        """Set, or with None remove. MailError imap="METADATA TOOMANY" for more than `limit` in all."""
        with self._home.locked():
            path = self._metadata_path(folder)
            known = self._metadata(path)
            for name, value in entries.items():
                if value is None:
                    known.pop(name, None)
                else:
                    known[name] = value
            if len(known) > limit:
                raise MailError(550, "5.2.0", "Too many annotations", imap="METADATA TOOMANY")
            text = json.dumps({name: b64encode(known[name]).decode() for name in sorted(known)})
            maildir.write_small(self._disk, path, text.encode())

    def _metadata_path(self, folder: str | None) -> str:
        if folder is None:
            return os.path.join(self._home.path, METADATA)
        known = self._home.find(folder)
        if known is None:
            raise nonexistent()
        return os.path.join(known[0], METADATA)

    def _metadata(self, path: str) -> dict[str, bytes]:
        text = maildir.read_small(self._disk, path, MAX_METADATA)
        try:
            return {
                str(name): b64decode(value) for name, value in json.loads(text or b"{}").items()
            }
        except (ValueError, AttributeError, TypeError, RecursionError):
            return {}


def _within(name: str, top: str) -> bool:
    return name == top or name.startswith(f"{top}/")


def exists(name: str) -> MailError:
    """RFC 5530 section 3."""
    return MailError(550, "5.2.0", f"There is a mailbox {name} already", imap="ALREADYEXISTS")


def nonexistent(name: str = "") -> MailError:
    """RFC 5530 section 3."""
    return MailError(550, "5.1.1", f"There is no mailbox {name}".rstrip(), imap="NONEXISTENT")
