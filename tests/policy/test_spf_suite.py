"""The test suite of RFC 7208 (data/rfc7208-tests.yml, OpenSPF project, release 2014.04), all of it."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from twisted_mail.policy.spf import SpfSettings, check_host
from twisted_mail.testing.dns import FakeResolver, Zone

SUITE = Path(__file__).parent / "data" / "rfc7208-tests.yml"


class Case(NamedTuple):
    scenario: str
    name: str
    zone: Zone
    given: dict[str, Any]


def read_zone(data: dict[str, list[Any]]) -> Zone:
    """The suite's zone: SPF stands for TXT where there is no TXT, TIMEOUT for all kinds that are not there."""
    zone = Zone()
    for name, entries in data.items():
        kinds: dict[str, list[Any]] = {}
        silent = False
        for entry in entries:
            if entry == "TIMEOUT":
                silent = True
                continue
            ((kind, value),) = entry.items()
            kinds.setdefault(kind, []).append(value)
        texts = kinds.pop("SPF", [])
        kinds.setdefault("TXT", texts)
        if kinds["TXT"] == ["NONE"]:
            kinds["TXT"] = []
        kinds["TXT"] = [
            "".join(text if isinstance(text, list) else [text]).encode("latin-1")
            for text in kinds["TXT"]
        ]
        zone[name] = {kind: found for kind, found in kinds.items() if found}
        if silent:
            zone.failing |= {
                f"{kind} {name.lower()}"
                for kind in ("TXT", "A", "AAAA", "MX", "PTR")
                if not kinds.get(kind)
            }
    return zone


def cases() -> list[Case]:
    return [
        Case(scenario["description"], name, read_zone(scenario["zonedata"]), given)
        for scenario in yaml.safe_load_all(SUITE.read_text())
        for name, given in scenario["tests"].items()
    ]


CASES = cases()


def test_the_suite_is_whole() -> None:
    assert len(CASES) == 203


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rfc_7208(case: Case) -> None:
    given = case.given
    local, _, domain = given["mailfrom"].rpartition("@")
    resolver = FakeResolver(case.zone)
    done = Deferred.fromCoroutine(
        check_host(
            resolver,
            Clock(),
            "mailfrom",
            ip=given["host"],
            helo=given["helo"],
            local=local,
            domain=domain if given["mailfrom"] else given["helo"],
            settings=SpfSettings(receiver=given.get("receiver", "unknown")),
        )
    )
    verdict = done.result
    wanted = given["result"]
    # Where the suite gives several, the first one is the one it prefers
    assert verdict.result == (wanted if isinstance(wanted, str) else wanted[0]), verdict
    if "explanation" in given:
        assert (verdict.explanation or "DEFAULT") == given["explanation"]
    assert len(resolver.questions) <= 112
