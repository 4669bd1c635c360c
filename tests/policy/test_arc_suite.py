"""The public ARC test suite (ValiMail's arc_test_suite), where it is: the directory that ARC_TEST_SUITE names.

git clone https://github.com/ValiMail/arc_test_suite
ARC_TEST_SUITE=arc_test_suite/tests pytest tests/policy/test_arc_suite.py
"""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from signed_mail import verified

from twisted_mail.message.headers import split
from twisted_mail.testing.dns import Zone

SUITE = os.environ["ARC_TEST_SUITE"]


def test_validation():
    wrong = []
    count = 0
    text = (Path(SUITE) / "arc-draft-validation-tests.yml").read_text()
    for scenario in filter(None, yaml.safe_load_all(text)):
        zone = Zone(
            {
                name: {"TXT": [record]}
                for name, record in (scenario.get("txt-records") or {}).items()
            }
        )
        for name, case in scenario["tests"].items():
            header, body = split((case["message"] or "").encode())
            _, found = verified(header, body.removeprefix(b"\n"), zone, now=12345)
            # an empty cv: is said of chains that end in cv=fail
            expected = (case["cv"] or "").strip().lower() or "fail"
            count += 1
            if found.result != expected:
                wrong.append((name, expected, found))
    assert not wrong
    assert count > 150
