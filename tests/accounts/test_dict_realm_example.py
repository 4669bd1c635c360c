"""docs/examples/dict_realm.py, loaded as a file and used through a portal."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from awaiting import done
from twisted.cred.checkers import ICredentialsChecker, InMemoryUsernamePasswordDatabaseDontUse
from twisted.cred.credentials import UsernamePassword
from twisted.cred.portal import Portal
from zope.interface.verify import verifyObject

from twisted_mail.accounts.authenticate import Authenticator
from twisted_mail.accounts.checkers import make_checkers
from twisted_mail.accounts.realm import load_realm
from twisted_mail.address import Address
from twisted_mail.interfaces import IAccount, ILocalDelivery, IMailbox
from twisted_mail.policy.limits import FailureDelays
from twisted_mail.status import MailError
from twisted_mail.world import World

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "dict_realm.py"
MESSAGE = b"Subject: hello\n\nA line\n.\n"


@pytest.fixture
def realm() -> Any:
    specification = importlib.util.spec_from_file_location("dict_realm", EXAMPLE)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.make_realm()


@pytest.fixture
def authenticator(realm: Any, world: World) -> Authenticator:
    checker = InMemoryUsernamePasswordDatabaseDontUse()
    for name in (b"alice@localhost", b"eve@localhost"):
        checker.addUser(name, b"sesame")
    return Authenticator(Portal(realm, [checker]), world, FailureDelays(world.now, base=0))


def test_mail_goes_in_and_comes_out(realm: Any, authenticator: Authenticator) -> None:
    alice, bob = Address.parse("Alice@localhost"), Address.parse("bob@localhost")
    assert verifyObject(ILocalDelivery, realm)
    assert done(realm.knows(alice)) and not done(realm.knows(Address.parse("eve@localhost")))
    done(realm.deliver(None, [alice, bob], MESSAGE))
    done(realm.deliver(bob, [alice], b"Subject: gr\xc3\xbc\xc3\x9fe\n\n"))

    login = done(authenticator.login("alice@localhost", "sesame", "192.0.2.1"))
    assert verifyObject(IAccount, login.account)
    assert login.account.may_send_as(alice) and not login.account.may_send_as(bob)
    inbox = done(login.account.open_inbox())
    assert verifyObject(IMailbox, inbox)
    first, second = inbox.messages
    assert (first.uidl, first.size, first.ascii_size) == ("1", len(MESSAGE) + 4, None)
    assert second.uidl == "3" and second.ascii_size is not None

    content = done(inbox.fetch(0))
    assert done(content.read(10)) == MESSAGE[:10]
    assert done(content.read(1000)) == MESSAGE[10:]
    assert done(content.read(1000)) == b""
    content.close()

    done(inbox.remove([0]))
    done(inbox.close())
    login.logout()
    again = done(login.account.open_inbox())
    assert [message.uidl for message in again.messages] == ["3"]
    assert len(realm.boxes["bob@localhost"]) == 1


def test_who_has_no_mailbox_does_not_get_in(authenticator: Authenticator) -> None:
    with pytest.raises(MailError) as caught:
        done(authenticator.login("eve@localhost", "sesame", "192.0.2.1"))
    assert caught.value.code == 535


def test_the_page_quotes_it() -> None:
    page = (EXAMPLE.parents[1] / "realms.md").read_text()
    (quoted,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert quoted in EXAMPLE.read_text()


def no_directory() -> ICredentialsChecker:
    raise AssertionError("the directory was not asked for")


def test_it_is_configured_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = tmp_path / "passwd"
    passwords.write_text("alice@localhost:secret\n")
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    monkeypatch.delitem(sys.modules, "dict_realm", raising=False)
    realm = load_realm("dict_realm:make_realm")
    checkers = make_checkers([f"file:{passwords}"], no_directory)
    login = Portal(realm, checkers).login(
        UsernamePassword(b"alice@localhost", b"secret"), None, IAccount
    )
    _, account, _ = done(login)
    assert account.name == "alice@localhost"
