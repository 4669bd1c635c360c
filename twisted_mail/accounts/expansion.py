"""Who gets the mail for an address: the rules, as questions to the tables.

Promises: every address leads to each place once; loops end; what an alias names and nobody is
called is an error, never a recipient dropped in silence. Nothing is cached, nothing is changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from ..address import Address
from .tables import DirectoryError, Expansion, NobodyError, Tables, User, alias_name

__all__ = ["MAX_EXPANSION", "Expander"]

MAX_EXPANSION: Final = 1000
# RFC 5321 section 4.5.1, RFC 2142 section 2
_ALWAYS: Final = frozenset(("postmaster", "abuse"))


class Expander:
    """The rules of one site; `Directory` says what its arguments mean."""

    def __init__(self, tables: Tables, default_domain: str, postmaster: Address | None) -> None:
        self._tables = tables
        self._default_domain = default_domain
        self._postmaster = postmaster

    def home(self) -> str:
        """The domain of names that come without one; "" when none fits."""
        if self._tables.is_local_domain(self._default_domain):
            return self._default_domain
        domains = self._tables.domains()
        return domains[0] if len(domains) == 1 else ""

    def expand(self, address: Address) -> Expansion | None:
        """See `Directory.expand`."""
        named = self._resolve(address)
        if named is None:
            return None
        if isinstance(named, User):
            return Expansion((named,), ())
        return self.follow(address, named)

    def follow(self, alias: Address, targets: Sequence[Address]) -> Expansion:
        """Follow aliases to their ends. Breadth first without recursion: the bound on how many
        addresses are visited bounds the depth too, and what was visited is not visited again.
        """
        name = alias_name(alias)
        users: dict[int, User] = {}
        remote: dict[str, Address] = {}
        visited = {alias.key}
        waiting = deque(targets)
        while waiting:
            target = waiting.popleft()
            if target.key in visited:
                continue
            visited.add(target.key)
            if len(visited) > MAX_EXPANSION:
                raise DirectoryError(f"the alias {name} leads to over {MAX_EXPANSION} addresses")
            if target.domain and not self._tables.is_local_domain(target.domain):
                remote[target.key] = target
                continue
            named = self._resolve(target)
            if named is None:
                raise NobodyError(name, target)
            if isinstance(named, User):
                users[named.id] = named
            else:
                waiting.extend(named)
        if not users and not remote:
            raise DirectoryError(f"the alias {name} leads back to itself")
        return Expansion(tuple(users.values()), tuple(remote.values()))

    def _resolve(self, address: Address) -> User | tuple[Address, ...] | None:
        """One step: the user, or the targets of the alias, that takes mail for `address`."""
        domain = address.domain
        if not domain:
            if address.local.lower() != "postmaster":
                return None
            # RFC 5321 section 4.5.1: in any case of letters, with or without a domain
            return self._named(Address("postmaster", self.home())) or self._responsible()
        if not self._tables.is_local_domain(domain):
            return None
        named = self._named(address)
        if named is None and address.local.lower() in _ALWAYS:
            named = self._responsible()
        return named if named is not None else self._tables.targets(f"@{domain}")

    def _named(self, address: Address) -> User | tuple[Address, ...] | None:
        """User or alias of this name, else of the name before ``+tag``."""
        named = self._tables.user(address.key) or self._tables.targets(address.key)
        base, plus, _ = address.local.partition("+")
        if named is None and plus and base:
            key = Address(base, address.domain).key
            named = self._tables.user(key) or self._tables.targets(key)
        return named

    def postmaster_is_there(self) -> bool:
        """Whether the account that is named for postmaster's mail takes any; True when none is named."""
        return self._postmaster is None or self._named(self._postmaster) is not None

    def _responsible(self) -> User | tuple[Address, ...] | None:
        """Who reads postmaster's mail when nobody is called that."""
        named = self._named(self._postmaster) if self._postmaster else None
        if named is not None:
            return named
        return self._tables.first_user()
