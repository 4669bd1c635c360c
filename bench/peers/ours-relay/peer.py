"""This checkout's server with a route to the sink."""

from __future__ import annotations

import sys
from pathlib import Path

from harness import CONNECTIONS, SINK_DOMAIN

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from checkout import Ours  # noqa: E402  (a neighbour of the folder, whose name no import can spell)


class Server(Ours):
    name = "ours-relay"
    template = _HERE / "mail.toml"

    def values(self) -> dict[str, object]:
        return {"connections": CONNECTIONS, "sink_domain": SINK_DOMAIN}
