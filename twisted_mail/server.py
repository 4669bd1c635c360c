"""The server as a process of its own: what `tap` makes for twistd.

Here are the things that a server has and a library has not: a console, signals, a log file, privileges to drop, an exit
status. Serving itself is `service.MailService`.

twistd calls in this order: `tap.makeService`; logging begins; the fork of a daemon; ``privilegedStartService``;
``--uid`` and ``--gid``; ``startService``; the reactor runs. So nothing is opened and no thread started when the server
is made; ports and keys are opened in ``privilegedStartService``; and what is written later belongs to the user that
stays.
"""

from __future__ import annotations

import atexit
import os
import pwd
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from twisted.application.service import IServiceCollection, Service
from twisted.internet.defer import Deferred, succeed
from twisted.logger import ILogObserver, LegacyLogObserverWrapper, LogEvent, Logger, LogLevel
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from zope.interface import implementer

from . import __version__
from .config import Config, ConfigError
from .console import Console, LogFile
from .descriptors import raise_limit
from .first_start import FirstStart
from .log import discreet, make_observer
from .permissions import check_not_root, check_writable_by_nobody_else, exposures
from .processes import ProcessReporter, spare_the_collector
from .service import MailService, StartError
from .service_manager import ServiceManager
from .site import Owner, read_configuration
from .world import World, real_world

if TYPE_CHECKING:
    from .workers.fleet import Workers
    from .workers.orders import LogPlace
    from .workers.zygote import Started

__all__ = ["MailServer", "make_server"]

T = TypeVar("T")


def make_server(
    path: Path | None, directory: Path, twistd: Mapping[str, Any], zygote: Started | None
) -> MailServer:
    """By the configuration in `path`. Ends the program when that cannot be used."""
    from twisted.internet import reactor  # noqa: TID251  # this is where the World is made

    try:
        config = read_configuration(path, directory)
    except ConfigError as error:
        # twistd would show an exception as a traceback. Nothing is begun yet.
        raise SystemExit(f"the configuration cannot be used\n{error}") from None
    manager = ServiceManager(reactor, os.environ)
    world = real_world(reactor, descriptors=raise_limit())
    return MailServer(config, world, twistd, Console(), zygote, manager)


class MailServer(Service):
    """`MailService` as a process of its own. `twistd` holds twistd's options. `zygote`: one of the workers' that was
    started already. `manager`: whom it tells how it is.
    """

    _log = Logger()

    def __init__(
        self,
        config: Config,
        world: World,
        twistd: Mapping[str, Any],
        console: Console,
        zygote: Started | None = None,
        manager: ServiceManager | None = None,
    ) -> None:
        self.config = config
        self._manager = manager or ServiceManager(world.reactor, {})
        self._world = world
        self._twistd = twistd
        self._console = console
        self._directory = Path.cwd()
        self._first_start = FirstStart(world) if config.file is None else None
        self._observer: _Observer | None = None
        self._log_file: LogFile | None = None
        self._hears_hangup = False
        self._previous_hangup: Any = None
        self._previous_ends: dict[int, Any] = {}
        self._failed = False
        self._text = None if config.file is None else _content(config.file)
        self._reporter: ProcessReporter | None = None
        self._workers = self._make_workers(zygote)
        if self._workers is not None:
            world = replace(world, siblings=self._workers.siblings)
        self.mail = MailService(
            config,
            world,
            owner=_owner(twistd),
            prepare=self._first_start.prepare if self._first_start else None,
            fleet=self._workers,
        )

    def _make_workers(self, zygote: Started | None) -> Workers | None:
        count = self.config.workers_on(len(os.sched_getaffinity(0)))
        if not count:
            if zygote is not None:
                zygote.end()
            return None
        # Lean import: for those who have some.
        from .workers.fleet import Workers

        return Workers(
            self._world.reactor, count, self._log_of_workers, self._world.entropy, zygote
        )

    def _log_of_workers(self) -> tuple[LogPlace, int | None]:
        """Where it goes, and the descriptor of that."""
        from .workers.orders import LogPlace

        if self._twistd.get("syslog"):
            return LogPlace(syslog=self._twistd.get("prefix") or "twisted"), None
        file = self._log_file
        if file is not None:
            return LogPlace(path=file.path), file.fileno()
        return LogPlace(), _standard_output()

    def setServiceParent(self, parent: IServiceCollection) -> None:
        """Give the application the log that the configuration wants, before twistd looks for one."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]
        if not isinstance(parent, Componentized):
            return
        observer: ILogObserver
        if self._twistd.get("syslog"):
            observer = _system_log(self._twistd.get("prefix") or "twisted")
        else:
            observer = self._observer = _Observer(self.config, self._open_log())
        cast(Any, parent).setComponent(ILogObserver, observer)

    def privilegedStartService(self) -> None:
        """Open ports and keys. Raises StartError, which has been shown then."""
        # twistd's exit status has no say of a service's; and what runs at exit runs backwards.
        atexit.register(self._exit)
        # Early: who asks for another configuration while it starts is not to end it.
        self._take_hangup()
        try:
            self._look_around()
            self.mail.privilegedStartService()
        except StartError as error:
            self._give_back_signals(None)
            self._refuse(error)
            raise

    def _look_around(self) -> None:
        """Who else may read what is the server's, and who it is itself. Raises StartError."""
        disk = self._world.disk
        try:
            check_writable_by_nobody_else(self.config, disk)
            # twistd's --euid drops what can be taken back at any time
            regains = bool(self._twistd.get("euid"))
            if os.geteuid() == 0 and (regains or self._twistd.get("uid") is None):
                warning = check_not_root(self.config, regains=regains)
                self._log.warn("{warning}", warning=warning)
        except ValueError as error:
            raise StartError(str(error)) from error
        for one in exposures(self.config, disk):
            self._log.warn("{path}: {exposure}", path=str(one.path), exposure=one.text)

    def startService(self) -> None:
        self.running = True
        workers = self._workers
        if workers is not None:
            if why := workers.impossible():
                workers.give_up()
                self._without_workers(why)
            else:
                workers.prepare()
        self._take_hangup()
        self.mail.startService()
        self.mail.when_serving().addCallbacks(self._serving, self._not_serving)

    def _take_hangup(self) -> None:
        if not self._hears_hangup:
            self._hears_hangup = True
            self._previous_hangup = signal.signal(signal.SIGHUP, self._hangup)

    def _without_workers(self, why: str) -> None:
        """Privileges are dropped, and a program that root may read is not everybody's."""
        told = "a worker cannot be started: {why}; this process serves alone"
        if self.config.workers is None:
            self._log.warn(told, why=why)
        else:
            self._log.error(told, why=why)
        self._workers = None
        self.mail.serve_alone()

    def stopService(self) -> Deferred[None]:
        self.running = False
        # The reactor cannot be stopped twice: what it would do is a traceback.
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous_ends[number] = signal.signal(number, self._stops_already)
        self._manager.stopping()
        stopped = self.mail.stopService()
        stopped.addBoth(self._stop_reporting)
        # Not before: a SIGHUP would end a server that still drains.
        stopped.addBoth(self._give_back_signals)
        stopped.addBoth(self._stop_telling)
        return stopped

    def _stop_telling(self, outcome: T) -> T:
        self._manager.stop()
        return outcome

    def _stop_reporting(self, outcome: T) -> Deferred[T]:
        reporter, self._reporter = self._reporter, None
        if reporter is None:
            return succeed(outcome)
        stopped = Deferred.fromCoroutine(reporter.stop())
        return stopped.addErrback(lambda failure: self._log.failure("status", failure)).addCallback(
            lambda _: outcome
        )

    def _give_back_signals(self, outcome: T) -> T:
        if self._hears_hangup:
            self._hears_hangup = False
            signal.signal(signal.SIGHUP, self._previous_hangup or signal.SIG_DFL)
        while self._previous_ends:
            number, previous = self._previous_ends.popitem()
            signal.signal(number, previous or signal.SIG_DFL)
        return outcome

    def _stops_already(self, number: int, frame: FrameType | None) -> None:
        # Not from within whatever the signal has interrupted: that may be a write to the log
        self._world.reactor.callFromThread(
            self._log.info,
            "{signal}: stopping already, clients may take {seconds:g} s to finish",
            signal=signal.Signals(number).name,
            seconds=self.mail.config.limits.drain_seconds,
        )

    def _serving(self, _: object) -> None:
        if self._first_start is not None:
            ca = self.config.certificates / "ca.pem"
            self._console.say(self._first_start.lines(ca, self.mail.listeners, self._directory))
        self._console.close()
        workers = self._workers
        self._reporter = ProcessReporter(
            self._world,
            str(self.config.data),
            "server" if workers is None else "main",
            version=__version__,
            restarts=lambda: 0 if workers is None else workers.restarts,
        )
        spare_the_collector()
        self._reporter.start()
        count = 0 if workers is None else workers.count
        self._manager.ready(f"serving, {count} workers" if count else "serving")

    def _not_serving(self, failure: Failure) -> None:
        self._log.critical("cannot start: {error}", error=str(failure.value))
        self._console.complain(str(failure.value))
        self._failed = True
        if self.running:  # else it is being stopped already
            # It may be known before the reactor runs.
            self._world.reactor.callWhenRunning(self._world.reactor.stop)

    def _refuse(self, error: StartError) -> None:
        """Show `error` as the line it is, not as the traceback of what leaves twistd."""
        self._log.critical("cannot start: {error}", error=str(error))
        self._console.complain(str(error))
        previous = sys.excepthook

        def hook(kind: type[BaseException], value: BaseException, traceback: Any) -> None:
            if value is not error:
                previous(kind, value, traceback)

        sys.excepthook = hook

    def _exit(self) -> None:
        if self._failed:
            os._exit(1)

    def _open_log(self) -> Any:
        """Where twistd would write its log: standard output, or the file, which a SIGHUP opens again."""
        name = self._twistd.get("logfile")
        if name == "-" or (not name and self._twistd.get("nodaemon", True)):
            return sys.stdout
        self._log_file = LogFile(os.path.abspath(name or "twistd.log"), _owner(self._twistd))
        return self._log_file

    def _hangup(self, number: int, frame: FrameType | None) -> None:
        self._world.reactor.callFromThread(self._reload)
        if callable(self._previous_hangup):
            self._previous_hangup(number, frame)

    def _reload(self) -> None:
        self._manager.reloading()
        if self._log_file is not None:
            try:
                self._log_file.reopen()
            except OSError as error:
                self._log.error("the log goes on in the old file: {error}", error=str(error))
        if self._workers is not None:
            self._workers.open_log_again()
        config = self._read_again()
        self.mail.reload()
        if config is None:
            self._manager.reloaded()
        else:
            self.mail.reconfigure(config).addCallback(self._reconfigured)

    def _reconfigured(self, _: object) -> None:
        if self._observer is not None:
            self._observer.follow(self.mail.config)
        self._manager.reloaded()

    def _read_again(self) -> Config | None:
        """The configuration as the file has it now, if that can be used."""
        file = self.config.file
        if file is None:
            return None
        text = _content(file)
        if text is not None and text == self._text:
            # Not looked at again: keys that it names may be for root's eyes.
            return None
        try:
            config = read_configuration(file, self._directory)
            check_writable_by_nobody_else(config, self._world.disk)
        except (ConfigError, ValueError) as error:
            self._log.error(
                "the new configuration cannot be used, the old one goes on: {error}",
                error="; ".join(str(error).splitlines()),
            )
            return None
        self._text = text
        return config


@implementer(ILogObserver)
class _Observer:
    """The log in `file`, in the form that the configuration wants, which may change."""

    def __init__(self, config: Config, file: Any) -> None:
        self._file = file
        self.follow(config)

    def follow(self, config: Config) -> None:
        """Write as `config` wants it from now on."""
        level = LogLevel.lookupByName(config.log.level)
        self._write = make_observer(config.log.format, self._file, level=level)

    def __call__(self, event: LogEvent) -> None:
        self._write(event)


def _system_log(prefix: str) -> ILogObserver:
    """What twistd would make, without words that must not get into a log."""
    from twisted.python import syslog

    emit: Any = syslog.SyslogObserver(prefix).emit
    return discreet(LegacyLogObserverWrapper(emit))


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _standard_output() -> int | None:
    try:
        return os.fstat(1) and 1
    except OSError:
        return None


def _owner(twistd: Mapping[str, Any]) -> Owner | None:
    """Who the process will be once twistd has dropped its privileges; None when it stays who it is."""
    uid, gid = twistd.get("uid"), twistd.get("gid")
    if uid is None:
        return None if gid is None else Owner(os.geteuid(), gid)
    return Owner(uid, pwd.getpwuid(uid).pw_gid if gid is None else gid)
