"""`tap`: the command line, the log, signals, and what is said when a start fails."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from pathlib import Path

import pytest
from twisted.application.service import Application, IServiceCollection, IServiceMaker
from twisted.internet.protocol import Factory
from twisted.logger import ILogObserver, Logger, LogLevel, capturedLogs
from twisted.plugin import getPlugins
from twisted.python import log, usage
from twisted.python.failure import Failure
from twisted.scripts.twistd import ServerOptions

from twisted_mail import tap
from twisted_mail.config import default, load
from twisted_mail.server import MailServer, _owner
from twisted_mail.service import StartError
from twisted_mail.service_manager import ServiceManager
from twisted_mail.site import Owner
from twisted_mail.testing.world import simulated_world
from twisted_mail.workers import zygote
from twisted_mail.workers.orders import LogPlace


class Console:
    """What would be read on a terminal."""

    def __init__(self):
        self.lines = []
        self.complaints = []
        self.closed = False

    def say(self, lines):
        self.lines += lines

    def complain(self, text):
        self.complaints.append(text)

    def close(self):
        self.closed = True


class Zygote:
    ended = False

    def end(self):
        self.ended = True


@pytest.fixture(autouse=True)
def zygotes(monkeypatch):
    """Those that would have been started."""
    started = []

    def start(output):
        started.append(Zygote())
        return started[-1]

    monkeypatch.setattr(zygote, "start_zygote", start)
    return started


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TWISTED_MAIL_CONFIG", raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    previous = signal.getsignal(signal.SIGHUP)
    yield tmp_path
    signal.signal(signal.SIGHUP, previous)


@pytest.fixture
def make(here):
    """Makes servers without configuration in simulated worlds; they are stopped at the end."""
    made = []

    def make_server(config=None, **twistd):
        world = simulated_world()
        server = MailServer(config or default(here), world, twistd, Console())
        made.append((server, world))
        return server, world

    yield make_server
    for server, world in made:
        atexit.unregister(server._exit)
        if server.running:
            done = server.stopService()
            turns(world, lambda done=done: done.called)


def turns(world, done):
    for _ in range(1000):
        if done():
            return
        world.reactor.settle()
    raise AssertionError("nothing happens any more")


def start(server, world):
    server.privilegedStartService()
    server.startService()
    turns(world, lambda: server._console.closed or server._console.complaints)


def options(*words):
    parsed = tap.Options()
    parsed.parseOptions(words)
    return parsed


def test_twistd_finds_the_plugin_once():
    found = [one for one in getPlugins(IServiceMaker) if one.tapname == "mailserver"]
    assert [one.module for one in found] == ["twisted_mail.tap"]
    assert found[0].options is tap.Options


def test_twisted_itself_is_found_from_the_checkout():
    import twisted

    assert Path(twisted.__file__).parent.parent.name == "site-packages"


def test_making_the_service_opens_nothing(here):
    server = tap.makeService(options())
    server._console.close()
    assert server.config.file is None
    assert list(here.iterdir()) == []


def test_the_configuration_on_the_command_line(here):
    (here / "other.toml").write_text('hostname = "mail.example.org"')
    for words in (("--config", "other.toml"), ("-c", str(here / "other.toml"))):
        server = tap.makeService(options(*words))
        server._console.close()
        assert server.config.hostname == "mail.example.org"


def test_every_mistake_is_said_before_anything_is_opened(here):
    (here / "mail.toml").write_text('hostname = "mail example"\ncolour = "blue"\n')
    with pytest.raises(SystemExit) as ended:
        tap.makeService(options("--config", "mail.toml"))
    first, *mistakes = str(ended.value.code).splitlines()
    assert first == "the configuration cannot be used"
    assert [line.partition(":")[2].split(":")[0] for line in mistakes] == ["1", "2"]
    assert [path.name for path in here.iterdir()] == ["mail.toml"]


def test_an_unknown_option_is_a_matter_of_usage():
    with pytest.raises(usage.UsageError):
        options("--colour")


def test_mail_tac_reads_what_lies_beside_it(here, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["twistd", "-ny", "mail.tac"])
    (here / "site").mkdir()
    (here / "site/mail.toml").write_text('hostname = "mail.example.org"\n[log]\nformat = "json"\n')
    application = tap.make_application(str(here / "site/mail.tac"))
    (server,) = services(application)
    server._console.close()
    assert server.config.hostname == "mail.example.org"
    assert server.config.data == here / "site/mail-data"


def services(application):
    return list(IServiceCollection(application))


def test_mail_tac_and_the_environment(here, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["twistd", "-ny", "mail.tac"])
    (here / "mail.toml").write_text('hostname = "one.example.org"')
    (here / "two.toml").write_text('hostname = "two.example.org"')
    monkeypatch.setenv("TWISTED_MAIL_CONFIG", "two.toml")
    (server,) = services(tap.make_application(str(here / "mail.tac")))
    server._console.close()
    assert server.config.hostname == "two.example.org"


def test_mail_tac_knows_twistds_options(here, monkeypatch):
    monkeypatch.setattr(
        sys,
        "argv",
        # the user who runs the tests: only root may give the log to somebody else
        ["twistd", "--uid", str(os.geteuid()), "--logfile", "x.log", "-y", "mail.tac"],
    )
    (server,) = services(tap.make_application(str(here / "mail.tac")))
    server._console.close()
    server._log_file.close()
    assert (here / "x.log").exists()
    assert server._twistd["uid"] == os.geteuid()


def test_another_program_may_load_mail_tac(here, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["something", "--else"])
    (server,) = services(tap.make_application(str(here / "mail.tac")))
    server._console.close()
    assert server._log_file is None


def test_the_first_start_is_printed_when_everything_listens(make):
    server, world = make()
    server.privilegedStartService()
    assert server._console.lines == []
    start_lines = [
        "user: alice@localhost",
        "password: ",
        "ca: certs/ca.pem",
        "smtp: 127.0.0.1:2525",
    ]
    server.startService()
    turns(world, lambda: server._console.closed)
    for line, beginning in zip(server._console.lines, start_lines, strict=False):
        assert line.startswith(beginning)
    assert [line.split()[0] for line in server._console.lines[-2:]] == ["printf", "curl"]


def test_a_first_start_that_failed_does_not_cost_the_password(make, here):
    (here / "mail-data").mkdir(mode=0o700)
    (here / "mail-data/site.json").write_text('{"version": 99, "generation": 1}')
    first, world = make()
    start(first, world)
    assert first._console.lines == [] and first._console.complaints
    (here / "mail-data/site.json").unlink()
    second, world = make()
    start(second, world)
    assert any(line.startswith("password: ") for line in second._console.lines)


def test_a_configured_start_prints_nothing(make, here):
    (here / "mail.toml").write_text('[listen]\nsmtp = ["tcp:2525"]')
    server, world = make(load(here / "mail.toml"))
    start(server, world)
    assert server._console.lines == [] and server._console.closed


def test_a_port_that_is_taken_is_said_without_a_traceback(make, capsys):
    server, world = make()
    taken = world.reactor.listenTCP(2110, Factory())
    with pytest.raises(StartError) as refused:
        server.privilegedStartService()
    (complaint,) = server._console.complaints
    assert complaint.startswith("pop3: cannot listen on tcp:2110:interface=127.0.0.1")
    sys.excepthook(StartError, refused.value, None)
    assert capsys.readouterr().err == ""
    sys.excepthook(KeyError, KeyError("something else"), None)
    assert "something else" in capsys.readouterr().err
    taken.stopListening()


def test_a_start_that_fails_later_ends_the_process(make, here):
    (here / "mail-data").mkdir(mode=0o700)
    (here / "mail-data/site.json").write_text('{"version": 99, "generation": 1}')
    server, world = make()
    start(server, world)
    (complaint,) = server._console.complaints
    assert "newer program" in complaint
    assert [hook for hook, *_ in world.reactor.whenRunningHooks] == [world.reactor.stop]
    assert server._failed


def test_sighup_reads_certificates_and_still_does_what_it_did(make):
    heard = []
    signal.signal(signal.SIGHUP, lambda number, frame: heard.append(number))
    before = signal.getsignal(signal.SIGHUP)
    server, world = make()
    start(server, world)
    context = server.mail.tls._context
    os.kill(os.getpid(), signal.SIGHUP)
    world.reactor.settle()
    assert heard == [signal.SIGHUP]
    assert server.mail.tls._context is not context
    done = server.stopService()
    turns(world, lambda: done.called)
    assert signal.getsignal(signal.SIGHUP) is before


def test_sighup_does_not_end_a_server_that_drains(make):
    server, world = make()
    start(server, world)
    client = world.reactor.connect(2525)
    client.ask(b"EHLO client\r\nMAIL FROM:<>\r\nRCPT TO:<alice@localhost>\r\nDATA\r\n")
    done = server.stopService()
    context = server.mail.tls._context
    assert signal.getsignal(signal.SIGHUP) == server._hangup
    os.kill(os.getpid(), signal.SIGHUP)
    world.reactor.settle()
    assert server.mail.tls._context is not context
    assert not done.called
    assert client.ask(b"\r\n.\r\n").startswith(b"250 ")
    turns(world, lambda: done.called)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_told_twice_to_stop_does_it_once(make, number):
    heard = []
    previous = signal.signal(number, lambda *_: heard.append("the reactor stops"))
    try:
        before = signal.getsignal(number)
        server, world = make()
        start(server, world)
        client = world.reactor.connect(2525)
        client.ask(b"EHLO client\r\nMAIL FROM:<>\r\nRCPT TO:<alice@localhost>\r\nDATA\r\n")
        os.kill(os.getpid(), number)
        assert heard == ["the reactor stops"]
        done = server.stopService()
        with capturedLogs() as events:
            os.kill(os.getpid(), number)
            world.reactor.settle()
        assert heard == ["the reactor stops"]
        assert [event["signal"] for event in events if "signal" in event] == [number.name]
        assert client.ask(b"\r\n.\r\n").startswith(b"250 ")
        turns(world, lambda: done.called)
        assert signal.getsignal(number) is before
    finally:
        signal.signal(number, previous)


def test_a_start_that_fails_while_it_is_stopped_does_not_stop_the_reactor_twice(make, here):
    (here / "mail-data").mkdir(mode=0o700)
    (here / "mail-data/site.json").write_text('{"version": 99, "generation": 1}')
    server, world = make()
    server.privilegedStartService()
    server.startService()
    done = server.stopService()
    turns(world, lambda: done.called)
    assert server._failed and server._console.complaints
    assert world.reactor.whenRunningHooks == []


def test_sighup_opens_the_log_again(make, here):
    server, world = make(logfile="twistd.log")
    server.setServiceParent(Application("mailserver"))
    start(server, world)
    (here / "twistd.log").rename(here / "old.log")
    os.kill(os.getpid(), signal.SIGHUP)
    world.reactor.settle()
    assert (here / "twistd.log").exists()
    server._log_file.close()


def test_the_log_is_written_as_configured(make, here):
    (here / "mail.toml").write_text('[log]\nformat = "json"\nlevel = "warn"')
    server, _ = make(load(here / "mail.toml"), logfile="twistd.log")
    application = Application("mailserver")
    server.setServiceParent(application)
    log = Logger(observer=application.getComponent(ILogObserver), namespace="test")
    log.emit(LogLevel.info, "unheard")
    log.emit(LogLevel.warn, "heard")
    server._log_file.close()
    (line,) = (here / "twistd.log").read_text().splitlines()
    assert '"text": "heard"' in line


def test_syslog_hears_what_twistd_tells_it_without_words_of_clients(make, monkeypatch):
    opened, told = [], []
    monkeypatch.setattr(
        "twisted.python.syslog.SyslogObserver.__init__", lambda _, *a: opened.append(a)
    )
    monkeypatch.setattr(
        "twisted.python.syslog.SyslogObserver.emit", lambda _, event: told.append(event)
    )
    server, _ = make(syslog=True, prefix="mail")
    application = Application("mailserver")
    server.setServiceParent(application)
    assert opened == [("mail",)]
    logger = Logger(observer=application.getComponent(ILogObserver))
    try:
        raise KeyError("".join(["his ", "password"]))
    except KeyError:
        logger.failure("fault in {what}", what="a login")
    (event,) = told
    text = log.textFromEventDict(event)
    assert "fault in a login" in text
    assert "KeyError" in text and "in test_syslog_hears" in text
    assert "his password" not in text + repr(event)


@pytest.mark.parametrize(
    ("twistd", "owner"),
    [
        ({}, None),
        ({"uid": None, "gid": None}, None),
        ({"uid": 65534, "gid": 7}, Owner(65534, 7)),
        ({"uid": 0}, Owner(0, 0)),
        ({"gid": 7}, Owner(os.geteuid(), 7)),
    ],
)
def test_who_the_process_will_be(twistd, owner):
    assert _owner(twistd) == owner


# Workers


@pytest.mark.parametrize(
    ("text", "cores", "workers"),
    [("", {0, 1, 2}, 3), ("", {0}, None), ("workers = 2", {0}, 2), ("workers = 0", {0, 1}, None)],
)
def test_workers_as_the_configuration_has_them(make, here, monkeypatch, text, cores, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores)
    (here / "mail.toml").write_text(text)
    server, _ = make(load(here / "mail.toml"))
    assert (server._workers and server._workers.count) == workers
    assert (server.mail._fleet is not None) is (workers is not None)


@pytest.mark.parametrize(
    ("text", "arguments", "early"),
    [
        ("workers = 2", "-n", True),
        ("", "-n", True),
        ("workers = 0", "-n", False),
        ("workers = nonsense", "-n", False),
        ('[listen]\nsmtp = ["tcp:2525"]', "-n", False),
        ('[listen]\nimaps = ["tcp:993"]', "-n", True),
        ("workers = 2", "", False),
        ("workers = 2", "-n --umask 027", False),
        ("workers = 2", "-n --rundir /", False),
    ],
)
def test_the_zygote_is_started_before_the_rest_is_imported(
    here, monkeypatch, zygotes, text, arguments, early
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    (here / "mail.toml").write_text(text)
    parent = ServerOptions()
    parent.parseOptions([*arguments.split(), "mailserver"])
    given = parent.subOptions
    try:
        server = tap.makeService(given)
    except SystemExit:
        assert text.endswith("nonsense")
    else:
        server._console.close()
        assert not early or server._workers._zygote is zygotes[0]
    assert len(zygotes) == early and not any(one.ended for one in zygotes)


def test_a_zygote_that_is_not_needed_after_all_is_ended(here, zygotes):
    early = Zygote()
    (here / "mail.toml").write_text("workers = 0")
    MailServer(load(here / "mail.toml"), simulated_world(), {}, Console(), early)
    assert early.ended


def test_the_start_without_configuration_is_one_process(make, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    server, _ = make()
    assert server._workers is None


@pytest.mark.parametrize("text", ["", "workers = 2"])
def test_a_program_that_the_user_may_not_run_serves_alone(make, here, monkeypatch, text):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    (here / "mail.toml").write_text(text)
    server, world = make(load(here / "mail.toml"))
    monkeypatch.setattr(server._workers, "impossible", lambda: "user 7 may not read /usr")
    with capturedLogs() as events:
        start(server, world)
    (told,) = [one for one in events if "why" in one]
    assert told["log_level"] is (LogLevel.error if text else LogLevel.warn)
    assert world.reactor.connect(25).read().startswith(b"220 ")


def test_this_user_may_run_it(make, here):
    (here / "mail.toml").write_text("workers = 1")
    server, _ = make(load(here / "mail.toml"))
    assert server._workers.impossible() == ""


def test_where_the_workers_log_goes(make, here):
    (here / "mail.toml").write_text("workers = 1")
    config = load(here / "mail.toml")
    server, _ = make(config, logfile="twistd.log")
    server.setServiceParent(Application("mailserver"))
    place, descriptor = server._log_of_workers()
    assert place.path == str(here / "twistd.log")
    assert os.path.samestat(os.fstat(descriptor), os.stat(place.path))
    server._log_file.close()
    server, _ = make(config, logfile="-")
    assert server._log_of_workers() == (LogPlace(), 1)
    server, _ = make(config, syslog=True, prefix="mail")
    assert server._log_of_workers() == (LogPlace(syslog="mail"), None)


# SIGHUP and the configuration


def hang_up(world, done=lambda: True):
    os.kill(os.getpid(), signal.SIGHUP)
    world.reactor.settle()
    turns(world, done)


LOOPBACK = '[listen]\nsmtp = ["tcp:2525:interface=127.0.0.1"]\n'


def test_sighup_reads_the_configuration_again(make, here):
    (here / "mail.toml").write_text(LOOPBACK)
    server, world = make(load(here / "mail.toml"), logfile="twistd.log")
    server.setServiceParent(Application("mailserver"))
    start(server, world)
    (here / "mail.toml").write_text(
        LOOPBACK + '[smtp]\nmax_message_bytes = 70_000\n[log]\nformat = "json"\n'
    )
    hang_up(world, lambda: server.mail.config.smtp.max_message_bytes == 70_000)
    assert b"SIZE 70000" in world.reactor.connect(2525, address="127.0.0.1").ask(b"EHLO c\r\n")
    Logger(observer=server._observer, namespace="test").info("in another form")
    assert '"text": "in another form"' in (here / "twistd.log").read_text()
    server._log_file.close()


def test_sighup_and_a_configuration_with_mistakes(make, here):
    (here / "mail.toml").write_text(LOOPBACK)
    server, world = make(load(here / "mail.toml"))
    start(server, world)
    before = server.mail.config
    (here / "mail.toml").write_text("colour = 1\nhostname = 2\n")
    with capturedLogs() as events:
        hang_up(world)
    (told,) = [one for one in events if one["log_level"] is LogLevel.error]
    assert "mail.toml:1: colour" in told["error"] and "mail.toml:2: hostname" in told["error"]
    assert server.mail.config is before
    assert world.reactor.connect(2525, address="127.0.0.1").read().startswith(b"220 ")


def test_a_hangup_while_it_starts_does_not_end_it(make):
    before = signal.getsignal(signal.SIGHUP)
    server, _ = make()
    server.privilegedStartService()
    try:
        assert signal.getsignal(signal.SIGHUP) == server._hangup
        server._take_hangup()
    finally:
        server._give_back_signals(None)
    assert signal.getsignal(signal.SIGHUP) == before


# What systemd is told


class Manager(ServiceManager):
    """Notes what would be told."""

    def __init__(self, clock):
        super().__init__(clock, {})
        self.told = []

    def _tell(self, *words):
        self.told.append(words[0])


def test_systemd_is_told_of_a_start_a_change_and_an_end(make, here):
    (here / "mail.toml").write_text(LOOPBACK)
    server, world = make(load(here / "mail.toml"))
    server._manager = manager = Manager(world.reactor)
    server.privilegedStartService()
    server.startService()
    assert manager.told == [], "a port that is open is not yet a server that serves"
    turns(world, lambda: server._console.closed)
    assert manager.told == ["READY=1"]
    (here / "mail.toml").write_text(LOOPBACK + "[smtp]\nmax_message_bytes = 70_000\n")
    hang_up(world, lambda: manager.told[-1] == "READY=1" and len(manager.told) > 1)
    assert manager.told == ["READY=1", "RELOADING=1", "READY=1"]
    assert server.mail.config.smtp.max_message_bytes == 70_000
    stopped = server.stopService()
    assert manager.told[3:] == ["STOPPING=1"]
    turns(world, lambda: stopped.called)
    assert manager.told[3:] == ["STOPPING=1"]


@pytest.mark.parametrize("text", [LOOPBACK, "colour = 1\n"])
def test_a_change_that_comes_to_nothing_is_over_for_systemd_too(make, here, text):
    (here / "mail.toml").write_text(LOOPBACK)
    server, world = make(load(here / "mail.toml"))
    start(server, world)
    server._manager = manager = Manager(world.reactor)
    manager.ready()
    (here / "mail.toml").write_text(text)
    hang_up(world)
    assert manager.told == ["READY=1", "RELOADING=1", "READY=1"]


def test_a_server_that_cannot_start_is_never_ready(make, here):
    (here / "mail.toml").write_text(LOOPBACK)
    server, world = make(load(here / "mail.toml"))
    server._manager = manager = Manager(world.reactor)
    server.privilegedStartService()
    world.reactor.stop = lambda: None
    server._not_serving(Failure(StartError("no")))
    assert manager.told == []
    server._failed = False
    server.running = True


# Who may do what


def test_root_does_not_stay_root_on_the_ports_of_the_system(make, here, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (here / "mail.toml").write_text('[listen]\nsmtp = ["tcp:25"]\n')
    server, world = make(load(here / "mail.toml"))
    with pytest.raises(StartError, match=r"root would serve port 25: .*--uid USER"):
        server.privilegedStartService()
    assert not world.reactor.listeners
    server._failed = False


@pytest.mark.parametrize(
    ("user", "twistd", "told"), [(0, {}, 1), (0, {"uid": 0}, 0), (1000, {}, 0)]
)
def test_root_on_other_ports_is_told_once(make, here, monkeypatch, user, twistd, told):
    (here / "mail.toml").write_text(LOOPBACK)
    server, _ = make(load(here / "mail.toml"), **twistd)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with capturedLogs() as events:
        server._look_around()
    assert len([one for one in events if "root serves" in one.get("warning", "")]) == told


def test_privileges_that_can_be_taken_back_are_not_dropped(make, here, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (here / "mail.toml").write_text('[listen]\nsmtp = ["tcp:25"]\n')
    server, world = make(load(here / "mail.toml"), uid=65534, gid=65534, euid=1)
    with pytest.raises(StartError, match=r"could be root again: start without --euid"):
        server.privilegedStartService()
    assert not world.reactor.listeners
    server._failed = False


def test_a_configuration_that_everybody_may_write_is_refused(make, here):
    (here / "mail.toml").write_text(LOOPBACK)
    (here / "mail.toml").chmod(0o666)
    server, world = make(load(here / "mail.toml"))
    with pytest.raises(StartError, match="everybody may write it"):
        server.privilegedStartService()
    assert not world.reactor.listeners
    server._failed = False


def test_nor_does_one_count_at_a_sighup(make, here):
    (here / "mail.toml").write_text(LOOPBACK)
    server, world = make(load(here / "mail.toml"))
    start(server, world)
    (here / "mail.toml").write_text(LOOPBACK + "# changed\n")
    (here / "mail.toml").chmod(0o666)
    with capturedLogs() as events:
        assert server._read_again() is None
    (said,) = [one["error"] for one in events if "error" in one]
    assert "everybody may write it" in said


def test_a_data_directory_that_others_may_write_is_refused(make, here):
    (here / "mail.toml").write_text('data = "open"\n' + LOOPBACK)
    (here / "open").mkdir()
    (here / "open").chmod(0o777)
    server, world = make(load(here / "mail.toml"))
    with pytest.raises(StartError, match="others than its owner may write there"):
        server.privilegedStartService()
    assert not world.reactor.listeners
    server._failed = False


def test_what_others_may_read_is_said(make, here):
    (here / "mail.toml").write_text('data = "seen"\n' + LOOPBACK)
    (here / "seen").mkdir()
    (here / "seen").chmod(0o755)
    server, world = make(load(here / "mail.toml"))
    with capturedLogs() as events:
        start(server, world)
    said = [one["exposure"] for one in events if "exposure" in one]
    assert said == [f"others may look in: chmod 700 {here / 'seen'}"]
