"""Any commands about mailboxes, in any order, with any names: each is answered, none is a failure of ours."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from imap_dialogue import Dialogue

NAME = st.sampled_from(
    [b"INBOX", b"inbox", b"a", b"a/b", b"a/b/c", b"a.b", b"INBOX/a", b"INBOX.a", b"INBOX.a.b", b"&AOQ-", b'""',
     b'"a b"', b'"%"', b"a/", b"//", b"INBOX.INBOX", b'"\xc3\xa4"', b"&", b"..", b"#x", b"{3+}\r\na/b", b"~"]
)  # fmt: skip
PATTERN = NAME | st.sampled_from([b"*", b"%", b"INBOX.%", b"a/%", b'("*" "%")', b'("" a)', b"*%*a"])
ENTRY = st.sampled_from(
    [b"/private/a", b"/private/a/b", b"/shared/x", b"/private", b"/x", b'""', b"/private//"]
)
ITEMS = st.sampled_from(
    [b"(MESSAGES)", b"(SIZE HIGHESTMODSEQ MAILBOXID)", b"()", b"(X)", b"(DELETED-STORAGE)"]
)
URL = st.sampled_from(
    [b"/a/;UID=1", b";UID=1", b"/INBOX/;UID=1/;SECTION=1", b"/INBOX/;UID=1/;SECTION=HEADER.FIELDS%20(a)", b"x",
     b"/INBOX/;UID=1/;PARTIAL=5", b"/a.b/;UID=2/;SECTION=2.MIME"]
)  # fmt: skip
TEXT = st.sampled_from(
    [
        b"{0+}\r\n",
        b"{3+}\r\nabc",
        b"~{3+}\r\na\0c",
        b"UTF8 (~{2+}\r\n\xc3\xa4)",
        b"{9",
        b"~{2+}\r\na\r",
    ]
)


def command(template: bytes, *parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(lambda some: template % some)


COMMAND = st.one_of(
    command(b"CREATE %s", NAME), command(b"CREATE %s (USE (\\Sent))", NAME), command(b"DELETE %s", NAME),
    command(b"RENAME %s %s", NAME, NAME), command(b"SUBSCRIBE %s", NAME), command(b"UNSUBSCRIBE %s", NAME),
    command(b"LIST %s %s", NAME, PATTERN), command(b"LSUB %s %s", NAME, PATTERN),
    command(b"LIST (SUBSCRIBED RECURSIVEMATCH) %s %s RETURN (CHILDREN STATUS %s)", NAME, PATTERN, ITEMS),
    command(b"LIST (SPECIAL-USE) \"\" %s RETURN (SUBSCRIBED)", PATTERN),
    command(b"STATUS %s %s", NAME, ITEMS), command(b"GETQUOTAROOT %s", NAME), command(b"GETQUOTA %s", NAME),
    command(b"SELECT %s", NAME), command(b"EXAMINE %s", NAME),
    command(b"GETMETADATA (DEPTH infinity MAXSIZE 2) %s (%s)", NAME, ENTRY),
    command(b"SETMETADATA %s (%s \"abc\" %s NIL)", NAME, ENTRY, ENTRY),
    command(b"APPEND %s %s", NAME, TEXT), command(b"APPEND %s (\\Seen) %s %s", NAME, TEXT, TEXT),
    command(b"APPEND %s CATENATE (URL %s TEXT %s)", NAME, URL, TEXT), command(b"REPLACE 1 %s %s", NAME, TEXT),
    command(b"UID REPLACE * %s CATENATE (URL %s)", NAME, URL), st.just(b"NAMESPACE"), st.just(b"NOOP"),
    st.just(b"ENABLE IMAP4rev2"), st.just(b"ENABLE UTF8=ACCEPT"),
)  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(st.lists(COMMAND, max_size=12), st.sampled_from([("/", ""), (".", "INBOX."), (".", "")]))
def test_everything_is_answered(commands: list[bytes], shown: tuple[str, str]) -> None:
    dialogue = Dialogue(separator=shown[0], prefix=shown[1], max_errors=1000)
    dialogue.account.deliver(b"Subject: x\n\nbody\n")
    dialogue.login()
    for one in commands:
        said = dialogue.ask(b"a " + one + b"\r\n")
        answers = [
            line for line in said.split(b"\r\n") if line.startswith((b"a ", b"* BYE", b"+ "))
        ]
        assert answers, (one, said)
        assert b"SERVERBUG" not in said, (one, said)
        if b"* BYE" in said:
            return
    names = dialogue.account.boxes
    assert all(name and all(name.split("/")) for name in names)
    assert "INBOX" in names and not {name for name in names if name.lower() == "inbox"} - {"INBOX"}
    assert dialogue.account.opened <= 1
