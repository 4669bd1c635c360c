"""A zone with everything in it: what the server says of it over sockets, and what the fake says."""

from __future__ import annotations

from twisted_mail.testing.dns import Zone

DIGEST = bytes(range(32))
LONG = [f"v=spf1 {number} " + "ip4:192.0.2.1 " * 30 + "-all" for number in range(20)]


def make_zone():
    return Zone(
        {
            "Example.ORG.": {
                "MX": [(10, "MX.example.org."), (20, "mx2.example.org")],
                "TXT": ["v=spf1 -all", ["one", "two"], b'\xff\x00"\\', ""],
            },
            "mx.example.org": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:DB8:0::1"]},
            "_25._tcp.mx.example.org": {"TLSA": [(3, 1, 1, DIGEST.hex()), (3, 0, 0, b"\x30\x00")]},
            "_25._tcp.odd.example.org": {"TLSA": [(3, 1, 1, "0f0f"), (2, 0, 1, DIGEST)]},
            "_imaps._tcp.example.org": {
                "SRV": [(0, 1, 993, "MX.example.org."), (10, 0, 65535, "b")]
            },
            "_pop3._tcp.example.org": {"SRV": [(0, 0, 0, "")]},
            "1.2.0.192.in-addr.arpa": {"PTR": ["mx.example.org", "Other.example.org"]},
            "1" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa": {"PTR": ["mx.example.org"]},
            "nomail.example": {"MX": [(0, "")]},
            "alias.example": {"CNAME": ["example.org"]},
            "alias2.example": {"CNAME": ["alias.example"]},
            "signed-alias.example.org": {"CNAME": ["alias.example"]},
            "alias-to-nothing.example": {"CNAME": ["nothing.example"]},
            "alias-to-little.example": {"CNAME": ["mx.example.org"]},
            "round.example": {"CNAME": ["round-and.example"]},
            "round-and.example": {"CNAME": ["round.example"]},
            "self.example": {"CNAME": ["self.example"]},
            **{f"step{n}.example": {"CNAME": [f"step{n + 1}.example"]} for n in range(20)},
            "step20.example": {"A": ["192.0.2.1"]},
            "*.wild.example": {"MX": [(5, "mx.example.org")]},
            "tame.wild.example": {"A": ["192.0.2.9"]},
            "broken.example": {"MX": [(5, "mx.example.org")], "A": ["192.0.2.9"]},
            "alias-to-broken.example": {"CNAME": ["broken.example"]},
            "half.example": {"MX": [(5, "mx.example.org")], "A": ["192.0.2.9"]},
            "large.example": {"TXT": LONG},
            "cut.example": {"A": ["192.0.2.7"]},
        },
        secure=["example.org", "2.0.192.in-addr.arpa", "unsigned-child.secure.example"],
        insecure=["odd.example.org"],
        failing=["broken.example", "MX half.example"],
        truncated=["cut.example"],
        ttl=200,
        absence_ttl=77,
    )
