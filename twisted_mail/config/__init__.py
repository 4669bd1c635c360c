"""The configuration: `mail.toml` in, one frozen `Config` or all its mistakes out.

`load` reads a file, `default` is the start without one. `python -m twisted_mail.config` prints the
reference that is kept as `docs/configuration.md`.
"""

from .filtering import Filter
from .load import default, load
from .mistakes import ConfigError, Mistake
from .model import (
    LISTENERS,
    WEB_LISTENERS,
    Acme,
    Auth,
    CertificatePair,
    Config,
    Imap,
    Limits,
    Listen,
    Log,
    MtaSts,
    Pop3,
    Quota,
    Smtp,
    Tls,
)
from .outgoing import Delivery, Dns, Queue, Route, TlsPolicy
from .policy import Checks, Greylist, Rates, Reports, Reputation, Signing, Stories

__all__ = [
    "LISTENERS",
    "WEB_LISTENERS",
    "Acme",
    "Auth",
    "CertificatePair",
    "Checks",
    "Config",
    "ConfigError",
    "Delivery",
    "Dns",
    "Filter",
    "Greylist",
    "Imap",
    "Limits",
    "Listen",
    "Log",
    "Mistake",
    "MtaSts",
    "Pop3",
    "Queue",
    "Quota",
    "Rates",
    "Reports",
    "Reputation",
    "Route",
    "Signing",
    "Smtp",
    "Stories",
    "Tls",
    "TlsPolicy",
    "default",
    "load",
]
