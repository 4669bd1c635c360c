"""The least that can answer SMTP: takes every message and keeps none. It shows what load.py can do
at most.

    python bench/sink.py --port 2525

One process, epoll, blocking on nothing; ends on SIGTERM. It knows just what load.py sends.
"""

from __future__ import annotations

import argparse
import select
import socket
import sys

__all__ = ["main"]

_REPLIES = {
    b"EHLO": b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    b"MAIL": b"250 ok\r\n",
    b"RCPT": b"250 ok\r\n",
    b"DATA": b"354 go on\r\n",
    b"QUIT": b"221 bye\r\n",
}


def _serve(listener: socket.socket) -> None:
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    connections: dict[int, socket.socket] = {}
    in_data: set[int] = set()
    tails: dict[int, bytes] = {}
    while True:
        for fd, _mask in poll.poll():
            if fd == listener.fileno():
                connection = listener.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.send(b"220 sink\r\n")
                connections[connection.fileno()] = connection
                poll.register(connection.fileno(), select.EPOLLIN)
                continue
            connection = connections[fd]
            try:
                data = connection.recv(262144)
            except OSError:
                data = b""
            answer = b""
            if data and fd in in_data:
                # the final dot may come in two packets
                tail = (tails.get(fd, b"") + data)[-5:]
                tails[fd] = tail
                if tail == b"\r\n.\r\n":
                    in_data.discard(fd)
                    answer = b"250 ok\r\n"
            elif data:
                verbs = [line[:4] for line in data.splitlines()]
                answer = b"".join(_REPLIES.get(verb, b"502 no\r\n") for verb in verbs)
                if verbs[-1] == b"DATA":
                    in_data.add(fd)
                    tails[fd] = b""
            if answer:
                connection.send(answer)
            if not data or answer.startswith(b"221"):
                poll.unregister(fd)
                in_data.discard(fd)
                connections.pop(fd).close()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    port: int = parser.parse_args(arguments).port
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        _serve(listener)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
