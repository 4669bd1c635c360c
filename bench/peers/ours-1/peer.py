"""This checkout's server in one process, beside the one with workers: how it scales."""

from __future__ import annotations

from harness import peer_class


class Server(peer_class("ours")):  # type: ignore[misc]
    name = "ours-1"
    scales = False
