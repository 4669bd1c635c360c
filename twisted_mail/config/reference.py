"""`docs/configuration.md`, made from the models: every key with its default and its reason.

Defaults are read from a real `Config`, bounds from the fields, so that the text can not be wrong
about them. The same input gives the same text, on every machine.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .model import Config

__all__ = ["markdown"]

_WIDTH: Final = 100

_INTRODUCTION: Final = """\
# Configuration

<!-- Made by `python -m twisted_mail.config`; to change it, edit twisted_mail/config/model.py. -->

One TOML file, `mail.toml` by habit: `twistd -n mailserver --config mail.toml`,
`mailctl --config mail.toml …`. All keys are optional; what is shown here is the default. Relative
paths are relative to the file. A file with a mistake is refused before anything listens, and every
mistake is shown at once, with its line:

```
mail.toml:12: smtp.max_recipients = -5: must be at least 1
mail.toml:15: smtp.max_recipient: unknown key; did you mean smtp.max_recipients?
```

`mailctl --config mail.toml check` says the same without starting anything. Changes count after
SIGHUP, which loses nobody who is in the middle of a message ([operating](operating.md)); those of
`listen`, `data` and `workers` after a restart. Certificates are read again when their files change,
and accounts are changed by `mailctl` in the running server.

Secrets stand outside of it: a password is in a file of its own (`password_file`), or in the
environment: `password = "${NAME}"`. The name of a file may begin with `${NAME}/`, a directory that
the environment names: with `LoadCredential=smarthost:/etc/twisted-mail/smarthost` in a systemd unit
it is `password_file = "${CREDENTIALS_DIRECTORY}/smarthost"`, and the file itself may be root's alone.
What others may read is warned of at the start.

```toml
hostname = "mail.example.org"
data = "/var/lib/twisted-mail"
[tls]
certificate = "/etc/letsencrypt/live/mail.example.org/fullchain.pem"
key = "/etc/letsencrypt/live/mail.example.org/privkey.pem"
```

Without any configuration file the server is `localhost`, on loopback: ports 2525 (smtp), 2587
(submission), 2465 (submissions), 2110 (pop3), 2995 (pop3s), 2143 (imap), 2993 (imaps); data in
`./mail-data`, certificates in `./certs`.
"""


_FIXED: Final = """## What cannot be set

Bounds that nobody has asked to change, and why they are what they are.

| bound | value | reason |
|---|---|---|
| header of a proxy (`haproxy:`) | 5 s, 2 KiB; 128 are waited for | it comes in the first packet, before all else |
| TLS handshake | 30 s in all | a slow telephone needs 5; whoever sends a byte now and then has no more |
| IMAP before the login | 60 s without a command | RFC 9051 has a bound for those only who have logged in |
| last words | 10 s | for a peer that does not take them, and over TLS to say goodbye |
| answers that wait for a peer that does not read | 256 KiB, and 128 KiB in the kernel | then nothing more is answered; 64 KiB have to be read within the idle time |
| a message's first bytes | 300 s | before `limits.message_bytes_per_second` counts; RFC 5321 gives a block 3 minutes |
| NOOP, RSET, VRFY, HELP, EHLO between two messages | 100 | each further one is a mistake (`limits.errors`) |
| commands of POP3 and IMAP before the login | 100 | as above; a client has five |
| mistakes of who has not logged in to SMTP | 3 at once, then 1 s each | a guesser of names has hundreds, a person one |
| 421 for who was too fast; 454 for a login that is not judged | after 5 s | told at once, it comes again at once |
| passwords that are hashed at a time | 2 (1 of each of `workers`), 64 MiB each | memory; of two, strangers have one at a time |
| logins that wait for that | 64 strangers, and 64 who are at home | 5 s of work; the next one is told 454 |
| failed logins that are known | 50 000 addresses and accounts, for 15 minutes | some 10 MB |
| who is at home where | 20 000 pairs of network and account, for 30 days | some 6 MB; kept over a restart in `reputation.sqlite3` |
| wrong passwords that are known | 8 of 10 000 accounts, hashed, in memory | more than a user's programs have kept |
| strangers make room | from 7/8 of `limits.connections` on, after 5 s each | a login takes 2 |
| kept for who is at home | 1/16 of `limits.connections` | users come back while strangers hold all others |
| files for connections | 3/4 of what a process may have open | the others are for messages and mailboxes |
| header of a message by SMTP | 128 KiB | it is in memory until it is whole; Exchange has the same |
| SMTP: a line beyond `limits.command_bytes` | 1 MiB is dropped, then 421 | its end may come yet |
| POP3 command | 255 octets | RFC 2449 section 4 |
| structure of a message | 100 levels, 10 000 parts | none that people send has ten levels; what is beyond is not looked into |
| ENVELOPE, SORT, THREAD; SEARCH in a text | the first 1 MiB of a header; of a part | that is a book |
| IMAP: SEARCH keys, levels; ranges of a set; LIST patterns | 5000, 100; 10 000; 100 | clients list what they mean; one that looks into texts counts as 20 |
| IMAP literals that do not wait, before the login | 4096 octets | RFC 7888 section 5 |
| web port | 100 connections, 20 of a network; 10 s and 8 KiB a request | two small pages, for a CA and for other servers |
| connections that wait for the server to take them | 1024 for each port | a start of a second; `net.core.somaxconn` may be less |
"""  # noqa: E501  # a row of a table is a line


def markdown() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *_top(), *_sections(), _FIXED])


def _top() -> Iterator[str]:
    yield "## At the top, before the first table\n"
    config = Config()
    for name, field in Config.model_fields.items():
        value = getattr(config, name)
        if not isinstance(value, BaseModel) and _tables(field) is None:
            yield from _key(name, field, value)


def _sections() -> Iterator[str]:
    config = Config()
    for name, field in Config.model_fields.items():
        section = getattr(config, name)
        if (table := _tables(field)) is not None:
            yield from _table(f"[[{name}]]", table)
        if not isinstance(section, BaseModel):
            continue
        yield f"## [{name}]\n"
        yield f"{_wrapped(section.__doc__ or '')}\n"
        below = type(section).model_fields
        for key, one in below.items():
            yield from _key(key, one, getattr(section, key))
        for key, one in below.items():
            if (table := _tables(one)) is not None:
                yield from _table(f"[[{name}.{key}]]", table)


def _table(title: str, model: type[BaseModel]) -> Iterator[str]:
    """A table that may stand there any number of times."""
    yield f"## {title}\n"
    yield f"{_wrapped(model.__doc__ or '')}\n"
    for key, field in model.model_fields.items():
        default = None if field.is_required() else field.default
        yield from _key(key, field, default)


def _tables(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a list of tables."""
    if get_origin(field.annotation) is not tuple:
        return None
    kind = get_args(field.annotation)[0]
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _key(name: str, field: FieldInfo, default: Any) -> Iterator[str]:
    shown = f" = {_toml(default)}" if default not in (None, ()) else ""
    text = f"- `{name}{shown}`: {_kind(name, field)} {field.description}"
    yield f"{_wrapped(text, '  ')}\n"


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()),
        width=_WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _toml(value: Any) -> str:
    if isinstance(value, Path):
        return json.dumps(str(value))
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value)


def _kind(name: str, field: FieldInfo) -> str:
    """What is allowed, as the start of the paragraph."""
    kind: Any = field.annotation
    if get_origin(kind) in (Union, UnionType):
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return f"{' or '.join(f'`{json.dumps(one)}`' for one in get_args(kind))}."
    if get_origin(kind) is tuple:
        return "A list of texts." if _tables(field) is None else "Tables."
    if kind is bool:
        return "`true` or `false`."
    if kind in (int, float):
        bounds = {
            bound: getattr(one, bound)
            for one in field.metadata
            for bound in ("ge", "le")
            if hasattr(one, bound)
        }
        what = "A whole number" if kind is int else "A number"
        if kind is float and name.endswith("seconds"):
            what = "Seconds"
        return f"{what}, {bounds['ge']} to {bounds['le']}."
    if get_origin(kind) is dict:
        return "A table."
    return "A path." if kind is Path else "Text."
