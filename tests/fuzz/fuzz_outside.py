"""What other programs answer: name servers, servers that mail is sent to, filters, certificate authorities."""

from __future__ import annotations

import json
import re
import struct
from typing import Any

import dns.exception
import dns.message
import requests
from fuzzing import cut, nothing_failed, several, target
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol, connectionDone

from twisted_mail.acme.client import _list, _object, _order, _problem, retry_after
from twisted_mail.address import Address
from twisted_mail.content import BytesContent
from twisted_mail.dns.interfaces import Answer, DnsError, Mx, Srv, Tlsa
from twisted_mail.dns.query import Questions
from twisted_mail.filters import http_answer, milter_engine
from twisted_mail.filters.clamd import ClamdSettings, clamd_verdict
from twisted_mail.filters.edits import apply_edits
from twisted_mail.filters.interfaces import Action, Opinion
from twisted_mail.filters.milter_packets import packet
from twisted_mail.filters.rspamd_answer import rspamd_verdict
from twisted_mail.filters.scanning import BadAnswer, ScannerSettings
from twisted_mail.filters.spamd import SpamdSettings, spamd_verdict
from twisted_mail.message import headers
from twisted_mail.smtp.client.interfaces import SessionError, Transaction
from twisted_mail.smtp.client.protocol import connect
from twisted_mail.storage.queued import Options, QueuedRecipient
from twisted_mail.testing import simulated_world

# -- DNS

_KINDS = ("MX", "A", "AAAA", "TLSA", "TXT", "SRV", "CNAME", "PTR")
_TYPES: dict[str, type] = {"MX": Mx, "TLSA": Tlsa, "TXT": bytes, "SRV": Srv}


class _Said(Questions):
    """Asks nobody: each question gets the next reply."""

    def __init__(self, wires: list[bytes]) -> None:
        super().__init__([("127.0.0.1", 53)], trust_ad=True)
        self.wires = wires

    def _ask(self, resolver: Any, kind: str, at: Any, seconds: float) -> Any:
        query = dns.message.make_query(at, kind)
        wire = self.wires.pop(0) if self.wires else b""
        head = query.to_wire()
        # The question is the one that was asked: others dnspython passes over.
        made = head[:2] + wire[:2] + head[4:6] + wire[2:8] + head[12:] + wire[8:]
        reply = dns.message.from_wire(made, ignore_trailing=True)
        if not query.is_response(reply):
            raise dns.exception.DNSException
        return reply


@target("mime", 1024)
def dns_answers(data: bytes) -> None:
    """Octet 0: what is asked; replies without their id and question."""
    if not data:
        return
    kind = _KINDS[data[0] % len(_KINDS)]
    name = ("example.org", "_25._tcp.mx.example.org", "\xe4..", "a" * 70)[data[0] >> 6]
    try:
        answer: Answer[Any] = _Said(several(data[1:].replace(b"\xff\xff", b"\xff"), 3))(kind, name)
    except DnsError:
        return
    assert answer.ttl >= 0
    assert re.fullmatch("[!-~]*", answer.name) or not answer.exists
    for record in answer.records:
        assert isinstance(record, _TYPES.get(kind, str))
        for text in record if isinstance(record, tuple) else (record,):
            assert not isinstance(text, str) or re.fullmatch("[!-~]*", text), text


# -- servers that mail is sent to


class _Peer(Protocol):
    """Says its lines, each when something was said to it; then nothing more, or it hangs up."""

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines
        self.heard = b""

    def connectionMade(self) -> None:
        self._say()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self._say()

    def _say(self) -> None:
        transport: Any = self.transport
        if self.lines:
            transport.write(self.lines.pop(0))
        else:
            transport.loseConnection()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        pass


_LETTER = b"Subject: hi\n\n.\n..\n\r.\nMAIL FROM:<x@y>\n"


@target("smtp", 2048)
def smtp_sending(data: bytes) -> None:
    """A server of any kind. Octet 0: LMTP or not; what it says, a turn each, 0xFF between. What is said to it is one
    message at most, whose end is ours alone; there is one last word a recipient, or an end of the conversation.
    """
    if not data:
        return
    lmtp = bool(data[0] & 1)
    world = simulated_world()
    peer = _Peer(data[1:].split(b"\xff"))
    factory = Factory()
    factory.buildProtocol = lambda addr: peer  # type: ignore[method-assign,assignment]
    world.reactor.listenTCP(2525, factory, interface="127.0.0.1")
    found: list[Any] = []

    async def talk() -> None:
        conversation = await connect(
            world, "127.0.0.1", 2525, helo="me.example.org", name="mx.example.net", lmtp=lmtp
        )
        try:
            await conversation.hello()
            if data[0] & 2:
                await conversation.login("alice", "secret-word")
            content = BytesContent(_LETTER)
            there = [QueuedRecipient(one, "mx") for one in ("bob@example.net", "carol@example.net")]
            replies = await conversation.send(
                Transaction("alice@example.org", there, Options(), len(_LETTER)), content
            )
            found.append(replies)
        finally:
            await conversation.quit()

    work = Deferred.fromCoroutine(talk())
    ended: list[Any] = []
    work.addBoth(ended.append)
    world.reactor.settle()
    for _ in range(4):
        if not ended:
            world.reactor.advance(700)
            world.reactor.settle()
    assert ended, "it waits for ever"
    if ended[0] is not None:
        error = ended[0].value
        assert isinstance(error, SessionError), ended[0].getTraceback()
        assert error.text.isprintable()
        assert "secret-word" not in error.text
    nothing_failed()
    for reply in found[0] if found else ():
        assert 200 <= reply.code <= 599
        assert reply.text.isprintable()
    assert not found or len(found[0]) == 2
    # RFC 5321 section 4.1.1.4: the end of data is said once; the content has none
    assert (b"\r\n" + peer.heard).count(b"\r\n.\r\n") <= 1
    assert peer.heard.count(b"MAIL FROM:<alice@") <= 1
    assert b"secret-word" not in peer.heard


# -- filters


def _fit(opinion: Opinion) -> None:
    """What a filter says can stand in a message, a reply and a log."""
    assert isinstance(opinion.action, Action)
    for text in (opinion.reason, *opinion.symbols):
        assert text.isprintable() and text.isascii()
    if opinion.reply is not None:
        said = opinion.reply.encode()
        assert re.fullmatch(rb"(?:[245][0-9]{2}[ -][^\r\n]*\r\n)+", said), said
        assert 400 <= opinion.reply.code < 600
    fields = [b"Subject: a\n", b"X-Spam: b\n\tc\n"]
    made = apply_edits(fields, opinion.edits)
    block = b"".join(made)
    assert headers.split(block)[0] == block
    assert len(list(headers.fields(block))) == len(made)
    for recipient in opinion.added:
        assert Address.parse(str(recipient.address)) == recipient.address


@target("mime")
def milter(data: bytes) -> None:
    """A milter's packets, in any pieces: answers that are fit, or a MilterError in one line."""
    if not data:
        return

    def heard(pieces: Any) -> list[Any]:
        engine = milter_engine.MilterEngine(large=bool(data[0] & 2))
        said: list[Any] = []
        engine.offer()
        stages = iter(milter_engine.Stage)
        try:
            if data[0] & 4:
                engine.receive(packet(b"O", struct.pack(">III", 6, 0x1FF, 0)))
                engine.answer()
            for piece in pieces:
                if engine.awaiting is None:
                    stage = next(stages, milter_engine.Stage.EOM)
                    if stage is milter_engine.Stage.NEGOTIATE:
                        stage = milter_engine.Stage.EOM
                    engine.call(stage, b"x", {"i": "1"})
                engine.receive(piece)
                while engine.awaiting is not None and (answer := engine.answer()) is not None:
                    said.append(answer)
                    if answer.reply is not None:
                        assert re.fullmatch(
                            rb"(?:[245][0-9]{2}[ -][^\r\n]*\r\n)+", answer.reply.encode()
                        )
                    change = answer.change
                    if hasattr(change, "field"):
                        _fit(Opinion(edits=(change,)))
        except milter_engine.MilterError as error:
            assert str(error).isprintable()
            said.append(str(error))
        return said

    heard([data[1:]])
    heard(cut(data[1:], data[0]))


@target("mime")
def http_answers(data: bytes) -> None:
    """HTTP of scanners: the same in any pieces, within its bound; JSON of rspamd in it."""
    if not data:
        return

    def read(pieces: Any) -> tuple[int, bytes, str]:
        answer = http_answer.HttpAnswer(1000)
        try:
            for piece in pieces:
                answer.receive(piece)
            answer.end()
        except http_answer.HttpError as error:
            return 0, b"", "error" if str(error) else ""
        assert len(answer.body) <= 1000
        return answer.status, answer.body, ""

    whole = read([data[1:]])
    assert read(cut(data[1:], data[0])) == whole


@target("mime")
def scanner_answers(data: bytes) -> None:
    """rspamd, ClamAV, SpamAssassin: an opinion that is fit, or what is promised."""
    scanner = ScannerSettings("x", "tcp:localhost:1")
    for infected in ("reject", "junk"):
        try:
            _fit(clamd_verdict(data, ClamdSettings(scanner, infected)))  # type: ignore[arg-type]
        except BadAnswer as error:
            assert str(error).isprintable()
    for shown in (False, True):
        try:
            _fit(spamd_verdict(data, SpamdSettings(scanner, headers=shown, reject_score=5.0)))
        except BadAnswer as error:
            assert str(error).isprintable()
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = {"action": "reject", "messages": {"smtp_message": data.decode("utf-8", "replace")}}
    try:
        _fit(rspamd_verdict(said, (b"Subject: a\n",), "tempfail"))
    except ValueError as error:
        assert str(error).isprintable()


# -- certificate authorities


@target("mime")
def acme_answers(data: bytes) -> None:
    """A CA's JSON: values that are fit, or what `AcmeClient._understood` makes an AuthorityError of."""
    from twisted_mail.acme.client import AcmeClient
    from twisted_mail.acme.interfaces import AuthorityError, said

    later, body = several(data, 2)
    response = requests.Response()
    response.status_code = 200
    response._content = body
    response.headers["Retry-After"] = later.decode("latin-1")
    seconds = retry_after(response, 1_800_000_000.0)
    assert seconds is None or isinstance(seconds, float)
    client = AcmeClient.__new__(AcmeClient)
    client._session = type("Asked", (), {"asked": seconds})()  # type: ignore[assignment]
    try:
        with client._understood():
            _order(response, "https://ca.example/order", 1_800_000_000.0)
        with client._understood():
            found = _object(response)
            for one in _list(found.get("challenges")):
                said(_problem(one.get("error")))
    except AuthorityError as error:
        assert said(str(error)).isprintable()
