"""Credentials checkers for the portal: our directory, and whatever twisted.cred offers.

Promises: to a client, a name that nobody has, a name that may not log in and a wrong password are
the same: one argon2 verification, one `UnauthorizedLogin`; over SCRAM, one salt that never changes.
A password that was right lately costs no argon2, nor does one that was wrong lately, for a name that exists or not.
`make_checkers` says in plain words what is wrong with a configured name.

How long a failure waits, and what the client reads, is `accounts.authenticate`'s.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from typing import Any, Final

from twisted.cred import strcred
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import ICredentials, IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure
from zope.interface import Attribute, implementer

from ..sasl import ScramKeys, ScramProof
from ..world import World
from .directory import Directory
from .passwords import Hasher, PasswordRecord, Refused, Remembered
from .tables import User

__all__ = [
    "CheckerError",
    "DirectoryChecker",
    "IScramChecker",
    "IScramCredentials",
    "Password",
    "ScramCredentials",
    "described_checker",
    "make_checkers",
]

_SALT_SIZE: Final = 16
_KEY_SIZE: Final = 32


class CheckerError(ValueError):
    """A configured checker that cannot be had; the text is for the operator."""


class IScramCredentials(ICredentials):
    """A client's SCRAM-SHA-256 proof that it knows a password."""

    username: str = Attribute("str: who wants to log in.")

    def matches(keys: ScramKeys) -> bool:
        """Whether the proof was made with the password of these keys."""


class IScramChecker(ICredentialsChecker):
    """A checker of `IScramCredentials`. It is asked before the client has proved anything."""

    def scram_keys(username: str) -> Awaitable[ScramKeys]:
        """The keys of this user. For a name that nobody has, keys that no proof matches, with a salt
        that is always the same for that name, in every spelling that would be one user's.
        """


class Password(UsernamePassword):
    """A name and a password. `first`: it comes from where its user is at home, and is hashed before those of others."""

    def __init__(self, username: bytes, password: bytes, first: bool = False) -> None:
        super().__init__(username, password)
        self.first = first

    def checkPassword(self, password: bytes) -> bool:
        """For checkers of others, who have the password itself; in a time that says nothing of it."""
        return hmac.compare_digest(self.password, password)


@implementer(IScramCredentials)
class ScramCredentials:
    """What `IScramCredentials` says, around a proof."""

    def __init__(self, proof: ScramProof) -> None:
        self.username = proof.username
        self.matches = proof.matches


@implementer(IScramChecker)
class DirectoryChecker:
    """Checks against the directory. Avatar ids are addresses, as UTF-8."""

    credentialInterfaces = (IUsernamePassword, IScramCredentials)

    def __init__(
        self,
        directory: Directory,
        hasher: Hasher,
        world: World,
        remembered: Remembered | None = None,
    ) -> None:
        self._directory = directory
        self._hasher = hasher
        self._remembered = remembered or Remembered(world)
        self._refused = Refused(world)
        self._asked = _Asked()

    def requestAvatarId(
        self, credentials: IUsernamePassword | IScramCredentials
    ) -> Deferred[bytes | tuple[()]]:
        if IScramCredentials.providedBy(credentials):
            return maybeDeferred(self._check_proof, credentials)
        try:
            username, password = credentials.username.decode(), credentials.password.decode()
        except UnicodeDecodeError:
            username = password = ""
        user, record = self._who(username)
        if user and record and self._remembered.knows(user.id, record, password):
            # Mostly: who polls is let in at once.
            return succeed(_avatar_id(user))
        first = isinstance(credentials, Password) and credentials.first
        return Deferred.fromCoroutine(self._check_password(user, record, username, password, first))

    async def scram_keys(self, username: str) -> ScramKeys:
        user, record = self._who(username)
        if user is not None and record is not None:
            return record.scram
        # Else anybody could ask who has an account: a salt that changes, with time or with the
        # case of letters, is nobody's.
        address = self._directory.login_address(username)
        name = (username if address is None else address.key).encode(errors="surrogatepass")
        made_up = hmac.digest(self._directory.secret, name, "sha512")
        salt, key = made_up[:_SALT_SIZE], made_up[-_KEY_SIZE:]
        return ScramKeys(self._hasher.scram_iterations, salt, key, key)

    def _check_proof(self, credentials: IScramCredentials) -> bytes | tuple[()]:
        user, record = self._who(credentials.username)
        if user is None or record is None or not credentials.matches(record.scram):
            raise UnauthorizedLogin
        return _avatar_id(user)

    async def _check_password(
        self,
        user: User | None,
        record: PasswordRecord | None,
        username: str,
        password: str,
        first: bool,
    ) -> bytes | tuple[()]:
        argon2 = self._hasher.dummy if user is None or record is None else record.argon2
        tried = self._refused.digest(argon2, username, password)
        # What is known to be wrong takes no hash, and what is asked ten times at once takes one, for names that nobody
        # has as for others: else who asks so could tell.
        if self._refused.knows(username, tried):
            raise UnauthorizedLogin
        right = await self._asked.answer(
            tried, lambda: self._hasher.verify(argon2, password, first)
        )
        if not right or user is None or record is None:
            self._refused.add(username, tried)
            raise UnauthorizedLogin
        self._remembered.add(user.id, record, password)
        return _avatar_id(user)

    def _who(self, username: str) -> tuple[User | None, PasswordRecord | None]:
        found = self._directory.login(username)
        return (None, None) if found is None or not found[0].enabled else found


class _Asked:
    """What several ask at the same time is found out once, and as long as one of them waits."""

    def __init__(self) -> None:
        self._finding: dict[Hashable, Deferred[bool]] = {}
        self._waiting: dict[Hashable, list[Deferred[bool]]] = {}

    def answer(
        self, key: Hashable, find: Callable[[], Coroutine[Any, Any, bool]]
    ) -> Deferred[bool]:
        """What `find`, called when nobody waits for the same `key` yet, finds or raises. It may be cancelled."""
        mine: Deferred[bool] = Deferred(lambda _: self._leave(key, mine))
        waiting = self._waiting.get(key)
        if waiting is not None:
            waiting.append(mine)
            return mine
        self._waiting[key] = [mine]
        self._finding[key] = finding = Deferred.fromCoroutine(find())
        finding.addBoth(self._found, key)
        return mine

    def _leave(self, key: Hashable, one: Deferred[bool]) -> None:
        waiting = self._waiting[key]
        waiting.remove(one)
        if not waiting:
            self._finding[key].cancel()

    def _found(self, outcome: bool | Failure, key: Hashable) -> None:
        self._finding.pop(key, None)
        for one in self._waiting.pop(key):
            one.callback(outcome)


@implementer(ICredentialsChecker)
class FirstOf:
    """Asks several checkers for passwords in turn; the first that knows the login decides.

    A portal has one checker for each kind of credentials, so several have to look like one.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, checkers: Sequence[ICredentialsChecker]) -> None:
        self._checkers = tuple(checkers)

    def requestAvatarId(self, credentials: IUsernamePassword) -> Deferred[bytes | tuple[()]]:
        return Deferred.fromCoroutine(self._ask(credentials))

    async def _ask(self, credentials: IUsernamePassword) -> bytes | tuple[()]:
        for checker in self._checkers[:-1]:
            try:
                return await maybeDeferred(checker.requestAvatarId, credentials)
            except UnauthorizedLogin:
                continue
        return await maybeDeferred(self._checkers[-1].requestAvatarId, credentials)


def make_checkers(
    names: Sequence[str], directory: Callable[[], ICredentialsChecker]
) -> list[ICredentialsChecker]:
    """The checkers that ``auth.checkers`` names, in the order a `Portal` wants them.

    A name is ``directory``, made by calling `directory`, or a description as `twisted.cred.strcred`
    reads it, such as ``file:/etc/mail/passwd``. Raises CheckerError.

    Passwords are tried with each in turn. SCRAM goes to the first one that can do it, because its
    salt has to be known before the client has proved anything.
    """
    if not names:
        raise CheckerError("no checker is named, so nobody could log in")
    made = [directory() if name == "directory" else described_checker(name) for name in names]
    if len(made) == 1:
        return made
    scram = [checker for checker in made if IScramCredentials in checker.credentialInterfaces]
    # A portal takes the last checker for each kind of credentials.
    return [
        *scram[:1],
        FirstOf([checker for checker in made if IUsernamePassword in checker.credentialInterfaces]),
    ]


def described_checker(description: str) -> ICredentialsChecker:
    """What `twisted.cred.strcred` makes of a description. Raises CheckerError."""
    # Only the kind is quoted: what follows it may hold a password ("memory:alice:…").
    kind, _, argument = description.partition(":")
    if kind == "file" and not os.path.isfile(argument):
        # The plugin would warn, on standard error, and let nobody in.
        raise CheckerError(f"the checker {kind!r} is given no file that exists")
    try:
        checker: ICredentialsChecker = strcred.makeChecker(description)
    except strcred.InvalidAuthType:
        known = {factory.authType for factory in strcred.findCheckerFactories()} | {"directory"}
        raise CheckerError(
            f"there is no checker {kind!r}, only {', '.join(sorted(known))}"
        ) from None
    except Exception as error:  # a plugin's own: whatever it is, and whatever it quotes
        name = type(error).__name__
        raise CheckerError(f"the checker {kind!r} does not take its argument ({name})") from None
    if IUsernamePassword not in checker.credentialInterfaces:
        raise CheckerError(f"the checker {kind!r} checks no passwords")
    return checker


def _avatar_id(user: User) -> bytes:
    return str(user.address).encode()
