"""A server for tests with blocking clients, such as `smtplib`: `server.MailServer` in a child process.

This is the parent's side; `child` is what it runs. They talk over the child's standard input and output, a line of
JSON each way.
"""

from __future__ import annotations

import base64
import json
import selectors
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .server import place_for

__all__ = ["ServerProcess", "running_server"]

_DEADLINE = 60.0  # seconds: for one answer of the child, and for its end


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
        # Not select(2): the program under test may have more than 1024 files open.
        with selectors.DefaultSelector() as selector:
            selector.register(answers, selectors.EVENT_READ)
            ready = selector.select(_DEADLINE)
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
    place = place_for(directory)
    log = place / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.child"],
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
