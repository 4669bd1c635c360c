"""What DKIM costs: CPU time of this process for one message of 4 KiB, the best of some rounds; dkimpy's beside it.

    python bench/dkim_micro.py [--profile verify|sign|arc]

The keys are in the cache, as they are for all but the first message of a domain. Also printed: how fast bodies are
hashed, and the longest single call for a large one (it holds the interpreter). Asserts nothing.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from twisted.internet.defer import Deferred

from twisted_mail.message.dkim_body import BodyHash
from twisted_mail.policy.arc_seal import seal
from twisted_mail.policy.dkim_key import Keys
from twisted_mail.policy.dkim_sign import sign
from twisted_mail.policy.dkim_verify import Verification
from twisted_mail.policy.verdicts import Arc
from twisted_mail.storage.dkim_keys import DkimKey, record_text
from twisted_mail.testing.dns import FakeResolver, Zone

ROUNDS = 7
TIMES = 200
NOW = int(time.time())  # noqa: TID251  # dkimpy has a clock of its own
HEADER = b"".join(
    b"Received: from a%d.example.net (a%d.example.net [192.0.2.%d])\n\tby mx.example.org with ESMTPS\n"
    b"\tfor <bob@example.org>; Mon, 7 Feb 2022 21:52:2%d +0000\n" % (n, n, n, n)
    for n in range(3)
) + (
    b"From: Alice <alice@example.org>\nTo: Bob <bob@example.net>\nSubject: A mail of the usual size\n"
    b"Date: Mon, 7 Feb 2022 21:52:25 +0000\nMessage-ID: <1234567890@example.org>\nMIME-Version: 1.0\n"
    b"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\nUser-Agent: bench\n"
)
BODY = (b"A line of a mail of the usual size, with words  and spaces.\n" * 70)[
    : 4096 - len(HEADER)
] + b"\n"
LARGE = (
    b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0NTY3\n" * 12_484
) * 25


def run(coroutine: Any) -> Any:
    out: list[Any] = []
    Deferred.fromCoroutine(coroutine).addBoth(out.append)
    return out[0]


def best(work: Callable[[], object], times: int = TIMES) -> float:
    """Milliseconds of CPU for one call."""
    work()
    found = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(times):
            work()
        found.append((time.process_time() - start) / times * 1000)
    return min(found)


def hash_of(body: bytes) -> bytes:
    hashing = BodyHash(relaxed=True)
    hashing.update(body)
    return hashing.digest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=["verify", "sign", "arc"])
    chosen = parser.parse_args()
    rsa = DkimKey("example.org", "rsa", "rsa-sha256", generate_private_key(65537, 2048))
    edwards = DkimKey("example.org", "ed", "ed25519-sha256", Ed25519PrivateKey.generate())
    zone = Zone(
        {
            f"{key.selector}._domainkey.example.org": {"TXT": [record_text(key.private)]}
            for key in (rsa, edwards)
        },
        ttl=86_400,
    )
    keys = Keys(FakeResolver(zone), lambda: NOW)

    def verifying(header: bytes, good: Callable[[Any], bool]) -> Callable[[], None]:
        def verify() -> None:
            verification = Verification(header, keys, now=NOW)
            verification.fetch()
            verification.update(BODY)
            assert good(run(verification.results()))

        return verify

    def signing(*with_: DkimKey) -> Callable[[], bytes]:
        return lambda: sign(with_, HEADER, hash_of(BODY), now=NOW)

    one = signing(rsa)() + HEADER
    both = signing(rsa, edwards)() + HEADER
    sealed = seal(one, hash_of(BODY), "mx.example.org; dkim=pass", Arc("none"), rsa, now=NOW) + one
    passes = lambda found: all(each.result == "pass" for each in found[0])  # noqa: E731
    works: dict[str, Callable[[], object]] = {
        "verify": verifying(one, passes),
        "sign": signing(rsa, edwards),
        "arc": verifying(sealed, lambda found: passes(found) and found[1].result == "pass"),
    }
    if chosen.profile:
        profile = cProfile.Profile()
        profile.runcall(lambda: [works[chosen.profile]() for _ in range(2000)])
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        return
    lines = [
        ("verify, one RSA-2048 signature", best(works["verify"])),
        ("verify, RSA-2048 and Ed25519", best(verifying(both, passes))),
        ("verify, RSA-2048 and one ARC set", best(works["arc"])),
        ("no signature at all", best(verifying(HEADER, passes))),
        ("sign, RSA-2048", best(signing(rsa))),
        ("sign, RSA-2048 and Ed25519", best(works["sign"])),
        *dkimpy(one, rsa, zone),
    ]
    for what, milliseconds in lines:
        print(f"{what:40} {milliseconds:8.3f} ms")
    for relaxed in (False, True):
        hashing, longest, start = BodyHash(relaxed), 0.0, time.process_time()
        for at in range(0, len(LARGE), 65_536):
            before = time.perf_counter()
            hashing.update(LARGE[at : at + 65_536])
            longest = max(longest, time.perf_counter() - before)
        hashing.digest()
        rate = len(LARGE) / (time.process_time() - start) / 1e6
        print(
            f"body of 25 MB, {'relaxed' if relaxed else 'simple':8} {rate:16.0f} MB/s, "
            f"longest call {longest * 1000:.2f} ms"
        )


def dkimpy(signed: bytes, key: DkimKey, zone: Zone) -> list[tuple[str, float]]:
    try:
        import dkim
    except ImportError:
        return []
    whole = (signed + b"\n" + BODY).replace(b"\n", b"\r\n")
    plain = (HEADER + b"\n" + BODY).replace(b"\n", b"\r\n")
    record = zone["rsa._domainkey.example.org"]["TXT"][0].encode()
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())

    def verify() -> None:
        assert dkim.verify(whole, dnsfunc=lambda name, timeout=5: record)

    return [
        ("dkimpy: verify, one RSA-2048 signature", best(verify, 20)),
        (
            "dkimpy: sign, RSA-2048",
            best(
                lambda: dkim.sign(
                    plain, b"rsa", b"example.org", pem, canonicalize=(b"relaxed", b"relaxed")
                ),
                5,
            ),
        ),
    ]


if __name__ == "__main__":
    main()
