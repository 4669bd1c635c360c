"""Sites that sign, with all that stands in the DNS for them; what is written on top of a message that arrived."""

from __future__ import annotations

import json
import re
from email.message import EmailMessage

from mailsite import until
from outside import MailSite, Sites

from twisted_mail.storage.stories import Story, find
from twisted_mail.testing.dns import Zone

__all__ = ["judging", "paste", "publish", "results", "reverse_name", "story", "unpublish"]


def judging(sites: Sites, domain: str, *users: str, checks: str = "", **tables: str) -> MailSite:
    """A running site that checks everybody, signs, and has its records in the DNS."""
    tables.setdefault("dns", "cache_entries = 0\n")
    site = sites(domain, *users, start=False, checks=checks, **tables)
    site.mailctl("dkim", "add", domain)
    publish(site)
    site.start()
    return site


def publish(site: MailSite, *, policy: str = "reject") -> None:
    """Put what `site` needs into the DNS, or put it back."""
    outside, domain = site.outside, site.domain
    zone = outside.zone
    zone[domain]["TXT"] = ["v=spf1 mx -all"]
    zone[site.hostname]["TXT"] = ["v=spf1 a -all"]
    zone[f"_dmarc.{domain}"] = {"TXT": [f"v=DMARC1; p={policy}"]}
    zone[reverse_name(site.address)] = {"PTR": [site.hostname]}
    for row in json.loads(site.mailctl("dkim", "list", domain, "--json").stdout):
        zone[row["name"]] = {"TXT": [row["record"]]}
    outside.publish()


def paste(site: MailSite) -> None:
    """Put all that ``mailctl dns`` prints into the DNS, and have the addresses' names set."""
    zone = site.outside.zone
    text = site.mailctl("dns", site.domain, "--address", site.address).stdout
    lines = [
        line.removeprefix("; ") if ".in-addr.arpa. 3600 IN PTR " in line else line
        for line in text.splitlines()
    ]
    for name, kinds in Zone.from_text("\n".join(lines)).items():
        zone[name] = kinds
    site.outside.publish()


def unpublish(site: MailSite) -> None:
    """Its keys are gone."""
    zone = site.outside.zone
    for name in [name for name in zone if name.endswith(f"._domainkey.{site.domain}")]:
        del zone[name]
    site.outside.publish()


def story(site: MailSite, name: str) -> str:
    """What `site` remembers of a message, the last one of that name (id or Message-ID)."""
    found: list[Story] = []

    def there() -> bool:
        found[:] = find(site.data / "stories.sqlite3", name)
        return bool(found)

    until(there, f"a story of {name}")
    return "\n".join(line for _, line in found[-1].lines)


def reverse_name(address: str) -> str:
    return ".".join(reversed(address.split("."))) + ".in-addr.arpa"


def results(message: EmailMessage, name: str = "Authentication-Results") -> list[dict[str, str]]:
    """The topmost such field, taken apart: of each method its result (under its name), and the properties.

    Comments are left out. What is before the first result is under "" of the first dictionary.
    """
    text = re.sub(r"\([^()]*\)", " ", " ".join(str(message[name]).split()))
    first, *rest = text.split(";")
    found = [{"": first.strip()}]
    for part in rest:
        found.append(dict(word.split("=", 1) for word in part.split() if "=" in word))
    return found
