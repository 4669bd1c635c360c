"""A report about TLS (RFC 8460) as values and as JSON, and the TXT record that asks for it.

`read` takes what others send and raises `ReportError` with one line for people; it bounds policies, failures and texts.
Counts and dates that are nonsense become 0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from ..message.words import one_line
from .unpack import ReportError

__all__ = ["TlsFailure", "TlsPolicyResult", "TlsReport", "read", "rua_of", "write"]

MAX_POLICIES: Final = 1000
MAX_FAILURES: Final = 10_000
MAX_STRINGS: Final = 200
MAX_TEXT: Final = 1000
MAX_COUNT: Final = 10**12
MAX_URIS: Final = 10
_VERSION: Final = b"v=TLSRPTv1"
_DIGITS: Final = re.compile(r"[0-9]{1,12}")


class TlsFailure(NamedTuple):
    """RFC 8460 section 4.3. `result` is a result-type; `host` the MX, `address` where it is."""

    result: str
    host: str = ""
    address: str = ""
    sender: str = ""
    helo: str = ""
    more: str = ""
    reason: str = ""


class TlsPolicyResult(NamedTuple):
    """RFC 8460 section 4.4. `kind`: tlsa, sts or no-policy-found; `text`: the policy's lines; `mx`: its patterns."""

    kind: str
    domain: str
    text: tuple[str, ...] = ()
    mx: tuple[str, ...] = ()
    successes: int = 0
    failed: int = 0
    failures: tuple[tuple[TlsFailure, int], ...] = ()


class TlsReport(NamedTuple):
    """`begin`, `end`: seconds since 1970."""

    organization: str
    contact: str
    id: str
    begin: int
    end: int
    policies: tuple[TlsPolicyResult, ...]


def rua_of(records: Sequence[bytes]) -> tuple[str, ...]:
    """Where reports go, by the TXT records of ``_smtp._tls.``; () when there are none wanted."""
    # RFC 8460 section 3: others do not count, and of ours there must be one
    ours = [one for one in records if one.partition(b";")[0].rstrip(b" \t") == _VERSION]
    if len(ours) != 1 or len(ours[0]) > 4096 or not ours[0].isascii():
        return ()
    for field in ours[0].decode("ascii").split(";")[1:]:
        name, _, value = field.partition("=")
        if name.strip(" \t") == "rua":
            found = [one.strip(" \t") for one in value.split(",")[:MAX_URIS]]
            return tuple(
                one
                for one in dict.fromkeys(found)
                if one.lower().startswith(("mailto:", "https://"))
                and one.isprintable()
                and " " not in one
                and len(one) <= 500
            )
    return ()


def write(report: TlsReport) -> bytes:
    """The document."""
    value = {
        "organization-name": report.organization,
        "date-range": {
            "start-datetime": _moment(report.begin),
            "end-datetime": _moment(report.end),
        },
        "contact-info": report.contact,
        "report-id": report.id,
        "policies": [_policy(one) for one in report.policies],
    }
    return (json.dumps(value, indent=1) + "\n").encode()


def _policy(one: TlsPolicyResult) -> dict[str, Any]:
    policy: dict[str, Any] = {"policy-type": one.kind}
    if one.text:
        policy["policy-string"] = list(one.text)
    policy["policy-domain"] = one.domain
    if one.mx:
        policy["mx-host"] = list(one.mx)
    value: dict[str, Any] = {
        "policy": policy,
        "summary": {
            "total-successful-session-count": one.successes,
            "total-failure-session-count": one.failed,
        },
    }
    if one.failures:
        value["failure-details"] = [_failure(*found) for found in one.failures]
    return value


def _failure(one: TlsFailure, count: int) -> dict[str, Any]:
    said = {
        "result-type": one.result,
        "sending-mta-ip": one.sender,
        "receiving-mx-hostname": one.host,
        "receiving-mx-helo": one.helo,
        "receiving-ip": one.address,
        "additional-information": one.more,
        "failure-reason-code": one.reason,
    }
    return {name: text for name, text in said.items() if text} | {"failed-session-count": count}


def read(document: bytes) -> TlsReport:
    """Raises ReportError."""
    try:
        value = json.loads(document, parse_constant=_no_number, parse_int=_integer)
    except RecursionError:
        raise ReportError("it is nested too deep") from None
    except ValueError as error:
        raise ReportError(f"it is no JSON: {one_line(str(error))[:200]}") from None
    if not isinstance(value, dict) or not isinstance(value.get("policies"), list):
        raise ReportError("it is no TLS report: it has no policies")
    span = _object(value, "date-range")
    left = MAX_FAILURES
    policies = []
    for one in value["policies"][:MAX_POLICIES]:
        if not isinstance(one, dict):
            continue
        found = _read_policy(one, left)
        left -= len(found.failures)
        policies.append(found)
    return TlsReport(
        _text(value, "organization-name"),
        _text(value, "contact-info"),
        _text(value, "report-id"),
        _seconds(_text(span, "start-datetime")),
        _seconds(_text(span, "end-datetime")),
        tuple(policies),
    )


def _read_policy(value: Mapping[str, Any], left: int) -> TlsPolicyResult:
    policy, summary = _object(value, "policy"), _object(value, "summary")
    details = value.get("failure-details")
    failures: list[tuple[TlsFailure, int]] = []
    for one in details[:left] if isinstance(details, list) else ():
        if not isinstance(one, dict):
            continue
        failure = TlsFailure(
            _text(one, "result-type"),
            _text(one, "receiving-mx-hostname"),
            _text(one, "receiving-ip"),
            _text(one, "sending-mta-ip"),
            _text(one, "receiving-mx-helo"),
            _text(one, "additional-information"),
            _text(one, "failure-reason-code"),
        )
        failures.append((failure, _count(one, "failed-session-count")))
    return TlsPolicyResult(
        _text(policy, "policy-type"),
        _text(policy, "policy-domain").lower().rstrip("."),
        _strings(policy, "policy-string"),
        # What the text of RFC 8460 section 4.4 calls mx-host-pattern is mx-host in its examples
        _strings(policy, "mx-host") or _strings(policy, "mx-host-pattern"),
        _count(summary, "total-successful-session-count"),
        _count(summary, "total-failure-session-count"),
        tuple(failures),
    )


def _object(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    return one_line(found[:MAX_TEXT]) if isinstance(found, str) else ""


def _strings(value: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = value.get(name)
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list):
        return ()
    return tuple(one_line(one[:MAX_TEXT]) for one in found[:MAX_STRINGS] if isinstance(one, str))


def _count(value: Mapping[str, Any], name: str) -> int:
    found = value.get(name)
    if isinstance(found, str) and _DIGITS.fullmatch(found):
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int):
        return 0
    return min(max(found, 0), MAX_COUNT)


def _integer(text: str) -> int:
    # Thousands of digits take a long time
    return int(text) if len(text) <= 20 else 0


def _no_number(text: str) -> None:
    return None


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> int:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return 0
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    try:
        # In UTC, which may be beyond the last year, or before the first
        return max(int(found.astimezone(UTC).timestamp()), 0)
    except (OverflowError, ValueError):
        return 0
