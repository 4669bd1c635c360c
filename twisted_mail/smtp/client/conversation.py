"""What an SMTP or LMTP client says, and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...interfaces import Content
from .interfaces import PeerReply, Transaction

__all__ = ["SmtpConversation"]


class SmtpConversation:
    """`interfaces.Conversation`, made by `protocol.connect`. `name`: of the peer, for texts."""

    name: str
    extensions: Mapping[str, str]

    @property
    def tls(self) -> str | None:
        raise NotImplementedError

    @property
    def open(self) -> bool:
        raise NotImplementedError

    async def hello(self) -> None:
        raise NotImplementedError

    async def start_tls(self, creator: Any) -> None:
        raise NotImplementedError

    def peer_chain(self) -> Sequence[Any]:
        raise NotImplementedError

    async def login(self, username: str, password: str) -> None:
        raise NotImplementedError

    async def send(self, transaction: Transaction, content: Content) -> list[PeerReply]:
        raise NotImplementedError

    async def quit(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError
