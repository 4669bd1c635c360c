"""For whom a certificate or a pattern is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from remote_fakes import self_signed

from twisted_mail.remote.names import certificate_names, is_for, name_matches


@pytest.mark.parametrize(
    ("pattern", "name", "good"),
    [
        ("mx.example.org", "mx.example.org", True),
        ("MX.Example.org.", "mx.example.ORG", True),
        ("mx.example.org", "mx2.example.org", False),
        ("*.example.org", "mx.example.org", True),
        ("*.example.org", "a.mx.example.org", False),
        ("*.example.org", "example.org", False),
        ("*.example.org", ".example.org", False),
        ("*.org", "example.org", False),  # "*" for a whole registry is nobody's name
        ("*", "example", False),
        ("m*.example.org", "mx.example.org", False),
        ("a.*.org", "a.example.org", False),
        ("", "", False),
    ],
)
def test_name_matches(pattern: str, name: str, good: bool) -> None:
    assert name_matches(pattern, name) is good


@pytest.mark.parametrize(
    ("wanted", "good"),
    [
        ("mx.example.org", True),
        (".example.org", True),
        (".ample.org", False),
        ("other.example", False),
        ("192.0.2.1", False),
        ("[192.0.2.1]", False),
    ],
)
def test_is_for(wanted: str, good: bool) -> None:
    assert is_for(["mx.example.org"], [wanted]) is good


def test_addresses() -> None:
    names = ["192.0.2.1", "2001:db8::1"]
    assert is_for(names, ["192.0.2.1"]) and is_for(names, ["[192.0.2.1]"])
    assert is_for(names, ["[IPv6:2001:db8::1]"]) and not is_for(names, ["192.0.2.2"])


def test_the_common_name_is_no_name() -> None:
    assert certificate_names(self_signed("a.example")) == ["a.example"]


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_text_makes_it_raise(pattern: str, name: str) -> None:
    name_matches(pattern, name)
    is_for([pattern], [name])
