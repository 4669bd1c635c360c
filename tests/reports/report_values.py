"""What tests of reports share: strategies for verdicts, and the schema of RFC 9990 as a table."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from hypothesis import strategies as st

from twisted_mail.policy.verdicts import Dkim, Dmarc, Spf

NAMESPACE = "{urn:ietf:params:xml:ns:dmarc-2.0}"

_label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
domains = st.lists(_label, min_size=1, max_size=4).map(".".join)
# What peers choose: anything
texts = st.text(max_size=40)
addresses = st.one_of(st.ip_addresses().map(str), st.ip_addresses(v=4).map(lambda a: f"::ffff:{a}"))

spfs = st.builds(
    Spf,
    st.sampled_from(
        ("none", "neutral", "pass", "fail", "softfail", "temperror", "permerror", "odd")
    ),
    st.just("mailfrom"),
    st.one_of(domains, texts),
)
dkims = st.builds(
    Dkim,
    st.sampled_from(("pass", "fail", "policy", "neutral", "temperror", "permerror", "odd")),
    st.one_of(domains, texts),
    st.one_of(_label, texts),
)
records = st.builds(
    "v=DMARC1; p={}; {}".format,
    st.sampled_from(("none", "quarantine", "reject", "odd")),
    st.sampled_from(
        ("", "sp=none", "np=reject; adkim=s", "aspf=s; fo=1:d", "t=y", "pct=20", "sp=odd; x=<&>")
    ),
)


@st.composite
def dmarcs(draw):
    aligned = draw(st.lists(st.one_of(st.just("spf"), domains.map("dkim {}".format)), max_size=3))
    return Dmarc(
        "pass" if aligned else "fail",
        draw(domains),
        draw(domains),
        draw(domains),
        draw(st.sampled_from(("none", "quarantine", "reject"))),
        draw(st.booleans()),
        tuple(aligned),
        draw(records),
        ("mailto:a@example.org",),
    )


_POLICY = r"none|quarantine|reject"
_BOTH = r"pass|fail"
_ANY = r"(?s).*"
# RFC 9990 section 3.1.1: name → (how often, text or children); "all" of XSD has no order, "sequence" has
_SCHEMA = {
    "feedback": (
        True,
        {
            "version": ("?", r"1\.0"),
            "report_metadata": ("1", None),
            "policy_published": ("1", None),
            "record": ("+", None),
        },
    ),
    "report_metadata": (
        False,
        {
            "org_name": ("1", r".+"),
            "email": ("1", r".+"),
            "extra_contact_info": ("?", _ANY),
            "report_id": ("1", r"[A-Za-z0-9.]+@[A-Za-z0-9.-]+"),
            "date_range": ("1", None),
            "error": ("?", _ANY),
            "generator": ("?", _ANY),
        },
    ),
    "date_range": (False, {"begin": ("1", r"\d+"), "end": ("1", r"\d+")}),
    "policy_published": (
        False,
        {
            "domain": ("1", r".+"),
            "discovery_method": ("?", "psl|treewalk"),
            "p": ("1", _POLICY),
            "sp": ("?", _POLICY),
            "np": ("?", _POLICY),
            "fo": ("?", r"[01ds](:[01ds])*"),
            "adkim": ("?", "r|s"),
            "aspf": ("?", "r|s"),
            "testing": ("?", "n|y"),
        },
    ),
    "record": (
        True,
        {"row": ("1", None), "identifiers": ("1", None), "auth_results": ("1", None)},
    ),
    "row": (
        True,
        {
            "source_ip": ("1", r"[0-9a-f.:]+"),
            "count": ("1", r"\d+"),
            "policy_evaluated": ("1", None),
        },
    ),
    "policy_evaluated": (
        True,
        {
            "disposition": ("1", r"none|pass|quarantine|reject"),
            "dkim": ("1", _BOTH),
            "spf": ("1", _BOTH),
            "reason": ("*", None),
        },
    ),
    "reason": (
        False,
        {
            "type": ("1", "local_policy|mailing_list|other|policy_test_mode|trusted_forwarder"),
            "comment": ("?", _ANY),
        },
    ),
    "identifiers": (
        False,
        {
            "header_from": ("1", r".+"),
            "envelope_from": ("?", _ANY),
            "envelope_to": ("?", _ANY),
        },
    ),
    "auth_results": (True, {"dkim": ("*", None), "spf": ("?", None)}),
    "auth_results/dkim": (
        False,
        {
            "domain": ("1", _ANY),
            "selector": ("1", _ANY),
            "result": ("1", "none|pass|fail|policy|neutral|temperror|permerror"),
            "human_result": ("?", _ANY),
        },
    ),
    "auth_results/spf": (
        False,
        {
            "domain": ("1", r".+"),
            "scope": ("?", "mfrom"),
            "result": ("1", "none|neutral|pass|fail|softfail|temperror|permerror"),
            "human_result": ("?", _ANY),
        },
    ),
}
_TIMES = {"1": (1, 1), "?": (0, 1), "*": (0, 10**6), "+": (1, 10**6)}


def check_schema(document: bytes) -> None:
    """AssertionError where the document is not what the schema says."""
    root = ElementTree.fromstring(document)
    assert root.tag == NAMESPACE + "feedback"
    _check(root, "feedback")


def _check(element: ElementTree.Element, kind: str) -> None:
    ordered, wanted = _SCHEMA[kind]
    names = []
    for child in element:
        assert child.tag.startswith(NAMESPACE)
        names.append(child.tag.removeprefix(NAMESPACE))
    assert set(names) <= set(wanted), (kind, names)
    for name, (times, _) in wanted.items():
        least, most = _TIMES[times]
        assert least <= names.count(name) <= most, (kind, name)
    if ordered:
        assert names == sorted(names, key=list(wanted).index), (kind, names)
    for name, child in zip(names, element, strict=True):
        text = wanted[name][1]
        if text is None:
            _check(child, f"{kind}/{name}" if kind == "auth_results" else name)
        else:
            assert len(child) == 0
            assert re.fullmatch(text, child.text or "") is not None, (kind, name, child.text)
