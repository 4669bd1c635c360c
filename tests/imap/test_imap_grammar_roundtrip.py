"""`imap.grammar`: value → octets → value, and nothing but `Malformed` whatever the octets."""

from __future__ import annotations

import unicodedata
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_mail.imap import commands as c
from twisted_mail.imap import encode
from twisted_mail.imap import searching as s
from twisted_mail.imap.fetching import (
    PLAIN,
    BinarySection,
    BinarySize,
    BodySection,
    FetchItem,
    Preview,
)
from twisted_mail.imap.grammar import Malformed, parse
from twisted_mail.imap.sequence import SequenceSet
from twisted_mail.mailboxes import StoreMode

# -- values

ATOMS = st.from_regex(r"[A-Za-z$][A-Za-z0-9_.-]{0,8}", fullmatch=True)
KEYWORDS = ATOMS.filter(lambda atom: atom.upper() != "NIL")
NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=12).map(
    lambda name: unicodedata.normalize("NFC", name)
).filter(lambda name: name.upper() != "INBOX") | st.just("INBOX")
OCTETS = st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"x"))
END = st.integers(1, 2**32 - 1).map(str) | st.just("*")
SETS = (
    st.lists(END | st.tuples(END, END).map(":".join), min_size=1, max_size=4)
    .map(",".join)
    .map(lambda text: SequenceSet.parse(text.encode()))
) | st.just(SequenceSet((), True))
FLAGS = st.lists(
    KEYWORDS | st.sampled_from(("\\Seen", "\\Answered", "\\Deleted", "\\Flagged", "\\Draft")),
    unique_by=str.lower,
    max_size=4,
).map(tuple)
MODSEQ = st.integers(0, 2**63 - 1)
PART = st.lists(st.integers(1, 2**32 - 1), max_size=3).map(tuple)
PARTIAL = st.none() | st.tuples(st.integers(0, 2**63 - 1), st.integers(1, 2**63 - 1))
FIELDS = st.lists(OCTETS, min_size=1, max_size=3).map(tuple)


@st.composite
def sections(draw: st.DrawFn) -> FetchItem:
    part = draw(PART)
    kind = draw(st.sampled_from(("BODY", "BINARY", "BINARY.SIZE")))
    dotted = ".".join(map(str, part)).encode()
    if kind == "BINARY.SIZE":
        return BinarySize(part, b"BINARY.SIZE[" + dotted + b"]")
    partial = draw(PARTIAL)
    origin = b"<%d>" % partial[0] if partial else b""
    peek = draw(st.booleans())
    if kind == "BINARY":
        return BinarySection(part, peek, partial, b"BINARY[" + dotted + b"]" + origin)
    texts = [
        "",
        "HEADER",
        "TEXT",
        "HEADER.FIELDS",
        "HEADER.FIELDS.NOT",
        *(["MIME"] if part else []),
    ]
    text = draw(st.sampled_from(texts))
    fields = draw(FIELDS) if "FIELDS" in text else ()
    said = text.encode()
    if fields:
        said += b" (" + b" ".join(map(encode.astring, fields)) + b")"
    dot = b"." if part and text else b""
    label = b"BODY[" + dotted + dot + said + b"]" + origin
    return BodySection(part, text, fields, peek, partial, label)


ITEMS = st.lists(
    st.sampled_from(sorted(PLAIN)) | sections() | st.builds(Preview, st.booleans()),
    min_size=1,
    max_size=4,
    unique=True,
).map(tuple)


def fetches(uid: bool) -> st.SearchStrategy[c.Fetch]:
    since = st.none() | MODSEQ
    return st.builds(
        lambda sequence, items, since, vanished: c.Fetch(
            uid, sequence, items, since, vanished and uid and since is not None
        ),
        SETS,
        ITEMS,
        since,
        st.booleans(),
    )


LEAVES: st.SearchStrategy[s.SearchKey] = st.one_of(
    st.just(s.All()),
    st.just(s.SaveDateSupported()),
    st.builds(s.Numbers, SETS, st.booleans()),
    st.builds(s.Flag, KEYWORDS | st.sampled_from(("\\Seen", "\\Draft", "\\Recent"))),
    st.builds(s.Header, OCTETS, OCTETS),
    st.builds(s.Text, st.booleans(), OCTETS),
    st.builds(
        s.Day,
        st.sampled_from(("internal", "sent", "saved")),
        st.sampled_from(("before", "on", "since")),
        st.dates(),
    ),
    st.builds(s.Size, st.booleans(), MODSEQ),
    st.builds(s.Within, st.booleans(), st.integers(1, 2**32 - 1)),
    st.builds(s.ModSeq, MODSEQ),
    st.builds(
        s.ObjectId,
        st.sampled_from(("EMAILID", "THREADID")),
        st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True),
    ),
)
KEYS: st.SearchStrategy[s.SearchKey] = st.recursive(
    LEAVES,
    lambda keys: st.one_of(
        st.builds(s.Not, keys),
        st.builds(s.Or, keys, keys),
        st.builds(s.And, st.lists(keys, min_size=2, max_size=4).map(tuple)),
    ),
    max_leaves=8,
)
RETURNS = st.none() | st.frozensets(
    st.sampled_from(("MIN", "MAX", "ALL", "COUNT", "SAVE")), min_size=1
)
ENTRIES = st.from_regex(r"(/[a-z0-9 ]{1,8}){1,3}", fullmatch=True)

# -- octets


def name(value: str, utf8: bool) -> bytes:
    return encode.mailbox(value, utf8)


def words(values: object) -> bytes:
    assert isinstance(values, tuple | frozenset)
    return b"(" + b" ".join(value.encode() for value in sorted(values)) + b")"


def day(value: date) -> bytes:
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[value.month * 3 - 3 : value.month * 3]
    return f"{value.day}-{month}-{value.year:04}".encode()


def key(value: s.SearchKey, top: bool = False) -> bytes:
    match value:
        case s.All():
            return b"ALL"
        case s.SaveDateSupported():
            return b"SaveDateSupported"
        case s.Numbers(sequence, uid):
            return b"UID " * uid + bytes(sequence)
        case s.Flag("\\Seen" | "\\Draft" | "\\Recent" as flag):
            return flag[1:].upper().encode()
        case s.Flag(flag):
            return b"KEYWORD " + flag.encode()
        case s.Header(field, text):
            return b"HEADER " + encode.astring(field) + b" " + encode.string(text)
        case s.Text(header, text):
            return (b"TEXT " if header else b"BODY ") + encode.astring(text)
        case s.Day(of, is_, when):
            prefix = {"internal": b"", "sent": b"SENT", "saved": b"SAVED"}[of]
            return prefix + is_.upper().encode() + b" " + day(when)
        case s.Size(larger, octets):
            return b"%s %d" % (b"LARGER" if larger else b"SMALLER", octets)
        case s.Within(older, seconds):
            return b"%s %d" % (b"OLDER" if older else b"YOUNGER", seconds)
        case s.ModSeq(modseq):
            return b"MODSEQ %d" % modseq
        case s.ObjectId(of, text):
            return f"{of} {text}".encode()
        case s.Not(inner):
            return b"NOT " + key(inner)
        case s.Or(left, right):
            return b"OR " + key(left) + b" " + key(right)
        case s.And(keys):
            text = b" ".join(map(key, keys))
            return text if top else b"(" + text + b")"
    raise AssertionError(value)


def returned(value: frozenset[str] | None) -> bytes:
    return b"" if value is None else b" RETURN " + words(value)


def item(value: FetchItem) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, Preview):
        return b"PREVIEW (LAZY)" if value.lazy else b"PREVIEW"
    if isinstance(value, BinarySize):
        return value.label
    label = value.label
    if value.partial:
        label = label[: label.rindex(b"<")] + b"<%d.%d>" % value.partial
    return label.replace(b"[", b".PEEK[", 1) if value.peek else label


def fetch(value: c.Fetch) -> bytes:
    made = b"FETCH %b (%b)" % (bytes(value.sequence), b" ".join(map(item, value.items)))
    if value.changed_since is not None:
        vanished = b" VANISHED" if value.vanished else b""
        made += b" (CHANGEDSINCE %d%b)" % (value.changed_since, vanished)
    return b"UID " * value.uid + made


def store(value: c.Store) -> bytes:
    since = (
        b"" if value.unchanged_since is None else b"(UNCHANGEDSINCE %d) " % value.unchanged_since
    )
    silent = b".SILENT" if value.silent else b""
    flags = encode.flag_list(value.flags)
    made = b"STORE %b %b%b%b %b" % (
        bytes(value.sequence),
        since,
        value.mode.value.encode(),
        silent,
        flags,
    )
    return b"UID " * value.uid + made


def search(value: c.Search) -> bytes:
    charset = b"" if value.charset is None else b" CHARSET " + value.charset.encode()
    made = b"SEARCH" + returned(value.returns) + charset + b" " + key(value.key, True)
    return b"UID " * value.uid + made


def sort(value: c.Sort) -> bytes:
    criteria = b" ".join(b"REVERSE " * one.reverse + one.key.encode() for one in value.criteria)
    made = b"SORT%b (%b) %b %b" % (
        returned(value.returns),
        criteria,
        value.charset.encode(),
        key(value.key, True),
    )
    return b"UID " * value.uid + made


def list_(value: c.List, utf8: bool) -> bytes:
    select = words(value.select) + b" " if value.select else b""
    patterns = [name(pattern, utf8) for pattern in value.patterns]
    made = b"LIST " + select + name(value.reference, utf8) + b" (" + b" ".join(patterns) + b")"
    options = [option.encode() for option in sorted(value.returns)]
    if value.status:
        options.append(b"STATUS (" + " ".join(value.status).encode() + b")")
    return made + b" RETURN (" + b" ".join(options) + b")"


def set_metadata(value: c.SetMetadata, utf8: bool) -> bytes:
    pairs = [
        encode.astring(entry.encode())
        + b" "
        + (encode.NIL if text is None else encode.literal8(text))
        for entry, text in value.entries
    ]
    return b"SETMETADATA " + name(value.mailbox, utf8) + b" (" + b" ".join(pairs) + b")"


def round_trip(line: bytes, args: c.Arguments, utf8: bool = False) -> None:
    for tagged in (b"tag " + line, b"tag " + line + b" "):
        command = parse(tagged, utf8)
        assert type(command.args) is type(args)
        assert command.args == args


@given(st.booleans().flatmap(fetches))
def test_fetch(value: c.Fetch) -> None:
    round_trip(fetch(value), value)


@given(
    st.builds(
        c.Store,
        st.booleans(),
        SETS,
        st.none() | MODSEQ,
        st.sampled_from(StoreMode),
        st.booleans(),
        FLAGS,
    )
)
def test_store(value: c.Store) -> None:
    round_trip(store(value), value)


@given(st.builds(c.Search, st.booleans(), st.sampled_from((None, "UTF-8")), KEYS, RETURNS))
def test_search(value: c.Search) -> None:
    round_trip(search(value), value)


@given(
    st.builds(
        c.Sort,
        st.booleans(),
        st.lists(
            st.builds(c.SortCriterion, st.sampled_from(("DATE", "SUBJECT")), st.booleans()),
            min_size=1,
            max_size=3,
        ).map(tuple),
        st.just("US-ASCII"),
        KEYS,
        RETURNS,
    )
)
def test_sort(value: c.Sort) -> None:
    round_trip(sort(value), value)


@given(
    st.builds(
        c.List,
        NAMES.filter(lambda name: name != "INBOX"),
        st.lists(NAMES, min_size=1, max_size=3).map(tuple),
        st.frozensets(st.sampled_from(("SUBSCRIBED", "REMOTE", "SPECIAL-USE"))),
        st.frozensets(st.sampled_from(("SUBSCRIBED", "CHILDREN", "SPECIAL-USE"))),
        st.lists(st.sampled_from(("MESSAGES", "SIZE")), unique=True).map(tuple),
        st.just(True),
    ),
    st.booleans(),
)
def test_list(value: c.List, utf8: bool) -> None:
    round_trip(list_(value, utf8), value, utf8)


@given(NAMES, NAMES, st.booleans())
def test_names(one: str, other: str, utf8: bool) -> None:
    raw, raw_other = name(one, utf8), name(other, utf8)
    round_trip(b"RENAME " + raw + b" " + raw_other, c.Rename(one, other), utf8)
    round_trip(b"DELETE " + raw, c.Delete(one), utf8)
    round_trip(b"SUBSCRIBE " + raw, c.Subscribe(one), utf8)
    round_trip(b"UID COPY 1:* " + raw, c.Copy(True, SequenceSet.parse(b"1:*"), one), utf8)
    round_trip(b"SELECT " + raw, c.Select(one, False, False, None), utf8)


@given(OCTETS, OCTETS)
def test_login(user: bytes, password: bytes) -> None:
    round_trip(
        b"LOGIN " + encode.astring(user) + b" " + encode.string(password), c.Login(user, password)
    )


@given(st.lists(st.tuples(OCTETS, st.none() | OCTETS), max_size=5).map(tuple))
def test_id(pairs: tuple[tuple[bytes, bytes | None], ...]) -> None:
    said = [encode.string(field) + b" " + encode.nstring(value) for field, value in pairs]
    round_trip(b"ID (" + b" ".join(said) + b")", c.Id(pairs))


@given(
    st.builds(
        c.SetMetadata,
        NAMES,
        st.lists(st.tuples(ENTRIES, st.none() | st.binary(max_size=9)), min_size=1, max_size=3).map(
            tuple
        ),
    ),
    st.booleans(),
)
def test_set_metadata(value: c.SetMetadata, utf8: bool) -> None:
    round_trip(set_metadata(value, utf8), value, utf8)


# -- no bytes make it raise

SEEDS = [
    b"a LOGIN {5}\r\nalice {3+}\r\nabc",
    b"a UID FETCH 1:* (FLAGS BODY.PEEK[1.HEADER.FIELDS (To {1}\r\nx)]<0.5>) (CHANGEDSINCE 5 VANISHED)",
    b"a SEARCH RETURN (MIN) CHARSET UTF-8 OR (NOT SEEN ON 1-Feb-1994) UID $ HEADER x {2}\r\nab",
    b"a SELECT INBOX (CONDSTORE QRESYNC (1 2 3:4 (5 6)))",
    b'a LIST (SUBSCRIBED RECURSIVEMATCH) "" (% "&AOQ-") RETURN (CHILDREN STATUS (MESSAGES))',
    b"a STORE 1 (UNCHANGEDSINCE 5) +FLAGS.SILENT (\\Deleted $x)",
    b"a CREATE &AOQ- (USE (\\Sent))",
    b"a NOTIFY SET STATUS (subtree (a b) (MessageNew (UID BODY[]) FlagChange)) (selected NONE)",
    b'a GETMETADATA "INBOX" (MAXSIZE 5 DEPTH infinity) (/private/comment "/shared/x")',
    b"a SETMETADATA INBOX (/private/comment ~{2}\r\nab /private/x NIL)",
    b"a SETQUOTA x (STORAGE 5)",
    b'a ID ("a" NIL)',
    b"a UID SORT (REVERSE DATE) UTF-8 YOUNGER 5",
    b"a THREAD REFERENCES UTF-8 ALL",
    b"a AUTHENTICATE PLAIN AGE=",
    b"a ENABLE QRESYNC",
    b"a UID MOVE 1,3:* INBOX",
]
PIECES = st.sampled_from(
    [bytes((octet,)) for octet in b' ()"{}\\*%&\0\xff[]<>:,$~0/\n']
    + [b"", b"}\r\n", b"{3}\r\n", b"9" * 19, b"9" * 30, b"NIL", b"\r\n"]
)


def never_raises(line: bytes, utf8: bool) -> None:
    try:
        parse(line, utf8)
    except Malformed as malformed:
        assert malformed.text.isascii() and malformed.text.isprintable()
        assert malformed.tag


@given(st.binary(), st.booleans())
def test_random_octets(line: bytes, utf8: bool) -> None:
    never_raises(line, utf8)
    for command in (b"a FETCH ", b"a SEARCH ", b"a LIST ", b"a NOTIFY SET ", b"a LOGIN "):
        never_raises(command + line, utf8)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: str(seed[:20]))
def test_every_prefix(seed: bytes) -> None:
    parse(seed)
    for end in range(len(seed)):
        never_raises(seed[:end], False)


@settings(max_examples=400)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 4), PIECES), min_size=1, max_size=4),
    st.booleans(),
)
def test_mutated_commands(seed: bytes, changes: list[tuple[int, int, bytes]], utf8: bool) -> None:
    for at, cut, piece in changes:
        seed = seed[:at] + piece + seed[at + cut :]
    never_raises(seed, utf8)
