"""One certificate, from the order to the chain: RFC 8555 section 7.1's way, and nothing that outlives it.

Promises: each question has its time, the whole too; polling is as slow as the CA asks for, within bounds; whatever
happens, no challenge is answered afterwards.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from .certificates import checked_chain, request
from .challenges import Challenges
from .interfaces import Authority, AuthorityError, Authorization, Order
from .worker import Worker

__all__ = ["Request", "issue"]

_TOTAL_SECONDS: Final = 600.0
_FIRST_POLL: Final = 1.0
_LONGEST_POLL: Final = 30.0


class Request(NamedTuple):
    """`key`: PEM. `kind`: which challenge. `replaces`: RFC 9773's name of the certificate before, or ""."""

    names: tuple[str, ...]
    key: bytes
    kind: str
    replaces: str = ""


class _Patience:
    """Waits between questions, until it is over."""

    def __init__(self, now: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._now = now
        self._sleep = sleep
        self._end = now() + _TOTAL_SECONDS
        self._next = _FIRST_POLL

    async def wait(self, asked: float | None) -> None:
        """Raises AuthorityError when there is no time left."""
        # RFC 8555 section 8.2: "clients SHOULD ... respect the Retry-After"
        length = max(self._next, min(asked or 0.0, _LONGEST_POLL))
        self._next = min(self._next * 1.5, _LONGEST_POLL)
        if self._now() + length > self._end:
            raise AuthorityError(f"the CA has not come to an end in {_TOTAL_SECONDS:.0f} seconds")
        await self._sleep(length)


async def issue(
    wish: Request,
    authority: Authority,
    worker: Worker,
    challenges: Challenges,
    now: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> bytes:
    """The chain, checked, PEM. Raises AuthorityError, OSError, worker.TooLong."""
    patience = _Patience(now, sleep)
    order = await _ordered(wish, authority, worker)
    if len(order.authorizations) > len(wish.names):
        raise AuthorityError("the CA asks for more than was ordered")
    try:
        for url in order.authorizations:
            await _begin(wish, url, authority, worker, challenges)
        for url in order.authorizations:
            await _until_valid(url, authority, worker, patience)
    finally:
        await worker.call(challenges.clear)
    csr = request(wish.key, wish.names)
    finalized = False
    while order.status != "valid" or not order.certificate:
        if order.status == "invalid":
            raise AuthorityError(
                f"the CA refused the order: {order.error or 'it does not say why'}"
            )
        if order.status == "ready" and not finalized:
            finalized = True
            order = await worker.call(authority.finalize, order, csr)
        else:
            await patience.wait(order.retry_after)
            order = await worker.call(authority.order, order.url)
    pem = await worker.call(authority.certificate, order.certificate)
    try:
        return checked_chain(pem, wish.key, wish.names, now())
    except ValueError as error:
        raise AuthorityError(str(error)) from None


async def _ordered(wish: Request, authority: Authority, worker: Worker) -> Order:
    if not wish.replaces:
        return await worker.call(authority.new_order, wish.names, "")
    try:
        return await worker.call(authority.new_order, wish.names, wish.replaces)
    except AuthorityError as error:
        # RFC 9773 section 5: a CA may refuse one that it does not know, or that was replaced already.
        if error.retry_after is not None or error.account_gone:
            raise
        return await worker.call(authority.new_order, wish.names, "")


async def _begin(
    wish: Request, url: str, authority: Authority, worker: Worker, challenges: Challenges
) -> None:
    """Put up what the CA will look for, and tell it."""
    found: Authorization = await worker.call(authority.authorization, url)
    if found.name not in wish.names:
        raise AuthorityError(f"the CA asks for {found.name}, which was not ordered")
    if found.status == "valid":  # of an order before (RFC 8555 section 7.1.3)
        return
    _refuse_ended(found)
    for one in found.challenges:
        if one.kind == wish.kind:
            break
    else:
        raise AuthorityError(f"the CA has no {wish.kind} for {found.name}")
    authorization = authority.key_authorization(one.token)
    try:
        await worker.call(challenges.put, one.kind, found.name, one.token, authorization)
    except ValueError as error:
        raise AuthorityError(f"the CA sent {error}") from None
    await worker.call(authority.answer, one.url)


async def _until_valid(url: str, authority: Authority, worker: Worker, patience: _Patience) -> None:
    while True:
        found = await worker.call(authority.authorization, url)
        if found.status == "valid":
            return
        _refuse_ended(found)
        await patience.wait(found.retry_after)


def _refuse_ended(found: Authorization) -> None:
    if found.status != "pending":  # RFC 8555 section 7.1.6: invalid, deactivated, expired, revoked
        why = found.error or f"its authorization is {found.status}"
        raise AuthorityError(f"{found.name}: {why}")
