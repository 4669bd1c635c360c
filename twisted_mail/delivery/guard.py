"""The guard of a site: who comes is met by a `Stranger` or a `Member`, which know what to ask of him."""

from __future__ import annotations

from .interfaces import Visit
from .parts import Parts
from .visit import Member, Stranger

__all__ = ["SiteGuard"]


class SiteGuard:
    """`delivery.interfaces.Guard` of a site with these `parts`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def visit(self, ip: str, connection: str, *, submission: bool) -> Visit | None:
        """A client has connected."""
        kind = Member if submission else Stranger
        return kind(self._parts, ip, connection)
