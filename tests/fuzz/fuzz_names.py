"""Names and arguments: addresses, parameters of SMTP, mailboxes and numbers of IMAP, and back again."""

from __future__ import annotations

import re
from email.utils import parseaddr
from unicodedata import normalize

from fuzzing import several, target

from twisted_mail import modified_utf7
from twisted_mail.address import Address, forward_path, normalize_domain, reverse_path
from twisted_mail.imap import dates, encode, grammar, patterns, urls
from twisted_mail.imap.grammar import Malformed
from twisted_mail.imap.names import mailbox_name
from twisted_mail.imap.reader import Reader
from twisted_mail.imap.sequence import SequenceSet, compact
from twisted_mail.message import xtext
from twisted_mail.smtp import hello
from twisted_mail.smtp.parameters import chunk_arguments, mail_parameters, rcpt_parameters
from twisted_mail.status import MailError
from twisted_mail.storage import names as folders

_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _good(address: Address) -> None:
    written = str(address)
    assert Address.parse(written) == address
    assert not _CONTROLS.search(written)
    if address.domain:
        assert address.domain.isascii() and normalize_domain(address.domain) == address.domain
        assert len(address.domain) <= 255
    assert len(address.local.encode()) <= 64
    assert Address.parse(str(address)).key == address.key
    if written.isascii() and "[" not in written:
        # A second opinion: in a header it is that address, and nothing else
        assert parseaddr(f"x <{written}>")[1] == written
    # RFC 5321 section 4.1.2: as a path it is that path and nothing behind it
    path = forward_path(f"<{written}> X".encode())
    assert path.address == address and path.rest == b" X"


@target("smtp", 1024)
def addresses(data: bytes) -> None:
    """An address that was let in is written in one way, read back as itself, and has no control characters."""
    for strict in (False, True):
        for read in (reverse_path, forward_path):
            try:
                path = read(data, strict=strict)
            except ValueError as error:
                # Nothing that the peer wrote
                assert str(error).isprintable()
                continue
            if path.address is not None:
                _good(path.address)
            assert data.endswith(path.rest)
    try:
        address = Address.parse(data.decode("utf-8", "replace"))
    except ValueError:
        pass
    else:
        _good(address)
    try:
        domain = normalize_domain(data.decode("utf-8", "replace"))
    except ValueError:
        pass
    else:
        assert normalize_domain(domain) == domain and domain.isascii()


@target("smtp")
def smtp_arguments(data: bytes) -> None:
    """Parameters of MAIL and RCPT: a reply of one line, or values that can be said again."""
    for utf8 in (False, True):
        try:
            mail = mail_parameters(data, auth=utf8)
        except MailError as error:
            assert 500 <= error.code < 600
            assert b"\n" not in error.reply.encode().removesuffix(b"\r\n").replace(b"\r\n", b"")
        else:
            assert mail.size is None or mail.size >= 0
            assert not _CONTROLS.search(mail.envid)
            assert xtext.parse_envid(xtext.format_envid(mail.envid)) == mail.envid or not mail.envid
        try:
            rcpt = rcpt_parameters(data, smtputf8=utf8)
        except MailError as error:
            assert 500 <= error.code < 600
        else:
            assert not _CONTROLS.search(rcpt.orcpt)
            if rcpt.orcpt:
                written = xtext.format_orcpt(rcpt.orcpt, smtputf8=utf8)
                assert " " not in written
                assert not written or xtext.parse_orcpt(written) == rcpt.orcpt
    found = chunk_arguments(data)
    assert found is None or found[0] >= 0
    try:
        text = xtext.decode(data.decode("latin-1"))
    except ValueError:
        pass
    else:
        assert xtext.decode(xtext.encode(text)) == text or len(xtext.encode(text)) > 1024
    assert hello is not None


@target("imap")
def imap_commands(data: bytes) -> None:
    """A line: a command, or Malformed with a text in one line and a tag that can be said."""
    for utf8 in (False, True):
        try:
            command = grammar.parse(data, utf8)
        except Malformed as error:
            assert "\n" not in error.text and "\r" not in error.text
            assert error.tag == grammar.tag_of(data)
            assert re.fullmatch(rb"[^\x00-\x20\x7f-\xff(){%*\"\\+]+|\*", error.tag), error.tag
            continue
        assert grammar.known(data)
        assert data.startswith(command.tag)
        repr(command)
        # A password is in nobody's log.
        for hidden in ("password", "initial"):
            if hasattr(command.args, hidden):
                other = command._replace(args=command.args._replace(**{hidden: b"another"}))
                assert repr(other) == repr(command)


@target("imap")
def imap_words(data: bytes) -> None:
    """What is written is read back: strings, mailboxes, sets, dates."""
    for utf8 in (False, True):
        # A literal is announced by its line and read behind it.
        assert Reader(encode.string(data.replace(b"\0", b""), utf8)).string() == data.replace(
            b"\0", b""
        )
        assert Reader(encode.astring(data.replace(b"\0", b""), utf8)).astring() == data.replace(
            b"\0", b""
        )
        assert Reader(encode.literal8(data)).string(literal8=True) == data
        name = data.decode("utf-8", "replace")
        assert modified_utf7.decode(modified_utf7.encode(name)) == name
        reader = Reader(encode.mailbox(name, utf8), utf8=utf8)
        try:
            found = reader.mailbox()
        except (Malformed, ValueError):
            assert _CONTROLS.search(name) or not name or "\ufffd" in name or utf8, name
        else:
            assert found == mailbox_name(
                encode.mailbox(name, False) if False else name.encode(), True
            )
    try:
        name = modified_utf7.decode(data)
    except ValueError:
        modified_utf7.decode(data, lenient=True)
    else:
        assert modified_utf7.encode(name) == data
    try:
        numbers = SequenceSet.parse(data[:200])
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        for greatest in (0, 1, 7, 4294967295):
            ranges = numbers.within(greatest)
            for low, high in ranges:
                assert 0 < low <= high
        uids = [1, 2, 5, 9, 10, 4294967295]
        meant = {uid for low, high in numbers.positions_of(uids) for uid in uids[low:high]}
        assert meant == {uid for uid in uids if numbers.holds(uid, uids[-1])} or numbers.saved
    numbers_ = sorted(set(data))[1:]
    if numbers_:
        again = SequenceSet.parse(compact(numbers_))
        assert [n for low, high in again.within(1) for n in range(low, high + 1)] == numbers_
    try:
        seconds = dates.parse_date_time(data)
    except ValueError:
        pass
    else:
        assert (
            dates.parse_date_time(dates.date_time(seconds)[1:-1]) == seconds
            or not 0 <= seconds < 2**33
        )
    try:
        dates.parse_date(data)
    except ValueError:
        pass


@target("imap")
def imap_urls(data: bytes) -> None:
    """URLs of CATENATE; patterns of LIST, which take time in proportion."""
    for base in (None, "INBOX"):
        try:
            found = urls.parse(data, base)
        except ValueError:
            continue
        assert found.uid > 0
    pattern, _, name = data.decode("utf-8", "replace").partition("\n")
    matches = patterns.matcher([pattern], "/")
    if len(pattern) < 20:
        expression = "".join(
            ".*" if one == "*" else "[^/]*" if one == "%" else re.escape(one)
            for one in re.sub(r"\*+", "*", pattern)
        )
        if (
            "inbox" not in name.lower()
            and "inbox" not in pattern.lower()
            and pattern.count("%") + pattern.count("*") < 5
        ):
            assert matches(name) is bool(re.fullmatch(expression, name, re.DOTALL)), (pattern, name)
    else:
        matches(name)


@target("imap")
def folder_names(data: bytes) -> None:
    """Mailboxes in directories: no path but one level below the Maildir, and the name comes back."""
    name = several(data, 1)[0].decode("utf-8", "replace").replace("\0", "")
    # `imap.naming` lets no others in.
    if all(name.split("/")) and not _CONTROLS.search(name):
        given, name = name, folders.normal(name)
        # Nothing but INBOX, in ASCII, changes more than its composition
        assert name == normalize("NFC", given) or re.match("(?ai)inbox(/|$)", given), given
        try:
            directory = folders.directory_of(name)
        except ValueError:
            return
        assert "/" not in directory and "\0" not in directory and directory not in (".", "..")
        assert len(directory.encode()) <= 255
        if directory and not folders.is_digest(directory):
            assert folders.name_of(directory) == name
        folders.name_of(name)
        folders.written(name)
