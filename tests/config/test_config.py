"""Configuration: what a file means, and what is said about one with mistakes."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from twisted.cred.portal import IRealm
from zope.interface import implementer

from twisted_mail import config
from twisted_mail.config import Config, ConfigError
from twisted_mail.config.reference import markdown

REPOSITORY = Path(__file__).parents[2]

EXAMPLE = """\
hostname = "mail.example.org"
data = "/var/lib/twisted-mail"
workers = 0
[listen]
smtp = ["tcp:25"]
submission = ["tcp:587"]
submissions = ["tcp:465"]
pop3 = ["tcp:110"]
pop3s = ["tcp:995"]
imap = ["tcp:143"]
imaps = ["tcp:993"]
[smtp]
max_message_bytes = 52428800
max_recipients = 1000
bare_newline = "normalize"
strict = false
[auth]
checkers = ["directory"]
realm = ""
"""


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "mail.toml"
    path.write_text(text)
    return config.load(path)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    """Each mistake as it is shown, without the directory."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert str(caught.value) == "\n".join(str(one) for one in caught.value.mistakes)
    return [line.removeprefix(f"{tmp_path}/") for line in str(caught.value).splitlines()]


class TestValues:
    def test_an_empty_file_is_all_defaults(self, tmp_path: Path) -> None:
        empty = load(tmp_path, "")
        assert empty.hostname == "localhost"
        assert empty.listen.model_dump() == {
            "smtp": ("tcp:25",),
            "submission": ("tcp:587",),
            "submissions": ("tcp:465",),
            "pop3": ("tcp:110",),
            "pop3s": ("tcp:995",),
            "imap": ("tcp:143",),
            "imaps": ("tcp:993",),
            "http": (),
            "https": (),
        }
        assert empty.development
        assert empty.file == tmp_path / "mail.toml"

    def test_the_example_of_the_documentation(self, tmp_path: Path) -> None:
        read = load(tmp_path, EXAMPLE)
        assert read.hostname == "mail.example.org"
        assert read.data == Path("/var/lib/twisted-mail")
        assert read.workers == 0
        written = {"hostname", "data", "workers"}
        assert read.model_dump(exclude=written) == load(tmp_path, "").model_dump(exclude=written)

    @pytest.mark.parametrize(
        ("text", "cores", "workers"),
        [
            ("", 4, 4),
            ("", 1, 0),
            ("", 200, 64),
            ("workers = 0", 4, 0),
            ("workers = 3", 1, 3),
            ('[listen]\nsmtp = ["tcp:2525"]', 4, 0),
            ('[listen]\nsmtp = ["tcp:2525"]\nimaps = ["haproxy:tcp6:port=993"]', 4, 4),
            ('[listen]\nsmtp = ["unix:/run/25"]\nhttp = ["tcp:80"]', 4, 0),
        ],
    )
    def test_workers_by_default(self, tmp_path: Path, text: str, cores: int, workers: int) -> None:
        assert load(tmp_path, text).workers_on(cores) == workers

    def test_the_start_without_configuration_has_no_workers(self, tmp_path: Path) -> None:
        assert config.default(tmp_path).workers_on(8) == 0

    def test_paths_are_relative_to_the_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "mail.toml").write_text('data = "store"')
        monkeypatch.chdir(tmp_path.parent)
        read = config.load(Path(tmp_path.name, "mail.toml"))
        assert read.data == tmp_path / "store"
        assert read.certificates == tmp_path / "certs"

    def test_a_listener_left_out_is_not_served(self, tmp_path: Path) -> None:
        read = load(tmp_path, '[listen]\nsmtp = ["tcp:2525", "tcp6:2525"]\n')
        assert read.listen.smtp == ("tcp:2525", "tcp6:2525")
        assert read.listen.pop3 == ()

    def test_the_start_without_configuration(self, tmp_path: Path) -> None:
        start = config.default(tmp_path)
        assert start.hostname == "localhost"
        assert start.data == tmp_path / "mail-data"
        assert start.certificates == tmp_path / "certs"
        assert start.development
        assert start.file is None
        assert [getattr(start.listen, name) for name in config.LISTENERS] == [
            ("tcp:2525:interface=127.0.0.1",),
            ("tcp:2587:interface=127.0.0.1",),
            ("tcp:2465:interface=127.0.0.1",),
            ("tcp:2110:interface=127.0.0.1",),
            ("tcp:2995:interface=127.0.0.1",),
            ("tcp:2143:interface=127.0.0.1",),
            ("tcp:2993:interface=127.0.0.1",),
        ]

    def test_it_is_frozen(self) -> None:
        with pytest.raises(ValidationError):
            Config().hostname = "other"  # type: ignore[misc]

    def test_an_international_hostname_is_written_in_one_way(self, tmp_path: Path) -> None:
        assert load(tmp_path, 'hostname = "Mail.Bücher.example"').hostname == (
            "mail.xn--bcher-kva.example"
        )

    def test_the_postmaster(self, tmp_path: Path) -> None:
        assert load(tmp_path, 'postmaster = "alice@Example.ORG"').postmaster == "alice@example.org"


class TestMistakes:
    def test_all_at_once_with_their_lines(self, tmp_path: Path) -> None:
        text = """\
hostname = "bad host"
workers = -1
hostnam = "x"

[smtp]
max_recipients = -5
bare_newline = "keep"   # a comment
strict = 1
max_recipient = 7

[listen]
smtp = [
  "tcp:25",
  "tcp:25:interface=127.0.0.1",
]
pop3 = "tcp:110"

[limits]
connections = "many"
smtp_idle_seconds = 1
message_seconds = nan
"""
        assert mistakes(tmp_path, text) == [
            'mail.toml:1: hostname = "bad host": must be a domain name such as '
            '"mail.example.org" (forbidden character in the domain)',
            "mail.toml:2: workers = -1: must be at least 0",
            "mail.toml:3: hostnam: unknown key; did you mean hostname?",
            "mail.toml:6: smtp.max_recipients = -5: must be at least 1",
            'mail.toml:7: smtp.bare_newline = "keep": must be "normalize" or "reject"',
            "mail.toml:8: smtp.strict = 1: must be true or false",
            "mail.toml:9: smtp.max_recipient: unknown key; did you mean smtp.max_recipients?",
            'mail.toml:14: listen.smtp[1] = "tcp:25:interface=127.0.0.1": must be an address of its '
            "own: listen.smtp has it",
            'mail.toml:16: listen.pop3 = "tcp:110": must be a list, […]',
            'mail.toml:19: limits.connections = "many": must be a whole number',
            "mail.toml:20: limits.smtp_idle_seconds = 1: must be at least 300",
            "mail.toml:21: limits.message_seconds = nan: must be a number",
        ]

    def test_their_parts(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            load(tmp_path, "\n[smtp]\nmax_recipients = 0")
        assert caught.value.mistakes == (
            config.Mistake(
                tmp_path / "mail.toml", 3, "smtp.max_recipients", "0", "must be at least 1"
            ),
        )

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (
                "max_recipients = 3",
                "max_recipients: unknown key; did you mean smtp.max_recipients?",
            ),
            ('[smtp]\nhostname = "x"', "smtp.hostname: unknown key; it stands at the top of the "),
            (
                "[smtp.limits]\nerrors = 3",
                "smtp.limits: unknown key; [limits] is a table of its own",
            ),
            ("[smpt]\nstrict = true", "smpt: unknown key; did you mean smtp?"),
            ("[pop3]\nzzz = 1", "pop3.zzz: unknown key; allowed are allow_plaintext_loopback"),
            ('"a b" = 1', '"a b": unknown key; allowed are hostname, data, '),
        ],
    )
    def test_unknown_keys(self, tmp_path: Path, text: str, said: str) -> None:
        (line,) = mistakes(tmp_path, text)
        assert line.split(": ", 1)[1].startswith(said)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("smtp = 3", "mail.toml:1: smtp: must be a table"),
            ('[listen]\nsmtp = ["ssl:465"]', 'mail.toml:2: listen.smtp[0] = "ssl:465": must be pl'),
            ('[listen]\nsmtp = ["{0}:1"]', 'mail.toml:2: listen.smtp[0] = "{0}:1": must be a Twis'),
            ("data = 3", "mail.toml:1: data = 3: must be the name of a file or directory in"),
            ('data = ""', 'mail.toml:1: data = "": must be the name of a file or directory'),
            ('hostname = "[192.0.2.1]"', 'mail.toml:1: hostname = "[192.0.2.1]": must be a domain'),
            ('postmaster = "alice"', 'mail.toml:1: postmaster = "alice": must be an account such'),
            ('postmaster = "postmaster"', 'mail.toml:1: postmaster = "postmaster": must be an acc'),
            ("[auth]\ncheckers = []", "mail.toml:2: auth.checkers: must have at least 1 of them"),
            ('[auth]\nrealm = "os"', 'mail.toml:2: auth.realm = "os": must be "" or "package.mod'),
            ("hostname = 2026-11-21", 'mail.toml:1: hostname = "2026-11-21": must be text in quot'),
        ],
    )
    def test_wrong_values(self, tmp_path: Path, text: str, said: str) -> None:
        (line,) = mistakes(tmp_path, text)
        assert line.startswith(said)

    @pytest.mark.parametrize(
        "text", ["workers = {0}", "hostname = {0}", "[smtp]\nmax_recipients = {0}"]
    )
    def test_a_number_that_nobody_can_write_in_digits(self, tmp_path: Path, text: str) -> None:
        (line,) = mistakes(tmp_path, text.format("0x" + "f" * 4000))
        assert "0xffffffff" in line
        assert len(line) < 200

    def test_a_long_value_is_cut_and_a_hidden_one_is_visible(self, tmp_path: Path) -> None:
        (line,) = mistakes(tmp_path, f'hostname = "{"x" * 1000}"')
        assert len(line) < 200
        (line,) = mistakes(tmp_path, 'hostname = "a\\u202eb"')
        assert "\\u202e" in line

    @pytest.mark.parametrize(
        "text",
        [
            '[auth]\ncheckers = ["memory:hunter2"]',
            '[auth]\ncheckers = ["nowhere:hunter2"]',
            '[auth]\ncheckers = [" :hunter2"]',
            '[auth]\ncheckers = "memory:bob:hunter2"',
            'auth = "hunter2"',
            '[smtp]\npassword = "hunter2"',
        ],
    )
    def test_secrets_are_never_shown(self, tmp_path: Path, text: str) -> None:
        assert "hunter2" not in "".join(mistakes(tmp_path, text))

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("a = 1\nb = = 2", "mail.toml:2: not TOML: column 5: Invalid value"),
            ("a = 1\na = 2", "mail.toml:2: not TOML: "),
            ("a = 1\nb = [", "mail.toml:2: not TOML: "),
            ("a = " + "[" * 100_000, "mail.toml: nested too deep"),
            ("a = " + "1" * 5000, "mail.toml: not TOML: a number of more than "),
        ],
    )
    def test_no_toml(self, tmp_path: Path, text: str, said: str) -> None:
        (line,) = mistakes(tmp_path, text)
        assert line.startswith(said)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(
                    ["", "[smtp]", "[tls]", "[[tls.sni]]", "[listen]", "[auth]", "[x]"]
                ),
                st.sampled_from(
                    ["hostname", "data", "smtp", "key", "certificate", "sni", "checkers", "strict"]
                ),
                st.sampled_from(
                    [
                        "-1",
                        "nan",
                        '""',
                        '"{x}"',
                        '"tcp:25"',
                        "[]",
                        "[3]",
                        '["tcp:25"]',
                        "{}",
                        "true",
                        "2026-11-21",
                        "{key=3}",
                        '"\\u0000"',
                        '"a@b"',
                        "[[{}]]",
                    ]
                ),
            ),
            max_size=6,
        )
    )
    def test_no_file_raises_anything_else(self, keys: list[tuple[str, str, str]]) -> None:
        text = "\n".join(f"{table}\n{key} = {value}" for table, key, value in keys)
        with tempfile.TemporaryDirectory() as directory:
            try:
                load(Path(directory), text)
            except ConfigError as error:
                assert error.mistakes
                assert all(str(one).startswith(directory) for one in error.mistakes)

    def test_files_that_are_none(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"none\.toml: must be a file that can be read"):
            config.load(tmp_path / "none.toml")
        with pytest.raises(ConfigError, match="must be a file that can be read"):
            config.load(tmp_path)
        (tmp_path / "latin.toml").write_bytes(b'data = "x"\nhostname = "b\xfccher"')
        with pytest.raises(ConfigError, match=r"latin\.toml:2: must be UTF-8"):
            config.load(tmp_path / "latin.toml")
        (tmp_path / "large.toml").write_bytes(b"#" * 2_000_000)
        with pytest.raises(ConfigError, match="must be a TOML file of at most"):
            config.load(tmp_path / "large.toml")

    def test_each_clash_is_told_where_it_is(self, tmp_path: Path) -> None:
        text = '[listen]\nsmtp = ["tcp:25"]\npop3 = ["tcp:110", "tcp:25"]\npop3s = ["tcp:110"]'
        assert mistakes(tmp_path, text) == [
            'mail.toml:3: listen.pop3[1] = "tcp:25": must be an address of its own: '
            "listen.smtp has it",
            'mail.toml:4: listen.pop3s[0] = "tcp:110": must be an address of its own: '
            "listen.pop3 has it",
        ]


class TestCertificates:
    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        ca = trustme.CA()
        for stem in ("one", "two"):
            made = ca.issue_cert(f"{stem}.example.org")
            made.cert_chain_pems[0].write_to_path(tmp_path / f"{stem}.pem")
            made.private_key_pem.write_to_path(tmp_path / f"{stem}.key")
        return tmp_path

    def test_good_ones(self, directory: Path) -> None:
        read = load(
            directory,
            '[tls]\ncertificate = "one.pem"\nkey = "one.key"\n'
            '[[tls.sni]]\ncertificate = "two.pem"\nkey = "two.key"\n',
        )
        assert not read.development
        assert read.tls.certificate == directory / "one.pem"
        assert read.tls.sni[0].key == directory / "two.key"

    def test_every_kind_of_wrong_one(self, directory: Path) -> None:
        (directory / "nonsense").write_text("nonsense")
        key = serialization.load_pem_private_key((directory / "one.key").read_bytes(), None)
        (directory / "secret.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        said = mistakes(
            directory,
            '[tls]\ncertificate = "none.pem"\nkey = "one.key"\n'
            + "".join(
                f'[[tls.sni]]\ncertificate = "{certificate}"\nkey = "{key}"\n'
                for certificate, key in [
                    ("one.pem", "two.key"),
                    ("nonsense", "two.key"),
                    ("one.pem", "nonsense"),
                    ("one.pem", "secret.key"),
                ]
            ),
        )
        assert said == [
            'mail.toml:2: tls.certificate = "none.pem": must be a file that can be read '
            "(No such file or directory)",
            f'mail.toml:6: tls.sni[0].key = "two.key": must be the key of {directory / "one.pem"}',
            'mail.toml:8: tls.sni[1].certificate = "nonsense": must be PEM with at least one '
            "certificate",
            'mail.toml:12: tls.sni[2].key = "nonsense": must be PEM with a private key',
            'mail.toml:15: tls.sni[3].key = "secret.key": must be a key without a passphrase',
        ]

    def test_one_that_openssl_does_not_take(self, tmp_path: Path) -> None:
        weak = rsa.generate_private_key(65537, 1024)
        name = x509.Name([])
        start = datetime(2026, 1, 1, tzinfo=UTC)
        made = x509.CertificateBuilder(name, name, weak.public_key(), 1, start, start)
        (tmp_path / "weak.pem").write_bytes(
            made.sign(weak, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        (tmp_path / "weak.key").write_bytes(
            weak.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        said = mistakes(tmp_path, '[tls]\ncertificate = "weak.pem"\nkey = "weak.key"')
        assert said == [
            'mail.toml:2: tls.certificate = "weak.pem": must be one that OpenSSL takes '
            "(ee_key_too_small)"
        ]

    def test_they_are_looked_at_whatever_else_is_wrong(self, directory: Path) -> None:
        said = mistakes(
            directory,
            'workers = "x"\n[tls]\ncertificate = "one.pem"\nkey = "two.key"\n[smtp]\nstrict = 3\n',
        )
        assert [line.split(":")[1] for line in said] == ["1", "4", "6"]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('[tls]\ncertificate = "one.pem"', "mail.toml:1: tls.key: must be there"),
            ('[tls]\nkey = "one.key"', "mail.toml:1: tls.certificate: must be there"),
            (
                '[[tls.sni]]\ncertificate = "one.pem"\nkey = "one.key"',
                "mail.toml:1: tls.certificate: must be there",
            ),
        ],
    )
    def test_halves(self, directory: Path, text: str, said: str) -> None:
        (line,) = mistakes(directory, text)
        assert line.startswith(said)

    def test_a_half_of_sni(self, directory: Path) -> None:
        said = mistakes(
            directory,
            '[tls]\ncertificate = "one.pem"\nkey = "one.key"\n\n[[tls.sni]]\nkey = "two.key"',
        )
        assert said == ["mail.toml:5: tls.sni[0].certificate: must be there"]


@implementer(IRealm)
class SomeRealm:
    """A realm that a configuration can name."""

    def requestAvatar(self, avatar_id: object, mind: object, *interfaces: object) -> Any:
        raise NotImplementedError


class TestAuth:
    def test_checkers_of_twisted(self, tmp_path: Path) -> None:
        (tmp_path / "passwd").write_text("bob:secret\n")
        text = f'[auth]\ncheckers = ["directory", "file:{tmp_path}/passwd", "memory:bob:x"]'
        read = load(tmp_path, text)
        assert len(read.auth.checkers) == 3
        assert "memory" not in repr(read)

    def test_checkers_that_are_none(self, tmp_path: Path) -> None:
        text = '[auth]\ncheckers = ["nowhere", "memory:bob", "file:/none", "anonymous"]'
        found = mistakes(tmp_path, text)
        reasons = (
            "there is no checker 'nowhere', only anonymous, directory, file, memory",
            "the checker 'memory' does not take its argument (",
            "the checker 'file' is given no file that exists",
            "the checker 'anonymous' checks no passwords",
        )
        for index, (line, reason) in enumerate(zip(found, reasons, strict=True)):
            start = f"mail.toml:2: auth.checkers[{index}] = …: must be a checker that can be had: "
            assert line.startswith(start + reason)

    def test_a_realm(self, tmp_path: Path) -> None:
        name = f"{__name__}:SomeRealm"
        assert load(tmp_path, f'[auth]\nrealm = "{name}"').auth.realm == name

    @pytest.mark.parametrize("realm", ["twisted_mail.none:x", "os:none", "os:name"])
    def test_a_realm_that_is_none(self, tmp_path: Path, realm: str) -> None:
        (line,) = mistakes(tmp_path, f'[auth]\nrealm = "{realm}"')
        assert line.startswith(f'mail.toml:2: auth.realm = "{realm}": must be importable')


class TestReference:
    def test_the_page_is_up_to_date(self) -> None:
        """`python -m twisted_mail.config > docs/configuration.md` makes it so."""
        assert (REPOSITORY / "docs" / "configuration.md").read_text() == markdown()

    def test_every_key_is_on_it(self) -> None:
        page = markdown()
        for name, section in Config().model_dump(exclude={"routes", "filters"}).items():
            for key in section if isinstance(section, dict) else (name,):
                assert f"\n- `{key}" in page

    @pytest.mark.parametrize(
        ("title", "model"),
        [
            ("tls.sni", config.CertificatePair),
            ("delivery.tls_policy", config.TlsPolicy),
            ("routes", config.Route),
        ],
    )
    def test_every_list_of_tables_is_on_it(self, title: str, model: type[BaseModel]) -> None:
        _, found, text = markdown().partition(f"\n## [[{title}]]\n")
        assert found
        section = text.partition("\n## ")[0]
        assert [line for line in section.splitlines() if line.startswith("- ")]
        for key in model.model_fields:
            assert f"\n- `{key}" in section

    def test_its_examples_are_true(self, tmp_path: Path) -> None:
        said = mistakes(
            tmp_path, "\n" * 10 + "[smtp]\nmax_recipients = -5\n\n\nmax_recipient = 7\n"
        )
        for line in said:
            assert f"\n{line}\n" in markdown()


@pytest.mark.parametrize("section", ["limits", "rates", "imap", "smtp", "queue"])
def test_a_bound_is_documented_with_its_reason(section: str) -> None:
    """More than what the key's name says: one sentence what it is, and another one why so much, or what follows."""
    told_once = {"rates"}  # what follows is said of the table
    for name, field in type(getattr(Config(), section)).model_fields.items():
        bounds = isinstance(field.default, int | float) and not isinstance(field.default, bool)
        if bounds:
            text = field.description or ""
            assert text.endswith((".", "*")), name
            assert section in told_once or len(text) > 45, name
    page = (REPOSITORY / "docs" / "configuration.md").read_text()
    for name in type(Config().limits).model_fields:
        assert f"`{name} = " in page, name
