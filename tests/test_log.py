"""One line an event, whatever a client has sent."""

from __future__ import annotations

import io
import json
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import ILogObserver, Logger, LogLevel
from twisted.python.failure import Failure
from twisted.python.log import LogPublisher as LegacyPublisher
from zope.interface.verify import verifyObject

from twisted_mail import log
from twisted_mail.log import MAX_LINE, make_observer

NOON = 1795262400.0  # 2026-11-21 12:00:00 UTC


def written(format: Literal["text", "json"], text: str, **fields: Any) -> str:
    file = io.StringIO()
    observer = make_observer(format, file)
    verifyObject(ILogObserver, observer)
    event = {
        "log_time": NOON,
        "log_level": LogLevel.info,
        "log_namespace": "twisted_mail.smtp",
        "log_source": object(),
        "log_format": text,
    }
    observer(event | fields)
    return file.getvalue()


def test_text_has_time_ids_text_and_the_other_fields() -> None:
    line = written(
        "text",
        "refused {recipient}",
        message="m1",
        recipient="bob@example.org",
        connection="ab12",
        client="192.0.2.1",
        tls=None,
        seconds=0.5,
        reason="no such user",
    )
    assert line == (
        "2026-11-21T12:00:00Z connection=ab12 message=m1 refused bob@example.org "
        'client=192.0.2.1 seconds=0.5 reason="no such user"\n'
    )


def test_text_names_the_level_when_it_is_not_info() -> None:
    assert written("text", "disk full", log_level=LogLevel.error) == (
        "2026-11-21T12:00:00Z error disk full\n"
    )


def test_json_has_every_field() -> None:
    line = written("json", "refused {recipient}", recipient="bob@example.org", connection="ab12")
    assert json.loads(line) == {
        "time": "2026-11-21T12:00:00.000Z",
        "level": "info",
        "namespace": "twisted_mail.smtp",
        "text": "refused bob@example.org",
        "recipient": "bob@example.org",
        "connection": "ab12",
    }


def test_json_takes_any_value() -> None:
    class Secretive:
        def __str__(self) -> str:
            raise ValueError("no")

    circle: list[Any] = []
    circle.append(circle)
    line = json.loads(
        written(
            "json",
            "x",
            octets=b"a\xff",
            names=("a", "b"),
            level=7,
            thing={1: {2, 3}.__class__},
            nan=float("nan"),
            circle=circle,
            secretive=Secretive(),
            none=None,
            yes=True,
            share=0.25,
        )
    )
    assert line["octets"] == "a\\xff"
    assert line["names"] == ["a", "b"]
    assert line["level"] == "info"
    assert line["thing"] == {"1": "<class 'set'>"}
    assert line["nan"] == "nan"
    assert line["circle"] == "[[...]]"
    assert line["secretive"] == "<Secretive that cannot be shown>"
    assert (line["none"], line["yes"], line["share"]) == (None, True, 0.25)


def test_a_client_cannot_forge_a_line_or_a_field() -> None:
    evil = "x\r\n2026-11-21T12:00:01Z connection=zz logged in\x1b[31m\u2028\u202e\ud800"
    line = written("text", "HELO {helo}", helo=evil, agent='a" connection="b')
    assert line == (
        "2026-11-21T12:00:00Z HELO x\\r\\n2026-11-21T12:00:01Z connection=zz logged in\\x1b[31m"
        '\\u2028\\u202e\\ud800 agent="a\\" connection=\\"b"\n'
    )
    assert written("json", "HELO {helo}", helo=evil).count("\n") == 1


@given(st.text(st.characters(codec=None)), st.text(), st.binary())
def test_one_line_an_event_that_can_be_encoded(text: str, field: str, octets: bytes) -> None:
    for form in ("text", "json"):
        line = written(form, "{said}", said=text, field=field, octets=octets)
        assert line.encode("utf-8").endswith(b"\n")
        assert len(line.splitlines()) == 1


def test_a_failure_is_one_line_too() -> None:
    try:
        raise OSError("no\nspace")
    except OSError:
        failure = Failure()
    line = written("text", "cannot write", log_level=LogLevel.critical, log_failure=failure)
    assert len(line.splitlines()) == 1
    assert line.startswith("2026-11-21T12:00:00Z critical cannot write OSError: no\\nspace; Trace")
    record = json.loads(written("json", "cannot write", log_failure=failure))
    assert record["error"] == "OSError: no\nspace"
    assert record["traceback"].startswith("Traceback")


def test_lines_are_bounded() -> None:
    assert len(written("text", "{said}", said="x" * 100_000)) == MAX_LINE + 1
    record = json.loads(written("json", "{said}", said="x" * 100_000, many=["x"] * 100_000))
    assert len(record["text"]) == len(record["said"]) == len(record["many"]) == MAX_LINE


def test_less_important_events_are_left_out() -> None:
    assert written("text", "x", log_level=LogLevel.debug) == ""
    file = io.StringIO()
    Logger(observer=make_observer("text", file, level=LogLevel.error)).warn("x")
    Logger(observer=make_observer("text", file, level=LogLevel.debug)).debug("y", n=1)
    assert file.getvalue().endswith("Z debug y n=1\n")


def test_what_the_older_logging_says() -> None:
    file = io.StringIO()
    observer = make_observer("json", file)
    publisher = LegacyPublisher(observerPublisher=None, publishPublisher=observer)
    publisher.msg("from a library", system="-")
    record = json.loads(file.getvalue())
    assert record["text"] == "from a library"
    assert "message" not in record and "isError" not in record


def test_an_event_that_cannot_be_written_leaves_a_line():
    class Broken:
        def __str__(self) -> str:
            raise LookupError("no codec")

        __repr__ = __str__

    file = io.StringIO()
    observer = make_observer("text", file)
    observer({"log_format": "{it}", "log_namespace": "here", "it": Broken(), "log_time": 0.0})
    assert file.getvalue().count("\n") == 1


def test_our_logger_says_what_twisteds_says() -> None:
    events: list[dict[str, Any]] = []
    for kind in (Logger, log.Logger):
        logger = kind("here", "a source", events.append)
        logger.info("{account} logged in", account="bob", log_trace=[])
        logger.info("{account} logged in", account="bob")
        logger.warn("slow")
    for event in events:
        assert isinstance(event.pop("log_time"), float)
        assert isinstance(event.pop("log_logger"), Logger)
        assert "log_trace" not in event or len(event.pop("log_trace")) == 1
    assert events[3:] == events[:3]


def test_our_logger_knows_its_module_and_class() -> None:
    class Owner:
        log = log.Logger()

    assert log.Logger().namespace == __name__
    assert Owner().log.namespace.endswith(".Owner")
