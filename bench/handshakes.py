"""TLS sessions by SMTP: STARTTLS, EHLO, QUIT on a new connection each, one after the other.

    python bench/handshakes.py --port 2525 --count 300 [--resumed]

With `--resumed` each session offers what the one before it was given (RFC 8446 section 2.2; RFC 5077); how many of them
the server resumed is in the result, one line of JSON. What the server paid is what its process shows.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import ssl
import subprocess
import sys
import time

from large import trusting
from measure import percentile

__all__ = ["ceiling", "main"]

_PATIENCE = 30.0


def _session(
    port: int, context: ssl.SSLContext, earlier: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, bool]:
    """What can be resumed later, and whether this one was."""
    with socket.create_connection(("127.0.0.1", port), _PATIENCE) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _ask(plain, b"", b"2")
        _ask(plain, b"EHLO load.bench.test\r\n", b"2")
        _ask(plain, b"STARTTLS\r\n", b"2")
        with context.wrap_socket(plain, session=earlier) as secured:
            _ask(secured, b"EHLO load.bench.test\r\n", b"2")
            _ask(secured, b"QUIT\r\n", b"2")
            # a ticket comes with or before the first octets
            return secured.session, bool(secured.session_reused)


def _ask(connection: socket.socket, line: bytes, expected: bytes) -> None:
    if line:
        connection.sendall(line)
    got = b""
    while not got.endswith(b"\n") or got[got.rfind(b"\n", 0, -1) + 1 :][3:4] == b"-":
        more = connection.recv(65536)
        if not more:
            raise RuntimeError("connection closed")
        got += more
    if got[:1] != expected:
        raise RuntimeError(got.decode(errors="replace").strip())


def ceiling(seconds: int = 1) -> dict[str, float]:
    """Milliseconds that OpenSSL needs for a signature by each key, and for the key exchange (two X25519 operations):
    no handshake of this machine takes less. Raises OSError and subprocess.SubprocessError.
    """
    command = ["openssl", "speed", "-seconds", str(seconds), "rsa2048", "ecdsap256", "ecdhx25519"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found = {}
    for name, pattern in (
        ("RSA 2048", r"rsa +2048 bits +\S+ +\S+ +([\d.]+)"),
        ("P-256", r"ecdsa \(nistp256\) +\S+ +\S+ +([\d.]+)"),
        ("X25519", r"ecdh \(X25519\) +\S+ +([\d.]+)"),
    ):
        match = re.search(pattern, done.stdout)
        if match is None:
            raise OSError(f"openssl speed says nothing of {name}")
        found[name] = 1000 / float(match.group(1))
    exchange = 2 * found.pop("X25519")
    return {name: ms + exchange for name, ms in found.items()}


def main(arguments: list[str]) -> int:
    """The command; 1 when nothing was accepted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--resumed", action="store_true")
    options = parser.parse_args(arguments)
    context = trusting()
    times = []
    resumed = 0
    earlier = None
    refusal = ""
    begin = time.monotonic()
    try:
        for _ in range(options.count):
            began = time.monotonic()
            given, again = _session(options.port, context, earlier)
            times.append(time.monotonic() - began)
            resumed += again
            if options.resumed:
                earlier = given
    except (OSError, RuntimeError) as error:
        refusal = str(error)
    result = {
        "accepted": len(times),
        "resumed": resumed,
        "refused": int(bool(refusal)),
        "refusal": refusal,
        "begin": begin,
        "end": time.monotonic(),
        "p50": percentile(times, 0.5) * 1000,
        "p99": percentile(times, 0.99) * 1000,
        "cpu": time.process_time(),
    }
    print(json.dumps(result), flush=True)
    return 0 if times else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
