"""The rules of LIST, on trees of any shape, against the same said slowly."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.imap.listing import Tree
from twisted_mail.imap.patterns import matcher
from twisted_mail.mailboxes import MailboxInfo

LEVEL = st.sampled_from(["a", "b", "c-", "INBOX"])
NAMES = st.lists(LEVEL, min_size=1, max_size=4).map("/".join)
BOXES = st.dictionaries(NAMES, st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=8)
PATTERN = st.sampled_from(["*", "%", "a/%", "*/b", "%/%", "a*", "INBOX", "a/b"])


def tree(boxes: dict[str, tuple[bool, bool, bool]]) -> Tree:
    return Tree(
        (
            (name, MailboxInfo(name, "id", frozenset(["\\Sent"] if use else []), subscribed, there))
            for name, (there, subscribed, use) in boxes.items()
        ),
        "/",
    )


@given(BOXES, PATTERN)
def test_every_mailbox_once_and_what_is_below(
    boxes: dict[str, tuple[bool, bool, bool]], pattern: str
) -> None:
    matches = matcher([pattern], "/")
    there = {name for name, (real, _, _) in boxes.items() if real}
    parents = {name[:at] for name in there for at in range(len(name)) if name[at] == "/"}
    lines = list(tree(boxes).entries(matches, frozenset(), frozenset(["CHILDREN"]), True))
    names = [line.name for line in lines]
    assert sorted(names) == sorted(name for name in there | parents if matches(name))
    assert len(set(names)) == len(names)
    if "INBOX" in names:
        assert names[0] == "INBOX"
    for line in lines:
        assert ("\\HasChildren" in line.attributes) is (line.name in parents)
        assert ("\\HasNoChildren" in line.attributes) is (line.name not in parents)
        assert ("\\NonExistent" in line.attributes) is (line.name not in there)
        assert (line.node is not None) is (line.name in there)
        assert not line.child_info
    for above, below in pairwise(names):
        assert not above.startswith(f"{below}/")


@given(
    BOXES,
    PATTERN,
    st.sampled_from([("SUBSCRIBED",), ("SPECIAL-USE",), ("SUBSCRIBED", "SPECIAL-USE")]),
)
def test_rfc_5258_section_3_5(
    boxes: dict[str, tuple[bool, bool, bool]], pattern: str, criteria: tuple[str, ...]
) -> None:
    """The table of it."""
    matches = matcher([pattern], "/")

    def meets(name: str) -> bool:
        there, subscribed, use = boxes.get(name, (False, False, False))
        return ("SUBSCRIBED" not in criteria or subscribed) and (
            "SPECIAL-USE" not in criteria or (use and there)
        )

    met = {name for name in boxes if meets(name)}
    select = frozenset((*criteria, "RECURSIVEMATCH"))
    lines = list(tree(boxes).entries(matches, select, frozenset(), True))
    assert len({line.name for line in lines}) == len(lines)
    for line in lines:
        below = {name for name in met if name.startswith(f"{line.name}/")}
        assert matches(line.name)
        assert line.name in met or not all(map(matches, below))
        assert line.child_info == (criteria if below else ())
    listed = {line.name for line in lines}
    assert {name for name in met if matches(name)} <= listed
    hidden = {name for name in met if not matches(name)}
    for name in hidden:
        for at in range(len(name)):
            if name[at] == "/" and matches(name[:at]):
                assert name[:at] in listed
