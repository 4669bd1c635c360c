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

from fuzz_targets import TARGETS  # noqa: E402

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
    "sasl_messages": ("sasl accounts", [b"", b"n,,n=user,r=nonce\xff", b"\xff\xff"]),
    "dkim_records": ("policy", [b""]),
    "spf_records": ("policy", [b"alice@mail.example.org\xff"]),
    "dmarc_records": ("policy", [b""]),
    "arc_chains": ("policy", [b""]),
    "sts_policies": ("remote", [b""]),
    "acme_answers": ("acme", [b"120\xff", b""]),
    "client_names": ("policy config dns", [b"", b"\xff"]),
    "rewritten_senders": ("delivery address", [b""]),
    "notices": (
        "message",
        [
            b"a@b.example\xffmx.example\xff5.1.1 no such user\xffbob@c.example\xffrfc822;bob@c.example\xffQQ1\xff",
            b"a@b.example\xffmx.example\xff",
        ],
    ),
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
MOST = 2500
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

    # The suites of SPF and ARC
    for path in sorted(base.glob(f"{area}/data/*")):
        yield from re.findall(
            rb"v=(?:spf1|DKIM1|DMARC1|STSv1|TLSRPTv1)[^'\"\n]{2,400}", path.read_bytes()
        )


@lru_cache
def _area(area: str) -> list[bytes]:
    return sorted({text for text in _texts(area) if 3 < len(text) < 3000})


# What no test says, and mutation would find late: bounds that are far away.
_NESTED = b"".join(
    b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (level, level) for level in range(70)
)
BY_HAND: dict[str, list[bytes]] = {
    "smtp_engine": [
        b"\x05\x02DATA\r\n" + b"..x\r\n" * 600 + b"\n.\n\r\n.\r\nNOOP\r\n",
        b"\x04\x03DATA\r\n" + b".\r\n" + b"DATA\r\n" + b"..\r\n" * 600 + b"\n.\r\n.\r\nNOOP\r\n",
        b"\x05\x00" + b"x" * 3000 + b"\r\nNOOP\r\n",
    ],
    "smtp_replies": [
        b"\x05" + b"250-\r\n" * 300 + b"250 \r\n",
        b"\x05" + b"250-2.1.0 x\r\n" * 200 + b"250 2.1.0 " + b"y" * 1200 + b"\r\n",
    ],
    "pop3_engine": [
        b"\x05" + b"x" * 300 + b"\r\nNOOP\r\n",
        b"\x04AUTH\r\n" + b"=" * 3000 + b"\r\n",
    ],
    "imap_engine": [
        b"\x05\x1aa SEARCH " + b"NOT " * 400 + b"ALL\r\nb NOOP\r\n",
        b"\x04\x0aa LOGIN {3000+}\r\n" + b"x\n" * 1500 + b" y\r\nb NOOP\r\n",
        b"\x05\x1ab APPEND INBOX {3000+}\r\n" + b"y\r\n" * 1000 + b"\r\nc NOOP\r\n",
    ],
    "imap_commands": [
        b"a SEARCH " + b"(" * 600 + b"ALL" + b")" * 600,
        b"a UID FETCH 1:* (BODY[1" + b".1" * 900 + b"])",
    ],
    "structure": [
        b'Subject: "a\\\\b"\nContent-Type: text/plain; name="a\\"b\\\\c"\nContent-Description: x\\y"z\n\nq\n',
        _NESTED[:4096],
        b"Content-Type: message/rfc822\n\n" * 120,
        b"Content-Type: multipart/mixed; boundary=A\n" + b"\n--A\n" * 700,
    ],
    "part_contents": [_NESTED[:4096]],
    "http_answers": [
        b"\x05HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 2000,
        b"\x05HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"100\r\n"
        + b"x" * 256
        + b"\r\n"
        + b"2ff\r\n"
        + b"y" * 767
        + b"\r\n0\r\n\r\n",
        b"\x05HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000,
    ],
    "file_names": [
        b'{"folder": "a", "uidvalidity": 1, "uid_ceiling": 2, "special_use": ["\\\\Sent"]}'
    ],
    "threads": [b"\n".join(b"<%d> <%d>" % (n, (n + 1) % 50) for n in range(50))],
    "dns_answers": [
        # Flags, counts of the three sections, a record at a pointer to the question's name
        bytes([kind]) + b"\x81\xa0\x00\x01\x00\x00\x00\x00\xc0\x0c" + record
        for kind, record in enumerate(
            (
                b"\x00\x0f\x00\x01\x00\x00\x0e\x10\x00\x04\x00\x0a\xc0\x0c",
                b"\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\xc0\x00\x02\x01",
                b"\x00\x1c\x00\x01\x00\x00\x0e\x10\x00\x10" + b"\x20\x01" + b"\x00" * 13 + b"\x01",
                b"\x00\x34\x00\x01\x00\x00\x0e\x10\x00\x05\x03\x01\x00\xab\xcd",
                b"\x00\x10\x00\x01\x00\x00\x0e\x10\x00\x06\x02hi\x02ho",
                b"\x00\x21\x00\x01\x00\x00\x0e\x10\x00\x08\x00\x01\x00\x02\x00\x19\xc0\x0c",
                b"\x00\x05\x00\x01\x00\x00\x0e\x10\x00\x04\x01x\xc0\x0c",
                b"\x00\x0c\x00\x01\x00\x00\x0e\x10\x00\x02\xc0\x0c",
            )
        )
    ],
    "tls_reports": [
        b'{"organization-name": "x", "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": '
        b'"2016-04-01T23:59:59Z"}, "contact-info": "a@b", "report-id": "1", "policies": [{"policy": {"policy-type": '
        b'"sts", "policy-string": ["version: STSv1", "mode: testing"], "policy-domain": "c.example", "mx-host": '
        b'["*.mail.c.example"]}, "summary": {"total-successful-session-count": 5326, "total-failure-session-count": '
        b'303}, "failure-details": [{"result-type": "certificate-expired", "sending-mta-ip": "2001:db8::1", '
        b'"receiving-mx-hostname": "mx1.c.example", "failed-session-count": 100}]}]}'
    ],
    "aggregate_reports": [
        b'<?xml version="1.0"?><feedback><report_metadata><org_name>x</org_name><email>a@b</email><report_id>1'
        b"</report_id><date_range><begin>1</begin><end>2</end></date_range></report_metadata><policy_published>"
        b"<domain>c.example</domain><p>none</p></policy_published><record><row><source_ip>192.0.2.1</source_ip>"
        b"<count>2</count><policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf><reason>"
        b"<type>other</type><comment>y</comment></reason></policy_evaluated></row><identifiers><header_from>c.example"
        b"</header_from></identifiers><auth_results><dkim><domain>c.example</domain><selector>s</selector><result>pass"
        b"</result></dkim><spf><domain>c.example</domain><scope>mfrom</scope><result>fail</result></spf>"
        b"</auth_results></record></feedback>",
        b'<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;">]><feedback>&d;</feedback>',
    ],
    "configuration": [
        b'[[routes]]\ndomain = "a.example"\nvia = "smtp://b:25"\npassword = "SECRET"\npassword_file = "x"\n',
        b'[[routes]]\ndomain = "a.example"\nvia = "mx"\nusername = "SECRET"\npassword = "SECRET"\n',
        b'[[filters]]\nname = "x"\npassword = ["SECRET"]\npasswort = "SECRET"\n',
        b'[acme]\neab_key = "SECRET"\neab_kid = "x"\ndirectory = "https://a:SECRET@b/"\n',
        b'[auth]\ncheckers = ["memory:alice:SECRET", "file:SECRET", 5]\n',
        b"password = \"SECRET\"\nsmtp = 'SECRET'\n",
    ],
    "signed_fields": [b"\x05Subject: \x0ba\x0c \t b\x85 \t\nTo:\x1c \n\nx \n \n\n"],
    "scanner_answers": [
        b'{"action": "add header", "score": 7, "required_score": 6, "milter": {"add_headers": {"X-A": '
        b'{"value": "b\\nc: d", "order": 1}, "X\\nBcc: e": "c", "": "d"}, '
        b'"remove_headers": {"Subject": 1}, "change_from": "x@y.example", '
        b'"add_rcpt": ["a@b.example>"], "spam_header": "X-S"}, "symbols": {"A": {"score": 1}}, "messages": '
        b'{"smtp_message": "no\\r\\n250 ok"}}',
        b'{"action": "reject", "messages": {"smtp_message": "no\\r\\n250 ok"}}',
    ],
    "journal_whole": [b"\x02\x00\x00\x00{}", b'\x08\x00\x00\x00{"a": 1}content'],
    "frames": [b'["ready"]', b'["news", ["quota", "a", 1]]', b"[" * 2000],
    "milter": [
        b"\x07\x00\x00\x00\x01c\x00\x00\x00\x01c\x00\x00\x00\x09yno 5.7.1\x00",
        b"\x07\x00\x00\x00\x01c" * 1 + b"\x00\x00\x00\x0ahX-A\x00yes\x00\x00",
        b"\x05\x00\x00\x00\x0dO\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff",
    ],
    "smtp_sending": [
        (
            b"\x00220 a\r\n\xff250-a\r\n250-SIZE 1000\r\n250-PIPELINING\r\n250 8BITMIME\r\n\xff"
            b"250 ok\r\n250 ok\r\n550 5.1.1 no\r\n354 go\r\n\xff250 2.0.0 kept\r\n\xff221 bye\r\n"
        ),
        (
            b"\x00220 a\r\n\xff250 a\r\n\xff250 ok\r\n\xff250 ok\r\n\xff250 ok\r\n\xff354 go\r\n\xff"
            b"250 kept\r\n\xff221 bye\r\n"
        ),
        (
            b"\x01220 a\r\n\xff250-a\r\n250 CHUNKING\r\n\xff250 ok\r\n\xff250 ok\r\n\xff250 ok\r\n\xff"
            b"354 go\r\n\xff250 one\r\n450 two\r\n\xff221 bye\r\n"
        ),
        b"\x02220 a\r\n\xff250-a\r\n250 AUTH PLAIN LOGIN SCRAM-SHA-256\r\n\xff334 \r\n\xff235 ok\r\n",
    ],
}


def seeds(name: str) -> list[bytes]:
    """All of one target."""
    areas, heads = PLACES.get(name, MESSAGES)
    made = {head + text for area in areas.split() for text in _area(area) for head in heads}
    fit = [one for one in made if len(one) <= TARGETS[name].longest]
    # Any choice, the same each time
    return [*BY_HAND.get(name, []), *sorted(fit, key=zlib.crc32)[:MOST]]


def main() -> None:
    for name in TARGETS:
        place = Path(sys.argv[1], name)
        place.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(seeds(name)):
            (place / f"seed-{number}").write_bytes(data)


if __name__ == "__main__":
    main()
