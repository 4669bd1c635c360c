"""What refusals say for the log: nothing twice."""

from __future__ import annotations

import pytest

from twisted_mail.policy.decide import DecisionSettings, decide
from twisted_mail.policy.verdicts import Dmarc, Spf, Verdicts

FAIL = Dmarc("fail", "example.net", policy="reject")
NO_MAIL = Spf("fail", "mail", "example.net", bare=True)
UNKNOWN = Spf("temperror", "mail", "example.net")


@pytest.mark.parametrize(
    ("verdicts", "word"),
    [
        (Verdicts(dmarc=FAIL), "(DMARC)"),
        (Verdicts(mail=NO_MAIL), "SPF"),
        (Verdicts(mail=UNKNOWN), "(SPF)"),
    ],
)
def test_the_cause_does_not_repeat_the_text(verdicts, word):
    error = decide(verdicts, settings=DecisionSettings(spf_dns_failure="defer")).error
    assert error is not None
    assert str(error).count(word) == 1
    assert str(error) == f"{error.code} {error.enhanced} {error.text}"
