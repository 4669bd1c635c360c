"""The zygote: one process that has imported what a worker needs, and is forked whenever one is wanted.

    python -m twisted_mail.workers        0: /dev/null  1, 2: what it is given, until all is imported  3: its channel

So imports are paid for once, workers share the pages, and one is there some milliseconds after it was asked for. It has
one thread and never imports ``twisted.internet.reactor``: a copy of either is not sound, and it refuses to fork then.

The channel is a pair of SOCK_SEQPACKET sockets, so that descriptors (SCM_RIGHTS) come with the words that they belong
to; each packet is a list in JSON. To the zygote: ``fork`` ID COUNT, with the descriptors that the child has as 0, 1, 2
… (``with``: more follow). From it: ``forked`` ID PID, with a pidfd, which means this process whoever else gets
its number; ``ended`` ID STATUS, in the form of `os.waitpid`; ``refused`` ID REASON; ``ready``; ``failed`` REASON.

A child has nothing open but what it was given. When the main process is gone the zygote ends; workers see to
themselves.

Light: the standard library only, for the main process starts it before it has imported anything else.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

__all__ = [
    "CHANNEL",
    "Started",
    "child_environment",
    "how_it_ended",
    "receive",
    "search_path",
    "send",
    "serve",
    "start_zygote",
]

CHANNEL: Final = 3
_AT_ONCE: Final = 200
"""Descriptors in one packet; the kernel takes 253 (SCM_MAX_FD)."""
_PACKET: Final = 16 * 1024
_ABOVE: Final = 10
_HIGHEST: Final = 1 << 30
_OURS: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""Of sd_notify(3)."""
_REACTOR: Final = "twisted.internet.reactor"

Words = list[Any]


class Started(NamedTuple):
    """A zygote, for its parent, which has to wait for it when it ends."""

    pid: int
    channel: socket.socket

    def end(self) -> str:
        """Have it end, if it has not; the reason, "" for none. Its children live."""
        self.channel.close()
        # Nobody else waits for it, so the number is its own until here.
        os.kill(self.pid, signal.SIGKILL)
        return how_it_ended(os.waitpid(self.pid, 0)[1])


def how_it_ended(status: int) -> str:
    """What became of a process, as a predicate; "" when it just ended."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with {code}" if code else ""


# The parent's side


def start_zygote(output: int | None) -> Started:
    """A new one, whose complaints go to the descriptor `output`. Raises OSError.

    It is executed, not forked: whoever starts it may have threads and a reactor.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    high = -1
    try:
        # Above what it is to be there
        high = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
        actions: list[Any] = [(os.POSIX_SPAWN_DUP2, high, CHANNEL)]
        for number in (1, 2):
            if output is None:
                actions.append((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0))
            elif output != number:
                actions.append((os.POSIX_SPAWN_DUP2, output, number))
        actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0))
        # Its own flags: -O, -W, -X …
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        flags = [one for one in flags if one not in ("-I", "-E", "-s", "-P")]
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, *flags, "-P", "-m", __package__],
            child_environment(os.environ),
            file_actions=actions,
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE],
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        if high >= 0:
            os.close(high)
    return Started(pid, ours)


def search_path() -> list[str]:
    """Where this process looks for modules; it may go to another directory."""
    return [os.path.abspath(one) for one in sys.path]


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """For a Python that is to find what this one finds, and not to speak for this process to who manages it."""
    kept = {name: value for name, value in environment.items() if name not in _OURS}
    return {**kept, "PYTHONPATH": os.pathsep.join(search_path())}


# Both sides


def send(channel: socket.socket, words: Words, descriptors: Sequence[int] = ()) -> None:
    """One packet, and some before it when there are very many descriptors. Raises OSError."""
    content, rest = json.dumps(words).encode(), list(descriptors)
    while len(rest) > _AT_ONCE:
        socket.send_fds(channel, [json.dumps(["with"]).encode()], rest[:_AT_ONCE])
        del rest[:_AT_ONCE]
    if rest:
        socket.send_fds(channel, [content], rest)
    else:
        channel.send(content)


def receive(channel: socket.socket) -> tuple[Words, list[int]]:
    """The next packet and its descriptors, which are not inherited; fewer than were sent when there is no room for
    more. Raises EOFError when there are no more packets, and OSError.
    """
    while True:
        try:
            content, descriptors, _, _ = socket.recv_fds(
                channel, _PACKET, _AT_ONCE, socket.MSG_CMSG_CLOEXEC
            )
            break
        except ConnectionResetError:
            # The other end has not read all. This is said once, and before what it has sent.
            continue
    if not content:
        raise EOFError("the other process is gone")
    return json.loads(content), list(descriptors)


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


# The zygote's side


def serve(channel: socket.socket, begin: Callable[[], object]) -> None:
    """Fork whenever it is asked for, until the main process is gone. `begin` is called in each child, and is its life:
    whatever comes of it, the child does not come back here.
    """
    _Zygote(channel, begin).run()


class _Zygote:
    def __init__(self, channel: socket.socket, begin: Callable[[], object]) -> None:
        self._channel = channel
        self._begin = begin
        self._poll = select.poll()
        self._children: dict[int, tuple[int, int]] = {}
        """Identifier and process by pidfd."""
        self._given: list[int] = []

    def run(self) -> None:
        self._poll.register(self._channel, select.POLLIN)
        try:
            send(self._channel, ["ready"])
            while True:
                for descriptor, _ in self._poll.poll():
                    if descriptor == self._channel.fileno():
                        self._heard(*receive(self._channel))
                    else:
                        self._reap(descriptor)
        except (EOFError, ConnectionError):
            return

    def _heard(self, words: Words, descriptors: list[int]) -> None:
        self._given += descriptors
        if words[0] == "with":
            return
        _, identifier, count = words
        given, self._given = self._given, []
        try:
            if len(given) != count:
                raise OSError("no room for its descriptors")
            self._fork(identifier, given)
        except OSError as error:
            send(self._channel, ["refused", identifier, str(error)])
        finally:
            _close(given)

    def _fork(self, identifier: int, given: list[int]) -> None:
        if _REACTOR in sys.modules:
            raise OSError("the zygote has a reactor")
        if len(os.listdir("/proc/self/task")) != 1:
            raise OSError("the zygote has another thread")
        pid = os.fork()
        if not pid:
            status = 1
            try:
                self._become(given)
                self._begin()
                status = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(status)
        # Before it is told: then nothing of this child's is open here.
        _close(given)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._children[pidfd] = identifier, pid
        self._poll.register(pidfd, select.POLLIN)
        send(self._channel, ["forked", identifier, pid], [pidfd])

    def _become(self, given: list[int]) -> None:
        """In the child: have these descriptors, as 0, 1, 2 …, and no other."""
        self._channel.detach()
        above = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, len(given)) for one in given]
        for number, one in enumerate(above):
            os.dup2(one, number, inheritable=number < CHANNEL)
        os.closerange(len(given), _HIGHEST)

    def _reap(self, pidfd: int) -> None:
        identifier, pid = self._children.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        send(self._channel, ["ended", identifier, status])
