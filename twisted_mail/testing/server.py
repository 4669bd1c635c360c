"""A whole server for somebody's tests: real protocols, real TLS, real storage, in one directory.

`MailServer` runs in the reactor (or the simulated world) of a Twisted test. `running_server` runs the same in a child
process, for tests with blocking clients such as `smtplib`. Both listen on free ports of loopback, have a certificate
of an authority of their own (`ca`), and leave nothing behind unless they were given a directory.

Passwords are hashed at the least cost that still goes through all the code. Not for mail that matters.
"""

from __future__ import annotations

import base64
import json
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import react
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from ..accounts.directory import Directory
from ..accounts.passwords import Cost, Hasher
from ..address import Address
from ..config import LISTENERS, Config
from ..service import MailService
from ..storage.maildir import FileName, listing
from ..world import World, real_world

__all__ = ["MailServer", "ServerProcess", "running_server"]

_CHEAP = Cost(memory=8, passes=1, scram_iterations=4096)
_DEADLINE = 60.0  # seconds: for one answer of the child, and for its end


class MailServer:
    """A server in this process. Made by `start`; `ports`, `ca` and `directory` say where it is."""

    ports: dict[str, int]
    """Listener → port on 127.0.0.1: ``smtp``, ``submission``, ``submissions``, ``pop3``, ``pop3s``."""

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
        ``mail.toml`` would say, as a dictionary.

        Raises `StartError`, and pydantic's ValidationError for a wrong `configuration`.
        """
        world = outside if isinstance(outside, World) else real_world(outside)
        place = _place(directory)
        try:
            config = Config.model_validate(
                {
                    "hostname": hostname,
                    "data": "data",
                    "listen": {name: ["tcp:0:interface=127.0.0.1"] for name in LISTENERS},
                    **(configuration or {}),
                },
                context={"directory": place},
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
        self.ports = {
            name: int(address.rpartition(":")[2]) for name, address in self._service.listeners
        }

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
        in_order = sorted(found, key=lambda place: (FileName.parse(place[1]).uid or 0, place[1]))
        return [inbox.joinpath(*place).read_bytes() for place in in_order]

    async def stop(self) -> None:
        """Let running transactions end, close all, and remove the directory if it was a temporary one."""
        self._accounts = None
        await self._service.stopService()
        if self._temporary:
            shutil.rmtree(self.directory)

    def _open_accounts(self) -> Directory:
        if self._accounts is None:
            raise RuntimeError("the server is not running")
        return self._accounts


class ServerProcess:
    """A server in a child process, as its parent sees it; made by `running_server`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self.ports: dict[str, int] = {}
        self.directory = log.parent
        self.ca = log.parent / "certs" / "ca.pem"

    def add_user(self, address: str, password: str) -> None:
        """As `MailServer.add_user`; what it raises becomes a RuntimeError."""
        self._ask("add_user", address, password)

    def messages(self, address: str) -> list[bytes]:
        """As `MailServer.messages`; what it raises becomes a RuntimeError."""
        return [base64.b64decode(text) for text in self._ask("messages", address)]

    def stop(self) -> None:
        """End it in good order; after a minute, at once. May be called again."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        try:
            self._process.wait(_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, *words: object) -> Any:
        """One line to the child, one line back."""
        try:
            self._stream(self._process.stdin).write(json.dumps(words).encode() + b"\n")
            self._stream(self._process.stdin).flush()
        except BrokenPipeError:
            pass  # it has ended, and its log says why
        answers = self._stream(self._process.stdout)
        ready, _, _ = select.select([answers], [], [], _DEADLINE)
        line = answers.readline() if ready else b""
        if not line:
            raise RuntimeError(
                f"the server does not answer\n{self._log.read_text(errors='replace')}"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["value"]

    @staticmethod
    def _stream(stream: IO[bytes] | None) -> IO[bytes]:
        assert stream is not None
        return stream


@contextmanager
def running_server(
    *,
    users: Mapping[str, str] | None = None,
    hostname: str = "localhost",
    directory: Path | str | None = None,
    configuration: Mapping[str, object] | None = None,
) -> Iterator[ServerProcess]:
    """A server in a child process for as long as the ``with`` lasts; the arguments are those of `MailServer.start`.

    The child ends when its parent does, however that ends. Raises RuntimeError, with its log, when it does not start.
    """
    place = _place(directory)
    log = place / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            # Ctrl-C is for the tests; the child ends when they close its input.
            start_new_session=True,
        )
    server = ServerProcess(process, log)
    try:
        server.ports = server._ask("start", str(place), users or {}, hostname, configuration or {})
        yield server
    finally:
        server.stop()
        if directory is None:
            shutil.rmtree(place, ignore_errors=True)


def _place(directory: Path | str | None) -> Path:
    """`directory`, made when it is not there; a temporary one for None."""
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="twisted-mail-"))
    place = Path(directory).absolute()
    place.mkdir(parents=True, exist_ok=True)
    return place


class _Child(LineOnlyReceiver):
    """The child's side: a line of JSON asks for a method of its server, a line of JSON answers."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def __init__(self, reactor: Any) -> None:
        self.ended: Deferred[None] = Deferred()
        self.server: MailServer | None = None
        self._reactor = reactor

    def lineReceived(self, line: bytes) -> None:
        Deferred.fromCoroutine(self._say_answer(*json.loads(line)))

    async def _say_answer(self, verb: str, *words: Any) -> None:
        try:
            answer = {"value": await self._answer(verb, *words)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        assert self.transport is not None
        self.transport.write(json.dumps(answer).encode() + b"\n")

    async def _answer(self, verb: str, *words: Any) -> object:
        if verb == "start":
            place, users, hostname, configuration = words
            self.server = await MailServer.start(
                self._reactor,
                users=users,
                hostname=hostname,
                directory=place,
                configuration=configuration,
            )
            return self.server.ports
        assert self.server is not None
        if verb == "add_user":
            await self.server.add_user(*words)
            return None
        return [base64.b64encode(data).decode() for data in self.server.messages(*words)]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


async def _serve(reactor: Any) -> None:
    child = _Child(reactor)
    StandardIO(child, reactor=reactor)
    await child.ended
    if child.server is not None:
        await child.server.stop()


if __name__ == "__main__":
    react(lambda reactor: Deferred.fromCoroutine(_serve(reactor)))
