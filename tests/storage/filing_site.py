"""A site whose folders are looked at, and changed, as IMAP does it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from store_site import Site

from twisted_mail.mailboxes import Appending, Filed
from twisted_mail.message.wire import wire_size
from twisted_mail.storage.maildir import FileName


class Held(NamedTuple):
    """One message as it lies in a folder; `flags` sorted."""

    folder: str
    content: bytes
    flags: tuple[str, ...]
    date: int


def account(site: Site, key: str) -> Any:
    return site.store._accounts.get(key)


def folder(site: Site, key: str, name: str) -> str:
    """The id of a folder, which is made when there is none."""
    if name == "INBOX":
        return ""
    folders = account(site, key).folders
    found = folders.find(name)
    return found.folder if found is not None else folders.create(name)


def message(content: bytes, flags: Sequence[str] = (), date: int | None = None) -> Any:
    """(content, flags, date) of a message to be put in."""
    return content, flags, date


async def _append(site: Site, key: str, where: str, messages: Sequence[Any]) -> Filed:
    given = []
    for content, flags, date in messages:
        draft = site.store.draft()
        for at in range(0, len(content), 65536):
            waiting = draft.write(content[at : at + 65536])
            if waiting is not None:
                await waiting
        given.append(Appending(draft, flags, date))
    return await site.store.append(key, where, given)


def append(site: Site, key: str, name: str, *messages: Any) -> Filed:
    # As a login does: who files has the account open.
    account(site, key).prepare()
    return site.run(_append(site, key, folder(site, key, name), messages))


async def _replace(site: Site, key: str, source: str, base: str, target: str, new: Any) -> Filed:
    draft = site.store.draft()
    waiting = draft.write(new[0])
    if waiting is not None:
        await waiting
    return await site.store.replace(key, source, base, target, Appending(draft, *new[1:]))


def replace(site: Site, key: str, name: str, base: str, to: str, new: Any) -> Filed:
    ids = folder(site, key, name), folder(site, key, to)
    return site.run(_replace(site, key, ids[0], base, ids[1], new))


def copy(site: Site, key: str, name: str, bases: Sequence[str], to: str) -> Filed:
    return site.run(site.store.copy(key, folder(site, key, name), bases, folder(site, key, to)))


def move(site: Site, key: str, name: str, bases: Sequence[str], to: str) -> Filed:
    return site.run(site.store.move(key, folder(site, key, name), bases, folder(site, key, to)))


def expunge(site: Site, key: str, name: str, bases: Sequence[str]) -> None:
    site.run(site.store.expunge(key, folder(site, key, name), bases))


def remove_folder(site: Site, key: str, name: str) -> None:
    site.run(site.store.remove_folder(key, folder(site, key, name)))


def picked(site: Site, key: str, name: str) -> list[Any]:
    """What is in a folder, by UID."""
    store = account(site, key)
    which = folder(site, key, name)
    gone = store.refresh(which)
    bases = [row[1] for row in store.rows(which) if row[1] not in gone]
    return store.filler.pick(which, bases)


def bases(site: Site, key: str, name: str, *contents: bytes) -> list[str]:
    """The base names of the messages with these contents, or of all."""
    found = picked(site, key, name)
    return [one.base for one in found if not contents or read(one.path) in contents]


def uids(site: Site, key: str, name: str) -> list[int]:
    return [one.uid for one in picked(site, key, name)]


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def held(site: Site, key: str) -> list[Held]:
    """All that an account holds, sorted. What is said of the sizes is what lies there."""
    found = []
    for box in account(site, key).folders.all():
        for one in picked(site, key, box.name):
            content = read(one.path)
            assert one.size == len(content), (box.name, one)
            if content.endswith(b"\n") and b"\r" not in content:  # as all that comes by a protocol
                assert one.wire == wire_size(content), (box.name, one)
            assert FileName.parse(os.path.basename(one.path)).size in (None, one.size), one.path
            found.append(Held(box.name, content, tuple(sorted(one.flags)), one.date))
    return sorted(found)
