"""This checkout's server, delivering to the hosts that a DNS server of the benchmark names."""

from __future__ import annotations

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(_HERE.parent))

from checkout import Ours  # noqa: E402  (a neighbour of the folder, whose name no import can spell)


class Server(Ours):
    name = "ours-mx"
    template = _HERE / "mail.toml"
    dns = 53
    """Port of the DNS server on 127.0.0.1; `next_hop` is that of the domains' servers."""

    def values(self) -> dict[str, object]:
        return {"dns": self.dns}
