"""Loopback as an internet: names, a port on which everybody takes mail, an authority that vouches for all.

`Outside` has the DNS (a server process, asked by all sites), certificates, and addresses 127.0.0.x. `MailSite` is a
site on it: it takes mail from the others on its own address at the common port, from its users on 127.0.0.1 as every
`Site`.
"""

from __future__ import annotations

import email
import email.policy
import json
import random
import shutil
import smtplib
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from itertools import count
from pathlib import Path
from typing import Any

import trustme
from mailsite import DEADLINE, Site, until

from twisted_mail.cli.queue_text import story_json
from twisted_mail.disk import OsDisk
from twisted_mail.storage.queued import State
from twisted_mail.storage.spool import Spool
from twisted_mail.storage.spool_view import Filter, View
from twisted_mail.testing.dns import Zone
from twisted_mail.testing.nameserver import NameServerProcess, running_nameserver

OVER = {"delivered", "bounced", "removed"}
LONG = 3600  # seconds: a first wait that no test sees the end of

_addresses = count(2)


def common_port() -> int:
    """A port that is free on every address of this machine, and that no outgoing connection takes by chance."""
    tried = random.SystemRandom()
    for _ in range(100):
        port = tried.randrange(10_000, 32_000)
        with socket.socket() as one, suppress(OSError):
            one.bind(("0.0.0.0", port))
            return port
    raise AssertionError("no free port")


class Outside:
    """All that is between the sites. `zone` may be changed: `publish` tells the server. `port` stands for 25."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = common_port()
        self.https_port = common_port()
        # what a test changes shall count at once
        self.zone = Zone(ttl=0, absence_ttl=0)
        self.authority = trustme.CA()
        self.ca = directory / "authority.pem"
        self.authority.cert_pem.write_to_path(str(self.ca))
        self.names: NameServerProcess | None = None
        self.names_port = 0
        self._running: Any = None
        self.start_names()

    def start_names(self) -> None:
        self._running = running_nameserver(self.zone, port=self.names_port)
        self.names = self._running.__enter__()
        self.names_port = self.names.port

    def stop_names(self) -> None:
        """No DNS for anybody."""
        running, self._running = self._running, None
        if running is not None:
            running.__exit__(None, None, None)

    def publish(self) -> None:
        """Tell the server what `zone` says now."""
        assert self.names is not None
        self.names.serve(self.zone)

    def address(self) -> str:
        """An address that nobody has."""
        number = next(_addresses)
        return f"127.0.{number // 250}.{number % 250 + 1}"

    def host(self, name: str) -> str:
        """Give a new address to `name`."""
        address = self.address()
        self.zone[name] = {"A": [address]}
        self.publish()
        return address

    def domain(self, domain: str, *hosts: str) -> None:
        """The mail of `domain` goes to these hosts, in this order; without any, to a new ``mx.domain``."""
        if not hosts:
            hosts = (f"mx.{domain}",)
            self.host(hosts[0])
        self.zone[domain] = {"MX": [(10 * (n + 1), host) for n, host in enumerate(hosts)]}
        self.publish()

    def address_of(self, name: str) -> str:
        found: str = self.zone[name]["A"][0]
        return found

    def certificate(self, directory: Path, *names: str) -> tuple[Path, Path]:
        """Files with the certificate (and its chain) and the key of a server with these names."""
        directory.mkdir(parents=True, exist_ok=True)
        issued = self.authority.issue_cert(*names)
        certificate, key = directory / "certificate.pem", directory / "key.pem"
        certificate.write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return certificate, key

    def close(self) -> None:
        self.stop_names()


class MailSite(Site):
    """The site of `domain` on the host ``mx.domain``, with users, that sends.

    `queue`, `delivery`, `dns`: lines for these tables of mail.toml; `extra`: whole tables. With `checks`, lines for
    that one, mail from the others is judged: it sends from its own address, and nobody on loopback is exempt.
    """

    def __init__(
        self,
        outside: Outside,
        directory: Path,
        domain: str,
        *,
        queue: str = f"retry_first_seconds = {LONG}\n",
        delivery: str = "",
        dns: str = "",
        checks: str | None = None,
        extra: str = "",
    ) -> None:
        self.outside = outside
        self.domain = domain
        self.hostname = f"mx.{domain}"
        outside.domain(domain)
        self.address = outside.address_of(self.hostname)
        self.pair = outside.certificate(directory / "pair", self.hostname, "localhost", "127.0.0.1")
        self.tables = {
            "queue": queue,
            "dns": f'servers = ["127.0.0.1:{outside.names_port}"]\ntimeout_seconds = 2\n{dns}',
            "delivery": f'port = {outside.port}\nhttps_port = {outside.https_port}\nca_file = "{outside.ca}"\n'
            + delivery,
        }
        if checks is not None:
            self.tables["delivery"] += f'source_ipv4 = "{self.address}"\n'
            self.tables["checks"] = f"exempt_networks = []\n{checks}"
        super().__init__(directory, extra)

    @property
    def ca(self) -> Path:
        return self.outside.ca

    def write_configuration(self) -> None:
        endpoints = {name: [f"tcp:{port}:interface=127.0.0.1"] for name, port in self.ports.items()}
        endpoints["smtp"].append(f"tcp:{self.outside.port}:interface={self.address}")
        tables = {
            "tls": f'certificate = "{self.pair[0]}"\nkey = "{self.pair[1]}"\n',
            "listen": "".join(f"{k} = {json.dumps(v)}\n" for k, v in endpoints.items()),
            **self.tables,
        }
        text = f'hostname = "{self.hostname}"\ndata = "data"\n'
        self.config.write_text(
            text + "".join(f"[{k}]\n{v}\n" for k, v in tables.items()) + self.extra
        )

    # Its mail

    def submit(
        self,
        user: str,
        to: Sequence[str],
        message: bytes | EmailMessage | str,
        *,
        options: Sequence[str] = (),
        rcpt_options: Sequence[str] = (),
    ) -> str:
        """Send as `user`, on ``submissions``; the id under which it was queued. A str is a subject."""
        with self.smtp(user) as session:
            return submitted(session, user, to, message, options, rcpt_options)

    # Its queue

    @contextmanager
    def _view(self) -> Iterator[View]:
        spool = Spool(OsDisk(), str(self.data))
        try:
            spool.prepare()
            yield View(spool)
        finally:
            spool.close()

    def story(self, id_: str) -> dict[str, Any]:
        """As ``mailctl queue show --json``, without a process for each look."""
        with self._view() as view:
            story = view.story(id_)
            assert story is not None, f"no message {id_}\n{self.log}"
            return story_json(story)

    def states(self, id_: str) -> dict[str, str]:
        """Recipient → state."""
        return {one["recipient"]: one["state"] for one in self.story(id_)["recipients"]}

    def wait_for(self, id_: str, *states: str, seconds: float = DEADLINE) -> dict[str, Any]:
        """The story of the message when all its recipients are in one of these states."""
        seen: set[str] = set()

        def there() -> bool:
            seen.clear()
            seen.update(self.states(id_).values())
            return seen <= set(states)

        try:
            until(there, f"{id_} is {states}", seconds)
        except AssertionError as error:
            raise AssertionError(
                f"{error}; {json.dumps(self.story(id_), indent=1)}\n{self.log}"
            ) from None
        return self.story(id_)

    def left(self) -> int:
        """Messages that are not over."""
        with self._view() as view:
            return view.stats().messages

    def delivered(self) -> set[str]:
        """Messages of one recipient that are on the disk as delivered."""
        found: set[str] = set()
        after = None
        with self._view() as view:
            while rows := view.page(Filter(None, None, None, (State.DELIVERED,)), after, 500):
                found.update(row.id for row in rows)
                after = rows[-1].seq, rows[-1].number
        return found

    def queue(self, *words: str) -> Any:
        """``mailctl queue … --json``."""
        return json.loads(self.mailctl("queue", *words, "--json").stdout)

    # Its mailboxes

    def messages(self, user: str) -> list[EmailMessage]:
        """All that `user` has, by POP3 over TLS."""
        with self.pop(user) as session:
            return [
                parsed(b"\n".join(session.retr(number)[1]) + b"\n")
                for number in range(1, session.stat()[0] + 1)
            ]

    def wait_for_mail(self, user: str, *subjects: str) -> list[EmailMessage]:
        """All that `user` has, when these subjects are there, each as often as it is named, in any order."""
        wanted = sorted(subjects)
        found: list[EmailMessage] = []

        def there() -> bool:
            found[:] = self.messages(user)
            return sorted(str(one["Subject"]) for one in found) == wanted

        try:
            until(there, "the mail is there")
        except AssertionError as error:
            raise AssertionError(
                f"{error}: {[str(one['Subject']) for one in found]}, not {wanted}"
            ) from None
        return found

    def notice(self, user: str, about: str) -> Notice:
        """The only notice that `user` got of a message with the subject `about`."""
        found = [Notice(one) for one in self.messages(user) if is_notice(one)]
        found = [one for one in found if one.about == about]
        assert len(found) == 1, f"{len(found)} notices about {about}\n{self.log}"
        return found[0]

    def empty(self, user: str) -> None:
        with self.pop(user) as session:
            for number in range(1, session.stat()[0] + 1):
                session.dele(number)


class Notice:
    """A delivery status notification, taken apart (RFC 3464)."""

    def __init__(self, message: EmailMessage) -> None:
        self.message = message
        assert message.get_content_type() == "multipart/report"
        assert message.get_param("report-type") == "delivery-status"
        words, report, original = message.iter_parts()
        self.words = words.get_content()
        """Its lines as paragraphs: what was folded stands on one line."""
        self.words = "\n".join(
            " ".join(paragraph.split()) for paragraph in self.words.split("\n\n")
        )
        groups = report.get_payload()
        assert isinstance(groups, list)
        self.about_message = dict(groups[0].items())
        self.recipients = [dict(group.items()) for group in groups[1:]]
        kind = original.get_content_type()
        assert kind in ("message/rfc822", "message/global", "text/rfc822-headers")
        self.whole = kind != "text/rfc822-headers"
        if self.whole:
            self.original = original.get_payload(0)
        else:
            self.original = parsed(original.get_payload(decode=True))
        self.about = str(self.original["Subject"])

    @property
    def recipient(self) -> dict[str, str]:
        """The only one."""
        (one,) = self.recipients
        return one


def is_notice(message: EmailMessage) -> bool:
    return message.get_content_type() == "multipart/report"


def parsed(data: bytes) -> EmailMessage:
    found = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(found, EmailMessage)
    return found


def written(subject: str, *, sender: str, to: Iterable[str], text: str = "") -> bytes:
    """A message as it goes over the wire."""
    lines = [f"From: {sender}", f"To: {', '.join(to)}", f"Subject: {subject}", ""]
    lines += (text or f"This is {subject}.").splitlines()
    return "".join(f"{line}\r\n" for line in lines).encode()


def submitted(
    session: smtplib.SMTP,
    sender: str,
    to: Sequence[str],
    message: bytes | EmailMessage | str,
    options: Sequence[str] = (),
    rcpt_options: Sequence[str] = (),
) -> str:
    """One transaction in a session that is logged in; the id in its last reply."""
    if isinstance(message, str):
        message = written(message, sender=sender, to=to)
    elif isinstance(message, EmailMessage):
        message = message.as_bytes(policy=email.policy.SMTP)
    code, text = session.mail(sender, options)
    assert code == 250, text
    for one in to:
        code, text = session.rcpt(one, rcpt_options)
        assert code == 250, text
    code, text = session.data(message)
    assert code == 250, text
    return text.decode().rpartition("queued as ")[2].strip()


class Sites:
    """Makes sites, and ends them. `known`: data directories with users, for whom they are made once only."""

    def __init__(
        self, outside: Outside, directory: Path, known: dict[tuple[str, ...], Path]
    ) -> None:
        self.outside = outside
        self._directory = directory
        self._known = known
        self._made: list[MailSite] = []

    def __call__(self, domain: str, *users: str, start: bool = True, **tables: Any) -> MailSite:
        """The site of `domain` with `users` (local parts). `tables` as `MailSite` has them."""
        place = self._directory / f"{domain}-{len(self._made)}"
        site = MailSite(self.outside, place, domain, **tables)
        self._made.append(site)
        addresses = tuple(f"{user}@{domain}" for user in users)
        if addresses in self._known:
            shutil.copytree(self._known[addresses], site.data)
        else:
            site.add_users(*addresses)
            self._known[addresses] = place / "accounts"
            shutil.copytree(site.data, self._known[addresses])
        if start:
            site.start()
        return site

    def close(self) -> None:
        for site in self._made:
            site.close()
