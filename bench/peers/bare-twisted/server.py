"""The least that Twisted can do of STARTTLS, EHLO and QUIT: what any server on it pays for a TLS session.

    python server.py PORT TLSPORT cert.pem key.pem

Twisted's own defaults for a server with a certificate, and sessions that can be resumed; lines by LineOnlyReceiver;
no timers, no log, no limit.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor as _reactor  # noqa: TID251
from twisted.internet import ssl
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver

reactor: Any = _reactor


class Session(LineOnlyReceiver):
    """Answers what bench/handshakes.py says."""

    transport: Any
    factory: Any

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.sendLine(b"220 bare")

    def lineReceived(self, line: bytes) -> None:
        verb = line[:4]
        if verb == b"EHLO":
            self.transport.write(b"250-bare\r\n250 STARTTLS\r\n")
        elif verb == b"STAR":
            self.sendLine(b"220 go on")
            self.transport.startTLS(self.factory.options)
        elif verb == b"QUIT":
            self.sendLine(b"221 bye")
            self.transport.loseConnection()
        else:
            self.sendLine(b"502 no")


def main(port: int, tls_port: int, certificate: str, key: str) -> None:
    pem = Path(key).read_bytes() + Path(certificate).read_bytes()
    pair = ssl.PrivateCertificate.loadPEM(pem)
    factory: Any = Factory.forProtocol(Session)  # type: ignore[no-untyped-call]
    # without enableSessions nothing is resumed
    factory.options = ssl.CertificateOptions(
        privateKey=pair.privateKey.original, certificate=pair.original, enableSessions=True
    )
    factory.noisy = False
    reactor.listenTCP(port, factory, 1024, "127.0.0.1")
    reactor.listenSSL(tls_port, factory, factory.options, 1024, "127.0.0.1")
    reactor.run()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
