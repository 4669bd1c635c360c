"""A `Progress` after which an import is stopped, as if somebody wanted it to."""

from __future__ import annotations

from twisted_mail.storage.progress import InterruptedImportError, Quiet


class Stop(Quiet):
    """At the step behind `after`."""

    def __init__(self, after):
        self.left = after

    def step(self, messages, octets):
        self.left -= 1
        if self.left < 0:
            raise InterruptedImportError("stop")
