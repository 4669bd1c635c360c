"""Keeping a certificate: what the service starts, and what goes on while it runs.

One process of a site does it, who holds ``acme/lock``; another takes its place when it ends. All of them serve the file
that is written here. Promises: nothing is asked of the CA more often than `schedule` lets it be, over restarts too;
each failure is a line in the log with what is done next, and from `alarm_days` before the end a critical one each day;
whatever goes wrong here, mail goes on with the certificate that there is.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from ..world import World
from . import schedule
from .certificates import Held
from .challenges import HTTP, Challenges
from .files import RENEW, AcmeFiles, State
from .interfaces import Authority, AuthorityError, Connect, Window
from .issuing import Request, issue
from .worker import TooLong, Worker

__all__ = ["Renewal", "RenewalSettings"]

_CALL_SECONDS: Final = 120.0
_LONGEST_SLEEP: Final = 6 * 3600.0
_SHORTEST_SLEEP: Final = 1.0
_LOCK_SECONDS: Final = 60.0
_DISK_SECONDS: Final = 300.0
_DAY: Final = 86_400.0


class RenewalSettings(NamedTuple):
    """`directory`: the CA's URL. `names`: of the certificate, the first is the server's own."""

    directory: str
    names: tuple[str, ...]
    kind: str = HTTP
    keep_key: bool = True
    alarm_days: int = 14


class _Plan(NamedTuple):
    """What is to be done: `due` seconds since 1970, and why."""

    due: float
    why: str


class Renewal:
    """`connect`: how the CA is reached. `renewed` is called on the reactor thread when a new certificate is there."""

    _log = Logger()

    def __init__(
        self,
        world: World,
        settings: RenewalSettings,
        files: AcmeFiles,
        connect: Connect,
        renewed: Callable[[], object],
    ) -> None:
        self._world = world
        self._settings = settings
        self._files = files
        self._connect = connect
        self._renewed = renewed
        self._worker = Worker(world, "acme", _CALL_SECONDS)
        self._challenges = Challenges(world.disk, files.challenges)
        self._running: Deferred[None] | None = None
        self._unwatch: Callable[[], None] | None = None
        self._sleeping: Deferred[None] | None = None
        self._rung = False
        self._said_missing = False

    def start(self) -> None:
        """Begin. Returns at once."""
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._ended)

    async def stop(self) -> None:
        """End now. A CA that is asked at this moment is not waited for; the next start asks again."""
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
        self._worker.stop()
        self._files.unlock()

    def renew(self) -> None:
        """Look now whether there is something to do, such as what mailctl asked for."""
        self._rung = True
        sleeping, self._sleeping = self._sleeping, None
        if sleeping is not None:
            sleeping.callback(None)

    def _ended(self, failure: Any) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("renewal of certificates ended", failure=failure)

    async def _run(self) -> None:
        await self._locked()
        self._unwatch = self._world.watcher.watch(self._files.directory, self._changed)
        while True:
            try:
                wait = await self._turn()
            except (OSError, ValueError, TooLong) as error:
                self._log.error("certificates cannot be looked after: {error}", error=error)
                wait = _DISK_SECONDS
            except CancelledError:
                raise
            except Exception:
                self._log.failure("failure in the renewal of certificates")
                wait = _DISK_SECONDS
            await self._sleep(min(max(wait, _SHORTEST_SLEEP), _LONGEST_SLEEP), wake=True)

    async def _locked(self) -> None:
        """Until this is the process that does it."""
        said = False
        while True:
            try:
                await self._worker.call(self._files.make)
                if await self._worker.call(self._files.lock):
                    await self._worker.call(self._challenges.clear)
                    return
            except (OSError, TooLong) as error:
                if not said:
                    self._log.error("certificates cannot be looked after: {error}", error=error)
                said = True
            await self._sleep(_LOCK_SECONDS)

    def _changed(self, name: str | None) -> None:
        if name is None or name == RENEW:
            self.renew()

    # One look

    async def _turn(self) -> float:
        """Do what is to be done now. Returns seconds until something is to be done again."""
        self._rung = False
        asked = await self._worker.call(self._files.asked)
        held = await self._worker.call(self._files.certificate)
        state = await self._worker.call(self._files.state)
        now = self._world.now()
        if held is not None and state.serial != held.serial:
            self._begin_of(state, held)
        if held is None and not self._said_missing:
            self._said_missing = True
            self._log.warn(
                "no certificate from the CA yet: a development certificate is served until it is there"
            )
        authority = None
        if held is not None and now >= state.window_check and now < held.life.end:
            authority = await self._ask_window(state, held)
        plan = self._plan(state, held)
        now = self._world.now()
        if asked or now >= plan.due:
            why = "mailctl certs renew" if asked else plan.why
            await self._try(state, held, why, authority)
            held = await self._worker.call(self._files.certificate)
            plan = self._plan(state, held)
        now = self._world.now()
        if held is not None:
            self._alarm(state, held, now)
        state.next = plan.due
        await self._worker.call(self._files.keep_state, state)
        following = [plan.due]
        if held is not None:
            if now < held.life.end:
                following.append(state.window_check)
            following += [
                at for at in (schedule.alarm_at(held.life, self._settings.alarm_days),) if at > now
            ]
        return min(following) - now

    def _plan(self, state: State, held: Held | None) -> _Plan:
        now = self._world.now()
        not_before = schedule.bounded_wait(state.wait_until, now)
        if held is None:
            return _Plan(max(now, not_before), "there is none yet")
        missing = sorted(set(self._settings.names) - set(held.names))
        if missing:
            return _Plan(max(now, not_before), f"it is not for {', '.join(missing)}")
        wish = None
        if state.window_end:
            window = Window(state.window_start, state.window_end)
            wish = schedule.suggested(window, state.window_chance)
        due = schedule.planned(held.life, state.chance, wish)
        return _Plan(max(due, not_before), "it is time to renew it")

    def _begin_of(self, state: State, held: Held) -> None:
        """Of this certificate nothing is known yet."""
        state.serial = held.serial
        state.chance, state.window_chance = self._chance(), self._chance()
        state.window_start = state.window_end = state.window_check = state.alarmed = 0.0

    async def _ask_window(self, state: State, held: Held) -> Authority | None:
        """RFC 9773. What cannot be asked is asked later; renewal does not wait for it."""
        authority = None
        state.window_check = schedule.next_check(self._world.now(), None)
        await self._worker.call(self._files.keep_state, state)
        if not held.renewal_id:
            return None
        try:
            authority = await self._reach()
            window = await self._worker.call(authority.renewal_window, held.renewal_id)
        except (AuthorityError, TooLong, OSError, ValueError) as error:
            self._log.info("the CA does not say when to renew: {error}", error=error)
            asked = error.retry_after if isinstance(error, AuthorityError) else None
            state.window_check = schedule.next_check(self._world.now(), asked)
            return authority
        if window is None:
            state.window_check = self._world.now() + schedule.ARI_MAX
            return authority
        state.window_check = schedule.next_check(self._world.now(), window.check_after)
        if schedule.suggested(window, 0.0) is None:
            self._log.warn("the CA's window for renewal is none, and not used")
        elif (window.start, window.end) != (state.window_start, state.window_end):
            state.window_start, state.window_end = window.start, window.end
            state.window_chance = self._chance()
            if window.explanation:
                self._log.info(
                    "the CA has moved the renewal; it explains at {url}", url=window.explanation
                )
        return authority

    async def _try(
        self, state: State, held: Held | None, why: str, authority: Authority | None
    ) -> None:
        """Get a new one. What fails is said here, and in `state`."""
        settings, now = self._settings, self._world.now()
        self._log.info(
            "asking {directory} for a certificate for {names}: {why}",
            directory=settings.directory,
            names=", ".join(settings.names),
            why=why,
        )
        # Before anything is asked: who is killed in the midst of it does not ask again at once.
        state.tried = now
        state.wait_until = now + schedule.pause(state.failures + 1, self._chance(), None)
        await self._worker.call(self._files.keep_state, state)
        try:
            new = not settings.keep_key
            key = await self._worker.call(self._files.key, new=new)
            authority = authority or await self._reach()
            replaces = held.renewal_id if held is not None else ""
            wish = Request(settings.names, key, settings.kind, replaces)
            chain = await issue(
                wish, authority, self._worker, self._challenges, self._world.now, self._sleep
            )
            await self._worker.call(self._files.keep_certificate, key, chain)
        except (AuthorityError, TooLong, OSError, ValueError) as error:
            await self._failed(state, error)
        else:
            await self._done(state)

    async def _done(self, state: State) -> None:
        held = await self._worker.call(self._files.certificate)
        if held is None:
            raise ValueError(f"{self._files.certificate_path} is not what was written")
        now = self._world.now()
        state.failures, state.error, state.issued = 0, "", now
        state.wait_until = now + schedule.pause(1, 0.0, None)
        self._begin_of(state, held)
        state.window_check = schedule.next_check(now, None)
        self._renewed()
        self._log.info(
            "a new certificate for {names}, by {issuer}, until {until}",
            names=", ".join(held.names),
            issuer=held.issuer,
            until=_day(held.life.end),
        )

    async def _failed(self, state: State, error: Exception) -> None:
        asked = error.retry_after if isinstance(error, AuthorityError) else None
        state.failures += 1
        state.error = str(error)
        wait = schedule.pause(state.failures, self._chance(), asked)
        state.wait_until = self._world.now() + wait
        if isinstance(error, AuthorityError) and error.account_gone:
            try:
                await self._worker.call(self._files.keep_account, "", "")
            except (OSError, TooLong):
                pass  # the next try is told the same
        self._log.warn(
            "no new certificate: {error}; the next try is in {minutes} minutes ({failures} failures in a row)",
            error=error,
            minutes=round(wait / 60),
            failures=state.failures,
        )

    def _alarm(self, state: State, held: Held, now: float) -> None:
        """Failure is said days before it matters, and every day."""
        if not state.failures or now < schedule.alarm_at(held.life, self._settings.alarm_days):
            return
        if 0 <= now - state.alarmed < _DAY:
            return
        state.alarmed = now
        left = held.life.end - now
        self._log.critical(
            "the certificate for {names} {ends} and cannot be renewed: {error}",
            names=", ".join(held.names),
            ends=f"ends in {left / _DAY:.1f} days"
            if left > 0
            else f"ended on {_day(held.life.end)}",
            error=state.error,
        )

    async def _reach(self) -> Authority:
        """The CA, with our account there."""
        files, directory = self._files, self._settings.directory
        key = await self._worker.call(files.account_key)
        authority = await self._worker.call(self._connect, key)
        known = await self._worker.call(files.account, directory)
        account = await self._worker.call(authority.account, known)
        if account != known:
            await self._worker.call(files.keep_account, directory, account)
        return authority

    def _chance(self) -> float:
        number: int = struct.unpack(">I", self._world.entropy(4))[0]
        return number / 2**32

    async def _sleep(self, seconds: float, *, wake: bool = False) -> None:
        """`wake`: until `renew` is called, if that is sooner."""
        if wake and self._rung:
            return
        rung: Deferred[None] = Deferred()
        timer = self._world.reactor.callLater(seconds, rung.callback, None)
        if wake:
            self._sleeping = rung
        try:
            await rung
        finally:
            if self._sleeping is rung:
                self._sleeping = None
            if timer.active():
                timer.cancel()


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
