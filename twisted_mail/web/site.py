"""A site's web ports as its configuration wants them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..config import WEB_LISTENERS, Config
from ..world import World
from .autoconfig import Autoconfig, offers_of
from .mta_sts import StsHosting
from .pages import Pages
from .server import WebFactory

__all__ = ["hosting_of", "make_web"]


def hosting_of(config: Config) -> StsHosting:
    """The MTA-STS policies of [mta_sts]."""
    table = config.mta_sts
    return StsHosting(
        frozenset(table.domains), table.mode, table.mx or (config.hostname,), table.max_age_seconds
    )


def make_web(
    config: Config,
    world: World,
    tls: Any,
    challenge: Callable[[str], bytes | None],
    addresses: Iterable[tuple[str, str]] = (),
) -> dict[str, WebFactory]:
    """One factory for each name of `WEB_LISTENERS`. `addresses`: of all listeners, as `Listeners` has them."""
    autoconfig = Autoconfig(config.hostname, offers_of(addresses))
    pages = Pages(challenge, hosting_of(config), autoconfig)
    return {
        name: WebFactory(world, name, pages, tls=tls if name == "https" else None)
        for name in WEB_LISTENERS
    }
