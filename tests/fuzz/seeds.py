"""Where the corpus begins: what our own tests say and send, and small inputs written for it.

``python tests/fuzz/seeds.py DIRECTORY`` writes a directory a target; ``run.py all --merge`` keeps of them what brings
something new. Run it again when the tests have learned something.
"""

from __future__ import annotations

import ast
import re
import sys
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from targets import TARGETS  # noqa: E402

# What the texts in an area's tests are to a target: octets that go before them (choices of cut and options).
PLACES: dict[str, tuple[str, list[bytes]]] = {
    "smtp_engine": ("smtp smtp_client", [b"\x05\x02", b"\x00\x03", b"\x07\x00"]),
    "smtp_replies": ("smtp_client smtp remote", [b"\x05", b"\x00"]),
    "smtp_session": ("smtp", [b"\x05\x00", b"\x00\x07"]),
    "smtp_sending": ("smtp_client", [b"\x05\x00", b"\x00\x03"]),
    "smtp_arguments": ("smtp", [b""]),
    "pop3_engine": ("pop3", [b"\x05", b"\x00"]),
    "pop3_session": ("pop3", [b"\x05", b"\x00"]),
    "imap_engine": ("imap", [b"\x05\x12", b"\x00\x1a", b"\x05\x0e"]),
    "imap_session": ("imap", [b""]),
    "imap_commands": ("imap", [b""]),
    "imap_words": ("imap", [b""]),
    "imap_urls": ("imap", [b""]),
    "addresses": ("address smtp", [b""]),
    "sasl_messages": ("sasl accounts", [b""]),
    "dkim_records": ("policy", [b""]),
    "spf_records": ("policy", [b""]),
    "dmarc_records": ("policy", [b""]),
    "arc_chains": ("policy", [b""]),
    "sts_policies": ("remote", [b""]),
    "configuration": ("config", [b""]),
    "milter": ("filters", [b"\x05", b"\x00"]),
    "http_answers": ("filters", [b"\x05", b"\x00"]),
    "scanner_answers": ("filters", [b""]),
    "aggregate_reports": ("reports", [b""]),
    "tls_reports": ("reports", [b""]),
    "report_mails": ("reports", [b""]),
    "folder_names": ("storage imap", [b""]),
    "file_names": ("storage", [b""]),
    "dovecot_files": ("storage", [b""]),
}
MOST = 300
"""Inputs of one target: more would take minutes to be read before the first new one is tried."""
MESSAGES = ("message policy delivery", [b""])


def _texts(area: str) -> Iterator[bytes]:
    """The constants of an area's tests, and what clients say in its transcripts."""
    base = HERE.parent
    for path in sorted([*base.glob(f"{area}/*.py"), *base.glob(f"test_{area}.py")]):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str | bytes):
                continue
            value = (
                node.value.encode("utf-8", "replace") if isinstance(node.value, str) else node.value
            )
            said = re.findall(rb"(?m)^\s*C\+?:? (.*)$", value)
            if len(said) > 1:
                yield b"".join(line + b"\r\n" for line in said)
            heard = re.findall(rb"(?m)^\s*S:? (.*)$", value)
            if len(heard) > 1:
                yield b"".join(line + b"\r\n" for line in heard)
            yield value


@lru_cache
def _area(area: str) -> list[bytes]:
    return sorted({text for text in _texts(area) if 3 < len(text) < 3000})


def seeds(name: str) -> list[bytes]:
    """All of one target."""
    areas, heads = PLACES.get(name, MESSAGES)
    made = {head + text for area in areas.split() for text in _area(area) for head in heads}
    fit = [one for one in made if len(one) <= TARGETS[name].longest]
    # Any choice, the same each time
    return sorted(fit, key=zlib.crc32)[:MOST]


def main() -> None:
    for name in TARGETS:
        place = Path(sys.argv[1], name)
        place.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(seeds(name)):
            (place / f"seed-{number}").write_bytes(data)


if __name__ == "__main__":
    main()
