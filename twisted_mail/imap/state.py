"""The states of a session (RFC 9051 section 3)."""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["ANY", "LOGGED_IN", "State"]


class State(enum.Flag):
    """There is no logout state to be in: LOGOUT is answered when it is over."""

    NOT_AUTHENTICATED = enum.auto()
    AUTHENTICATED = enum.auto()
    SELECTED = enum.auto()


LOGGED_IN: Final = State.AUTHENTICATED | State.SELECTED
ANY: Final = State.NOT_AUTHENTICATED | LOGGED_IN
