"""LIST, LSUB, NAMESPACE: the examples of RFC 5258, 5819, 6154, 9051, and what else they say."""

from __future__ import annotations

import pytest
from imap_dialogue import Dialogue

from twisted_mail.testing.mailboxes import MemoryAccount


def having(*names: str, subscribed: tuple[str, ...] = (), **settings: object) -> Dialogue:
    dialogue = Dialogue(**settings)
    for name in names:
        dialogue.account.make(name)
    dialogue.account.subscribed.update(subscribed)
    dialogue.login()
    return dialogue


@pytest.fixture
def greengrocer() -> Dialogue:
    """RFC 5258 section 5, example 1."""
    return having(
        "Fruit", "Fruit/Apple", "Fruit/Banana", "Tofu",
        "Vegetable", "Vegetable/Broccoli", "Vegetable/Corn",
        subscribed=("INBOX", "Fruit/Banana", "Fruit/Peach", "Vegetable", "Vegetable/Broccoli"),
    )  # fmt: skip


def test_rfc_5258_examples_1_to_6(greengrocer: Dialogue) -> None:
    greengrocer.run(r"""
        C: A01 LIST "" "*"
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * LIST (\HasChildren) "/" Fruit
        S: * LIST (\HasNoChildren) "/" Fruit/Apple
        S: * LIST (\HasNoChildren) "/" Fruit/Banana
        S: * LIST (\HasNoChildren) "/" Tofu
        S: * LIST (\HasChildren) "/" Vegetable
        S: * LIST (\HasNoChildren) "/" Vegetable/Broccoli
        S: * LIST (\HasNoChildren) "/" Vegetable/Corn
        S: A01 OK LIST completed
        C: A02 LIST (SUBSCRIBED) "" "*"
        S: * LIST (\Subscribed) "/" INBOX
        S: * LIST (\Subscribed) "/" Fruit/Banana
        S: * LIST (\NonExistent \Subscribed) "/" Fruit/Peach
        S: * LIST (\Subscribed) "/" Vegetable
        S: * LIST (\Subscribed) "/" Vegetable/Broccoli
        S: A02 OK LIST completed
        C: A03 LIST () "" "%" RETURN (CHILDREN)
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * LIST (\HasChildren) "/" Fruit
        S: * LIST (\HasNoChildren) "/" Tofu
        S: * LIST (\HasChildren) "/" Vegetable
        S: A03 OK LIST completed
        C: A04 LIST (REMOTE) "" "%" RETURN (CHILDREN)
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * LIST (\HasChildren) "/" Fruit
        S: * LIST (\HasNoChildren) "/" Tofu
        S: * LIST (\HasChildren) "/" Vegetable
        S: A04 OK LIST completed
        C: A05 LIST (REMOTE SUBSCRIBED) "" "*"
        S: * LIST (\Subscribed) "/" INBOX
        S: * LIST (\Subscribed) "/" Fruit/Banana
        S: * LIST (\NonExistent \Subscribed) "/" Fruit/Peach
        S: * LIST (\Subscribed) "/" Vegetable
        S: * LIST (\Subscribed) "/" Vegetable/Broccoli
        S: A05 OK LIST completed
        C: A06 LIST (REMOTE) "" "*" RETURN (SUBSCRIBED)
        S: * LIST (\Subscribed) "/" INBOX
        S: * LIST () "/" Fruit
        S: * LIST () "/" Fruit/Apple
        S: * LIST (\Subscribed) "/" Fruit/Banana
        S: * LIST () "/" Tofu
        S: * LIST (\Subscribed) "/" Vegetable
        S: * LIST (\Subscribed) "/" Vegetable/Broccoli
        S: * LIST () "/" Vegetable/Corn
        S: A06 OK LIST completed
    """)


def test_rfc_5258_example_7_several_patterns() -> None:
    having("Drafts", "Sent", "Sent/March2004", "Sent/March2004/x").run(r"""
        C: BBB LIST "" ("INBOX" "Drafts" "Sent/%")
        S: * LIST () "/" INBOX
        S: * LIST () "/" Drafts
        S: * LIST () "/" Sent/March2004
        S: BBB OK LIST completed
    """)


def test_rfc_5258_example_8_children_and_childinfo() -> None:
    dialogue = having("Foo", "Foo/Bar", "Foo/Baz", "Moo", subscribed=("Foo/Baz",))
    dialogue.run(r"""
        C: CA3 LIST "" "%" RETURN (CHILDREN)
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * LIST (\HasChildren) "/" Foo
        S: * LIST (\HasNoChildren) "/" Moo
        S: CA3 OK LIST completed
        C: C02 LIST (SUBSCRIBED) "" "*"
        S: * LIST (\Subscribed) "/" Foo/Baz
        S: C02 OK LIST completed
        C: C03 LIST (SUBSCRIBED) "" "%"
        S: C03 OK LIST completed
        C: C04 LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"
        S: * LIST () "/" Foo ("CHILDINFO" ("SUBSCRIBED"))
        S: C04 OK LIST completed
    """)
    dialogue.account.subscribed.add("Foo")
    dialogue.run(r"""
        C: C04 LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"
        S: * LIST (\Subscribed) "/" Foo ("CHILDINFO" ("SUBSCRIBED"))
        S: C04 OK LIST completed
    """)
    dialogue.account.subscribed.clear()
    dialogue.run(r"""
        C: C04 LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"
        S: C04 OK LIST completed
    """)
    dialogue.account.subscribed.update(("Foo", "Moo"))
    dialogue.run(r"""
        C: C04 LIST (SUBSCRIBED RECURSIVEMATCH) "" "%" RETURN (CHILDREN)
        S: * LIST (\Subscribed \HasChildren) "/" Foo
        S: * LIST (\Subscribed \HasNoChildren) "/" Moo
        S: C04 OK LIST completed
    """)


def test_rfc_5258_example_8_a2_what_does_not_exist() -> None:
    having("Foo/Baz", subscribed=("Foo/Baz",)).run(r"""
        C: C04 LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"
        S: * LIST (\NonExistent) "/" Foo ("CHILDINFO" ("SUBSCRIBED"))
        S: C04 OK LIST completed
    """)


def test_rfc_5258_example_9_childinfo_whatever_the_pattern() -> None:
    names = (
        "foo2/bar1",
        "foo2/bar2",
        "baz2/bar2",
        "baz2/bar22",
        "baz2/bar222",
        "eps2",
        "eps2/mamba",
    )
    having(
        "foo2", "baz2", *names, "qux2/bar2", subscribed=(*names, "qux2/bar2"),
    ).run(r"""
        C: D03 LIST (RECURSIVEMATCH SUBSCRIBED) "" "*2"
        S: * LIST (\Subscribed) "/" baz2/bar2
        S: * LIST (\Subscribed) "/" baz2/bar22
        S: * LIST (\Subscribed) "/" baz2/bar222
        S: * LIST (\Subscribed) "/" eps2 ("CHILDINFO" ("SUBSCRIBED"))
        S: * LIST () "/" foo2 ("CHILDINFO" ("SUBSCRIBED"))
        S: * LIST (\Subscribed) "/" foo2/bar2
        S: * LIST (\Subscribed) "/" qux2/bar2
        S: D03 OK LIST completed
    """)  # fmt: skip


def test_rfc_5258_example_10_childinfo_of_what_does_not_exist() -> None:
    having("foo", subscribed=("foo/bar",)).run(r"""
        C: a1 LIST "" ("foo" "foo/*")
        S: * LIST () "/" foo
        S: a1 OK LIST completed
        C: a2 LIST (SUBSCRIBED) "" "foo/*"
        S: * LIST (\NonExistent \Subscribed) "/" foo/bar
        S: a2 OK LIST completed
        C: a3 LIST (SUBSCRIBED RECURSIVEMATCH) "" foo RETURN (CHILDREN)
        S: * LIST (\HasNoChildren) "/" foo ("CHILDINFO" ("SUBSCRIBED"))
        S: a3 OK LIST completed
    """)


def test_rfc_5258_example_11_a_missing_level() -> None:
    having("music/rock").run(r"""
        C: a2 LIST () "" %
        S: * LIST () "/" INBOX
        S: * LIST (\NonExistent \HasChildren) "/" music
        S: a2 OK LIST completed
        C: a3 LIST "" %
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * LIST (\Noselect \HasChildren) "/" music
        S: a3 OK LIST completed
    """)


def test_rfc_9051_the_separator_and_the_root() -> None:
    having("foo/bar").run(r"""
        C: A101 LIST "" ""
        S: * LIST (\Noselect) "/" ""
        S: A101 OK LIST completed
        C: A202 LIST foo/ %
        S: * LIST (\HasNoChildren) "/" foo/bar
        S: A202 OK LIST completed
        C: A203 LIST () "" ("")
        S: A203 OK LIST completed
        C: A204 LIST () "foo/bar" ("" "x")
        S: A204 OK LIST completed
    """)


def test_rfc_5819_status_with_list() -> None:
    dialogue = having("bar", "foo/bar", subscribed=("foo",))
    dialogue.account.deliver(b"Subject: x\n\n")
    dialogue.run(r"""
        C: A01 LIST "" % RETURN (STATUS (MESSAGES UNSEEN))
        S: * LIST () "/" INBOX
        S: * STATUS INBOX (MESSAGES 1 UNSEEN 1)
        S: * LIST () "/" bar
        S: * STATUS bar (MESSAGES 0 UNSEEN 0)
        S: * LIST (\NonExistent \HasChildren) "/" foo
        S: A01 OK LIST completed
        C: A02 LIST (SUBSCRIBED RECURSIVEMATCH) "" % RETURN (STATUS (MESSAGES))
        S: * LIST (\NonExistent \Subscribed \HasChildren) "/" foo
        S: A02 OK LIST completed
    """)


def test_rfc_6154_special_use() -> None:
    dialogue = having("MyDrafts")
    account: MemoryAccount = dialogue.account
    account.make("SentMail", ["\\Sent"])
    account.make("Trash", ["\\Trash"])
    dialogue.run(r"""
        C: t1 LIST "" "%"
        S: * LIST (\HasNoChildren) "/" INBOX
        S: * LIST (\HasNoChildren) "/" MyDrafts
        S: * LIST (\HasNoChildren \Sent) "/" SentMail
        S: * LIST (\HasNoChildren \Trash) "/" Trash
        S: t1 OK LIST completed
        C: t2 LIST (SPECIAL-USE) "" "*"
        S: * LIST (\Sent) "/" SentMail
        S: * LIST (\Trash) "/" Trash
        S: t2 OK LIST completed
        C: t3 LIST "" "%" RETURN (SPECIAL-USE)
        S: * LIST () "/" INBOX
        S: * LIST () "/" MyDrafts
        S: * LIST (\Sent) "/" SentMail
        S: * LIST (\Trash) "/" Trash
        S: t3 OK LIST completed
        C: t4 LIST (SPECIAL-USE SUBSCRIBED) "" "*"
        S: t4 OK LIST completed
    """)


def test_rfc_3501_lsub() -> None:
    having("foo", "foo/bar", "foo/bar/baz", subscribed=("foo/bar", "gone")).run(r"""
        C: A1 LSUB "" "*"
        S: * LSUB () "/" foo/bar
        S: * LSUB (\Noselect) "/" gone
        S: A1 OK LSUB completed
        C: A2 LSUB "" "%"
        S: * LSUB (\Noselect) "/" foo
        S: * LSUB (\Noselect) "/" gone
        S: A2 OK LSUB completed
        C: A3 LSUB "foo/" "%"
        S: * LSUB () "/" foo/bar
        S: A3 OK LSUB completed
    """)


def test_names_in_both_encodings() -> None:
    having("Entwürfe & mehr", 'a "b"', "台北").run(r"""
        C: a1 LIST "" *
        S: * LIST (...) "/" INBOX
        S: * LIST (...) "/" "Entw&APw-rfe &- mehr"
        S: * LIST (...) "/" "a \"b\""
        S: * LIST (...) "/" &U,BTFw-
        S: a1 OK LIST completed
        C: a2 LIST "" "Entw&APw-%"
        S: * LIST (...) "/" "Entw&APw-rfe &- mehr"
        S: a2 OK LIST completed
        C: a3 LIST "" iNbOx
        S: * LIST (...) "/" INBOX
        S: a3 OK LIST completed
    """)


def test_names_of_another_server() -> None:
    dialogue = having(
        "Sent", "Sent/2024", "a.b", "INBOX/x", subscribed=("Sent",), separator=".", prefix="INBOX."
    )
    dialogue.run(r"""
        C: a1 NAMESPACE
        S: * NAMESPACE (("INBOX." ".")) NIL NIL
        S: a1 OK NAMESPACE completed
        C: a2 LIST "" *
        S: * LIST (\HasChildren) "." INBOX
        S: * LIST (\Noselect \HasChildren) "." INBOX.INBOX
        S: * LIST (\HasNoChildren) "." INBOX.INBOX.x
        S: * LIST (\HasChildren) "." INBOX.Sent
        S: * LIST (\HasNoChildren) "." INBOX.Sent.2024
        S: * LIST (\HasNoChildren) "." INBOX.a/b
        S: a2 OK LIST completed
        C: a3 LIST "" %
        S: * LIST (\HasChildren) "." INBOX
        S: a3 OK LIST completed
        C: a4 LSUB "" inbox.%
        S: * LSUB () "." INBOX.Sent
        S: a4 OK LSUB completed
        C: a5 STATUS inbox.Sent.2024 (MESSAGES)
        S: * STATUS inbox.Sent.2024 (MESSAGES 0)
        S: a5 OK STATUS completed
        C: a6 STATUS Sent (MESSAGES)
        S: a6 NO [NONEXISTENT] There is no such mailbox
    """)


def test_rfc_2342_one_personal_namespace() -> None:
    having().run(r"""
        C: A001 NAMESPACE
        S: * NAMESPACE (("" "/")) NIL NIL
        S: A001 OK NAMESPACE completed
    """)


def test_many_mailboxes_come_in_slices() -> None:
    dialogue = having(*(f"box{n:04}" for n in range(2000)))
    lines = dialogue.lines(b'a LIST "" *')
    assert len(lines) == 2002 and lines[-1] == b"a OK LIST completed"
    assert lines[1:-1] == [b'* LIST (\\HasNoChildren) "/" box%04d' % n for n in range(2000)]
