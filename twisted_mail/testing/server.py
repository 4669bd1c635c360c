"""A whole server for somebody's tests: real protocols, real TLS, real storage, in one directory.

`MailServer` runs in the reactor (or the simulated world) of a Twisted test; `process.running_server` runs the same in
a child process. It listens on free ports of loopback, unless its configuration says otherwise, has a certificate of
an authority of its own (`ca`), and leaves nothing behind unless it was given a directory.

Several run beside each other in one simulated network, each in the world of a machine of its own
(`SimulatedWorld.at`), and each can be killed.

Passwords are hashed at the least cost that still goes through all the code. Not for mail that matters.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ..accounts.directory import Directory
from ..accounts.passwords import Cost, Hasher
from ..address import Address
from ..config import LISTENERS, Config, ConfigError, Mistake
from ..config.mistakes import dotted, from_validation, shown_value
from ..service import MailService
from ..storage.maildir import FileName, arrival_order, listing
from ..world import World, real_world
from .world import SimulatedWorld

__all__ = ["MailServer", "place_for"]

_CHEAP = Cost(memory=8, passes=1, scram_iterations=4096)


_LENIENT: Final[dict[str, object]] = {
    "checks": {"enabled": False},
    "rates": {"account_messages": "", "account_recipients": "", "watch_senders": False},
}


class MailServer:
    """A server in this process. Made by `start`; `ports`, `ca` and `directory` say where it is."""

    ports: dict[str, int]
    """Listener → TCP port, the first that it has: ``smtp``, ``submission``, ``submissions``, ``pop3``, ``pop3s``,
    ``imap``, ``imaps``."""

    def __init__(self, world: World, config: Config, directory: Path, *, temporary: bool) -> None:
        self.directory = directory
        self.ca = config.certificates / "ca.pem"
        self.ports = {}
        self._world = world
        self._config = config
        self._temporary = temporary
        self._users: Mapping[str, str] = {}
        self._accounts: Directory | None = None
        self._service = MailService(config, world, prepare=self._prepare)

    @classmethod
    async def start(
        cls,
        outside: Any,
        *,
        users: Mapping[str, str] | None = None,
        hostname: str = "localhost",
        directory: Path | str | None = None,
        configuration: Mapping[str, object] | None = None,
    ) -> MailServer:
        """A server that is answering.

        `outside` is a reactor or a `World`. `users`: address → password; their domains are local. `directory` keeps
        all files, also afterwards; without one they lie in a temporary one until `stop`. `configuration`: what
        ``mail.toml`` would say, as a dictionary; without `checks` and `rates` nobody is judged or slowed down.

        Raises `StartError`, and `ConfigError` with all mistakes of a wrong `configuration`.
        """
        world = outside if isinstance(outside, World) else real_world(outside)
        place = place_for(directory)
        try:
            config = _configured(
                {
                    "hostname": hostname,
                    "data": "data",
                    "listen": {name: ["tcp:0:interface=127.0.0.1"] for name in LISTENERS},
                    **_LENIENT,
                    **(configuration or {}),
                },
                place,
            )
            server = cls(world, config, place, temporary=directory is None)
            await server._start(users or {})
        except BaseException:
            if directory is None:
                shutil.rmtree(place, ignore_errors=True)
            raise
        return server

    async def _start(self, users: Mapping[str, str]) -> None:
        self._users = users
        self._service.privilegedStartService()
        self._service.startService()
        await self._service.when_serving()
        for name, address in self._service.listeners:
            port = address.rpartition(":")[2]
            if port.isdigit():  # else it is a UNIX socket
                self.ports.setdefault(name, int(port))

    async def _prepare(self, accounts: Directory) -> None:
        self._accounts = accounts
        for address, password in self._users.items():
            await self.add_user(address, password)

    async def add_user(self, address: str, password: str) -> None:
        """Make a user, and the domain a local one; it counts at once.

        Raises DirectoryError when there is such a user already.
        """
        accounts = self._open_accounts()
        parsed = Address.parse(address)
        if not accounts.is_local_domain(parsed.domain):
            accounts.add_domain(parsed.domain)
        accounts.add_user(parsed, await Hasher(self._world, _CHEAP).make(password))

    def messages(self, address: str) -> list[bytes]:
        """All messages of a user's inbox, the oldest first, as they lie in the Maildir: LF line ends, trace headers.

        Takes no lock, so a client may be reading the same mailbox. KeyError for an address that is no user's.
        """
        user = self._open_accounts().user(Address.parse(address))
        if user is None:
            raise KeyError(address)
        inbox = self._config.data / "mail" / user.mailbox / "Maildir"
        if not inbox.exists():  # made by the first message, or login
            return []
        found = listing(self._world.disk, str(inbox)).values()

        def order(place: tuple[str, str]) -> Any:
            # What nobody has looked at has no UID yet, and gets a higher one.
            name = FileName.parse(place[1])
            return (name.uid or math.inf, arrival_order(name.base))

        return [inbox.joinpath(*place).read_bytes() for place in sorted(found, key=order)]

    async def stop(self) -> None:
        """Let running transactions end, close all, and remove the directory if it was a temporary one."""
        self._accounts = None
        await self._service.stopService()
        if self._temporary:
            shutil.rmtree(self.directory)

    def kill(self) -> None:
        """Be gone in the middle of what it does, in a world that `SimulatedWorld.at` made. Its directory stays.

        `start` in the world of a new process, with the same directory, takes up what is there.
        """
        if not isinstance(self._world, SimulatedWorld) or not self._world.mortal:
            raise RuntimeError("only a server in a world made by SimulatedWorld.at can be killed")
        rooms, accounts, self._accounts = self._service.rooms, self._accounts, None
        # SQLite's own files are the one thing that the disk of a dead process cannot close.
        if rooms is not None:
            rooms.close_files()
            sessions: Any = rooms.store._sessions
            for account in sessions._open.values():
                account.digests._file.close()
                account.search.index.close()
        if accounts is not None:
            accounts.close()
        self._world.kill()

    def _open_accounts(self) -> Directory:
        if self._accounts is None:
            raise RuntimeError("the server is not running")
        return self._accounts


def _configured(values: dict[str, Any], place: Path) -> Config:
    """Raises ConfigError, in the words that the server has for a file."""
    try:
        return Config.model_validate(values, context={"directory": place})
    except ValidationError as error:
        raise ConfigError(
            [
                Mistake(Path("configuration"), None, dotted(key), shown_value(values, key), allowed)
                for key, allowed in from_validation(error)
            ]
        ) from None


def place_for(directory: Path | str | None) -> Path:
    """`directory`, made when it is not there; a temporary one for None."""
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="twisted-mail-"))
    place = Path(directory).absolute()
    place.mkdir(parents=True, exist_ok=True)
    return place
