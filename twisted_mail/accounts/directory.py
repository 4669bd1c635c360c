"""The directory: this site's domains, users and aliases, in ``accounts.sqlite3``.

Promises: a change is durable when its method returns, and counts in every other process at that
process's next look-up (of where mail goes, and of quotas: at the first one `FRESH` seconds later);
a refused change leaves nothing behind and says why (`DirectoryError`).
Neither a user's id nor the key of a mailbox is ever given out twice, so a new user of an old name
never finds the mail of the former one. Look-ups cost microseconds (page-cache reads, and a bounded
cache that `PRAGMA data_version` invalidates: 3 µs), so they run on the reactor thread.

An instance belongs to one thread and one process: open it after daemonising. It does not hash
passwords (`accounts.passwords`), and knows nothing of mail directories: who removes a user sees to
the mailbox.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b
from itertools import chain, count
from typing import Final

from ..address import Address, normalize_domain
from .expansion import MAX_EXPANSION, Expander
from .passwords import PasswordRecord
from .tables import (
    Alias,
    DirectoryError,
    Expansion,
    NobodyError,
    StillNeededError,
    Tables,
    User,
    alias_name,
)

__all__ = [
    "Alias",
    "Directory",
    "DirectoryError",
    "Expansion",
    "StillNeededError",
    "User",
    "mailbox_name",
]

_CACHE_SIZE: Final = 4096
FRESH: Final = 0.02
"""Seconds for which nobody asks again whether another process has changed something, to find where mail goes. A message
asks four times and hundreds come in a second; who has run ``mailctl user add`` has hardly seen it end by then."""


class Directory:
    """Domains, users and aliases of one site.

    `default_domain` is where a name without a domain is looked for (the host's name); when it is
    none of ours and there is one domain only, there. `postmaster` names the account that gets mail
    for postmaster and abuse when no user or alias of that name does; without it the first user.
    `quota`: octets and messages that an account may hold which has no bounds of its own; None: any.
    """

    def __init__(
        self,
        path: str,
        *,
        now: Callable[[], float],
        entropy: Callable[[int], bytes] = os.urandom,
        default_domain: str = "",
        postmaster: str | None = None,
        quota: tuple[int | None, int | None] = (None, None),
    ) -> None:
        self._now = now
        self._site_quota = quota
        self._tables = Tables(path, entropy)
        self._db = self._tables.db
        self._expander = Expander(
            self._tables,
            normalize_domain(default_domain) if default_domain else "",
            Address.parse(postmaster) if postmaster else None,
        )
        self._version = self._tables.version()
        self._looked = float("-inf")
        self._changes = 0
        self._cached_is_local = lru_cache(_CACHE_SIZE)(self._tables.is_local_domain)
        self._cached_user = lru_cache(_CACHE_SIZE)(self._tables.user)
        self._cached_password = lru_cache(_CACHE_SIZE)(self._tables.password)
        self._cached_login = lru_cache(_CACHE_SIZE)(self._login)
        self._cached_expansion = lru_cache(_CACHE_SIZE)(self._expander.expand)
        self._cached_quota = lru_cache(_CACHE_SIZE)(self._quota)

    @property
    def secret(self) -> bytes:
        """Random bytes, the same in all processes and for ever: for made-up SCRAM salts."""
        return self._tables.secret

    def close(self) -> None:
        """Give up the file."""
        self._db.close()

    def is_local_domain(self, domain: str) -> bool:
        """Whether `domain`, as `normalize_domain` writes it, is ours."""
        self._refresh_sometimes()
        return self._cached_is_local(domain)

    def user(self, address: Address) -> User | None:
        """The user of exactly this address, in any case of letters."""
        self._refresh()
        return self._cached_user(address.key)

    def login_address(self, name: str) -> Address | None:
        """The address that `name` means to who logs in: an address, or its local part alone."""
        try:
            return Address.parse(name if "@" in name else f"{name}@{self._expander.home()}")
        except ValueError:
            return None

    def login_key(self, name: str) -> str:
        """What all names share that would log in one user, whether there is one or not."""
        address = self.login_address(name)
        return name.casefold() if address is None else address.key

    def login_user(self, name: str) -> User | None:
        """The user who logs in as `name`."""
        found = self.login(name)
        return None if found is None else found[0]

    def login(self, name: str) -> tuple[User, PasswordRecord] | None:
        """The user who logs in as `name`, and that user's password record."""
        self._refresh()
        return self._cached_login(name)

    def password(self, user: User) -> PasswordRecord | None:
        """The password record of `user`, None when the user is gone."""
        self._refresh()
        return self._cached_password(user.id)

    def expand(self, address: Address) -> Expansion | None:
        """Where mail for `address` goes; None when nobody here is called that.

        In this order: a user; an alias; for ``name+tag``, user or alias ``name``; for postmaster
        and abuse, who is responsible; the domain's catch-all. Aliases are followed to their ends.

        Raises DirectoryError when an alias does not lead anywhere: a state to be mended, so the
        mail should be answered with a temporary error.
        """
        self._refresh_sometimes()
        return self._cached_expansion(address)

    def postmaster_is_there(self) -> bool:
        """Whether `postmaster` is a user or an alias here, or was not given. If not, the first user gets the mail."""
        return self._expander.postmaster_is_there()

    def quota(self, mailbox: str) -> tuple[int | None, int | None]:
        """How much the mailbox with this key (`User.mailbox`) may hold: octets, messages; None: any.

        As all look-ups, on the thread that opened the directory.
        """
        self._refresh_sometimes()
        return self._cached_quota(mailbox)

    def changes(self) -> int:
        """A number that is another one when anything has changed, here or in another process."""
        self._refresh()
        return self._changes

    @property
    def seen(self) -> int:
        """What `changes` was when anything was looked up last: how new its answer is."""
        return self._changes

    def domains(self) -> list[str]:
        """A-labels, sorted."""
        return self._tables.domains()

    def users(self) -> list[User]:
        """All users, the first one first."""
        return self._tables.users()

    def aliases(self) -> list[Alias]:
        """All aliases, sorted by domain and name."""
        return self._tables.aliases()

    def add_domain(self, name: str) -> str:
        """Take mail for a domain from now on. Returns its name as A-labels."""
        domain = _domain(name)
        with self._change():
            if self._tables.is_local_domain(domain):
                raise DirectoryError(f"the domain {domain} exists already")
            self._db.execute("INSERT INTO domains VALUES (?)", (domain,))
        return domain

    def remove_domain(self, name: str) -> None:
        """Take no more mail for a domain; refused while it has users or aliases."""
        domain = _domain(name)
        with self._change():
            self._require_domain(domain)
            for table, query in _COUNTS_IN_DOMAIN:
                ((number,),) = self._db.execute(query, (domain,))
                if number:
                    raise DirectoryError(f"the domain {domain} still has {number} {table}")
            self._db.execute("DELETE FROM domains WHERE name = ?", (domain,))

    def add_user(self, address: Address, password: PasswordRecord) -> User:
        """A new user, with a mailbox that nobody had before."""
        if not address.local:
            raise DirectoryError("a user's name is not empty")
        with self._change():
            self._require_free(address)
            mailbox = self._new_mailbox(address)
            self._db.execute(
                "INSERT INTO users (key, local, domain, mailbox, password, created)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    address.key,
                    address.local,
                    address.domain,
                    mailbox,
                    password.encode(),
                    self._now(),
                ),
            )
            return self._require_user(address)

    def remove_user(self, address: Address) -> User:
        """Refused while an alias leads to the user. The mailbox is the caller's to remove."""
        with self._change():
            user = self._require_user(address)
            self._db.execute("DELETE FROM users WHERE id = ?", (user.id,))
            self._require_sound_aliases(address)
            return user

    def set_password(self, address: Address, password: PasswordRecord) -> None:
        """Counts at once; sessions that are open stay."""
        with self._change():
            user = self._require_user(address)
            self._db.execute(
                "UPDATE users SET password = ? WHERE id = ?", (password.encode(), user.id)
            )

    def set_enabled(self, address: Address, enabled: bool) -> None:
        """Whether this user may log in. Who may not, and is, is sent away (`accounts.admitted`)."""
        with self._change():
            user = self._require_user(address)
            self._db.execute("UPDATE users SET enabled = ? WHERE id = ?", (enabled, user.id))

    def set_quota(
        self, address: Address, storage: int | None, messages: int | None
    ) -> tuple[int | None, int | None]:
        """How much this user may keep: octets, messages; None: what the site says, 0: any. Counts at
        once; what is there already stays. Gives what holds now, as `quota` does."""
        with self._change():
            user = self._require_user(address)
            for number in (storage, messages):
                if number is not None and not 0 <= number <= _MAX_QUOTA:
                    raise DirectoryError(f"{number} is no bound")
            self._db.execute(
                "UPDATE users SET storage = ?, messages = ? WHERE id = ?",
                (storage, messages, user.id),
            )
        return self.quota(user.mailbox)

    def add_alias(self, name: str, targets: Sequence[Address]) -> Alias:
        """A new alias ``name@domain`` or catch-all ``@domain``. Targets may be users, other aliases
        and addresses elsewhere; those in our domains must exist.
        """
        address = _alias_address(name)
        unique = tuple({target.key: target for target in targets}.values())
        if not unique:
            raise DirectoryError(f"the alias {name} needs a target")
        if len(unique) > MAX_EXPANSION:
            raise DirectoryError(f"the alias {name} has more than {MAX_EXPANSION} targets")
        with self._change():
            self._require_free(address)
            self._db.execute(
                "INSERT INTO aliases VALUES (?, ?, ?)", (address.key, address.local, address.domain)
            )
            self._db.executemany(
                "INSERT INTO alias_targets VALUES (?, ?, ?, ?)",
                [(address.key, n, to.local, to.domain) for n, to in enumerate(unique)],
            )
            self._expander.follow(address, unique)
        return Alias(address, unique)

    def remove_alias(self, name: str) -> None:
        """Remove an alias; refused while another alias needs it."""
        address = _alias_address(name)
        with self._change():
            if self._tables.targets(address.key) is None:
                raise DirectoryError(f"there is no alias {name}")
            self._db.execute("DELETE FROM aliases WHERE key = ?", (address.key,))
            self._require_sound_aliases(address)

    @contextmanager
    def _change(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise DirectoryError(f"the accounts cannot be changed: {error}") from error
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._forget()

    def _require_domain(self, domain: str) -> None:
        if not self._tables.is_local_domain(domain):
            raise DirectoryError(f"there is no domain {domain}; add it first")

    def _require_free(self, address: Address) -> None:
        self._require_domain(address.domain)
        if self._tables.user(address.key) is not None:
            raise DirectoryError(f"the user {address} exists already")
        if self._tables.targets(address.key) is not None:
            raise DirectoryError(f"the alias {alias_name(address)} exists already")

    def _require_user(self, address: Address) -> User:
        user = self._tables.user(address.key)
        if user is None:
            raise DirectoryError(f"there is no user {address}")
        return user

    def _require_sound_aliases(self, removed: Address) -> None:
        """After a removal: every alias that has a target in that domain still leads somewhere."""
        for address in self._tables.aliases_into(removed.domain):
            try:
                self._expander.follow(address, self._tables.targets(address.key) or ())
            except NobodyError as error:
                # It does exist, as long as this is refused.
                raise StillNeededError(error.alias, error.target) from None
            except DirectoryError as error:
                raise DirectoryError(f"{error}; change that alias first") from None

    def _new_mailbox(self, address: Address) -> str:
        base = f"{address.domain}/{mailbox_name(address.key.rpartition('@')[0])}"
        names = chain((base,), (f"{base}~{number}" for number in count(2)))
        return next(filter(self._take_mailbox, names))

    def _take_mailbox(self, mailbox: str) -> bool:
        taken = self._db.execute("INSERT OR IGNORE INTO mailboxes_ever VALUES (?)", (mailbox,))
        return taken.rowcount == 1

    def _login(self, name: str) -> tuple[User, PasswordRecord] | None:
        address = self.login_address(name)
        user = None if address is None else self._tables.user(address.key)
        record = None if user is None else self._tables.password(user.id)
        return None if user is None or record is None else (user, record)

    def _quota(self, mailbox: str) -> tuple[int | None, int | None]:
        user = self._tables.user_of_mailbox(mailbox)
        storage, messages = self._site_quota
        if user is not None and user.storage is not None:
            storage = user.storage or None
        if user is not None and user.messages is not None:
            messages = user.messages or None
        return storage, messages

    def _refresh_sometimes(self) -> None:
        """As `_refresh`, when that was not done lately by a clock that goes."""
        now = self._now()
        if not 0.0 < now - self._looked < FRESH:
            self._looked = now
            self._refresh()

    def _refresh(self) -> None:
        version = self._tables.version()
        if version != self._version:
            self._version = version
            self._forget()

    def _forget(self) -> None:
        self._changes += 1
        self._cached_is_local.cache_clear()
        self._cached_user.cache_clear()
        self._cached_password.cache_clear()
        self._cached_login.cache_clear()
        self._cached_expansion.cache_clear()
        self._cached_quota.cache_clear()


_COUNTS_IN_DOMAIN: Final = (
    ("users", "SELECT count(*) FROM users WHERE domain = ?"),
    ("aliases", "SELECT count(*) FROM aliases WHERE domain = ?"),
)
_SAFE: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_+=.")
_MAX_NAME: Final = 180
_MAX_QUOTA: Final = (1 << 63) - 1


def _domain(name: str) -> str:
    try:
        return normalize_domain(name)
    except ValueError as error:
        raise DirectoryError(f"{name!r} is not a domain: {error}") from None


def _alias_address(name: str) -> Address:
    if name.startswith("@"):
        return Address("", _domain(name[1:]))
    try:
        return Address.parse(name)
    except ValueError as error:
        raise DirectoryError(f"{name!r} is not an address: {error}") from None


def mailbox_name(local: str) -> str:
    """A local part as a file name: UTF-8, percent-escaped, no leading dot, at most 200 bytes with
    the number that `Directory._new_mailbox` may add behind a ``~``, which no local part gives.
    """
    name = "".join(
        character
        if character in _SAFE and (n or character != ".")
        else "".join(f"%{octet:02X}" for octet in character.encode())
        for n, character in enumerate(local)
    )
    if len(name) > _MAX_NAME:
        digest = blake2b(name.encode(), digest_size=16).hexdigest()
        name = f"{name[: _MAX_NAME - 40]}~{digest}"
    return name
