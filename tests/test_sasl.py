"""PLAIN, LOGIN and SCRAM-SHA-256: RFC examples, another implementation as the peer, and noise."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient, ScramException
from scramp.utils import saslprep as scramp_saslprep

from twisted_mail.sasl import (
    ForeignIdentity,
    SaslError,
    ScramChallenge,
    ScramFirst,
    ScramKeys,
    login_text,
    plain,
    saslprep,
)

SALT = b"sixteen bytes of"
KEYS = ScramKeys.derive("pencil", SALT, 4096)


def test_plain_as_in_rfc_4616() -> None:
    claim = plain(b"\0tim\0tanstaaftanstaaf")
    assert (claim.username, claim.password) == ("tim", "tanstaaftanstaaf")


def test_plain_may_repeat_the_name_as_authorization_identity() -> None:
    assert plain("ü@x\0ü@x\0päss".encode()).username == "ü@x"


def test_plain_may_not_act_as_somebody_else() -> None:
    with pytest.raises(ForeignIdentity):
        plain(b"Ursel\0Kurt\0xipj3plmq")


@pytest.mark.parametrize(
    "response", [b"", b"tim", b"\0tim", b"\0\0password", b"\0tim\0", b"\0tim\0a\0b", b"\0\xff\0x"]
)
def test_malformed_plain(response: bytes) -> None:
    with pytest.raises(SaslError) as caught:
        plain(response)
    assert caught.type is SaslError


def test_login_text() -> None:
    assert login_text("bücher".encode()) == "bücher"
    for response in (b"", b"a\0b", b"\xff"):
        with pytest.raises(SaslError):
            login_text(response)


def test_secrets_have_no_repr() -> None:
    assert "sesame" not in repr(plain(b"\0tim\0sesame"))
    assert repr(SALT) not in repr(KEYS)


def test_scram_as_in_rfc_7677() -> None:
    keys = ScramKeys.derive("pencil", b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    first = ScramFirst.parse(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    assert first.username == "user"
    challenge = first.challenge(keys, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
    assert challenge.data == (
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    proof = challenge.proof(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    assert proof.matches(keys)
    assert proof.server_final(keys) == b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@pytest.mark.parametrize("username", ["alice@localhost", "a,b=c", "ü@bücher.example"])
@pytest.mark.parametrize("password", ["pencil", "pen\u00ad\u00a0cil\u2168"])
def test_scramp_as_the_client(username: str, password: str) -> None:
    keys = ScramKeys.derive(saslprep(password), SALT, 4096)
    client = ScramClient(["SCRAM-SHA-256"], username, password)
    first = ScramFirst.parse(client.get_client_first().encode())
    assert first.username == username
    challenge = first.challenge(keys, "server")
    client.set_server_first(challenge.data.decode())
    proof = challenge.proof(client.get_client_final().encode())
    assert proof.matches(keys)
    client.set_server_final(proof.server_final(keys).decode())


def test_a_wrong_password_does_not_match() -> None:
    client = ScramClient(["SCRAM-SHA-256"], "user", "pencils")
    challenge = ScramFirst.parse(client.get_client_first().encode()).challenge(KEYS, "server")
    client.set_server_first(challenge.data.decode())
    assert not challenge.proof(client.get_client_final().encode()).matches(KEYS)


@pytest.mark.parametrize("header", [b"n,,", b"y,,", b"n,a=user,"])
def test_accepted_gs2_headers(header: bytes) -> None:
    assert ScramFirst.parse(header + b"n=user,r=abc,x=extension").username == "user"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"n,,n=user",
        b"p=tls-exporter,,n=user,r=abc",
        b"x,,n=user,r=abc",
        b"n,,m=future,n=user,r=abc",
        b"n,user,n=user,r=abc",
        b"n,,n=,r=abc",
        b"n,,n=\xc2\xad,r=abc",
        b"n,,n=a\0b,r=abc",
        b"n,,n=us=3=2CDer,r=abc",
        b"n,,n=us=er,r=abc",
        b"n,,n=user,r=",
        b"n,,n=user,r=a\x7f",
        b"n,,n=user,r=\xc3\xa4",
        b"n,,n=\xff,r=abc",
    ],
)
def test_malformed_first_messages(message: bytes) -> None:
    with pytest.raises(SaslError) as caught:
        ScramFirst.parse(message)
    assert caught.type is SaslError


def test_scram_may_not_act_as_somebody_else() -> None:
    with pytest.raises(ForeignIdentity):
        ScramFirst.parse(b"n,a=root,n=user,r=abc")


def challenge() -> ScramChallenge:
    return ScramFirst.parse(b"n,,n=user,r=abc").challenge(KEYS, "def")


PROOF = b64encode(bytes(32))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"c=biws,r=abcdef",
        b"c=eSws,r=abcdef,p=" + PROOF,  # "y,,": the header was changed on its way
        b"c=biws,r=abcdeg,p=" + PROOF,
        b"c=biws,r=abc,p=" + PROOF,
        b"r=abcdef,c=biws,p=" + PROOF,
        b"c=biws,r=abcdef,p=" + PROOF[:-1],
        b"c=biws,r=abcdef,p=AAAA",
        b"c=biws,r=abcdef,p=\xc3\xa4",
        b"c=biws,r=abcdef,q=" + PROOF,
        b"\xff",
    ],
)
def test_malformed_last_messages(message: bytes) -> None:
    with pytest.raises(SaslError):
        challenge().proof(message)


def test_extensions_in_the_last_message_are_signed_and_ignored() -> None:
    assert not challenge().proof(b"c=biws,r=abcdef,x=y,p=" + PROOF).matches(KEYS)


@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    waiting = challenge()
    for parse in (plain, login_text, ScramFirst.parse, waiting.proof):
        try:
            parse(data)
        except SaslError:
            pass


@given(st.text(alphabet="nyp,=acrm23CD\0ü", max_size=40))
def test_nothing_scram_like_raises_anything_else(text: str) -> None:
    try:
        ScramFirst.parse(text.encode())
    except SaslError:
        pass


def test_keys_round_trip() -> None:
    assert ScramKeys.parse(KEYS.encode()) == KEYS


@pytest.mark.parametrize("text", ["", "a$b$c", "SCRAM-SHA-1$4096:AAAA$AAAA:AAAA", "a$1:b$c"])
def test_malformed_keys(text: str) -> None:
    with pytest.raises(ValueError):
        ScramKeys.parse(text)


@pytest.mark.parametrize(
    ("text", "prepared"),  # RFC 4013 section 3
    [("I\u00adX", "IX"), ("user", "user"), ("USER", "USER"), ("\u00aa", "a"), ("\u2168", "IX")],
)
def test_saslprep_as_in_rfc_4013(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize("text", ["\u0007", "\u06271", "a\u0627"])
def test_saslprep_refuses(text: str) -> None:
    with pytest.raises(ValueError):
        saslprep(text)


def test_saslprep_of_a_query_takes_newer_characters() -> None:
    assert saslprep("\u1e9e", stored=False) == "\u1e9e"
    with pytest.raises(ValueError):
        saslprep("\u1e9e")


@given(st.text(max_size=12))
def test_saslprep_agrees_with_scramp(text: str) -> None:
    try:
        theirs = scramp_saslprep(text)
    except ScramException:
        with pytest.raises(ValueError):
            saslprep(text)
    else:
        assert saslprep(text) == theirs
