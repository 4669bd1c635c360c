"""What follows from the verdicts, in tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.address import Address
from twisted_mail.policy.decide import DecisionSettings, decide, trusted_chain
from twisted_mail.policy.scores import Score, Weights
from twisted_mail.policy.spf import check_mail
from twisted_mail.policy.verdicts import Arc, Dkim, Dmarc, Spf, Verdicts
from twisted_mail.testing import simulated_world
from twisted_mail.testing.dns import FakeResolver

NO_WEIGHTS = Weights(*[0.0] * len(Weights._fields))
PLAIN = DecisionSettings(weights=NO_WEIGHTS)


def dmarc(result="fail", policy="reject", **more):
    return Dmarc(result, "bank.example", "bank.example", "bank.example", policy, **more)


def arc(*chain, result="pass"):
    return Arc(
        result, len(chain), tuple(one for one, _ in chain), tuple(value for _, value in chain)
    )


def judged(settings=PLAIN, scores=(), **verdicts):
    return decide(Verdicts(**verdicts), scores, settings)


SPF_FAIL = Spf("fail", "mailfrom", "example.net", "bob@example.net", "-all")
NO_MAIL = SPF_FAIL._replace(bare=True)


@pytest.mark.parametrize(
    ("verdict", "action", "disposition"),
    [
        (dmarc("pass"), "accept", "none"),
        (dmarc("none"), "accept", "none"),
        (dmarc("permerror", "none"), "accept", "none"),
        (dmarc("permerror", "reject"), "refuse", "reject"),
        (dmarc("fail", "none"), "accept", "none"),
        (dmarc("fail", "quarantine"), "junk", "quarantine"),
        (dmarc("fail", "reject"), "refuse", "reject"),
        (dmarc("fail", "what?"), "accept", "none"),
        (dmarc("fail", "reject", sampled=True), "junk", "quarantine"),
        (dmarc("fail", "quarantine", sampled=True), "accept", "none"),
        (dmarc("fail", "none", sampled=True), "accept", "none"),
        (dmarc("temperror", "none"), "defer", "none"),
    ],
)
def test_dmarc(verdict, action, disposition):
    decision = judged(dmarc=verdict)
    assert (decision.action, decision.disposition) == (action, disposition)
    assert (decision.error is None) == (action in ("accept", "junk"))
    if action == "accept":
        assert decision.rule == ""


def test_a_forged_message_is_refused_in_words_that_help():
    error = judged(dmarc=dmarc()).error
    assert (error.code, error.enhanced) == (550, "5.7.26")
    assert error.text == (
        "Nothing shows that this message comes from bank.example: neither SPF nor DKIM passes for it, and bank.example"
        " wants such mail refused (DMARC)"
    )


def test_what_is_sampled_out_is_told_to_the_reports():
    assert judged(dmarc=dmarc(sampled=True)).override == "sampled_out"
    assert judged(dmarc=dmarc()).override == ""


def test_dmarc_can_be_off():
    settings = PLAIN._replace(dmarc=False)
    assert judged(settings, dmarc=dmarc())[0] == "accept"
    assert judged(settings, dmarc=dmarc()).override == "local_policy"
    assert judged(settings, dmarc=dmarc("temperror")).action == "accept"


@pytest.mark.parametrize(
    ("exceptions", "action", "override"),
    [
        ({"bank.example": "none"}, "accept", "local_policy"),
        ({"bank.example": "quarantine"}, "junk", "local_policy"),
        ({"bank.example": "reject"}, "refuse", ""),
        ({"example": "none"}, "accept", "local_policy"),
        ({"example": "none", "bank.example": "quarantine"}, "junk", "local_policy"),
        ({"ank.example": "none", "www.bank.example": "none"}, "refuse", ""),
        ({"bank.example": "perhaps"}, "refuse", ""),
    ],
)
def test_exceptions_for_domains(exceptions, action, override):
    decision = judged(PLAIN._replace(exceptions=exceptions), dmarc=dmarc())
    assert (decision.action, decision.override) == (action, override)


def test_an_exception_may_ask_for_more_than_the_record():
    settings = PLAIN._replace(exceptions={"bank.example": "reject"})
    decision = judged(settings, dmarc=dmarc("fail", "none"))
    assert (decision.action, decision.override) == ("refuse", "local_policy")
    assert "this site wants" in decision.error.text
    assert judged(settings, dmarc=dmarc("fail", "reject", sampled=True)).action == "refuse"


TRUSTED = PLAIN._replace(trusted_sealers={"forward.example", "lists.example"})
GOOD = "mx.forward.example; dmarc=pass (p=REJECT) header.from=bank.example"


@pytest.mark.parametrize(
    ("chain", "sealer"),
    [
        (arc(("forward.example", GOOD)), "forward.example"),
        (arc(("mx.forward.example", GOOD)), "mx.forward.example"),
        (arc(("forward.example", "forward.example; dmarc=pass")), "forward.example"),
        (
            arc(
                ("forward.example", "f; dmarc=pass header.from=bank.example"),
                ("lists.example", "l; arc=pass; dmarc=fail header.from=bank.example"),
            ),
            "forward.example",
        ),
        (
            arc(("forward.example", "f; spf=pass smtp.mailfrom=x@news.bank.example")),
            "forward.example",
        ),
        (arc(("forward.example", "f; spf=pass smtp.mailfrom=bank.example")), "forward.example"),
        (
            arc(
                (
                    "forward.example",
                    "f; dkim=fail header.d=bank.example; dkim=pass header.d=bank.example",
                )
            ),
            "forward.example",
        ),
        (arc(("forward.example", "f; dkim=pass header.i=@bank.example")), "forward.example"),
        (arc(("forward.example", "f; dkim=pass header.d=other.example")), ""),
        (arc(("forward.example", "f; dkim=pass header.d=notbank.example")), ""),
        (arc(("forward.example", "f; spf=pass smtp.mailfrom=x@other.example")), ""),
        (arc(("forward.example", "f; dmarc=pass header.from=other.example")), ""),
        (
            arc(
                (
                    "forward.example",
                    "f; dmarc=fail header.from=bank.example; spf=softfail smtp.mailfrom=bank.example",
                )
            ),
            "",
        ),
        (arc(("forward.example", "f; x=y (dmarc=pass)")), ""),
        (arc(("forward.example", "")), ""),
        (arc(("forward.example", GOOD), result="fail"), ""),
        (arc(("evil.example", GOOD)), ""),
        (arc(("notforward.example", GOOD)), ""),
        # Who is not trusted stands between
        (arc(("forward.example", GOOD), ("evil.example", "e; arc=pass")), ""),
        (arc(("evil.example", GOOD), ("forward.example", "f; arc=pass; dmarc=fail")), ""),
        (arc(), ""),
        (None, ""),
    ],
)
def test_whose_word_counts(chain, sealer):
    assert trusted_chain(chain, dmarc(), TRUSTED.trusted_sealers) == sealer
    decision = judged(TRUSTED, dmarc=dmarc(), arc=chain, mail=NO_MAIL)
    assert decision.action == ("accept" if sealer else "refuse")
    assert decision.override == ("trusted_forwarder" if sealer else "")
    assert judged(dmarc=dmarc(), arc=chain).action == "refuse"


def test_signs_of_a_forwarder_are_not_held_against_what_he_forwards():
    settings = TRUSTED._replace(weights=Weights())
    decision = judged(settings, dmarc=dmarc(), arc=arc(("forward.example", GOOD)), mail=SPF_FAIL)
    assert decision.score == 0
    assert any("whom we trust" in line for line in decision.story)


def test_a_known_mailing_list_may_break_signatures():
    settings = PLAIN._replace(mailing_lists=("lists.example",))
    broken = Dkim("fail", "bank.example")
    shown = Dkim("pass", "lists.example")
    decision = judged(settings, dmarc=dmarc(), dkim=(broken, shown))
    assert (decision.action, decision.override) == ("accept", "mailing_list")
    sent = Spf("pass", "mailfrom", "bounces.lists.example")
    assert judged(settings, dmarc=dmarc(), mail=sent).override == "mailing_list"
    assert judged(settings, dmarc=dmarc(), dkim=(shown._replace(result="fail"),)).action == "refuse"
    assert judged(settings, dmarc=dmarc(), dkim=(broken,)).action == "refuse"
    assert judged(PLAIN, dmarc=dmarc(), dkim=(shown,)).action == "refuse"


@pytest.mark.parametrize(
    ("verdicts", "enhanced"),
    [
        ({"dmarc": dmarc("temperror")}, "4.4.3"),
        ({"dmarc": dmarc(), "mail": Spf("temperror", "mailfrom", "mail.bank.example")}, "4.7.24"),
        (
            {"dmarc": dmarc("fail", "quarantine"), "dkim": (Dkim("temperror", "bank.example"),)},
            "4.4.3",
        ),
    ],
)
def test_what_the_dns_could_not_tell_puts_off(verdicts, enhanced):
    decision = judged(**verdicts)
    assert (decision.action, decision.rule) == ("defer", "dns")
    assert (decision.error.code, decision.error.enhanced) == (451, enhanced)
    accepting = judged(PLAIN._replace(dns_failure="accept"), **verdicts)
    assert (
        accepting.action
        == {
            "temperror": "accept",
            "fail": {"reject": "refuse", "quarantine": "junk"}[verdicts["dmarc"].policy],
        }[verdicts["dmarc"].result]
    )


@pytest.mark.parametrize(
    "verdicts",
    [
        {"mail": Spf("temperror", "mailfrom", "bank.example")},
        {"mail": Spf("temperror", "mailfrom", "bank.example"), "dmarc": dmarc("pass")},
        {"mail": Spf("temperror", "mailfrom", "bank.example"), "dmarc": dmarc("fail", "none")},
        {"dkim": (Dkim("temperror", "bank.example"),), "dmarc": dmarc("none")},
    ],
)
def test_what_would_not_have_decided_puts_nothing_off(verdicts):
    assert judged(**verdicts).action == "accept"


def test_a_temporary_failure_of_others_saves_nobody():
    others = Spf("temperror", "mailfrom", "evil.example")
    assert judged(dmarc=dmarc(), mail=others).action == "refuse"
    assert judged(dmarc=dmarc(), dkim=(Dkim("temperror", "evil.example"),)).action == "refuse"


def test_a_chain_that_may_be_a_trusted_one_puts_off():
    chain = Arc("temperror", 1)
    assert judged(TRUSTED, dmarc=dmarc(), arc=chain).action == "defer"
    assert judged(PLAIN, dmarc=dmarc(), arc=chain).action == "refuse"


def test_spf_may_put_off_by_itself_when_a_site_wants_so():
    settings = PLAIN._replace(spf_dns_failure="defer")
    decision = judged(settings, mail=Spf("temperror", "mailfrom", "example.net"))
    assert (decision.action, decision.error.enhanced) == ("defer", "4.7.24")
    passed = judged(settings, mail=Spf("temperror", "mailfrom", "example.net"), dmarc=dmarc("pass"))
    assert passed.action == "accept"


@pytest.mark.parametrize(
    ("settings", "mail", "action"),
    [
        (PLAIN, SPF_FAIL, "accept"),
        (PLAIN, NO_MAIL, "refuse"),
        (PLAIN._replace(spf_fail="junk"), SPF_FAIL, "junk"),
        (PLAIN._replace(spf_fail="refuse"), SPF_FAIL, "refuse"),
        (PLAIN._replace(spf_fail="refuse", spf_no_mail="score"), NO_MAIL, "accept"),
        (PLAIN._replace(spf_no_mail="junk"), NO_MAIL, "junk"),
        (PLAIN._replace(spf_fail="refuse"), SPF_FAIL._replace(result="softfail"), "accept"),
        (PLAIN._replace(spf_fail="refuse"), SPF_FAIL._replace(result="permerror"), "accept"),
    ],
)
def test_spf_by_itself(settings, mail, action):
    decision = judged(settings, mail=mail)
    assert decision.action == action
    if action == "refuse":
        assert (decision.error.code, decision.error.enhanced) == (550, "5.7.23")
        assert decision.error.text.isascii()
    assert judged(settings, mail=mail, dmarc=dmarc("pass")).action == "accept"


def test_the_domains_own_words_are_told_as_its_own():
    mail = NO_MAIL._replace(explanation="see http://example.net/\r\n250 ok")
    text = judged(mail=mail).error.text
    assert text == (
        "Refused: example.net sends no mail, says its SPF record; example.net explains: see http://example.net/??250 ok"
    )


@pytest.mark.parametrize(
    ("record", "bare"),
    [
        ("v=spf1 -all", True),
        ("v=spf1 -all exp=why.example.net", True),
        ("v=spf1 ip4:192.0.2.1 -all", False),
        ("v=spf1 redirect=other.example", True),
        ("v=spf1 include:other.example -all", False),
        ("v=spf1 ~all", False),
        ("v=spf1 include:other.example", False),
    ],
)
def test_spf_tells_a_domain_that_sends_no_mail(record, bare):
    world = simulated_world()
    resolver = FakeResolver(
        {"example.net": {"TXT": [record]}, "other.example": {"TXT": ["v=spf1 -all"]}}
    )
    sender = Address("bob", "example.net")
    verdict = world.run(
        check_mail(resolver, world.reactor, ip="203.0.113.7", helo="x.example", sender=sender)
    )
    assert verdict.bare is bare


def scored(points):
    return (Score("one", points - 1, "listed by bl.example"), Score("two", 1.0, "no name"))


@pytest.mark.parametrize(
    ("points", "action"),
    [(0.0, "accept"), (4.99, "accept"), (5.0, "junk"), (14.9, "junk"), (15.0, "refuse")],
)
def test_thresholds(points, action):
    decision = judged(scores=scored(points))
    assert (decision.action, decision.score) == (action, points)
    if action == "refuse":
        assert (decision.error.code, decision.error.enhanced) == (550, "5.7.1")
        assert decision.error.text == "Too many signs of spam: listed by bl.example; no name"


def test_tenths_add_up():
    assert judged(scores=[Score("x", 0.1, "x")] * 50).action == "junk"


def test_thresholds_can_be_off():
    settings = PLAIN._replace(junk_score=None, reject_score=None)
    assert judged(settings, scored(1000.0)).action == "accept"


def test_good_signs_count_against_bad_ones():
    assert (
        judged(scores=[*scored(6.0), Score("wl", -3.0, "listed by wl.example")]).action == "accept"
    )


def test_the_hardest_wins():
    assert judged(scores=scored(20.0), dmarc=dmarc("temperror")).rule == "score"
    assert judged(scores=scored(6.0), dmarc=dmarc("temperror")).rule == "dns"
    assert judged(scores=scored(20.0), dmarc=dmarc()).rule == "dmarc"
    assert judged(scores=scored(6.0), dmarc=dmarc("fail", "quarantine")).rule == "dmarc"


def test_weights_of_authentication():
    settings = DecisionSettings()
    assert judged(settings, mail=SPF_FAIL).score == Weights().spf_fail
    assert judged(settings, mail=SPF_FAIL, dmarc=dmarc("pass")).score == 0
    both = judged(settings, mail=SPF_FAIL, dmarc=dmarc("fail", "none"))
    assert both.score == Weights().spf_fail + Weights().dmarc_fail
    helo = Spf("fail", "helo", "mail.example.net")
    assert judged(settings, helo=helo).score == Weights().helo_spf_fail
    soft = SPF_FAIL._replace(result="softfail")
    assert judged(settings, mail=soft).score == Weights().spf_softfail
    dkim = (Dkim("fail", "example.net"),)
    weighed = settings._replace(weights=Weights(dkim_broken=2.0))
    assert judged(weighed, dkim=dkim).score == 2.0
    assert judged(weighed, dkim=(*dkim, Dkim("pass", "other.example"))).score == 0


def test_the_story_is_told_from_the_verdicts_to_the_end():
    decision = judged(
        DecisionSettings(),
        [Score("dnsbl", 4.0, "listed by bl.example (127.0.0.2)")],
        mail=Spf("softfail", "mailfrom", "example.net", mechanism="~all"),
        dkim=(Dkim("fail", "example.net", "s1", reason="the body was changed"),),
        dmarc=Dmarc("fail", "example.net", "example.net", "example.net", "none"),
    )
    assert decision.story == (
        "SPF of MAIL FROM example.net: softfail (~all)",
        "DKIM of example.net: fail (s1; the body was changed)",
        "DMARC of example.net: fail (asks for none)",
        "+4: listed by bl.example (127.0.0.2)",
        "+1: this client probably may not send for example.net, says that domain's SPF",
        "+1.5: nothing shows that it comes from example.net (DMARC)",
        "junk: 6.5 points, with 5 it is junk",
    )


text = st.text(max_size=30)
results = st.sampled_from(["none", "pass", "fail", "softfail", "neutral", "temperror", "permerror"])
spfs = st.builds(
    Spf,
    results,
    st.sampled_from(["mailfrom", "helo"]),
    text,
    text,
    text,
    text,
    text,
    st.just(0),
    st.booleans(),
)
verdicts = st.builds(
    Verdicts,
    st.none() | spfs,
    st.none() | spfs,
    st.lists(st.builds(Dkim, results, text, text, text, reason=text), max_size=30).map(tuple),
    st.none()
    | st.builds(
        Arc,
        results,
        st.just(2),
        st.tuples(text, st.just("forward.example")),
        st.tuples(text, text),
        text,
    ),
    st.none()
    | st.builds(
        Dmarc,
        results,
        text,
        text,
        text,
        st.sampled_from(["none", "quarantine", "reject", "x"]),
        st.booleans(),
        reason=text,
    ),
)


@given(
    verdicts,
    st.lists(st.builds(Score, text, st.floats(-20, 20), st.just("a sign")), max_size=30),
    st.sampled_from(["score", "junk", "refuse"]),
)
def test_no_verdicts_break_a_decision(found, scores, spf_fail):
    settings = TRUSTED._replace(spf_fail=spf_fail, weights=Weights())
    decision = decide(found, scores, settings)
    assert (decision.error is not None) == (decision.action in ("refuse", "defer"))
    assert all(line.isascii() and line.isprintable() for line in decision.story)
    assert len(decision.story) <= 30
    if decision.error is not None:
        assert decision.error.text.isascii()
        assert decision.error.text.isprintable()
        assert len(decision.error.text) <= 400
        assert decision.error.code == (451 if decision.action == "defer" else 550)
    if found.dmarc is not None and found.dmarc.result == "pass" and not scores:
        assert decision.action == "accept"
