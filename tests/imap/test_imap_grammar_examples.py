"""`imap.grammar`: the examples of each RFC, and what they mean."""

from datetime import date

import pytest

from twisted_mail.imap import commands as c
from twisted_mail.imap import searching as s
from twisted_mail.imap.fetching import BinarySection, BinarySize, BodySection, Preview
from twisted_mail.imap.grammar import Malformed, parse
from twisted_mail.imap.sequence import SequenceSet
from twisted_mail.mailboxes import StoreMode


def numbers(text: bytes) -> SequenceSet:
    return SequenceSet.parse(text)


def body(
    text: str = "",
    part: tuple[int, ...] = (),
    fields: tuple[bytes, ...] = (),
    peek: bool = False,
    partial: tuple[int, int] | None = None,
    label: bytes = b"BODY[]",
) -> BodySection:
    return BodySection(part, text, fields, peek, partial, label)


NOTHING = c.NO_ARGUMENTS
SEEN = s.Flag("\\Seen")

EXAMPLES = [
    # RFC 9051 and RFC 3501, section 6.1 to 6.4
    (b"abcd CAPABILITY", "CAPABILITY", NOTHING),
    (b"a002 NOOP", "NOOP", NOTHING),
    (b"A023 LOGOUT", "LOGOUT", NOTHING),
    (b"a002 STARTTLS", "STARTTLS", NOTHING),
    (b"FXXZ CHECK", "CHECK", NOTHING),
    (b"A001 AUTHENTICATE GSSAPI", "AUTHENTICATE", c.Authenticate("GSSAPI", None)),
    (
        b"A01 AUTHENTICATE PLAIN dGVzdAB0ZXN0AHRlc3Q=",
        "AUTHENTICATE",
        c.Authenticate("PLAIN", b"dGVzdAB0ZXN0AHRlc3Q="),
    ),
    (b"A01 AUTHENTICATE EXTERNAL =", "AUTHENTICATE", c.Authenticate("EXTERNAL", b"=")),
    (b"a001 LOGIN SMITH SESAME", "LOGIN", c.Login(b"SMITH", b"SESAME")),
    (
        b"A001 LOGIN {11}\r\nFRED FOOBAR {7}\r\nfat man",
        "LOGIN",
        c.Login(b"FRED FOOBAR", b"fat man"),
    ),
    (
        b"A001 LOGIN {11+}\r\nFRED FOOBAR {7+}\r\nfat man",  # RFC 7888
        "LOGIN",
        c.Login(b"FRED FOOBAR", b"fat man"),
    ),
    (b'a LOGIN "a\\"b\\\\" ""', "LOGIN", c.Login(b'a"b\\', b"")),
    (b"t2 ENABLE CONDSTORE", "ENABLE", c.Enable(("CONDSTORE",))),
    (b"a ENABLE QRESYNC X-GOOD-IDEA", "ENABLE", c.Enable(("QRESYNC", "X-GOOD-IDEA"))),
    (b"A142 SELECT INBOX", "SELECT", c.Select("INBOX", False, False, None)),
    (b"A932 EXAMINE blurdybloop", "EXAMINE", c.Select("blurdybloop", True, False, None)),
    (b"A004 CREATE owatagusiam/blurdybloop", "CREATE", c.Create("owatagusiam/blurdybloop", ())),
    (b"A683 DELETE blurdybloop", "DELETE", c.Delete("blurdybloop")),
    (b"Z432 RENAME INBOX old-mail", "RENAME", c.Rename("INBOX", "old-mail")),
    (b"A002 SUBSCRIBE #news.comp.mail.mime", "SUBSCRIBE", c.Subscribe("#news.comp.mail.mime")),
    (b"A002 UNSUBSCRIBE #news.comp", "UNSUBSCRIBE", c.Unsubscribe("#news.comp")),
    (
        b"A202 LIST ~/Mail/ %",
        "LIST",
        c.List("~/Mail/", ("%",), frozenset(), frozenset(), (), False),
    ),
    (b'A002 LSUB "#news." "comp.mail.*"', "LSUB", c.Lsub("#news.", "comp.mail.*")),
    (b"A001 NAMESPACE", "NAMESPACE", NOTHING),
    (
        b"A042 STATUS blurdybloop (UIDNEXT MESSAGES)",
        "STATUS",
        c.Status("blurdybloop", ("UIDNEXT", "MESSAGES")),
    ),
    (b"A002 IDLE", "IDLE", NOTHING),
    (b"A341 CLOSE", "CLOSE", NOTHING),
    (b"A342 UNSELECT", "UNSELECT", NOTHING),
    (b"A202 EXPUNGE", "EXPUNGE", c.Expunge(None)),
    (b"A003 UID EXPUNGE 3000:3002", "EXPUNGE", c.Expunge(numbers(b"3000:3002"))),  # RFC 4315
    (
        b'A282 SEARCH RETURN (MIN COUNT) FLAGGED SINCE 1-Feb-1994 NOT FROM "Smith"',
        "SEARCH",
        c.Search(
            False,
            None,
            s.And(
                (
                    s.Flag("\\Flagged"),
                    s.Day("internal", "since", date(1994, 2, 1)),
                    s.Not(s.Header(b"From", b"Smith")),
                )
            ),
            frozenset(("MIN", "COUNT")),
        ),
    ),
    (
        b"P283 SEARCH CHARSET UTF-8 (OR $ 1,3000:3021) TEXT {8+}\r\n\xd0\xbc\xd0\xb0\xd0\xbc\xd0\xb0",
        "SEARCH",
        c.Search(
            False,
            "UTF-8",
            s.And(
                (
                    s.Or(
                        s.Numbers(numbers(b"$"), False), s.Numbers(numbers(b"1,3000:3021"), False)
                    ),
                    s.Text(True, "мама".encode()),
                )
            ),
            None,
        ),
    ),
    (
        b"A654 FETCH 2:4 (FLAGS BODY[HEADER.FIELDS (DATE FROM)])",
        "FETCH",
        c.Fetch(
            False,
            numbers(b"2:4"),
            (
                "FLAGS",
                body(
                    "HEADER.FIELDS",
                    fields=(b"DATE", b"FROM"),
                    label=b"BODY[HEADER.FIELDS (DATE FROM)]",
                ),
            ),
            None,
            False,
        ),
    ),
    (
        b"A003 STORE 2:4 +FLAGS (\\Deleted)",
        "STORE",
        c.Store(False, numbers(b"2:4"), None, StoreMode.ADD, False, ("\\Deleted",)),
    ),
    (b"A003 COPY 2:4 MEETING", "COPY", c.Copy(False, numbers(b"2:4"), "MEETING")),
    (b"a UID MOVE 42:69 foo", "MOVE", c.Move(True, numbers(b"42:69"), "foo")),  # RFC 6851
    (
        b"A999 UID FETCH 4827313:4828442 FLAGS",
        "FETCH",
        c.Fetch(True, numbers(b"4827313:4828442"), ("FLAGS",), None, False),
    ),
    # RFC 2971
    (
        b'a023 ID ("name" "sodr" "version" "19.34" "vendor" "Pink Floyd Music Limited")',
        "ID",
        c.Id(
            ((b"name", b"sodr"), (b"version", b"19.34"), (b"vendor", b"Pink Floyd Music Limited"))
        ),
    ),
    (b"a042 ID NIL", "ID", c.Id(None)),
    (b'a ID ("os" nil)', "ID", c.Id(((b"os", None),))),
    # RFC 3516
    (
        b"a FETCH 1 (BINARY.PEEK[1.2]<0.2048> binary.size[1.3] BINARY[])",
        "FETCH",
        c.Fetch(
            False,
            numbers(b"1"),
            (
                BinarySection((1, 2), True, (0, 2048), b"BINARY[1.2]<0>"),
                BinarySize((1, 3), b"BINARY.SIZE[1.3]"),
                BinarySection((), False, None, b"BINARY[]"),
            ),
            None,
            False,
        ),
    ),
    # RFC 4978, RFC 8437
    (b"a COMPRESS DEFLATE", "COMPRESS", c.Compress("DEFLATE")),
    (b"a UNAUTHENTICATE", "UNAUTHENTICATE", NOTHING),
    # RFC 5032
    (
        b"a1 SEARCH UNSEEN YOUNGER 259200",
        "SEARCH",
        c.Search(False, None, s.And((s.Not(SEEN), s.Within(False, 259200))), None),
    ),
    # RFC 5182
    (
        b"A282 SEARCH RETURN (SAVE) NOT FROM Smith",
        "SEARCH",
        c.Search(False, None, s.Not(s.Header(b"From", b"Smith")), frozenset(("SAVE",))),
    ),
    (
        b"A301 UID SEARCH UID $ SMALLER 4096",
        "SEARCH",
        c.Search(True, None, s.And((s.Numbers(numbers(b"$"), True), s.Size(False, 4096))), None),
    ),
    (b"A1 SEARCH RETURN () ALL", "SEARCH", c.Search(False, None, s.All(), frozenset(("ALL",)))),
    # RFC 5256, RFC 5957
    (
        b"A282 SORT (SUBJECT REVERSE DATE) UTF-8 ALL",
        "SORT",
        c.Sort(
            False,
            (c.SortCriterion("SUBJECT", False), c.SortCriterion("DATE", True)),
            "UTF-8",
            s.All(),
            None,
        ),
    ),
    (
        b"A1 UID SORT RETURN (COUNT) (DISPLAYFROM) US-ASCII SEEN",
        "SORT",
        c.Sort(
            True, (c.SortCriterion("DISPLAYFROM", False),), "US-ASCII", SEEN, frozenset(("COUNT",))
        ),
    ),
    (
        b'A284 THREAD REFERENCES US-ASCII TEXT "gewp"',
        "THREAD",
        c.Thread(False, "REFERENCES", "US-ASCII", s.Text(True, b"gewp")),
    ),
    # RFC 5258, RFC 5819, RFC 6154
    (
        b'A04 LIST (SUBSCRIBED RECURSIVEMATCH) "" "%" RETURN (CHILDREN)',
        "LIST",
        c.List(
            "",
            ("%",),
            frozenset(("SUBSCRIBED", "RECURSIVEMATCH")),
            frozenset(("CHILDREN",)),
            (),
            True,
        ),
    ),
    (
        b'BBB LIST "" ("INBOX" "Drafts" "Sent/%")',
        "LIST",
        c.List("", ("INBOX", "Drafts", "Sent/%"), frozenset(), frozenset(), (), True),
    ),
    (b'A LIST () "" *', "LIST", c.List("", ("*",), frozenset(), frozenset(), (), True)),
    (
        b'A01 LIST "" % RETURN (STATUS (MESSAGES UNSEEN) SUBSCRIBED)',
        "LIST",
        c.List("", ("%",), frozenset(), frozenset(("SUBSCRIBED",)), ("MESSAGES", "UNSEEN"), True),
    ),
    (
        b'A LIST (SPECIAL-USE) "" "*" RETURN (SPECIAL-USE)',
        "LIST",
        c.List("", ("*",), frozenset(("SPECIAL-USE",)), frozenset(("SPECIAL-USE",)), (), True),
    ),
    (
        b"t4 CREATE Everything (USE (\\sent \\Drafts))",
        "CREATE",
        c.Create("Everything", ("\\Sent", "\\Drafts")),
    ),
    # RFC 5464
    (
        b'a GETMETADATA "" /shared/comment',
        "GETMETADATA",
        c.GetMetadata("", ("/shared/comment",), None, 0),
    ),
    (
        b'a GETMETADATA (DEPTH infinity MAXSIZE 9) INBOX (/Private/a "/shared/b c")',
        "GETMETADATA",
        c.GetMetadata("INBOX", ("/private/a", "/shared/b c"), 9, None),
    ),
    (
        b'a GETMETADATA "INBOX" (DEPTH 1) (/private/filters/values)',
        "GETMETADATA",
        c.GetMetadata("INBOX", ("/private/filters/values",), None, 1),
    ),
    (
        b'a GETMETADATA "INBOX" /private/comment /shared/comment',
        "GETMETADATA",
        c.GetMetadata("INBOX", ("/private/comment", "/shared/comment"), None, 0),
    ),
    (
        b"a SETMETADATA INBOX (/private/comment {33}\r\nMy new comment across\r\ntwo lines. "
        b"/private/a NIL /private/b ~{2}\r\n\0\1)",
        "SETMETADATA",
        c.SetMetadata(
            "INBOX",
            (
                ("/private/comment", b"My new comment across\r\ntwo lines."),
                ("/private/a", None),
                ("/private/b", b"\0\1"),
            ),
        ),
    ),
    # RFC 5465 with erratum 1804
    (
        b"b notify set status (selected (MessageNew (uid body.peek[header.fields (from to subject)]) "
        b"MessageExpunge)) (subtree Lists (messageNew))",
        "NOTIFY",
        c.Notify(
            True,
            (
                c.EventGroup(
                    "SELECTED",
                    (),
                    ("MessageNew", "MessageExpunge"),
                    (
                        "UID",
                        body(
                            "HEADER.FIELDS",
                            fields=(b"from", b"to", b"subject"),
                            peek=True,
                            label=b"BODY[HEADER.FIELDS (from to subject)]",
                        ),
                    ),
                ),
                c.EventGroup("SUBTREE", ("Lists",), ("MessageNew",), ()),
            ),
        ),
    ),
    (
        b"a notify set (mailboxes (INBOX a) NONE) (personal (FooEvent))",
        "NOTIFY",
        c.Notify(
            False,
            (
                c.EventGroup("MAILBOXES", ("INBOX", "a"), (), ()),
                c.EventGroup("PERSONAL", (), ("FooEvent",), ()),
            ),
        ),
    ),
    (b"a notify NONE", "NOTIFY", c.Notify(False, None)),
    # RFC 7162
    (b"A1 SELECT INBOX (CONDSTORE)", "SELECT", c.Select("INBOX", False, True, None)),
    (
        b"A03 SELECT INBOX (QRESYNC (67890007 90060115194045000 41:211,214:541))",
        "SELECT",
        c.Select(
            "INBOX",
            False,
            False,
            c.QResync(67890007, 90060115194045000, numbers(b"41:211,214:541"), None),
        ),
    ),
    (
        b"A EXAMINE INBOX (CONDSTORE QRESYNC (1 2 (1,3 5,9)))",
        "EXAMINE",
        c.Select("INBOX", True, True, c.QResync(1, 2, None, (numbers(b"1,3"), numbers(b"5,9")))),
    ),
    (
        b"s100 UID FETCH 1:* (FLAGS) (CHANGEDSINCE 12345 VANISHED)",
        "FETCH",
        c.Fetch(True, numbers(b"1:*"), ("FLAGS",), 12345, True),
    ),
    (
        b"d105 STORE 7,5,9 (UNCHANGEDSINCE 320162338) +FLAGS.SILENT \\Deleted $Junk \\DELETED",
        "STORE",
        c.Store(False, numbers(b"5,7,9"), 320162338, StoreMode.ADD, True, ("\\Deleted", "$Junk")),
    ),
    (
        b'a SEARCH MODSEQ "/flags/\\\\draft" all 620162338',
        "SEARCH",
        c.Search(False, None, s.ModSeq(620162338), None),
    ),
    (
        b"t SEARCH OR NOT MODSEQ 720162338 LARGER 50000",
        "SEARCH",
        c.Search(False, None, s.Or(s.Not(s.ModSeq(720162338)), s.Size(True, 50000)), None),
    ),
    # RFC 8438, RFC 8474, RFC 8514, RFC 8970
    (b"A STATUS frop (SIZE MAILBOXID)", "STATUS", c.Status("frop", ("SIZE", "MAILBOXID"))),
    (
        b"26 search emailid M6d99ac3275bb4e",
        "SEARCH",
        c.Search(False, None, s.ObjectId("EMAILID", "M6d99ac3275bb4e"), None),
    ),
    (
        b"C SEARCH SAVEDON 10-Jan-2018 SAVEDATESUPPORTED",
        "SEARCH",
        c.Search(
            False,
            None,
            s.And((s.Day("saved", "on", date(2018, 1, 10)), s.SaveDateSupported())),
            None,
        ),
    ),
    (
        b"A1 FETCH 1 (RFC822.SIZE PREVIEW (LAZY) EMAILID SAVEDATE)",
        "FETCH",
        c.Fetch(
            False, numbers(b"1"), ("RFC822.SIZE", Preview(True), "EMAILID", "SAVEDATE"), None, False
        ),
    ),
    (
        b"A1 FETCH 1 PREVIEW (CHANGEDSINCE 1)",
        "FETCH",
        c.Fetch(False, numbers(b"1"), (Preview(False),), 1, False),
    ),
    # RFC 9208
    (b'G0001 GETQUOTA "!partition/sda4"', "GETQUOTA", c.GetQuota("!partition/sda4")),
    (b"G0002 GETQUOTAROOT INBOX", "GETQUOTAROOT", c.GetQuotaRoot("INBOX")),
    (
        b'S0000 SETQUOTA "#user/alice" (STORAGE 510)',
        "SETQUOTA",
        c.SetQuota("#user/alice", (("STORAGE", 510),)),
    ),
    (b'S1 SETQUOTA "" ()', "SETQUOTA", c.SetQuota("", ())),
    # what clients do
    (b"a NOOP  ", "NOOP", NOTHING),
    (b"a SEARCH ALL ", "SEARCH", c.Search(False, None, s.All(), None)),
    (b"a sElEcT inBOX", "SELECT", c.Select("INBOX", False, False, None)),
]


@pytest.mark.parametrize(("line", "name", "args"), EXAMPLES, ids=[str(e[0][:40]) for e in EXAMPLES])
def test_example(line: bytes, name: str, args: c.Arguments) -> None:
    command = parse(line)
    assert command.tag == line.split(b" ")[0]
    assert command.name == name
    assert type(command.args) is type(args)
    assert command.args == args


@pytest.mark.parametrize(
    ("raw", "item"),
    [
        (b"BODY[]", body()),
        (
            b"body.peek[text]<5.10>",
            body("TEXT", peek=True, partial=(5, 10), label=b"BODY[TEXT]<5>"),
        ),
        (b"BODY[HEADER]", body("HEADER", label=b"BODY[HEADER]")),
        (b"BODY[4.2.HEADER]", body("HEADER", (4, 2), label=b"BODY[4.2.HEADER]")),
        (b"BODY[1.mime]", body("MIME", (1,), label=b"BODY[1.MIME]")),
        (b"BODY[3]<0.1>", body("", (3,), partial=(0, 1), label=b"BODY[3]<0>")),
        (
            b'BODY[1.HEADER.FIELDS.NOT ("a b" {1}\r\nc)]',
            body(
                "HEADER.FIELDS.NOT",
                (1,),
                (b"a b", b"c"),
                label=b'BODY[1.HEADER.FIELDS.NOT ("a b" c)]',
            ),
        ),
        (b"RFC822", "RFC822"),
        (b"Rfc822.Text", "RFC822.TEXT"),
        (b"BODYSTRUCTURE", "BODYSTRUCTURE"),
        (b"BODY", "BODY"),
    ],
)
def test_fetch_item(raw: bytes, item: object) -> None:
    for line in (b"a FETCH 1 " + raw, b"a FETCH 1 (" + raw + b")"):
        args = parse(line).args
        assert isinstance(args, c.Fetch)
        assert args.items == (item,)


def test_macros_and_repetitions() -> None:
    def items(raw: bytes) -> tuple[object, ...]:
        args = parse(b"a FETCH 1 " + raw).args
        assert isinstance(args, c.Fetch)
        return args.items

    assert items(b"fast") == ("FLAGS", "INTERNALDATE", "RFC822.SIZE")
    assert items(b"ALL") == ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE")
    assert items(b"FULL") == ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY")
    assert items(b"(UID FLAGS UID)") == ("UID", "FLAGS")


def test_search_keys_of_flags() -> None:
    def key(raw: bytes) -> s.SearchKey:
        args = parse(b"a SEARCH " + raw).args
        assert isinstance(args, c.Search)
        return args.key

    recent = s.Flag("\\Recent")
    assert key(b"NEW") == s.And((recent, s.Not(SEEN)))
    assert key(b"OLD") == s.Not(recent)
    assert key(b"KEYWORD $Foo") == s.Flag("$Foo")
    assert key(b"UNKEYWORD $Foo") == s.Not(s.Flag("$Foo"))
    assert key(b"UNDRAFT") == s.Not(s.Flag("\\Draft"))
    assert key(b"((SEEN))") == SEEN
    assert key(b'SENTON "1-Feb-1994"') == s.Day("sent", "on", date(1994, 2, 1))
    assert key(b'HEADER Message-ID ""') == s.Header(b"Message-ID", b"")
    assert key(b'BODY ""') == s.Text(False, b"")


def test_utf8_names() -> None:
    assert parse(b"a SELECT &AOQ-").args == c.Select("ä", False, False, None)
    assert parse(b"a SELECT &AOQ-", True).args == c.Select("&AOQ-", False, False, None)
    assert parse('a SELECT "ä"'.encode(), True).args == c.Select("ä", False, False, None)


def test_flags() -> None:
    args = parse(b"a STORE 1 FLAGS (\\sEEN $Foo \\Recent $FOO \\Seen b)").args
    assert isinstance(args, c.Store)
    assert args.flags == ("\\Seen", "$Foo", "b")


WRONG = [
    (b"", "*", "tag"),
    (b" NOOP", "*", "tag"),
    (b"+ NOOP", "*", "tag"),
    (b"a", "a", "name"),
    (b"a ", "a", "name"),
    (b"a NOOPX", "a", "no such command"),
    (b"a NOOP x", "a", "more than"),
    (b"a UID NOOP", "a", "with UID"),
    (b"a CREATE x y", "a", "more than"),
    (b"a LOGIN x", "a", "missing"),
    (b'a LOGIN x "y', "a", "no end"),
    (b'a LOGIN x "\\y"', "a", "no end"),
    (b"a LOGIN x {9}\r\ny", "a", "incomplete"),
    (b"a LOGIN x {1}\r\n\0", "a", "NUL"),
    (b"a LOGIN x ~{1}\r\ny", "a", "more than"),
    (b'a LOGIN "x" ~{1}\r\ny', "a", "more than"),
    (b"a SEARCH SUBJECT ~{1}\r\ny", "a", ""),
    (b"a AUTHENTICATE PLAIN a=b=", "a", "more than"),
    (b"a AUTHENTICATE PLAIN ===", "a", "more than"),
    (b"a AUTHENTICATE PLAIN !", "a", "BASE64"),
    (b"a SELECT x (FOO)", "a", "not known"),
    (b"a SELECT x (QRESYNC (0 1))", "a", "range"),
    (b"a SELECT x (QRESYNC (1 1 1:*))", "a", "QRESYNC"),
    (b"a SELECT x (QRESYNC (1 1 (1:2 1)))", "a", "one size"),
    (b"a STATUS x ()", "a", "STATUS"),
    (b"a STATUS x (FOO)", "a", "STATUS"),
    (b'a LIST (RECURSIVEMATCH) "" *', "a", "RECURSIVEMATCH"),
    (b'a LIST (FOO) "" *', "a", "selection"),
    (b'a LIST "" * RETURN (FOO)', "a", "return option"),
    (b"a CREATE x (USE (\\Foo))", "a", "special use"),
    (b"a SETQUOTA x (STORAGE -1)", "a", "number"),
    (b"a GETMETADATA INBOX x", "a", "entry"),
    (b"a GETMETADATA INBOX /a//b", "a", "entry"),
    (b"a GETMETADATA INBOX /a/", "a", "entry"),
    (b'a GETMETADATA INBOX "/a*"', "a", "entry"),
    (b"a FETCH 0 FLAGS", "a", "message numbers"),
    (b"a FETCH 1 ()", "a", "item"),
    (b"a FETCH 1 (ALL)", "a", "no such FETCH item"),
    (b"a FETCH 1 FLAGS[]", "a", "no such FETCH item"),
    (b"a FETCH 1 BODY[MIME]", "a", "section"),
    (b"a FETCH 1 BODY[0]", "a", "section"),
    (b"a FETCH 1 BODY[1.]", "a", "section"),
    (b"a FETCH 1 BODY[HEADER.FIELDS]", "a", "missing"),
    (b"a FETCH 1 BODY[HEADER.FIELDS ()]", "a", "missing"),
    (b"a FETCH 1 BINARY[TEXT]", "a", "section"),
    (b"a FETCH 1 BINARY.FOO[]", "a", "section"),
    (b"a FETCH 1 BODY[]<1.0>", "a", "more than"),
    (b"a FETCH 1 BODY[]<9223372036854775808.1>", "a", "range"),
    (b"a FETCH 1 BODY[" + b".".join([b"1"] * 200) + b"]", "a", "deep"),
    (b"a FETCH 1 FLAGS (CHANGEDSINCE 1 VANISHED)", "a", "UID FETCH"),
    (b"a UID FETCH 1 FLAGS (VANISHED)", "a", "CHANGEDSINCE"),
    (b"a STORE 1 FLAGS \\Foo", "a", "system flag"),
    (b"a STORE 1 FLAGS (\\*)", "a", "flags"),
    (b"a STORE 1 FLAGS.LOUD ()", "a", "FLAGS"),
    (b"a SEARCH", "a", "missing"),
    (b"a SEARCH FOO", "a", "search key"),
    (b"a SEARCH ALLSEEN", "a", "search key"),
    (b"a SEARCH ()", "a", "message numbers"),
    (b"a SEARCH (ALL", "a", ") is missing"),
    (b"a SEARCH NOT", "a", "missing"),
    (b"a SEARCH ON 31-Feb-2000", "a", "date"),
    (b"a SEARCH ON 1-Foo-2000", "a", "date"),
    (b"a SEARCH RETURN (FOO) ALL", "a", "RETURN"),
    (b"a SEARCH OLDER 0", "a", "range"),
    (b"a SORT () UTF-8 ALL", "a", "missing"),
    (b"a SORT (FOO) UTF-8 ALL", "a", "criterion"),
    (b"a NOTIFY SET (foo NONE)", "a", "filter"),
    (b"a ID (" + b" ".join([b'"a" "b"'] * 31) + b")", "a", "too many"),
]


@pytest.mark.parametrize(("line", "tag", "text"), WRONG, ids=[str(w[0][:40]) for w in WRONG])
def test_wrong(line: bytes, tag: str, text: str) -> None:
    with pytest.raises(Malformed) as raised:
        parse(line)
    assert raised.value.tag == tag.encode()
    assert text in raised.value.text


def test_no_secret_is_quoted() -> None:
    for line in (b'a LOGIN user "hunter2', b"a LOGIN user hunter2 x", b"a LOGIN user\xff hunter2"):
        with pytest.raises(Malformed) as raised:
            parse(line)
        assert "hunter2" not in repr(raised.value)
    assert "hunter2" not in repr(parse(b"a LOGIN user hunter2"))
    assert "aHVudGVy" not in repr(parse(b"a AUTHENTICATE PLAIN aHVudGVy"))


def test_what_can_never_succeed_is_no() -> None:
    for line, code in ((b"a CREATE R&D", "CANNOT"), (b"a CREATE x (USE (\\Foo))", "USEATTR")):
        with pytest.raises(Malformed) as raised:
            parse(line)
        assert (raised.value.status, raised.value.code) == ("NO", code)


def test_search_is_bounded() -> None:
    for fine in (b"NOT " * 99 + b"ALL", b"(" * 99 + b"ALL" + b")" * 99, b"ALL " * 4998 + b"ALL"):
        parse(b"a SEARCH " + fine)
    for over in (
        b"NOT " * 100 + b"ALL",
        b"OR ALL " * 100 + b"ALL",
        b"(" * 100_000,
        b"ALL " * 5000 + b"ALL",
    ):
        with pytest.raises(Malformed, match="too many search keys") as raised:
            parse(b"a SEARCH " + over)
        assert raised.value.code == "LIMIT"


def test_patterns_are_bounded() -> None:
    with pytest.raises(Malformed, match="too many patterns"):
        parse(b'a LIST "" (' + b" ".join([b"%"] * 101) + b")")
