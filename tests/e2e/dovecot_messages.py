# ruff: noqa: E501 — bytes are not folded
"""Odd messages for SEARCH, SORT and FETCH: what is decoded, folded, nested, wrongly labelled or broken."""

from __future__ import annotations

from base64 import b64encode

__all__ = ["MESSAGES"]

GREETING = "Grüße äÄ Straße Ωσς привет".encode()
MESSAGES: dict[str, bytes] = {}
"""By short names, in the order of their numbers."""


def part(head: bytes, body: bytes) -> bytes:
    return b"--b\n" + head + b"\n\n" + body + b"\n"


def mixed(top: bytes, *parts: bytes) -> bytes:
    kind = b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
    return top + kind + b"preamble\n" + b"".join(parts) + b"--b--\nepilogue\n"


MESSAGES["plain"] = (
    b"From: Alice Adams <alice@example.org>\nTo: bob@example.org\nSubject: Hello World\nDate: Tue, 1 Sep 2020 10:00:00 +0000\nMessage-ID: <1@x>\n\nThe quick brown fox\njumps over the lazy dog.\n"
)
MESSAGES["rawlatin"] = (
    b"From: J\xf6rg <joerg@example.org>\nSubject: caf\xe9 latin\n\nbody caf\xe9 raw\n"
)
MESSAGES["rawutf8"] = (
    "From: Jörg <joerg2@example.org>\nTo: Müller <mu@example.org>\nSubject: café utf\n\nbody café utf raw\n".encode()
)
MESSAGES["encwords"] = (
    b"From: =?utf-8?q?J=C3=B6rg_M=C3=BCller?= <jm@example.org>\nSubject: =?utf-8?b?R3LDvMOfZQ==?= =?utf-8?q?_aus_M=C3=BCnchen?=\n\nx\n"
)
MESSAGES["splitword"] = b"Subject: =?utf-8?q?Gr=C3?= =?utf-8?q?=BC=C3=9Fe?= tail\n\nx\n"
MESSAGES["foldword"] = (
    b"Subject: =?iso-8859-1?q?Gr=FC=DFe?=\n =?iso-8859-1?q?_und_mehr?= end\n\nx\n"
)
MESSAGES["koi"] = (
    b"Subject: =?koi8-r?b?"
    + b64encode("Привет мир".encode("koi8-r"))
    + b"?=\nContent-Type: text/plain; charset=koi8-r\nContent-Transfer-Encoding: 8bit\n\n"
    + "добрый день\n".encode("koi8-r")
)
MESSAGES["unkcs"] = (
    b"Subject: =?x-none?q?w=E4ird?= plain\nContent-Type: text/plain; charset=x-none\n\nw\xe4ird body w\xc3\xa4ird\n"
)
MESSAGES["badb64word"] = b"Subject: =?utf-8?b?R3L!!?= after\n\nx\n"
MESSAGES["qspaceword"] = b"Subject: =?utf-8?q?not an encoded word?= after\n\nx\n"
MESSAGES["inquote"] = (
    b'From: "=?utf-8?q?J=C3=B6rg?=" <inq@example.org>\nSubject: "=?utf-8?q?quoted=C3=A4?="\n\nx\n'
)
MESSAGES["comment"] = (
    b'From: carl@example.org (Carl Comment)\nTo: (lead) dora@example.org, "Doe, John" <jd@example.org>\nCc: undisclosed-recipients:;\nBcc: secret@example.org\n\nx\n'
)
MESSAGES["group"] = (
    b'To: friends: ann@example.org, Ben <ben@example.org>;\nCc: <@route.example:rt@example.org>\nFrom: "A \\"nick\\" B" <nick@example.org>\n\nx\n'
)
MESSAGES["brokenaddr"] = b"From: no at sign here\nTo: <unclosed@example.org\nCc: a b c@d e@f\n\nx\n"
MESSAGES["folded"] = (
    b"Subject: first\n  second\n\tthird   fourth\nX-Folded: alpha\n beta\n\tgamma  delta\nX-Empty:\nX-Blank:   \nX-Twice: one\nX-Twice: two\nReceived: from a by b\nReceived: from c by d\n\nx\n"
)
MESSAGES["fromfold"] = (
    b"From: Very Long\n Name <vln@example.org>\nTo: a@example.org,\n\tb@example.org\n\nx\n"
)
MESSAGES["b64utf8"] = (
    b"Subject: b64\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n"
    + b64encode(GREETING + b" lineone\r\nlinetwo")[:40]
    + b"\n"
    + b64encode(GREETING + b" lineone\r\nlinetwo")[40:]
    + b"\n"
)
MESSAGES["b64latin"] = (
    b"Subject: b64l\nContent-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: BASE64\n\n"
    + b64encode("Grüße aus Köln".encode("latin-1"))
    + b"\n"
)
MESSAGES["utf16"] = (
    b"Subject: u16\nContent-Type: text/plain; charset=utf-16\nContent-Transfer-Encoding: base64\n\n"
    + b64encode("sixteen Grüße".encode("utf-16"))
    + b"\n"
)
MESSAGES["qp"] = (
    b"Subject: qp\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nsoft=\nbreak Gr=C3=BC=C3=9Fe lower=c3=a4 trailing   \nnext=20line =ZZ bad\n"
)
MESSAGES["qplatin"] = (
    b"Content-Type: text/plain; charset=windows-1252\nContent-Transfer-Encoding: Quoted-Printable\n\n=80uro =93smart=94 na=EFve\n"
)
MESSAGES["wrongcs"] = (
    b"Subject: wrongcs\nContent-Type: text/plain; charset=utf-8\n\nwrong caf\xe9 latin in utf8\n"
)
MESSAGES["wrongcs2"] = (
    b"Content-Type: text/plain; charset=us-ascii\n\n" + "ascii says café\n".encode()
)
MESSAGES["wrongcs3"] = (
    b"Content-Type: text/plain; charset=iso-8859-1\n\n" + "latin says café\n".encode()
)
MESSAGES["nocs"] = b"Content-Type: text/plain\n\n" + "none says café\n".encode()
MESSAGES["html"] = (
    b'Subject: html\nContent-Type: text/html; charset=utf-8\n\n<html><head><title>Ti</title><style>p{color:red}</style><script>var hidden=1</script></head><body attr="attrval">Hello <b>bo</b>ld &amp; caf&eacute; Gr&uuml;n un<i>bro</i>ken<!-- cmt --></body></html>\n'
)
MESSAGES["mixed"] = mixed(
    b"Subject: mixed\n",
    part(b"Content-Type: text/plain\nX-Part: parthead", b"endofone"),
    part(b"Content-Type: text/html", b"<p>starttwo</p>"),
    part(
        b"Content-Type: application/octet-stream; name=file.bin\nContent-Disposition: attachment; filename=attfile.txt",
        b"octetneedle",
    ),
    part(b"Content-Type: image/png\nContent-Transfer-Encoding: base64", b64encode(b"imageneedle")),
    part(
        b'Content-Type: text/csv; name="table.csv"\nContent-Disposition: attachment', b"csvneedle"
    ),
)
MESSAGES["attached"] = mixed(
    b"Subject: attached\n",
    part(b"Content-Type: text/plain", b"cover"),
    part(
        b"Content-Type: message/rfc822",
        b"Subject: innersubject\nFrom: inner@example.org\nTo: innerto@example.org\n\ninnerbody",
    ),
    part(
        b"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64",
        b64encode(b"Subject: codedsubject\n\ncodedbody\n"),
    ),
)
MESSAGES["rfc822top"] = (
    b"Subject: fwd\nContent-Type: message/rfc822\n\nSubject: =?utf-8?q?forw=C3=A4rded?=\nX-Inner: innerx\nMIME-Version: 1.0\nContent-Type: text/plain; charset=iso-8859-1\n\ninnertext caf\xe9\n"
)
MESSAGES["report"] = (
    b"Subject: rep\nMIME-Version: 1.0\nContent-Type: multipart/report; boundary=b; report-type=delivery-status\n\n"
    + part(b"Content-Type: text/plain", b"explained")
    + part(
        b"Content-Type: message/delivery-status",
        b"Reporting-MTA: dns; mtaneedle\n\nFinal-Recipient: rfc822; fr@example.org",
    )
    + part(b"Content-Type: text/rfc822-headers", b"Subject: hdrsonly")
    + b"--b--\n"
)
MESSAGES["nested"] = mixed(
    b"Subject: nested\n",
    part(
        b"Content-Type: multipart/alternative; boundary=c",
        b"innerpre\n--c\n\naltone\n--c\nContent-Type: text/html\n\n<b>alttwo</b>\n--c--\ninnerpost",
    ),
)
MESSAGES["digest"] = (
    b"Subject: dig\nMIME-Version: 1.0\nContent-Type: multipart/digest; boundary=b\n\n"
    + part(b"", b"Subject: digsub\n\ndigbody")
    + b"--b--\n"
)
MESSAGES["empty"] = b"\n"
MESSAGES["nobody"] = b"Subject: nobody\n"
MESSAGES["noheader"] = b"\njust body text\n"
MESSAGES["bodyonly"] = b"no header line at all\nsecond line\n"
MESSAGES["nul"] = b"Subject: nul\0in\n\nbody nul\0in body\n"
MESSAGES["bigend"] = (
    b"Subject: big\n\n" + b"filler line of text that is long enough\n" * 5000 + b"bigneedle\n"
)
MESSAGES["longline"] = b"Subject: longline\n\n" + b"y" * 150_000 + b"longneedle" + b"y" * 10 + b"\n"
MESSAGES["case"] = (
    "Subject: =?utf-8?q?=C3=84RGER_STRASSE_=C5=92UVRE?=\nContent-Type: text/plain; charset=utf-8\n\nÄRGER stra\u00dfe ﬁnance Ｆｕｌｌ İstanbul ΣΊΣΥΦΟΣ e\u0301cole ÉCOLE Ǆ Å \u212b K \u212a ½ ①\n".encode()
)
MESSAGES["cyr"] = (
    b"Subject: =?utf-8?b?"
    + b64encode("ПРИВЕТ".encode())
    + "?=\nContent-Type: text/plain; charset=utf-8\n\nБольшой Текст\n".encode()
)
MESSAGES["dates1"] = b"Date: Tue, 01 Sep 2020 23:30:00 -0700\nSubject: dates1\n\nx\n"
MESSAGES["dates2"] = b"Date: Wed, 02 Sep 2020 00:30:00 +0900\nSubject: dates2\n\nx\n"
MESSAGES["dates3"] = b"Date: nonsense\nSubject: dates3\n\nx\n"
MESSAGES["dates4"] = b"Date: 1 Sep 20 10:00 EST\nSubject: dates4\n\nx\n"
MESSAGES["dates5"] = b"Date: Sun, 31 Feb 2020 10:00:00 +0000\nSubject: dates5\n\nx\n"
MESSAGES["dates6"] = b"Date: Tue Sep  1 10:00:00 2020\nSubject: dates6\n\nx\n"
MESSAGES["dates7"] = b"Date: Thu, 01 Jan 1970 00:00:00 +0000\nSubject: dates7\n\nx\n"
MESSAGES["dates8"] = b"Date: Thu, 01 Jan 1903 00:00:00 +0000\nSubject: dates8\n\nx\n"
MESSAGES["dates9"] = (
    b"Date: Thu, 01 Jan 2099 00:00:00 +0000\nDate: Tue, 1 Sep 2020 10:00:00 +0000\nSubject: dates9\n\nx\n"
)
MESSAGES["dates10"] = b"Date: Tue, 1 Sep 2020 24:00:00 +0000 (comment)\nSubject: dates10\n\nx\n"
MESSAGES["dates11"] = b"Date:\nSubject: dates11\n\nx\n"
MESSAGES["re"] = (
    b"Subject: Re: [list] Hello World (fwd)\nFrom: zed@example.org\nTo: aaron@example.org\nCc: cc1@example.org\n\nx\n"
)
MESSAGES["crlf"] = (
    b"Subject: crlf\r\nFrom: a@b\r\nX-Folded: alpha\r\n beta\r\n\r\ncr line\r\nsecond cr\r\n"
)
MESSAGES["header8bit"] = b"X-Bin: \xff\xfe\x80\nSubject: \xe4\xf6\xfc\n\nx\n"
MESSAGES["twosub"] = (
    b"Subject: subone\nSubject: subtwo\nFrom: f1@example.org\nFrom: f2@example.org\nTo: t1@example.org\nTo: t2@example.org\n\nx\n"
)
MESSAGES["spacecolon"] = (
    b"Subject : spaced\nX-Odd : odd\nX Bad: badname\nnocolon\nX-After: after\n\nx\n"
)
MESSAGES["html2"] = (
    b"Content-Type: text/html; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\n<p>K=F6ln caf=\n=E9 &#228;</p>\n"
)
MESSAGES["utf7"] = b"Content-Type: text/plain; charset=utf-7\n\nGr+APwA3w-e seven\n"
MESSAGES["gb"] = (
    b"Subject: =?gb2312?b?"
    + b64encode("你好世界".encode("gb2312"))
    + b"?=\nContent-Type: text/plain; charset=gbk\n\n"
    + "中文内容\n".encode("gbk")
)
MESSAGES["jp"] = (
    b"Subject: =?iso-2022-jp?b?"
    + b64encode("日本語テスト".encode("iso2022_jp"))
    + b"?=\nContent-Type: text/plain; charset=iso-2022-jp\n\n"
    + "こんにちは世界\n".encode("iso2022_jp")
)
MESSAGES["sjis"] = b"Content-Type: text/plain; charset=shift_jis\n\n" + "こんにちは世界\n".encode(
    "shift_jis"
)
MESSAGES["flowed"] = (
    b"Content-Type: text/plain; charset=utf-8; format=flowed\n\nflowed \ntext here\n-- \nsig\n"
)
MESSAGES["unkcte"] = (
    b"Content-Type: text/plain\nContent-Transfer-Encoding: x-weird\n\nweirdcte body\n"
)
MESSAGES["badb64"] = (
    b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\naGVsbG8gYjY0!!!!\n\nd29ybGQ=\nplain footer here\n"
)
MESSAGES["b64foot"] = (
    b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\naGVsbG9mb290\n"
)
MESSAGES["uu"] = (
    b"Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\nbegin 644 a\n+:&5L;&\\@=V]R;&0 \n`\nend\n"
)
MESSAGES["wordinmid"] = (
    b"Subject: pre=?utf-8?q?mid=C3=A4?=post\nFrom: x=?utf-8?q?y?= <wm@example.org>\n\nx\n"
)
MESSAGES["langword"] = b"Subject: =?utf-8*de?q?spr=C3=A4che?=\n\nx\n"
MESSAGES["emptyword"] = b"Subject: a =?utf-8?q??= b\n\nx\n"
MESSAGES["unders"] = b"Subject: =?utf-8?Q?under_score=5Fx?=\n\nx\n"
MESSAGES["eaiaddr"] = "From: jörg@exämple.org\nTo: =?utf-8?q?d?= <dö@x.org>\n\nx\n".encode()
MESSAGES["tabsub"] = b"Subject: tab\there   many   spaces \n\nx\n"
MESSAGES["colonval"] = b"X-Url: http://a.example/b:c\nSubject: foo: bar\n\nx\n"
