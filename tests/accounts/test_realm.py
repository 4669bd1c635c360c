"""Our realm's avatars, and putting another realm in its place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from awaiting import done
from twisted.cred.checkers import ANONYMOUS
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_mail.accounts.directory import Directory
from twisted_mail.accounts.passwords import PasswordRecord
from twisted_mail.accounts.realm import Account, Realm, RealmError, load_realm
from twisted_mail.address import Address
from twisted_mail.interfaces import IAccount, IEndingAccount


def a(text: str) -> Address:
    return Address.parse(text)


class Inbox:
    """Stands for what the store opens."""

    def __init__(self, mailbox: str) -> None:
        self.mailbox = mailbox


async def open_inbox(mailbox: str) -> Any:
    return Inbox(mailbox)


@pytest.fixture
def realm(directory: Directory, record: Callable[[str], PasswordRecord]) -> Realm:
    for name in ("alice", "bob"):
        directory.add_user(a(f"{name}@example.org"), record(name))
    return Realm(directory, open_inbox)


def avatar(realm: Realm, avatar_id: bytes | tuple[()]) -> Account:
    interface, account, logout = realm.requestAvatar(avatar_id, None, IAccount)
    assert interface is IAccount
    assert isinstance(account, Account)
    logout()
    return account


@pytest.mark.parametrize("avatar_id", [b"alice@example.org", b"Alice@EXAMPLE.ORG", b"alice"])
def test_avatars_of_any_checker(realm: Realm, avatar_id: bytes) -> None:
    account = avatar(realm, avatar_id)
    assert verifyObject(IAccount, account)
    assert account.name == "alice@example.org"


def test_the_inbox_is_the_users(realm: Realm) -> None:
    inbox: Any = done(avatar(realm, b"bob").open_inbox())
    assert inbox.mailbox == "example.org/bob"


@pytest.mark.parametrize("avatar_id", [b"carol", b"alice@example.net", b"\xff", b"", ANONYMOUS])
def test_who_is_not_in_the_directory(realm: Realm, avatar_id: bytes | tuple[()]) -> None:
    with pytest.raises(UnauthorizedLogin):
        realm.requestAvatar(avatar_id, None, IAccount)


def test_who_is_disabled(realm: Realm, directory: Directory) -> None:
    directory.set_enabled(a("alice@example.org"), False)
    with pytest.raises(UnauthorizedLogin):
        realm.requestAvatar(b"alice", None, IAccount)


def test_it_has_nothing_but_accounts(realm: Realm) -> None:
    with pytest.raises(NotImplementedError):
        realm.requestAvatar(b"alice", None, IRealm)


def test_who_may_send_as_whom(realm: Realm, directory: Directory) -> None:
    directory.add_alias("team@example.org", [a("alice@example.org"), a("bob@example.org")])
    directory.add_alias("sales@example.org", [a("bob@example.org")])
    alice = avatar(realm, b"alice")
    for name in ("alice", "ALICE", "alice+tag", "team", "Team+x", "postmaster"):
        assert alice.may_send_as(a(f"{name}@example.org")), name
    for address in ("bob@example.org", "sales@example.org", "x@example.org", "alice@example.net"):
        assert not alice.may_send_as(a(address)), address
    directory.remove_alias("team@example.org")
    assert not alice.may_send_as(a("team@example.org"))
    directory.add_alias("@example.org", [a("alice@example.org")])
    assert alice.may_send_as(a("x@example.org"))


@implementer(IRealm)
class AnotherRealm:
    def requestAvatar(self, avatarId: bytes, mind: object, *interfaces: object) -> object:
        raise NotImplementedError


@pytest.fixture
def site_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of somebody else's."""
    name = f"site_realm_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        "from twisted.cred.portal import IRealm\n"
        "from zope.interface import implementer\n"
        "@implementer(IRealm)\n"
        "class Ours:\n"
        "    def requestAvatar(self, avatarId, mind, *interfaces):\n"
        "        raise NotImplementedError\n"
        "def number():\n"
        "    return 7\n"
        "def broken(argument):\n"
        "    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name, raising=False)
    return name


def test_loading_a_realm(site_module: str) -> None:
    assert type(load_realm(f"{site_module}:Ours")).__name__ == "Ours"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "'' is not of the form package.module:callable"),
        ("module", "'module' is not of the form package.module:callable"),
        (":Ours", "':Ours' is not of the form package.module:callable"),
        ("no_such_module:x", "cannot be imported: ModuleNotFoundError: No module named"),
        ("SITE:missing", "cannot be imported: AttributeError: module"),
        ("SITE:__name__", "is not callable"),
        ("SITE:broken", "gives no realm: TypeError: broken() missing 1 required"),
        ("SITE:number", "gave int, which does not provide IRealm"),
    ],
)
def test_realms_that_cannot_be_had(site_module: str, name: str, reason: str) -> None:
    with pytest.raises(RealmError) as caught:
        load_realm(name.replace("SITE", site_module))
    assert reason in str(caught.value)


def test_who_was_disabled_sends_as_nobody(realm: Realm, directory: Directory) -> None:
    account = avatar(realm, b"alice")
    assert account.may_send_as(a("alice+tag@example.org"))
    directory.set_enabled(a("alice@example.org"), False)
    assert not account.may_send_as(a("alice@example.org"))


def test_without_who_tells_it_an_end_is_never_told(realm: Realm) -> None:
    account = avatar(realm, b"alice")
    assert verifyObject(IEndingAccount, account)
    account.watch_end(lambda: None)()
