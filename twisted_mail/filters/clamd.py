"""ClamAV's clamd, asked by INSTREAM (clamd(8)): is there malware in it?

zINSTREAM NUL  (length (4 octets)  block)*  0 (4 octets)      → "stream: OK NUL"
                                                              → "stream: Eicar-Test-Signature FOUND NUL"
                                                              → "INSTREAM size limit exceeded. ERROR NUL"
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from ..status import Reply
from ..world import World
from .interfaces import Action, Message, Opinion
from .scanning import Asking, BadAnswer, Connection, ScannerSettings, message_size, show

__all__ = ["Clamd", "ClamdSettings", "clamd_verdict"]

_MAX_ANSWER = 4096
_FOUND = re.compile(rb"stream: (.{1,200}) FOUND", re.DOTALL)


class ClamdSettings(NamedTuple):
    """`infected`: what becomes of malware. `too_large`: of what clamd's ``StreamMaxLength`` keeps it from reading."""

    scanner: ScannerSettings
    infected: Literal["reject", "discard", "quarantine", "junk"] = "reject"
    too_large: Literal["accept", "failure"] = "accept"


class Clamd:
    """`interfaces.Scanner`."""

    def __init__(self, world: World, settings: ClamdSettings) -> None:
        self.name = settings.scanner.name
        self._settings = settings
        self._asking = Asking(world, settings.scanner)

    async def scan(self, message: Message) -> Opinion:
        """REJECT 550 5.7.1 and the like for what is infected, NONE for what is not."""

        async def talk(connection: Connection) -> Opinion:
            await connection.write(b"zINSTREAM\0")
            await show(connection, message, _chunk)
            if not connection.answered:
                await connection.write(bytes(4))
            answer = bytearray()
            while b"\0" not in answer:
                data = await connection.read()
                answer += data
                if not data or len(answer) > _MAX_ANSWER:
                    raise BadAnswer("clamd: no answer that is one")
            return clamd_verdict(bytes(answer).partition(b"\0")[0], self._settings)

        return await self._asking.ask(message_size(message), talk)


def clamd_verdict(answer: bytes, settings: ClamdSettings) -> Opinion:
    """What an answer, without its NUL, means. Raises BadAnswer."""
    answer = answer.strip()
    if answer == b"stream: OK":
        return Opinion()
    match = _FOUND.fullmatch(answer)
    if match is None:
        if answer.startswith(b"INSTREAM size limit exceeded") and settings.too_large == "accept":
            return Opinion(reason="not scanned: over clamd's size limit")
        raise BadAnswer(f"clamd: {_word(answer)}")
    name = _word(match[1])
    reason = f"malware: {name}"
    if settings.infected != "reject":
        return Opinion(action=Action(settings.infected), reason=reason, symbols=(name,))
    reply = Reply(550, "5.7.1", (f"The message contains malware ({name})",))
    return Opinion(action=Action.REJECT, reply=reply, reason=reason, symbols=(name,))


def _chunk(block: bytes) -> bytes:
    return len(block).to_bytes(4) + block


def _word(data: bytes) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in data[:200].decode("latin-1"))
