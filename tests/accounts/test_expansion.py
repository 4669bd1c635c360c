"""Following aliases, against a model: whatever they lead to, loops and all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.accounts.expansion import Expander
from twisted_mail.accounts.tables import DirectoryError, User
from twisted_mail.address import Address

USERS = {
    f"user{n}@here": User(n, Address(f"user{n}", "here"), f"here/user{n}", True, 0.0)
    for n in range(3)
}
NAMES = [f"alias{n}@here" for n in range(5)]
PLACES = [*USERS, *NAMES, "a@elsewhere", "b@elsewhere", "nobody@here"]
Aliases = dict[str, list[str]]


class TablesInMemory:
    """What `Expander` asks of `Tables`."""

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases

    def domains(self) -> list[str]:
        return ["here"]

    def is_local_domain(self, domain: str) -> bool:
        return domain == "here"

    def user(self, key: str) -> User | None:
        return USERS.get(key)

    def first_user(self) -> User | None:
        return USERS["user0@here"]

    def targets(self, key: str) -> tuple[Address, ...] | None:
        return tuple(map(Address.parse, self._aliases.get(key, ()))) or None


def reachable(aliases: Aliases, name: str) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        place = waiting.pop()
        if place not in found:
            found.add(place)
            waiting += aliases.get(place, [])
    return found


@given(
    st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(PLACES), min_size=1)),
    st.sampled_from(PLACES),
)
def test_all_that_can_be_reached_once(aliases: Aliases, name: str) -> None:
    expander = Expander(TablesInMemory(aliases), "here", None)  # type: ignore[arg-type]
    places = reachable(aliases, name)
    lost = places - set(aliases) - set(USERS) - {"a@elsewhere", "b@elsewhere"}
    ends = {place for place in places if place in USERS or place.endswith("@elsewhere")}
    try:
        expansion = expander.expand(Address.parse(name))
    except DirectoryError:
        assert name in aliases and (lost or not ends)
        return
    if name.endswith("@elsewhere") or name in lost:
        assert expansion is None
        return
    assert expansion is not None and not lost
    reached = [str(user.address) for user in expansion.locals] + list(map(str, expansion.remote))
    assert len(reached) == len(set(reached))
    assert set(reached) == ends
