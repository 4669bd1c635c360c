"""imapflow as an object: a process of node that does what it is told, and what it has heard meanwhile."""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from typing import Any

from mailsite import ALICE, DEADLINE, NODE, PASSWORD, Site, until


class ImapFlow:
    """A session of imapflow with `site`, connected and logged in; `options` as its constructor has them."""

    def __init__(self, site: Site, user: str = ALICE, **options: object) -> None:
        settings = {
            "host": "localhost",
            "port": site.ports["imaps"],
            "secure": True,
            "auth": {"user": user, "pass": PASSWORD},
            **options,
        }
        self.events: list[dict[str, Any]] = []
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._process = subprocess.Popen(
            ["node", str(NODE / "imapflow.mjs"), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "NODE_EXTRA_CA_CERTS": str(site.ca)},
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.do("connect")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "event" in said:
                self.events.append(said)
            else:
                self._answers.put(said)

    def __enter__(self) -> ImapFlow:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(DEADLINE)
        finally:
            self._process.kill()
            self._reader.join(DEADLINE)
            self._process.stdout.close()

    def do(self, method: str, *args: object) -> Any:
        """Call a method of the client; what it came to."""
        answer = self._ask(method, args)
        assert "error" not in answer, answer
        return answer["result"]

    def refused(self, method: str, *args: object) -> str:
        """Call a method that has to fail; what it says of it."""
        return str(self._ask(method, args)["error"])

    def _ask(self, method: str, args: tuple[object, ...]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": method, "args": args}) + "\n")
        self._process.stdin.flush()
        return self._answers.get(timeout=DEADLINE)

    def heard(self, event: str) -> list[Any]:
        return [said.get("data") for said in self.events if said["event"] == event]

    def waits_for(self, event: str, count: int = 1, seconds: float = DEADLINE) -> list[Any]:
        """Everything heard of this kind, when it is `count` at least."""
        until(lambda: len(self.heard(event)) >= count, f"{event}, in {self.events}", seconds)
        return self.heard(event)

    def idle(self) -> None:
        """It waits in IDLE, and goes on hearing."""
        self.do("startIdle")
        until(lambda: self.do("state")["idling"], "it idles")

    def subjects(self, folder: str) -> list[str]:
        opened = self.do("mailboxOpen", folder)
        if not opened["exists"]:
            return []  # "1:*" names nothing there: BAD (RFC 9051 section 9, seq-number)
        return [
            one["envelope"]["subject"] for one in self.do("fetchAll", "1:*", {"envelope": True})
        ]
