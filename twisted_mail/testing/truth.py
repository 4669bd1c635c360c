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

__all__ = ["Box", "Letter", "Truth", "Wrong"]

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
    """A folder as a client sees it: `messages` by UID, in their order."""

    validity: int
    messages: Mapping[int, bytes]


@dataclass
class _Folder:
    validity: int
    highest: int = 0
    known: dict[int, bytes] = field(default_factory=dict)


class Truth:
    """Of one site and its `users`, who have `folders`."""

    def __init__(self, users: Iterable[str], folders: Sequence[str]) -> None:
        self.users = list(users)
        self.folders = list(folders)
        self.letters: dict[str, Letter] = {}
        self.looks = 0
        self._may: dict[tuple[str, str], set[Where]] = {}
        """By user and token: all that may be found."""
        self._folders: dict[tuple[str, str], _Folder] = {}

    # What clients did

    def sent(self, letter: Letter) -> None:
        """With `answered` as the client heard it."""
        self.letters[letter.token] = letter
        for user in letter.recipients:
            if user in self.users:
                self._change(user, letter.token, "", "INBOX", letter.answered)

    def appended(self, user: str, letter: Letter, folder: str) -> None:
        self.letters[letter.token] = letter
        self._change(user, letter.token, "", folder, letter.answered)

    def copied(self, user: str, token: str, folder: str, answered: bool | None) -> None:
        self._change(user, token, "", folder, answered)

    def moved(self, user: str, token: str, source: str, folder: str, answered: bool | None) -> None:
        self._change(user, token, source, folder, answered)

    def deleted(self, user: str, token: str, folder: str, answered: bool | None) -> None:
        self._change(user, token, folder, "", answered)

    def _change(
        self, user: str, token: str, source: str, target: str, answered: bool | None
    ) -> None:
        before = self._may.get((user, token), {NOWHERE})
        after = {_step(where, source, target) for where in before}
        if answered is None:
            after |= before
        self._may[user, token] = before if answered is False else after

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
        if found:
            raise Wrong(f"{user}: letters that are not for him: {sorted(found)}")

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
        """Letters that were answered with 250, and each recipient elsewhere."""
        return [
            (letter, one)
            for letter in self.letters.values()
            if letter.answered
            for one in letter.recipients
            if one not in self.users
        ]


def token_of(content: bytes) -> str | None:
    """The token in a letter; None: it is none of ours."""
    for line in content.split(b"\r\n\r\n", 1)[0].split(b"\r\n"):
        if line.startswith(b"X-Token: "):
            return line[9:].decode()
    return None


def _step(where: Where, source: str, target: str) -> Where:
    counts = Counter(dict(where))
    if source:
        counts[source] -= 1
    if target:
        counts[target] += 1
    return _where(counts)


def _where(counts: Counter[str]) -> Where:
    return tuple(sorted((name, count) for name, count in counts.items() if count > 0))
