"""TLS without a socket: a connection of ours and one of the standard library, joined by memory."""

from __future__ import annotations

import ssl

from OpenSSL import SSL


class Joint:
    """`ours` and what the standard library wraps around `incoming` and `outgoing`."""

    def __init__(self, ours: SSL.Connection) -> None:
        self._ours = ours
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    def handshake(self, peer: ssl.SSLObject) -> None:
        """Until both have done; raises what ends it."""
        waiting = [peer.do_handshake, self._ours.do_handshake]
        while waiting:
            for step in list(waiting):
                try:
                    step()
                except (ssl.SSLWantReadError, SSL.WantReadError):
                    pass
                else:
                    waiting.remove(step)
                self.carry()

    def carry(self) -> None:
        if data := self.outgoing.read():
            self._ours.bio_write(data)
        try:
            self.incoming.write(self._ours.bio_read(65536))
        except SSL.WantReadError:
            pass
