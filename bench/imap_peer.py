"""A peer that is read by IMAP, in Maildirs that are put there before it starts."""

from __future__ import annotations

import smtplib
from abc import abstractmethod
from pathlib import Path

from harness import Peer

__all__ = ["OWNER", "ImapPeer"]

OWNER = 65534
"""The system user `nobody`, which Dovecot works as."""


class ImapPeer(Peer):
    """`imap` is in clear, `imaps` TLS from the first byte."""

    imap = 0
    imaps = 0

    @abstractmethod
    def maildir(self, directory: Path, user: str) -> Path:
        """Where the Maildir of `user` is, or is to be."""

    @abstractmethod
    def deliverer(self) -> smtplib.SMTP:
        """A new connection for mail to come in by."""
