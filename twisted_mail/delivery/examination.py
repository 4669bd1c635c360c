"""One message, as `delivery.interfaces.Inspection`: what is found out about it, what filters say, how it is signed.

`Judging` is for mail from others: SPF, DKIM, ARC and DMARC become one Authentication-Results field and, with the signs
against the client, a decision; what aliases forward is sealed. `Submitting` is for users' mail: it is signed. Both let
the filters speak before that, so that what is signed is what leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..message.authres import Result, claimed, names_of, without_claimed
from ..message.dkim_body import BodyHash
from ..message.headers import fields
from ..policy.decide import Decision, decide
from ..policy.dkim_verify import Verification, has_signatures
from ..policy.dmarc import check_dmarc
from ..policy.dmarc_author import author, from_fields
from ..policy.results import authentication_results, iprev
from ..policy.spf_field import received_spf
from ..policy.verdicts import Arc, Dkim, Verdicts
from ..status import MailError
from ..storage.draft import Draft
from .body import Sink
from .inspecting import Inspecting
from .interfaces import Arrived, Client, Disposition, Envelope
from .parts import Checks
from .sealing import Signed

if TYPE_CHECKING:
    from .visit import Member, Stranger

__all__ = ["Judging", "Submitting"]

_log = Logger()
LARGE: Final = 128 * 1024
"""Octets from which on it is worth a look whether somebody wants the hash of a body."""
_NO_CHAIN = Arc("none")


class Judging(Inspecting):
    """Mail from others. `checks` None: nothing is found out, but filters are asked, and forwards are sealed."""

    def __init__(
        self,
        stranger: Stranger,
        checks: Checks | None,
        client: Client,
        envelope: Envelope,
        message_id: str,
    ) -> None:
        super().__init__(stranger, client, envelope, message_id)
        self._stranger = stranger
        self._checks = checks
        self._verification: Verification | None = None
        self._received = b""

    def _sinks(self, header: bytes) -> list[Sink]:
        parts, checks = self.parts, self._checks
        sinks: list[Sink] = []
        self._received = header
        wanted = checks is not None and (checks.dkim or checks.arc)
        if wanted and parts.keys is not None and has_signatures(header):
            self._verification = found = Verification(header, parts.keys, now=parts.world.now())
            found.fetch()
            if found.body_hashes:
                sinks.append(found.update)
        if self.envelope.spread and parts.sealer is not None and parts.sealer.arc:
            self._signed_body = BodyHash(relaxed=True)
            sinks.append(self._signed_body.update)
        # Who is believed, and asked for nothing, pays for nothing: his header need not wait for the end.
        self.decides = bool(
            checks is not None
            or sinks
            or self.visitor.session is not None
            or (parts.checks is None and claimed(header, names_of((parts.authserv_id,))))
        )
        return sinks

    def over(self, error: MailError | None) -> None:
        rates = self.parts.rates
        if error is None and not self._gone and self._checks is not None and rates is not None:
            sender = self.envelope.reverse_path
            domain = "" if sender is None else sender.domain
            rates.taken(self._stranger.ip, domain, len(self.envelope.recipients))
        super().over(error)

    def _end(self) -> None:
        if self._verification is not None:
            self._verification.cancel()
        super()._end()

    async def decide(self, arrived: Arrived) -> Disposition:
        self._arrive(arrived)
        await self._all_shown()
        header, top, verdicts = arrived.header, b"", Verdicts()
        checks = self._checks
        if checks is not None or self.parts.checks is None:
            # RFC 8601 section 5: whoever wrote it, it was not us; but for those we trust
            header = without_claimed(header, names_of((self.parts.authserv_id,)))
        if checks is not None:
            verdicts = await self._find_out(checks)
            decision = await self._decided(checks, verdicts)
            if self.parts.reports is not None:
                self.parts.reports.judged(self.client.ip, verdicts, decision, self._received)
            if decision.error is not None:
                raise decision.error
            self._junk = decision.action == "junk"
            top = self._results(checks, verdicts, decision)
        header, body = await self._filtered(arrived, header)
        if self.envelope.spread and not self._gone:
            top = await self._sealed(top, header, body, verdicts) + top
        return self._whole(header, top, body)

    async def _find_out(self, checks: Checks) -> Verdicts:
        signatures: tuple[Dkim, ...] = ()
        chain: Arc | None = None
        if self._verification is not None:
            signatures, chain = await self._keys_in_time(self._verification, checks.seconds)
        signatures = signatures if checks.dkim else ()
        chain = (chain or _NO_CHAIN) if checks.arc else None
        helo, mail = await self._stranger.spf()
        dmarc = None
        if checks.dmarc:
            dmarc = await check_dmarc(
                self.parts.resolver(),
                self.parts.world.reactor,
                author(from_fields(self._received)),
                mail=mail,
                dkim=signatures,
                entropy=self.parts.world.entropy,
                settings=checks.dmarc_settings,
            )
        shown = checks.spf
        return Verdicts(helo if shown else None, mail if shown else None, signatures, chain, dmarc)

    async def _keys_in_time(
        self, verification: Verification, seconds: float
    ) -> tuple[tuple[Dkim, ...], Arc | None]:
        late = self.parts.world.reactor.callLater(seconds, verification.cancel)
        try:
            return await verification.results()
        finally:
            if late.active():
                late.cancel()

    async def _decided(self, checks: Checks, verdicts: Verdicts) -> Decision:
        known = await self._stranger.client_scores()
        scores = known + await self._stranger.sender_scores()
        decision = decide(verdicts, scores, checks.decision)
        if decision.rule == "score" and decision.error is not None:
            # What lists have to say is asked for only now that it is refused, and told.
            await self._stranger.ask_reasons()
            known = await self._stranger.client_scores()
            scores = known + scores[len(known) :]
            decision = decide(verdicts, scores, checks.decision)
        # Those of the client are told already
        told = {f"{one.points:+g}: {one.reason}" for one in known}
        for line in decision.story:
            if line not in told:
                self.telling.say(line)
        return decision

    def _results(self, checks: Checks, verdicts: Verdicts, decision: Decision) -> bytes:
        more: list[Result] = []
        if checks.names:
            pointer = self._stranger.pointer
            more.append(iprev(pointer.result, self.client.ip, pointer.name))
        utf8 = self.envelope.smtputf8
        top = authentication_results(
            self.parts.authserv_id,
            verdicts,
            more=more,
            disposition=decision.disposition,
            utf8=utf8,
        )
        if checks.received_spf and verdicts.mail is not None:
            top += received_spf(
                verdicts.mail,
                ip=self.client.ip,
                helo=self.client.helo,
                receiver=self.parts.hostname,
            )
        return top

    async def _sealed(
        self, top: bytes, header: bytes, body: Draft | None, verdicts: Verdicts
    ) -> bytes:
        """RFC 8617 section 5.1: what was found here, for those it is forwarded to."""
        sealer = self.parts.sealer
        if sealer is None or not sealer.arc or self._signed_body is None:
            return b""
        value = _first_value(top) or f"{self.parts.authserv_id}; none"
        hashed = await self._body_hash(body)
        chain = verdicts.arc or _NO_CHAIN
        sealed = sealer.seal(header, hashed, value, chain, self._own_domains())
        self.telling.say(sealed.story)
        return sealed.fields

    def _own_domains(self) -> list[str]:
        """Whose recipients they are, then the server's own name."""
        found = [one.address.domain for one in self.envelope.recipients if one.address.domain]
        return list(dict.fromkeys([*found, self.parts.hostname]))


class Submitting(Inspecting):
    """A user's mail. `leaving`: those of the recipients that are elsewhere."""

    def __init__(
        self,
        member: Member,
        client: Client,
        envelope: Envelope,
        message_id: str,
        leaving: Sequence[str],
    ) -> None:
        super().__init__(member, client, envelope, message_id)
        self._leaving = leaving
        self._signs = False
        self._is_large = False

    def _sinks(self, header: bytes) -> list[Sink]:
        sealer = self.parts.sealer
        if sealer is None or not sealer.dkim:
            return []
        self._signs = True
        self._signed_body = BodyHash(relaxed=True)
        return [self._signed_body.update]

    def body(self, text: bytes) -> Deferred[None] | None:
        if not self._is_large and self._size + len(text) > LARGE:
            self._is_large = True
            self._look_for_key()
        return super().body(text)

    def _look_for_key(self) -> None:
        """A large body's hash is made for somebody only."""
        sealer = self.parts.sealer
        if self._watch is None or self.visitor.session is not None or sealer is None:
            return
        if not sealer.has_key(self._header, self._instead()):
            self._watch.abort()
            self._watch = self._signed_body = None

    def _instead(self) -> list[str]:
        """Whose keys are better than none."""
        sender = self.envelope.reverse_path
        return [] if sender is None else [sender.domain]

    def foretell(self, header: bytes) -> int | None:
        if self.visitor.session is not None:
            return None  # filters change what they like
        own = self._without_claims(header)
        size = len(own)
        if self._signs:
            assert self.parts.sealer is not None
            # With any hash it is as long as with the right one.
            size += len(self.parts.sealer.sign(own, bytes(32), instead=self._instead()).fields)
        return size

    def _without_claims(self, header: bytes) -> bytes:
        """RFC 8601 section 5: nobody but us writes in our name."""
        return without_claimed(header, names_of((self.parts.authserv_id,)))

    async def decide(self, arrived: Arrived) -> Disposition:
        self._arrive(arrived)
        await self._all_shown()
        header, body = await self._filtered(arrived, self._without_claims(arrived.header))
        top = b""
        if self._signs and not self._gone:
            signed = await self._signed(header, body or arrived.draft, body is None)
            self.telling.say(signed.story)
            top = signed.fields
            if not signed.aligned and self.envelope.spread:
                _log.warn(
                    "message {message} will not pass DMARC elsewhere: {why}",
                    message=self.message_id,
                    why=signed.story,
                )
        return self._whole(header, top, body)

    async def _signed(self, header: bytes, body: Draft, same: bool) -> Signed:
        """`same`: the `body` is the one that came."""
        sealer, instead = self.parts.sealer, self._instead()
        assert sealer is not None
        if not same:
            hashed = await self._hashed(body, 0)
        elif self._signed_body is not None:
            hashed = self._signed_body.digest()
        elif sealer.has_key(header, instead):
            # There was none when it began to come. What came begins with the empty line, if there is one.
            hashed = await self._hashed(body, 1)
        else:
            hashed = b""
        return sealer.sign(header, hashed, instead=instead)

    def over(self, error: MailError | None) -> None:
        senders, account = self.parts.senders, self.client.account
        if error is None and not self._gone and senders is not None and account is not None:
            left = {str(one.address) for one in self.envelope.recipients}
            for recipient in self._leaving:
                if recipient in left:  # filters have their say after us
                    senders.sent(account.name, recipient)
        super().over(error)


def _first_value(top: bytes) -> str:
    """The value of the first field, unfolded."""
    for _, start, end in fields(top):
        return " ".join(top[start:end].partition(b":")[2].decode().split())
    return ""
