"""Configuration of certificates from a CA, and of the web port."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from twisted_mail import config
from twisted_mail.config import Config, ConfigError

SITE = 'hostname = "mail.example.org"\n'


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "mail.toml"
    path.write_text(text)
    return config.load(path)


def mistakes(tmp_path: Path, text: str) -> list[str]:
    """Each mistake as it is shown, without the file."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return [line.removeprefix(f"{tmp_path}/mail.toml:") for line in str(caught.value).splitlines()]


def test_acme_true_is_all_a_site_writes(tmp_path: Path) -> None:
    read = load(tmp_path, SITE + "[tls]\nacme = true\n")
    assert read.listen.http == ("tcp:80",) and read.listen.https == ()
    assert read.listen.smtp == ("tcp:25",) and read.listen.imaps == ("tcp:993",)
    assert not read.development
    assert read.acme.directory == "https://acme-v02.api.letsencrypt.org/directory"
    assert read.acme.challenge == "http-01"


def test_tls_alpn_listens_where_it_is_asked(tmp_path: Path) -> None:
    read = load(tmp_path, SITE + '[tls]\nacme = true\n[acme]\nchallenge = "tls-alpn-01"\n')
    assert (read.listen.http, read.listen.https) == ((), ("tcp:443",))


def test_without_acme_there_is_no_web_port(tmp_path: Path) -> None:
    read = load(tmp_path, SITE + "[tls]\nacme = false\n")
    assert (read.listen.http, read.listen.https) == ((), ())
    assert read.development


def test_what_it_needs_is_said(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, "[tls]\nacme = true\n")
    assert "hostname: must be there with tls.acme" in found
    (found,) = mistakes(tmp_path, SITE + '[tls]\nacme = true\n[listen]\nsmtp = ["tcp:25"]\n')
    assert "listen.http: must be there with tls.acme" in found
    (found,) = mistakes(
        tmp_path,
        SITE
        + '[tls]\nacme = true\n[acme]\nchallenge = "tls-alpn-01"\n[listen]\nsmtp = ["tcp:25"]\n',
    )
    assert "listen.https: must be there with acme.challenge" in found
    (found,) = mistakes(tmp_path, SITE + '[mta_sts]\ndomains = ["example.org"]\n')
    assert "listen.https: must be there with mta_sts.domains" in found


def test_a_certificate_of_ones_own_and_acme_exclude_each_other(tmp_path: Path) -> None:
    made = trustme.CA().issue_cert("mail.example.org")
    made.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    made.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    text = SITE + '[tls]\nacme = true\ncertificate = "cert.pem"\nkey = "key.pem"\n'
    (found,) = mistakes(tmp_path, text)
    assert "tls.acme" in found and "must be false with tls.certificate" in found


@pytest.mark.parametrize(
    "url", ["http://acme.example/dir", "acme.example", "https://", "https://[x", "https://a:99999/"]
)
def test_a_directory_is_a_url_with_tls(tmp_path: Path, url: str) -> None:
    (found,) = mistakes(tmp_path, f'[acme]\ndirectory = "{url}"\n')
    assert "acme.directory" in found and "must be a URL such as" in found


def test_an_external_account_binding_is_whole(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, '[acme]\neab_kid = "kid-1"\n')
    assert "acme.eab_key_file" in found
    (tmp_path / "key").write_text("secret stuff!\n")
    both = '[acme]\neab_kid = "kid-1"\neab_key_file = "key"\n'
    (found,) = mistakes(tmp_path, both)
    assert "base64url" in found and "secret" not in found
    (tmp_path / "key").write_text(
        "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n"
    )
    assert load(tmp_path, both).acme.eab_kid == "kid-1"


def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, '[acme]\nca_file = "none.pem"\n')
    assert "acme.ca_file" in found and "can be read" in found


def test_web_listeners_clash_with_others(tmp_path: Path) -> None:
    (found,) = mistakes(tmp_path, '[listen]\nsmtp = ["tcp:80"]\nhttp = ["tcp:80"]\n')
    assert "listen.smtp has it" in found
