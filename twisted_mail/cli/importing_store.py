"""What commands that move mail have in common: the user's mailbox, the store, and files that belong to others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from .importing_progress import Shown, interruptible
from .site import Refusal, SiteFiles, parse_address

if TYPE_CHECKING:
    from ..config import Config
    from ..storage.store import MailStore
    from ..world import World

__all__ = ["checked_name", "foreign_files", "mailbox_of", "user_option", "with_store"]

_Command = Callable[..., None]
user_option: Callable[[_Command], _Command] = click.option(
    "--user", "address", metavar="ADDRESS", required=True, help="Whose mailboxes."
)


def mailbox_of(site: SiteFiles, address: str) -> tuple[str, tuple[int | None, int | None]]:
    """The key of a user's mailbox, and its quota. Raises Refusal."""
    parsed = parse_address(address)
    with site.directory() as directory:
        found = directory.user(parsed)
        if found is None:
            raise Refusal(f"there is no user {parsed}; add it first: mailctl user add {parsed}")
        return found.mailbox, directory.quota(found.mailbox)


def with_store(
    config: Config,
    work: Callable[[World, MailStore, Shown], Any],
    limits: tuple[int | None, int | None] = (None, None),
) -> Any:
    """What `work` gives, done in the site's store. Raises Refusal."""
    from ..site import make_store
    from ..storage.progress import InterruptedImportError
    from .run import run

    async def whole(world: World) -> Any:
        store = make_store(config, world, lambda _: limits)
        progress = Shown(world.now)

        async def inside() -> Any:
            await store.start()
            try:
                return await work(world, store, progress)
            except InterruptedImportError as error:
                raise ValueError(str(error)) from None
            finally:
                progress.end()
                await store.stop()

        return await interruptible(world, progress, inside())

    return run(whole)


@contextmanager
def _as_root() -> Iterator[None]:
    import ctypes

    libc = ctypes.CDLL(None)
    # setfsuid(2): of this thread alone; root's rights on files come back with it
    own = libc.setfsuid(0)
    try:
        yield
    finally:
        libc.setfsuid(own)


def foreign_files() -> AbstractContextManager[object]:
    """Other people's files, which root may read: `mailctl` has become the data's owner."""
    return _as_root() if os.getuid() == 0 and os.geteuid() != 0 else nullcontext()


def checked_name(config: Config, name: str) -> str:
    """A mailbox's name, with ``/`` between its levels. Raises Refusal."""
    from ..imap.names import mailbox_name
    from ..storage.names import normal

    try:
        found = normal(mailbox_name(name.encode("utf-8", "surrogateescape"), utf8=True))
    except ValueError as error:
        raise Refusal(f"{name!r} is no name of a mailbox: {error}") from None
    levels = found.split("/")
    if not all(levels) or len(levels) > config.imap.max_depth or len(found.encode()) > 1000:
        raise Refusal(
            f"{name!r} is no name of a mailbox: levels are between slashes, and not empty"
        )
    return found
