"""Many messages on their way while processes are killed."""

from __future__ import annotations

import smtplib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mailsite import DEADLINE
from outside import MailSite, submitted

__all__ = ["flow"]


@contextmanager
def flow(
    site: MailSite, user: str, to: str, *, messages: int, senders: int
) -> Iterator[dict[str, str]]:
    """Sessions of `user` that write to `to` until `messages` were accepted, whatever becomes of the server:
    subject → id.
    """
    accepted: dict[str, str] = {}
    stop = threading.Event()
    problems: list[BaseException] = []

    def send(name: int) -> None:
        left = [f"{name}.{number}" for number in range(messages // senders)]
        while left and not stop.is_set():
            try:
                with site.smtp(user) as session:
                    while left and not stop.is_set():
                        # one whose reply gets lost is not sent again: nobody was promised anything
                        subject = left.pop()
                        accepted[subject] = submitted(session, user, [to], subject)
            except (OSError, smtplib.SMTPException):
                stop.wait(0.1)
            except BaseException as error:
                problems.append(error)
                return

    threads = [threading.Thread(target=send, args=(name,)) for name in range(senders)]
    for thread in threads:
        thread.start()
    try:
        yield accepted
        for thread in threads:
            thread.join(2 * DEADLINE)
            assert not thread.is_alive()
        assert not problems
    finally:
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
