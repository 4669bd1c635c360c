"""What a worker is told at its start: the first frame of the control channel, made here and read here.

The configuration travels as the main process has read it: a worker never looks into the file, which may have changed,
or be for root's eyes. So do the certificates and their keys.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..config import Config
from ..listeners import Socket
from .control import Frame

__all__ = [
    "LogPlace",
    "Order",
    "first_frame",
    "read_order",
]


class LogPlace(NamedTuple):
    """Where a worker's log goes: to `descriptor`, which it has as its standard output, and which `path` opens again; or
    to the system's, under the name `syslog`.
    """

    descriptor: int = 1
    path: str = ""
    syslog: str | None = None


class Order(NamedTuple):
    """What a worker is to be. The descriptors in `sockets`, and `counts`, are those of the worker."""

    slot: int
    reactor: str
    path: Sequence[str]
    config: Config
    files: Mapping[Path, bytes]
    addresses: Sequence[tuple[str, str]]
    sockets: Sequence[Socket]
    counts: int
    log: LogPlace

    def __repr__(self) -> str:
        """Without what is in the files: keys."""
        return f"Order({self.slot}, files={[str(path) for path in self.files]})"


def first_frame(order: Order) -> Frame:
    """As it travels."""
    config = order.config
    return [
        "start",
        {
            "slot": order.slot,
            "reactor": order.reactor,
            "path": list(order.path),
            "config": config.model_dump(mode="json"),
            "directory": str(config.certificates.parent),
            "file": None if config.file is None else str(config.file),
            "files": _encode(order.files),
            "addresses": order.addresses,
            "sockets": order.sockets,
            "counts": order.counts,
            "log": order.log,
        },
    ]


def read_order(frame: Frame) -> Order:
    """What `first_frame` made. Raises ValueError."""
    word, told = frame
    if word != "start":
        raise ValueError(f"the first frame is {word}")
    file = told["file"]
    context = {"directory": Path(told["directory"]), "file": None if file is None else Path(file)}
    return Order(
        told["slot"],
        told["reactor"],
        told["path"],
        Config.model_validate(told["config"], context=context),
        _decode(told["files"]),
        [(name, address) for name, address in told["addresses"]],
        [Socket(*one) for one in told["sockets"]],
        told["counts"],
        LogPlace(*told["log"]),
    )


def _encode(files: Mapping[Path, bytes]) -> dict[str, str]:
    return {str(path): base64.b64encode(content).decode() for path, content in files.items()}


def _decode(told: Mapping[str, str]) -> dict[Path, bytes]:
    return {Path(path): base64.b64decode(content) for path, content in told.items()}
