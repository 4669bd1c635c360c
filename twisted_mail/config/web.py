"""The tables about certificates from a CA and the web port: `[acme]` and `[mta_sts]`; see `model`.

`web_mistakes` is what they and the other tables have to agree on.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from .lines import KeyPath
from .secrets import read_secret, secret_text
from .section import Section
from .values import Account, File, Hostname, mistakes_in

__all__ = ["WEB_LISTENERS", "Acme", "MtaSts", "eab_key", "listen_by_default", "web_mistakes"]

WEB_LISTENERS: Final = ("http", "https")
"""The names of [listen] that serve no mail, in the order they are shown."""

_MAX_URL: Final = 2048
_MAX_NAMES: Final = 100  # what Let's Encrypt puts into one certificate
_TLS_LISTENERS: Final = ("https", "submissions", "imaps", "pop3s")


class Acme(Section):
    """How `tls.acme` gets its certificate (RFC 8555). A site needs none of this. Switching it on agrees to
    the terms of service of the CA.
    """

    directory: str = Field(
        default="https://acme-v02.api.letsencrypt.org/directory",
        description="URL of the CA's directory. Every CA with ACME has one. To try things without "
        "using up the limits of Let's Encrypt, its staging directory: "
        "https://acme-staging-v02.api.letsencrypt.org/directory.",
    )
    email: Account = Field(
        default="",
        description='Where the CA may write to. Optional: `""` tells it nobody.',
    )
    names: tuple[Hostname, ...] = Field(
        default=(),
        strict=False,
        max_length=_MAX_NAMES,
        description="Names of the certificate besides `hostname` and the `mta-sts.` names of "
        "[mta_sts], such as those that users type into their mail programs. Each has to lead to "
        "this server: the CA asks there.",
    )
    challenge: Literal["http-01", "tls-alpn-01"] = Field(
        default="http-01",
        description="How the CA sees that a name is ours: it fetches a page from port 80 (RFC "
        "8555), which `listen.http` has to answer, or makes a TLS connection to port 443 (RFC "
        "8737), which any listener with TLS from the first byte can answer: `listen.https`, or a "
        "port 443 that is forwarded to one.",
    )
    keep_key: bool = Field(
        default=True,
        description="Whether the renewed certificate has the same key, so that TLSA records (DANE) "
        "stay right. `false`: a new key each time.",
    )
    ca_file: File | None = Field(
        default=None,
        description="PEM file with the authorities that the CA's own web server is checked by, in "
        "place of those that browsers trust. For a CA of one's own.",
    )
    eab_kid: str = Field(
        default="",
        max_length=512,
        description="Key identifier of an external account binding, for a CA that asks for one.",
    )
    eab_key_file: File | None = Field(
        default=None,
        description="File with the key that belongs to it, base64url, in its first line.",
    )
    eab_key: str = Field(
        default="",
        max_length=2048,
        repr=False,
        json_schema_extra={"secret": True},
        description='In place of the file: `"${NAME}"`, the key is in the environment, by that name; or the '
        "key itself.",
    )
    alarm_days: int = Field(
        default=14,
        ge=1,
        le=60,
        description="How many days before the end of a certificate that cannot be renewed each "
        "day's failure is a critical line in the log; a sixth of its lifetime, if that is less.",
    )

    @field_validator("directory")
    @classmethod
    def _https(cls, value: str) -> str:
        allowed = 'must be a URL such as "https://acme.example.org/directory"'
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            raise PydanticCustomError("allowed", allowed) from None
        # RFC 8555 section 6.1
        if parts.scheme != "https" or not parts.hostname or port == 0 or len(value) > _MAX_URL:
            raise PydanticCustomError("allowed", allowed)
        return value

    @model_validator(mode="after")
    def _whole_binding(self) -> Acme:
        if self.eab_key and self.eab_key_file is not None:
            mistakes_in([(("eab_key",), "must not be there beside eab_key_file")])
        if bool(self.eab_kid) != (bool(self.eab_key) or self.eab_key_file is not None):
            missing = "eab_key_file" if self.eab_kid else "eab_kid"
            mistakes_in([((missing,), "must be there: acme.eab_kid and its key go together")])
        return self

    def binding_key(self) -> str:
        """The key of the external account binding; "" without one. Raises OSError, or ValueError that does not say
        it."""
        if not self.eab_kid:
            return ""
        file = self.eab_key_file
        return eab_key(secret_text(self.eab_key) if file is None else read_secret(file))


class MtaSts(Section):
    """Hosting of MTA-STS policies (RFC 8461): that mail to a domain is to come with a verified certificate.
    `mta-sts.<domain>` has to lead to `listen.https`, and a TXT record `_mta-sts.<domain>` says that there is a
    policy: `mailctl dns` shows both.
    """

    domains: tuple[Hostname, ...] = Field(
        default=(),
        strict=False,
        max_length=_MAX_NAMES,
        description="Domains with a policy. `mta-sts.` and the name are put into the certificate "
        "of `tls.acme`.",
    )
    mode: Literal["testing", "enforce", "none"] = Field(
        default="testing",
        description="What senders do when this server has no good certificate: report it, or not "
        'deliver. `"none"` withdraws a policy: say so for as long as the last one was valid.',
    )
    mx: tuple[Hostname, ...] = Field(
        default=(),
        strict=False,
        max_length=_MAX_NAMES,
        description="Names of the MX hosts. `[]` is `hostname` alone.",
    )
    max_age_seconds: int = Field(
        default=604_800,
        ge=86_400,
        le=31_557_600,  # RFC 8461 section 3.2
        description="How long senders remember the policy. Weeks, once it has been tried.",
    )


def eab_key(text: str) -> str:
    """The key of an external account binding, if it is one. Raises ValueError that does not say it."""
    text = text.strip()
    try:
        found = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not 16 <= len(found) <= 1024:
        raise ValueError("must have a key of at least 16 octets, base64url, in its first line")
    return text.rstrip("=")


def listen_by_default(data: Mapping[str, Any], challenge: str) -> Mapping[str, tuple[str, ...]]:
    """What a configuration without [listen] serves besides mail: where its CA asks."""
    tls = data.get("tls")
    on = tls.get("acme") if isinstance(tls, Mapping) else getattr(tls, "acme", False)
    if on is not True:
        return {}
    return {"https": ("tcp:443",)} if challenge == "tls-alpn-01" else {"http": ("tcp:80",)}


def web_mistakes(config: Any) -> Iterator[tuple[KeyPath, str]]:
    """What in a whole `Config` does not go together."""
    listen = config.listen
    if config.tls.acme:
        if "." not in config.hostname:
            yield ("hostname",), "must be there with tls.acme: the name that the certificate is for"
        if config.acme.challenge == "http-01" and not listen.http:
            yield (
                ("listen", "http"),
                'must be there with tls.acme, such as ["tcp:80"]: the CA asks on port 80',
            )
        if config.acme.challenge == "tls-alpn-01" and not any(
            getattr(listen, name) for name in _TLS_LISTENERS
        ):
            yield (
                ("listen", "https"),
                'must be there with acme.challenge = "tls-alpn-01", such as ["tcp:443"]',
            )
    if config.mta_sts.domains and not (listen.https or listen.http):
        yield (
            ("listen", "https"),
            'must be there with mta_sts.domains, such as ["tcp:443"]: policies are fetched there',
        )
