"""The From field of what a user submits: his own addresses where the domain is ours, anything where it is not."""

import pytest
from delivering import person
from hypothesis import given
from hypothesis import strategies as st
from mailroom import ALICE, BOB

from twisted_mail.delivery.authorship import check_author
from twisted_mail.status import MailError

OURS = ("example.org", "b\u00fccher.example".encode("idna").decode())
MINE = ("alice@example.org", "al ice@example.org", "\u00e4lice@example.org", "alice@" + OURS[1])


def check(header):
    check_author(
        header,
        OURS.__contains__,
        lambda address: f"{address.local}@{address.domain}".lower() in MINE,
    )


def refusal(header):
    with pytest.raises(MailError) as caught:
        check(header)
    assert (caught.value.code, caught.value.enhanced) == (550, "5.7.1")
    return str(caught.value.text)


@pytest.mark.parametrize(
    "value",
    [
        "alice@example.org",
        "Bob <alice@Example.ORG>",
        '"bob@example.org" <alice@example.org>',
        "bob@example.org <alice@example.org>",
        '"al ice"@example.org',
        'Al <"al ice"@example.org>',
        'Al <"al\\ ice"@example.org>',
        '"A. \\"L\\"" <alice@example.org>',
        "\u00e4lice@example.org",
        "alice@b\u00fccher.example",
        "alice (bob@example.org) @ example . org",
        "alice@example.org, x@elsewhere.example",
        "Us: alice@example.org, x@elsewhere.example;",
        "x@elsewhere.example",
        "x@elsewhere.example y@other.example",
        "x@notexample.org",
        "x@org",
        "Undisclosed:;",
        "",
    ],
)
def test_may_be_written(value):
    check(f"To: b\nFrom: {value}\nSubject: x\n".encode())


def test_none_is_nobodys():
    check(b"To: bob@example.org\n")


@pytest.mark.parametrize(
    "value",
    [
        "bob@example.org",
        "Alice <bob@example.org>",
        "alice@example.org <bob@example.org>",
        '"alice@example.org" <bob@example.org>',
        "(alice@example.org) bob@example.org",
        '"bob"@example.org',
        'Alice <"bob"@example.org>',
        'Alice <"b\\ob"@example.org>',
        "b\u00f6b@example.org",
        "bob@b\u00fccher.example",
        "bob@" + OURS[1],
        "bob@ example . org",
        "alice@example.org, bob@example.org",
        "x@elsewhere.example, bob@example.org",
        "Us: bob@example.org;",
        "<@x.example:bob@example.org>",
        "bob@EXAMPLE.org.",
        # Signed by the key of the domain above it
        "bob@sub.example.org",
        "alice@sub.example.org",
    ],
)
def test_may_not_be_written(value):
    assert refusal(f"From: {value}\n".encode()).startswith("You may not write as ")


@pytest.mark.parametrize(
    "value",
    [
        "alice@example.org bob@example.org",
        "<alice@example.org> <bob@example.org>",
        "alice@example.org@elsewhere.example",
        "<alice@example.org",
        '"alice <alice@example.org>',
        "=?utf-8?q?bob=40example.org?=",
        "@example.org",
        # Quoted, with more beside
        'x@elsewhere.example, "alice"@example.org',
        ", ".join(f"x@n{n}.example" for n in range(6)),
        "x" * 70_000,
    ],
)
def test_what_may_mean_somebody_else(value):
    assert refusal(f"From: {value}\n".encode()).endswith(": write your address into one From field")


@pytest.mark.parametrize("second", ["alice@example.org", "x@elsewhere.example", ""])
def test_two_fields(second):
    assert "2 From fields" in refusal(f"From: alice@example.org\nFROM : {second}\n".encode())


_PIECES = [
    "bob@example.org",
    "alice@example.org",
    "<",
    ">",
    '"',
    "(",
    ")",
    ",",
    ";",
    ":",
    "@",
    " ",
    "\n ",
    "x",
    "\\",
    "\0",
]


@given(st.lists(st.sampled_from(_PIECES), max_size=8).map("".join))
def test_nothing_else_is_raised_and_bob_is_never_the_author(value):
    try:
        check(f"From: {value}\n".encode())
    except MailError:
        return
    angles = value.rpartition("<")[2].partition(">")[0] if "<" in value and ">" in value else ""
    assert angles.strip() != "bob@example.org" or '"' in value or "(" in value


# -- in a message


@pytest.mark.parametrize("block", [1, 65_536])
def test_a_user_who_writes_as_another_one(site, block):
    content = b"From: Bob <bob@example.org>\r\nSubject: x\r\n\r\nhi\r\n"
    refused = site.refused(content, ALICE, account=person(), sender=ALICE, block=block)
    assert refused == (550, "5.7.1")
    assert site.inbox() == []
    content = content.replace(b"bob", b"alice")
    site.deliver(content, BOB, account=person(), sender=ALICE, block=block)
    assert len(site.inbox("bob")) == 1


def test_who_has_not_logged_in_is_others_matter(site):
    """Mail from outside, of a list for instance: DMARC judges that."""
    site.deliver(b"From: bob@example.org\r\n\r\nhi\r\n", ALICE)
    assert len(site.inbox()) == 1
