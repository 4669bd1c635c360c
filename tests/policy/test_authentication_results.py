"""`Verdicts` as an Authentication-Results field."""

from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.message.authres import read
from twisted_mail.policy.results import authentication_results, iprev, results
from twisted_mail.policy.spf_field import received_spf
from twisted_mail.policy.verdicts import Arc, Dkim, Dmarc, Spf, Verdicts


def test_a_usual_message() -> None:
    verdicts = Verdicts(
        helo=Spf("none", "helo", "mail.example.org"),
        mail=Spf("pass", "mailfrom", "example.org", "alice@example.org", "mx"),
        dkim=(
            Dkim("pass", "example.org", "s1", "@example.org", "rsa-sha256", 2048, "dGVzdA/+"),
            Dkim(
                "fail", "list.example", "s2", "@list.example", testing=True, reason="body (x) hash"
            ),
        ),
        arc=Arc("pass", 2, ("a.example", "b.example")),
        dmarc=Dmarc("pass", "example.org", "example.org", "example.org", "reject", False, ("spf",)),
    )
    assert authentication_results("mx.example.net", verdicts).decode() == (
        "Authentication-Results: mx.example.net;\n"
        "\tspf=pass (matched mx) smtp.mailfrom=alice@example.org;\n"
        "\tspf=none smtp.helo=mail.example.org;\n"
        "\tdkim=pass (2048-bit key) header.d=example.org header.i=@example.org header.s=s1"
        ' header.a=rsa-sha256 header.b="dGVzdA/+";\n'
        '\tdkim=fail (testing) reason="body (x) hash" header.d=list.example header.i=@list.example'
        " header.s=s2;\n"
        "\tarc=pass (i=2, sealed by a.example, b.example);\n"
        "\tdmarc=pass (p=reject aligned: spf) header.from=example.org\n"
    )


def test_a_failing_message_says_what_was_asked_and_what_was_done() -> None:
    verdict = Dmarc("fail", "a.example.org", "example.org", "example.org", "reject", True)
    field = authentication_results("mx", Verdicts(dmarc=verdict), disposition="quarantine")
    assert field == (
        b"Authentication-Results: mx;\n"
        b"\tdmarc=fail (p=reject not for this one by example.org dis=quarantine)"
        b" header.from=a.example.org policy.dmarc=quarantine\n"
    )


def test_nothing_was_asked() -> None:
    assert authentication_results("mx", Verdicts()) == b"Authentication-Results: mx;\n\tnone\n"
    more = [iprev("pass", "2001:db8::1", "mx.example.org")]
    assert authentication_results("mx", Verdicts(), more=more) == (
        b'Authentication-Results: mx;\n\tiprev=pass (mx.example.org) policy.iprev="2001:db8::1"\n'
    )


def test_why_there_is_no_answer_is_not_told_to_the_world() -> None:
    why = "TXT of example.org: 192.0.2.53 port 53 says SERVFAIL"
    spf = Spf("temperror", "mailfrom", "example.org", "a@example.org", reason=why)
    verdicts = Verdicts(
        mail=spf,
        dkim=(Dkim("temperror", "example.org", reason=why),),
        arc=Arc("temperror", 1, reason=why),
        dmarc=Dmarc("temperror", "example.org", reason=why),
    )
    field = authentication_results("mx", verdicts)
    field += received_spf(spf, ip="192.0.2.1", helo="x", receiver="mx")
    assert field.count(b"temperror") == 5 and b"SERVFAIL" not in field


def test_a_hundred_signatures_do_not_fill_the_header() -> None:
    signatures = (*(Dkim("fail", f"n{n}.example") for n in range(99)), Dkim("pass", "example.org"))
    told = results(Verdicts(dkim=signatures))
    assert len(told) == 20 and told[0].result == "pass"


anything = st.text(max_size=200)
spfs = st.builds(
    Spf,
    st.just("fail"),
    st.sampled_from(("helo", "mailfrom")),
    anything,
    anything,
    anything,
    anything,
    anything,
)


@given(spfs, anything, anything, anything)
def test_no_value_breaks_a_field(verdict: Spf, name: str, ip: str, helo: str) -> None:
    verdicts = Verdicts(
        mail=verdict,
        dkim=(Dkim("fail", name, name, name, name, 1, name, True, name),),
        arc=Arc("fail", 1, (name,), (name,), name),
        dmarc=Dmarc("fail", name, name, name, name, True, (name,), name, (name,), name),
    )
    for utf8 in (False, True):
        field = authentication_results("mx", verdicts, utf8=utf8)
        found = read(field.partition(b":")[2])
        assert found is not None
        assert [one.method for one in found.results] == ["spf", "dkim", "arc", "dmarc"]
    for field in (
        authentication_results("mx", verdicts),
        received_spf(verdict, ip=ip, helo=helo, receiver=name),
    ):
        assert field.isascii() and b"\r" not in field and b"\0" not in field
        lines = field[:-1].split(b"\n")
        assert all(line[:1] == b"\t" and line.strip() and len(line) < 998 for line in lines[1:])


def test_received_spf() -> None:
    verdict = Spf("softfail", "mailfrom", "example.org", '"x y"@example.org', "~all", "no (reason)")
    assert received_spf(verdict, ip="192.0.2.1", helo="a b", receiver="mx.example.net") == (
        b"Received-SPF: softfail (mx.example.net: example.org says that 192.0.2.1 probably may not"
        b" send for it: no [reason])\n"
        b"\tclient-ip=192.0.2.1;\n"
        b'\tenvelope-from="\\"x y\\"@example.org";\n'
        b'\thelo="a b";\n'
        b"\treceiver=mx.example.net;\n"
        b"\tidentity=mailfrom;\n"
        b"\tmechanism=~all;\n"
        b'\tproblem="no (reason)"\n'
    )
