"""What must be true of a site whatever happens to it: what its clients were told, and what they find.

A `Truth` is told of each letter and of what clients did, with what they were answered; `Boxes`, what somebody finds
who looks, are held against it. A letter is known by its token, which stands in it. Where an answer was lost there is
more than one thing that may be found; what is found then counts from then on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import permutations, product
from typing import NamedTuple

__all__ = ["Box", "Deed", "Letter", "Truth", "Wrong"]

Where = tuple[tuple[str, int], ...]
"""In which folders, and how often in each."""
NOWHERE: Where = ()


class Wrong(AssertionError):
    """A promise was broken."""


@dataclass
class Letter:
    """`content`: as it was sent, CRLF line ends. `recipients`: local ones, then those elsewhere."""

    token: str
    content: bytes
    sender: str
    recipients: Sequence[str]
    answered: bool | None = None
    """True: 250; False: refused; None: nobody knows."""


@dataclass
class Box:
    """A folder as a client sees it: `messages` by UID, in their order; `flags` of those that it was told of."""

    validity: int
    messages: Mapping[int, bytes]
    flags: Mapping[int, frozenset[bytes]] = field(default_factory=dict)


class Deed(NamedTuple):
    """What a client did to one letter of a user. `source` "": it comes; `target` "": it goes.

    `copied`: it stays in `source`, too. `answered` as in `Letter`.
    """

    user: str
    token: str
    source: str
    target: str
    answered: bool | None
    copied: bool = False

    def done(self, where: Where) -> Where:
        """What of it there is to be done, there where the letter is: an absent UID is passed over."""
        counts = Counter(dict(where))
        if self.source and not counts[self.source]:
            return where
        if self.source and not self.copied:
            counts[self.source] -= 1
        if self.target:
            counts[self.target] += 1
        return _where(counts)


@dataclass
class _Folder:
    validity: int
    highest: int = 0
    known: dict[int, bytes] = field(default_factory=dict)
    unique: dict[int, str] = field(default_factory=dict)


class Truth:
    """Of one site and its `users`, who have `folders`."""

    def __init__(self, users: Iterable[str], folders: Sequence[str]) -> None:
        self.users = list(users)
        self.folders = list(folders)
        self.letters: dict[str, Letter] = {}
        self.looks = 0
        self._may: dict[tuple[str, str], set[Where]] = {}
        """By user and token: all that may be found."""
        self._unheard: dict[str, dict[str, bool | None]] = {}
        """Letters without an answer: by token and user, whether they were found; None: not looked yet."""
        self._folders: dict[tuple[str, str], _Folder] = {}

    # What clients did

    def sent(self, letter: Letter) -> None:
        """With `answered` as the client heard it."""
        self.letters[letter.token] = letter
        users = [user for user in letter.recipients if user in self.users]
        for user in users:
            self.did(Deed(user, letter.token, "", "INBOX", letter.answered))
        if letter.answered is None:
            self._unheard[letter.token] = dict.fromkeys(users)

    def appended(self, user: str, letter: Letter, folder: str) -> None:
        self.letters[letter.token] = letter
        self.did(Deed(user, letter.token, "", folder, letter.answered))

    def did(self, deed: Deed) -> None:
        self.did_at_once([deed])

    def did_at_once(self, deeds: Iterable[Deed]) -> None:
        """Several clients, in an order that nobody knows."""
        of: dict[tuple[str, str], list[Deed]] = {}
        for deed in deeds:
            of.setdefault((deed.user, deed.token), []).append(deed)
        for key, its in of.items():
            may: set[Where] = set()
            choices = [(True, False) if deed.answered is None else (deed.answered,) for deed in its]
            for which, before in product(product(*choices), self._may.get(key, {NOWHERE})):
                done = [deed for deed, yes in zip(its, which, strict=True) if yes]
                for order in permutations(done):
                    where = before
                    for deed in order:
                        where = deed.done(where)
                    may.add(where)
            self._may[key] = may

    # What is found

    def look(self, user: str, boxes: Mapping[str, Box]) -> None:
        """Hold it against what may be. Raises `Wrong`."""
        self.looks += 1
        found: dict[str, Counter[str]] = {}
        for name, box in boxes.items():
            self._numbers(user, name, box)
            for uid, content in box.messages.items():
                token = token_of(content)
                if token is None:
                    continue  # a bounce: the queue's
                letter = self.letters.get(token)
                if letter is None:
                    raise Wrong(f"{user} {name} {uid}: a letter {token} that nobody has sent")
                if not content.endswith(letter.content):
                    raise Wrong(f"{user} {name} {uid}: letter {token} is not what was sent")
                found.setdefault(token, Counter())[name] += 1
        for (owner, token), may in self._may.items():
            if owner == user:
                where = _where(found.pop(token, Counter()))
                if where not in may:
                    raise Wrong(f"{user}: letter {token} is {where}, and may be {sorted(may)}")
                self._may[owner, token] = {where}
                self._whole(user, token, found=bool(where))
        if found:
            raise Wrong(f"{user}: letters that are not for him: {sorted(found)}")

    def _whole(self, user: str, token: str, *, found: bool) -> None:
        """A letter that was not answered is with all of its recipients, or with none."""
        seen = self._unheard.get(token)
        if seen is None or seen.get(user, False) is not None:
            return
        seen[user] = found
        if None not in seen.values() and len(set(seen.values())) > 1:
            raise Wrong(f"letter {token}, not answered, is half there: {seen}")

    def unique(self, user: str, uids: Sequence[int], names: Sequence[str]) -> None:
        """What POP3 calls the messages of an inbox that IMAP calls `uids`: RFC 1939 section 7, always the same."""
        if len(names) != len(uids) or len(set(names)) != len(names):
            raise Wrong(f"{user}: {len(uids)} messages by IMAP, by POP3 {names}")
        known = self._folders[user, "INBOX"].unique
        for uid, name in zip(uids, names, strict=True):
            if known.setdefault(uid, name) != name:
                raise Wrong(f"{user}: UID {uid} was {known[uid]} by POP3, is {name}")

    def _numbers(self, user: str, name: str, box: Box) -> None:
        # RFC 9051 section 2.3.1.1: a UID is never another message's, and they only grow
        folder = self._folders.setdefault((user, name), _Folder(box.validity))
        if folder.validity != box.validity:
            raise Wrong(f"{user} {name}: UIDVALIDITY was {folder.validity}, is {box.validity}")
        for uid, content in box.messages.items():
            digest = blake2b(content, digest_size=16).digest()
            before = folder.known.get(uid)
            if before is None and uid <= folder.highest:
                raise Wrong(f"{user} {name}: UID {uid} is new, after {folder.highest}")
            if before not in (None, digest):
                raise Wrong(f"{user} {name}: UID {uid} is another message's by now")
            folder.known[uid] = digest
        folder.highest = max([folder.highest, *box.messages])

    def there(self, user: str, folder: str) -> list[str]:
        """Tokens of letters that are certainly in it."""
        return [
            token
            for (owner, token), may in self._may.items()
            if owner == user and all(folder in dict(where) for where in may)
        ]

    def abroad(self) -> list[tuple[Letter, str]]:
        """Letters that were answered with 250, or without an answer are here, and each recipient elsewhere."""
        return [
            (letter, one)
            for letter in self.letters.values()
            if letter.answered
            or (letter.answered is None and any(self._unheard.get(letter.token, {}).values()))
            for one in letter.recipients
            if one not in self.users
        ]


def token_of(content: bytes) -> str | None:
    """The token in a letter; None: it is none of ours."""
    for line in content.split(b"\r\n\r\n", 1)[0].split(b"\r\n"):
        if line.startswith(b"X-Token: "):
            return line[9:].decode()
    return None


def _where(counts: Counter[str]) -> Where:
    return tuple(sorted((name, count) for name, count in counts.items() if count > 0))
