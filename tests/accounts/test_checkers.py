"""The directory's checker, and making checkers from configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from awaiting import done
from scramp import ScramClient
from twisted.cred.checkers import (
    FilePasswordDB,
    ICredentialsChecker,
    InMemoryUsernamePasswordDatabaseDontUse,
)
from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_mail.accounts.checkers import (
    CheckerError,
    DirectoryChecker,
    FirstOf,
    IScramChecker,
    IScramCredentials,
    ScramCredentials,
    make_checkers,
)
from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import Cost, Hasher, PasswordRecord
from twisted_mail.address import Address
from twisted_mail.sasl import ScramFirst, ScramKeys
from twisted_mail.status import MailError
from twisted_mail.world import World

ALICE = Address.parse("alice@example.org")


class CountingHasher(Hasher):
    """Notes what it verifies."""

    def __init__(self, world: World, cost: Cost) -> None:
        super().__init__(world, cost)
        self.verified: list[str] = []

    async def verify(self, argon2: str, password: str, first: bool = False) -> bool:
        self.verified.append(argon2)
        return await super().verify(argon2, password, first)


@pytest.fixture
def hasher(world: World, cost: Cost) -> CountingHasher:
    return CountingHasher(world, cost)


@pytest.fixture
def checker(
    directory: Directory,
    hasher: CountingHasher,
    world: World,
    record: Callable[[str], PasswordRecord],
) -> DirectoryChecker:
    directory.add_user(ALICE, record("sesame"))
    return DirectoryChecker(directory, hasher, world)


def outcome(world: World, asked: Deferred[bytes | tuple[()]]) -> object:
    """The avatar id, or the class of the error."""
    results: list[object] = []
    asked.addCallbacks(results.append, lambda failure: results.append(failure.type))
    world.reactor.settle()
    (result,) = results
    return result


def password(name: str | bytes, secret: str | bytes = "sesame") -> UsernamePassword:
    return UsernamePassword(
        *(text if isinstance(text, bytes) else text.encode() for text in (name, secret))
    )


def test_it_is_what_it_says(checker: DirectoryChecker) -> None:
    assert verifyObject(IScramChecker, checker)
    assert verifyObject(ICredentialsChecker, checker)


@pytest.mark.parametrize("name", ["alice@example.org", "ALICE@Example.org", "alice"])
def test_a_right_password(world: World, checker: DirectoryChecker, name: str) -> None:
    assert outcome(world, checker.requestAvatarId(password(name))) == b"alice@example.org"


@pytest.mark.parametrize(
    "credentials",
    [
        password("alice@example.org", "simsim"),
        password("bob@example.org"),
        password("alice@example.net"),
        password("alice+tag@example.org"),
        password(""),
        password(b"\xff"),
        password("alice@example.org", b"\xff"),
    ],
)
def test_every_refusal_is_the_same_and_costs_one_verification(
    world: World,
    checker: DirectoryChecker,
    hasher: CountingHasher,
    credentials: UsernamePassword,
) -> None:
    assert outcome(world, checker.requestAvatarId(credentials)) is UnauthorizedLogin
    assert len(hasher.verified) == 1


def test_who_is_disabled_is_unknown(
    world: World, checker: DirectoryChecker, directory: Directory, hasher: CountingHasher
) -> None:
    directory.set_enabled(ALICE, False)
    assert outcome(world, checker.requestAvatarId(password("alice"))) is UnauthorizedLogin
    assert hasher.verified == [hasher.dummy]
    assert keys(checker, "alice") != directory_keys(directory)


def test_who_polls_pays_once(
    world: World,
    checker: DirectoryChecker,
    hasher: CountingHasher,
    directory: Directory,
    record: Callable[[str], PasswordRecord],
) -> None:
    for _ in range(3):
        assert outcome(world, checker.requestAvatarId(password("alice"))) == b"alice@example.org"
    assert len(hasher.verified) == 1
    directory.set_password(ALICE, record("simsim"))
    assert outcome(world, checker.requestAvatarId(password("alice"))) is UnauthorizedLogin
    alice = checker.requestAvatarId(password("alice", "simsim"))
    assert outcome(world, alice) == b"alice@example.org"


def test_who_opens_several_connections_at_once_pays_once(
    world: World, checker: DirectoryChecker, hasher: CountingHasher
) -> None:
    right = [checker.requestAvatarId(password("alice")) for _ in range(5)]
    assert {outcome(world, one) for one in right} == {b"alice@example.org"}
    assert len(hasher.verified) == 1


@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_a_wrong_password_pays_once_whether_there_is_such_a_name_or_not(
    world: World, checker: DirectoryChecker, hasher: CountingHasher, name: str
) -> None:
    wrong = [checker.requestAvatarId(password(name, "guess")) for _ in range(5)]
    assert {outcome(world, one) for one in wrong} == {UnauthorizedLogin}
    assert len(hasher.verified) == 1
    # A telephone that has kept an old one pays no more …
    assert outcome(world, checker.requestAvatarId(password(name, "guess"))) is UnauthorizedLogin
    assert len(hasher.verified) == 1
    # … until it is one of many.
    for n in range(8):
        outcome(world, checker.requestAvatarId(password(name, f"guess {n}")))
    outcome(world, checker.requestAvatarId(password(name, "guess")))
    assert len(hasher.verified) == 10


def test_what_was_wrong_is_right_when_the_password_is_changed_to_it(
    world: World,
    checker: DirectoryChecker,
    directory: Directory,
    record: Callable[[str], PasswordRecord],
) -> None:
    assert outcome(world, checker.requestAvatarId(password("alice", "new"))) is UnauthorizedLogin
    directory.set_password(ALICE, record("new"))
    assert outcome(world, checker.requestAvatarId(password("alice", "new"))) == b"alice@example.org"


def test_who_leaves_takes_nothing_from_who_waits_for_the_same(
    world: World, checker: DirectoryChecker, hasher: CountingHasher
) -> None:
    first, second = (checker.requestAvatarId(password("alice")) for _ in range(2))
    first.addErrback(lambda failure: failure.trap(CancelledError))
    first.cancel()
    assert outcome(world, second) == b"alice@example.org"
    assert len(hasher.verified) == 1


def test_nobody_who_has_left_is_in_line(
    world: World, directory: Directory, cost: Cost, record
) -> None:
    directory.add_user(ALICE, record("sesame"))
    hasher = Hasher(world, cost, at_once=1)
    checker = DirectoryChecker(directory, hasher, world)
    # More than may be in line, one after the other
    for number in range(200):
        asked = [checker.requestAvatarId(password("alice", f"guess {number}")) for _ in range(2)]
        for one in asked:
            one.addErrback(lambda failure: failure.trap(CancelledError))
            one.cancel()
    assert outcome(world, checker.requestAvatarId(password("alice"))) == b"alice@example.org"


def keys(checker: DirectoryChecker, name: str) -> ScramKeys:
    return done(checker.scram_keys(name))


def directory_keys(directory: Directory) -> ScramKeys:
    user = directory.user(ALICE)
    assert user is not None
    record = directory.password(user)
    assert record is not None
    return record.scram


def test_scram_keys(checker: DirectoryChecker, directory: Directory) -> None:
    assert keys(checker, "alice") == directory_keys(directory)


def test_made_up_scram_keys_look_real_and_stay(
    checker: DirectoryChecker, hasher: CountingHasher, world: World, directory: Directory
) -> None:
    bob, carol = keys(checker, "bob@example.org"), keys(checker, "carol@example.org")
    real = keys(checker, "alice")
    assert (len(bob.salt), bob.iterations) == (len(real.salt), real.iterations)
    assert bob.salt != carol.salt
    for spelling in ("bob", "BOB", "Bob@Example.ORG"):  # as it would be were he real
        assert keys(checker, spelling) == bob
    assert keys(checker, "not an address") != bob
    again = DirectoryChecker(directory, hasher, world)  # another process, another day
    assert keys(again, "bob@example.org") == bob


def proof(name: str, keys_of_password: ScramKeys, secret: str) -> ScramCredentials:
    client = ScramClient(["SCRAM-SHA-256"], name, secret)
    first = ScramFirst.parse(client.get_client_first().encode())
    challenge = first.challenge(keys_of_password, "server")
    client.set_server_first(challenge.data.decode())
    return ScramCredentials(challenge.proof(client.get_client_final().encode()))


def test_scram_proofs(world: World, checker: DirectoryChecker) -> None:
    right = proof("alice", keys(checker, "alice"), "sesame")
    assert verifyObject(IScramCredentials, right)
    assert outcome(world, checker.requestAvatarId(right)) == b"alice@example.org"
    wrong = proof("alice", keys(checker, "alice"), "simsim")
    assert outcome(world, checker.requestAvatarId(wrong)) is UnauthorizedLogin
    unknown = proof("bob", keys(checker, "bob"), "sesame")
    assert outcome(world, checker.requestAvatarId(unknown)) is UnauthorizedLogin


def no_directory() -> ICredentialsChecker:
    raise AssertionError("the directory was not asked for")


def test_one_checker_is_itself(checker: DirectoryChecker) -> None:
    assert make_checkers(["directory"], lambda: checker) == [checker]


def test_a_strcred_checker(tmp_path: Path, world: World) -> None:
    path = tmp_path / "passwd"
    path.write_text("bob@example.org:hunter2\n")
    (made,) = make_checkers([f"file:{path}"], no_directory)
    assert isinstance(made, FilePasswordDB)
    bob = password("bob@example.org", "hunter2")
    assert outcome(world, made.requestAvatarId(bob)) == b"bob@example.org"


@implementer(IRealm)
class NoRealm:
    def requestAvatar(self, avatarId: bytes, mind: object, *interfaces: object) -> object:
        raise AssertionError("nobody logs in here")


def test_several_checkers_are_asked_in_turn(
    tmp_path: Path, world: World, checker: DirectoryChecker
) -> None:
    path = tmp_path / "passwd"
    path.write_text("bob:hunter2\nalice:other\n")
    portal = Portal(NoRealm(), make_checkers(["directory", f"file:{path}"], lambda: checker))
    passwords = portal.checkers[IUsernamePassword]
    for name, secret, expected in (
        ("alice", "sesame", b"alice@example.org"),
        ("alice", "other", b"alice"),
        ("bob", "hunter2", b"bob"),
        ("bob", "sesame", UnauthorizedLogin),
    ):
        assert outcome(world, passwords.requestAvatarId(password(name, secret))) == expected
    assert portal.checkers[IScramCredentials] is checker


def test_no_other_checker_is_asked_when_one_is_broken(world: World) -> None:
    @implementer(ICredentialsChecker)
    class Broken:
        credentialInterfaces = (IUsernamePassword,)

        def requestAvatarId(self, credentials: object) -> Deferred[bytes | tuple[()]]:
            raise MailError(454, "4.7.0", "later")

    last = InMemoryUsernamePasswordDatabaseDontUse(alice=b"sesame")
    asked = FirstOf([Broken(), last]).requestAvatarId(password("alice"))
    assert outcome(world, asked) is MailError


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], "no checker is named, so nobody could log in"),
        (["nosuch:x"], "there is no checker 'nosuch', only anonymous, directory, file, memory"),
        (["file:"], "the checker 'file' is given no file that exists"),
        (["file:/nonexistent/passwd"], "the checker 'file' is given no file that exists"),
        (["anonymous"], "the checker 'anonymous' checks no passwords"),
        (
            ["memory:alice:hunter2:x"],
            "the checker 'memory' does not take its argument (InvalidAuthArgumentString)",
        ),
    ],
)
def test_what_cannot_be_had(names: list[str], reason: str) -> None:
    with pytest.raises(CheckerError) as caught:
        make_checkers(names, no_directory)
    assert str(caught.value).startswith(reason)
