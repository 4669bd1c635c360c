"""An IMAP client that keeps what it was told of a folder, and believes it: what it has is to be what is there.

While it is connected it goes by what is said untagged (EXISTS, EXPUNGE, VANISHED, FETCH); after it was away, by what a
server says to who knows a mod-sequence (QRESYNC, RFC 7162). It never asks for what it has been told.
"""

from __future__ import annotations

import re
from typing import Final

from .talk import Imap, numbers
from .truth import Wrong

__all__ = ["Follower"]

_SAID = re.compile(
    rb"^\* (?:(?P<exists>\d+) EXISTS|(?P<expunge>\d+) EXPUNGE|VANISHED (?:\(EARLIER\) )?(?P<vanished>[\d:,]+)"
    rb"|(?P<fetch>\d+) FETCH \((?P<items>.*)\))\r$",
    re.MULTILINE,
)
_UID = re.compile(rb"UID (\d+)")
_FLAGS = re.compile(rb"FLAGS \(([^)]*)\)")
_MODSEQ = re.compile(rb"MODSEQ \((\d+)\)")
_HIGHEST = re.compile(rb"\[HIGHESTMODSEQ (\d+)\]")
_VALIDITY = re.compile(rb"\[UIDVALIDITY (\d+)\]")
_RECENT: Final = rb"\Recent"


class Follower:
    """Of one `folder`, over any number of connections. `quick`: it speaks QRESYNC, else nothing of it."""

    def __init__(self, folder: str, *, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self._uids: list[int] = []
        """By sequence number; 0: it was not told which."""
        self._flags: dict[int, frozenset[bytes]] = {}
        self._validity = 0
        self._modseq = 0

    def open(self, imap: Imap) -> bool:
        """Select the folder, and learn what has become of it. False: no answer, or no."""
        known = ""
        if self.quick:
            if not imap.command("ENABLE QRESYNC"):
                return False
            if self._modseq:
                known = f" (QRESYNC ({self._validity} {self._modseq}))"
        else:
            self._uids, self._flags = [], {}
        if not imap.command(f"SELECT {self.folder}{known}"):
            return False
        validity = _VALIDITY.search(imap.text)
        if validity is None or int(validity[1]) != (self._validity or int(validity[1])):
            raise Wrong(f"UIDVALIDITY of {self.folder} was {self._validity}: {imap.text[-500:]!r}")
        self._validity = int(validity[1])
        highest = _HIGHEST.search(imap.text)
        if highest is None or int(highest[1]) < self._modseq:
            raise Wrong(f"HIGHESTMODSEQ of {self.folder} was {self._modseq}: {imap.text[-500:]!r}")
        if not self.quick:
            self._modseq = 0
        self._uids = [uid for uid in self._uids if uid]
        return self._learn(imap, returned=bool(known))

    def catch_up(self, imap: Imap) -> bool:
        """Hear what there is to be said. False: no answer."""
        if not imap.command("NOOP"):
            return False
        return self._learn(imap)

    def seen(self) -> dict[int, frozenset[bytes]]:
        """UID → flags, without ``\\Recent``: what is in the folder, as far as it was told."""
        return {uid: self._flags[uid] - {_RECENT} for uid in self._uids}

    def _learn(self, imap: Imap, *, returned: bool = False) -> bool:
        """What was just said. Of messages that have come since it was only told how many: it asks."""
        text, before = imap.text, self._modseq
        self._hear(text, returned=returned)
        if not self._ask_unknown(imap):
            self._modseq = before
            return False
        if self.quick:
            # Said to NOOP or SELECT, which leave nothing untold.
            told = [*_HIGHEST.findall(text), *_MODSEQ.findall(text)]
            self._modseq = max([self._modseq, *map(int, told)])
        return True

    def _ask_unknown(self, imap: Imap) -> bool:
        for _ in range(5):
            if 0 not in self._uids:
                return True
            if not imap.command(f"FETCH {self._uids.index(0) + 1}:* (UID FLAGS)"):
                return False
            self._hear(imap.text)
        raise Wrong(f"what is new in {self.folder} is not told: {imap.text[-500:]!r}")

    def _hear(self, text: bytes, *, returned: bool = False) -> None:
        """`returned`: to a SELECT with QRESYNC, so what is known stands in the order of its UIDs."""
        exists = None
        for said in _SAID.finditer(text):
            if said["exists"]:
                exists = int(said["exists"])
                if not returned:
                    self._grow(exists, text)
            elif said["expunge"]:
                number = int(said["expunge"])
                if not 0 < number <= len(self._uids):
                    raise Wrong(f"{self.folder}: EXPUNGE {number} of {len(self._uids)}")
                self._flags.pop(self._uids.pop(number - 1), None)
            elif said["vanished"]:
                gone = set(numbers(said["vanished"].decode()))
                self._uids = [uid for uid in self._uids if uid not in gone]
                for uid in gone:
                    self._flags.pop(uid, None)
            else:
                self._fetched(int(said["fetch"]), said["items"], returned)
        if returned and exists != len(self._uids):
            raise Wrong(
                f"{self.folder}: {exists} messages, by QRESYNC {len(self._uids)}: {text[-1500:]!r}"
            )

    def _grow(self, exists: int, text: bytes) -> None:
        # RFC 9051 section 7.4.1: EXISTS never says that something is gone
        if exists < len(self._uids):
            raise Wrong(f"{self.folder}: {exists} EXISTS after {len(self._uids)}: {text!r}")
        self._uids += [0] * (exists - len(self._uids))

    def _fetched(self, number: int, items: bytes, returned: bool) -> None:
        told, flags = _UID.search(items), _FLAGS.search(items)
        uid = int(told[1]) if told else 0
        if returned:
            if uid and uid not in self._flags:
                self._uids = sorted({*self._uids, uid})
        else:
            if not 0 < number <= len(self._uids):
                raise Wrong(f"{self.folder}: FETCH of {number}, there are {len(self._uids)}")
            before = self._uids[number - 1]
            if uid and before not in (0, uid):
                raise Wrong(f"{self.folder}: message {number} is UID {uid}, was UID {before}")
            uid = self._uids[number - 1] = uid or before
        if uid and flags:
            self._flags[uid] = frozenset(flags[1].split())
