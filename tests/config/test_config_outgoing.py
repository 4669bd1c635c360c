"""Configuration of mail that leaves: queue, delivery, name servers, routes."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from twisted_mail import config
from twisted_mail.address import Address
from twisted_mail.config import Config, ConfigError
from twisted_mail.delivery.routes import make_routes


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "mail.toml"
    path.write_text(text)
    return config.load(path)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    """Each mistake as it is shown, without the file."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return [line.removeprefix(f"{tmp_path}/mail.toml:") for line in str(caught.value).splitlines()]


ROUTES = """\
[[routes]]
domain = "*.Partner.example"
via = "smtp://Mail.Partner.example:25"

[[routes]]
domain = "lists.example"
via = "lmtp:/run/lists"
accept = true

[[routes]]
domain = "*"
via = "smtps://relay.example"
username = "us"
password_file = "secret"
"""


def test_defaults(tmp_path: Path) -> None:
    empty = load(tmp_path, "")
    assert empty.queue.run
    assert (empty.queue.lifetime_seconds, empty.queue.warn_after_seconds) == (5 * 86_400, 4 * 3600)
    assert (empty.queue.retry_first_seconds, empty.queue.retry_max_seconds) == (300, 4 * 3600)
    assert (empty.delivery.port, empty.delivery.tls, empty.delivery.hostname) == (
        25, "opportunistic", "",
    )  # fmt: skip
    assert (empty.dns.servers, empty.dns.trust_ad, empty.dns.addresses) == ((), False, ())
    assert empty.routes == ()


def test_routes(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"hunter2\r\nmore")
    read = load(tmp_path, ROUTES)
    assert [(one.domain, one.via) for one in read.routes] == [
        ("*.partner.example", "smtp://mail.partner.example"),
        ("lists.example", "lmtp:/run/lists"),
        ("*", "smtps://relay.example"),
    ]
    assert read.routes[2].password_file == tmp_path / "secret"
    table = make_routes(read.routes)
    assert table.hop_of(Address("a", "x.partner.example")) == "smtp://mail.partner.example"
    assert table.accepts("lists.example")
    smarthost = table.route(table.hop_of(Address("a", "elsewhere.example")))
    assert smarthost is not None
    assert (smarthost.username, smarthost.password) == ("us", "hunter2")


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    text = ROUTES.replace('password_file = "secret"', 'password = "hunter2"')
    assert "hunter2" not in repr(load(tmp_path, text))
    for wrong in (
        text.replace('username = "us"', ""),
        text.replace('"hunter2"', '["hunter2"]'),
        text.replace("password =", "pasword ="),
        text.replace('"hunter2"', '"hunter2\\u0000"'),
        text.replace("smtps://relay", "smtps://us:hunter2@relay"),
        text.replace("smtps://relay", "http://us:hun@ter2hunter2@relay"),
        text.replace("smtps://relay", "smtps:us:hunter2@relay"),
    ):
        assert "hunter2" not in "".join(mistakes(tmp_path, wrong))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            'domain = "a b"\nvia = "mx"',
            '2: routes[0].domain = "a b": must be a domain, "*.domain" ',
        ),
        ('domain = "*"\nvia = "mail"', '3: routes[0].via = "mail": must be "smtp://host:port", '),
        ('via = "mx"', "1: routes[0].domain: must be there"),
        ('domain = "*"', "1: routes[0].via: must be there"),
        (
            'domain = "*"\nvia = "mx"\nacept = true',
            "4: routes[0].acept: unknown key; did you mean routes[0].accept?",
        ),
        (
            'domain = "*"\nvia = "smtp://h"\naccept = true',
            "4: routes[0].accept = true: must be false for every domain: that is an open relay",
        ),
        (
            'domain = "a"\nvia = "fail: x"\naccept = true',
            '4: routes[0].accept = true: must be false with via = "fail',
        ),
        (
            'domain = "a"\nvia = "smtp://h"\nusername = "u"',
            "1: routes[0].password_file: must be there: username needs its password",
        ),
        (
            'domain = "a"\nvia = "smtp://h"\npassword = "p"',
            "1: routes[0].username: must be there: the password needs its username",
        ),
        (
            'domain = "a"\nvia = "smtp://h"\nusername = "u"\npassword = "p"\npassword_file = "f"',
            "5: routes[0].password = …: must not be there beside password_file",
        ),
        (
            'domain = "a"\nvia = "mx"\nusername = "u"',
            '4: routes[0].username = "u": must not be there with via = "mx"',
        ),
        (
            'domain = "a"\nvia = "mx"\ntls = "none"',
            '4: routes[0].tls = "none": must be in [[delivery.tls_policy]]',
        ),
        (
            'domain = "a"\nvia = "fail: x"\ntls = "none"',
            '4: routes[0].tls = "none": must not be there',
        ),
        (
            'domain = "a"\nvia = "lmtp:/x"\ntls = "required"',
            '4: routes[0].tls = "required": must be "none"',
        ),
        (
            'domain = "a"\nvia = "smtps://h"\ntls = "opportunistic"',
            '4: routes[0].tls = "opportunistic": must be "required" or "verified" for smtps',
        ),
        (
            'domain = "a"\nvia = "smtp://h"\ntls = "opportunistic"\nusername = "u"\npassword = "p"',
            '4: routes[0].tls = "opportunistic": must be "required" or "verified" where a password',
        ),
        (
            'domain = "a"\nvia = "smtp://h"\npassword_file = "none"\nusername = "u"',
            '4: routes[0].password_file = "none": must be a file that can be read (No such file',
        ),
    ],
)
def test_a_route_that_is_none(tmp_path: Path, keys: str, said: str) -> None:
    (line,) = mistakes(tmp_path, f"[[routes]]\n{keys}")
    assert line.startswith(said)


@pytest.mark.parametrize("host", ["127.0.0.2", "[::1]", "localhost"])
def test_a_password_in_clear_may_go_to_this_machine(tmp_path: Path, host: str) -> None:
    load(
        tmp_path,
        f'[[routes]]\ndomain = "*"\nvia = "smtp://{host}:2525"\ntls = "none"\n'
        'username = "u"\npassword = "p"',
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "must have the password in its first line"),
        (b"\nx", "must have the password in its first line"),
        (b"x" * 5000, "must have a first line of at most 4096 octets"),
        (b"\xff\n", "must be UTF-8"),
        (b"a\0b\n", "must be a password without NUL"),
    ],
)
def test_a_file_without_a_password(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert mistakes(tmp_path, ROUTES) == [f'14: routes[2].password_file = "secret": {said}']


def test_between_routes(tmp_path: Path) -> None:
    text = """\
[[routes]]
domain = "a.example"
via = "smtp://relay.example"
tls = "required"
[[routes]]
domain = "A.example"
via = "smtp://other.example"
[[routes]]
domain = "b.example"
via = "smtp://relay.example:25"
username = "u"
password = "hunter2"
"""
    same = "must be as in routes[0]: one destination has one login and one tls"
    assert mistakes(tmp_path, text) == [
        '6: routes[1].domain = "A.example": must be a domain of its own: routes[0] has it',
        f"8: routes[2].tls: {same}",
        f'11: routes[2].username = "u": {same}',
        f"12: routes[2].password = …: {same}",
    ]


def test_what_is_no_list_of_tables(tmp_path: Path) -> None:
    for text in ("routes = 3", '[routes]\nvia = "mx"'):
        (line,) = mistakes(tmp_path, text)
        assert line == "1: routes: must be tables, [[routes]]"
    (line,) = mistakes(tmp_path, "[delivery]\ntls_policy = 3")
    assert line == "2: delivery.tls_policy: must be tables, [[delivery.tls_policy]]"
    (line,) = mistakes(tmp_path, "[queue]\nroutes = 3")
    assert line == "2: queue.routes: unknown key; [[routes]] is a table of its own"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[queue]\nlifetime_seconds = 59", "2: queue.lifetime_seconds = 59: must be at least 60"),
        (
            "[queue]\nretry_first_seconds = 20000",
            "1: queue.retry_max_seconds: must be at least queue.retry_first_seconds (20000)",
        ),
        (
            "[queue]\nretry_max_seconds = 10",
            "2: queue.retry_max_seconds = 10: must be at least queue.retry_first_seconds (300)",
        ),
        (
            '[queue]\ndouble_bounces = "bob"',
            '2: queue.double_bounces = "bob": must be an account',
        ),
        (
            '[delivery]\nhostname = "a b"',
            '2: delivery.hostname = "a b": must be a domain name',
        ),
        (
            '[delivery]\nsource_ipv4 = "::1"',
            '2: delivery.source_ipv4 = "::1": must be an address of this machine such as "192.0.2',
        ),
        (
            '[delivery]\nsource_ipv6 = "eth0"',
            '2: delivery.source_ipv6 = "eth0": must be an address of this machine such as "2001:',
        ),
        (
            '[delivery]\ntls = "none"',
            '2: delivery.tls = "none": must be "opportunistic", "required" or "verified"',
        ),
        (
            '[delivery]\nca_file = "none"',
            '2: delivery.ca_file = "none": must be a file that can be read (No such file',
        ),
        (
            '[delivery]\nca_file = "mail.toml"',
            '2: delivery.ca_file = "mail.toml": must be PEM with at least one certificate',
        ),
        (
            '[[delivery.tls_policy]]\ndomain = "a.b"\ntls = "none"\n'
            '[[delivery.tls_policy]]\ndomain = "A.b"\ntls = "none"',
            '5: delivery.tls_policy[1].domain = "A.b": must be a domain of its own: '
            "delivery.tls_policy[0] has it",
        ),
        ('[dns]\nservers = "::1"', '2: dns.servers = "::1": must be a list'),
    ],
)
def test_wrong_values(tmp_path: Path, text: str, said: str) -> None:
    (line,) = mistakes(tmp_path, text)
    assert line.startswith(said)


def test_good_values(tmp_path: Path) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    read = load(
        tmp_path,
        '[delivery]\nca_file = "ca.pem"\nhostname = "Out.Example"\nsrs_domain = "srs.example"\n'
        'source_ipv4 = "127.0.0.2"\nsource_ipv6 = "0:0::1"\n'
        '[[delivery.tls_policy]]\ndomain = "*.Bank.example"\ntls = "verified"\n'
        '[queue]\ndouble_bounces = "Root@Example.org"\n',
    )
    assert read.delivery.ca_file == tmp_path / "ca.pem"
    assert (read.delivery.hostname, read.delivery.srs_domain) == ("out.example", "srs.example")
    assert (read.delivery.source_ipv4, read.delivery.source_ipv6) == ("127.0.0.2", "::1")
    assert read.delivery.tls_policy[0].domain == "*.bank.example"
    assert read.queue.double_bounces == "Root@example.org"


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5301", ("127.0.0.1", 5301)),
        ("0::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[::1]:5301", ("::1", 5301)),
    ],
)
def test_name_servers(tmp_path: Path, text: str, pair: tuple[str, int]) -> None:
    assert load(tmp_path, f'[dns]\nservers = ["{text}"]').dns.addresses == (pair,)


@pytest.mark.parametrize(
    "text",
    ["", "ns.example", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "[::1", "[::1]53", "::1]:53",
     "[::1]:", "127.0.0.1:1234567890", "127.0.0.1:00006553599"],
)  # fmt: skip
def test_what_is_no_name_server(tmp_path: Path, text: str) -> None:
    (line,) = mistakes(tmp_path, f'[dns]\nservers = ["{text}"]')
    assert line.startswith(f'2: dns.servers[0] = "{text}": must be the address of a name server')
