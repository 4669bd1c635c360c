"""The client over HTTPS, against a server on loopback that says whatever a test wants."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from josepy.b64 import b64decode

from twisted_mail.acme.certificates import make_key
from twisted_mail.acme.client import AcmeClient, CaSettings
from twisted_mail.acme.interfaces import AuthorityError, Order, Window

Answer = tuple[int, dict[str, str], bytes]

JSON = {"Content-Type": "application/json", "Replay-Nonce": "bm9uY2U"}
PROBLEM = {**JSON, "Content-Type": "application/problem+json"}


class Ca:
    """`paths`: what each path answers; a function is called with the JWS payload."""

    def __init__(self, directory: Path) -> None:
        self.authority = trustme.CA()
        self.file = str(directory / "ca.pem")
        self.authority.cert_pem.write_to_path(self.file)
        self.paths: dict[str, Answer | Callable[[Any], Answer]] = {}
        self.heard: list[tuple[str, Any, Any]] = []
        ca = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

            def answer(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                sent = json.loads(self.rfile.read(length)) if length else {}
                payload = unpacked(sent.get("payload", "")) if sent else None
                ca.heard.append((self.path, unpacked(sent.get("protected", "")), payload))
                found = ca.paths.get(self.path, (404, {}, b"not here"))
                status, header, body = found(payload) if callable(found) else found
                self.send_response(status)
                for name, value in header.items():
                    self.send_header(name, value)
                if "Transfer-Encoding" not in header:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    try:
                        self.wfile.write(body)
                    except OSError:
                        pass  # the client has had enough

            do_GET = do_POST = do_HEAD = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("localhost").configure_cert(context)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}"
        self.directory = {
            "newNonce": f"{self.url}/nonce",
            "newAccount": f"{self.url}/account",
            "newOrder": f"{self.url}/order",
            "renewalInfo": f"{self.url}/ari",
        }
        self.paths["/dir"] = answer(self.directory)
        self.paths["/nonce"] = (200, JSON, b"")
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def connect(self, **settings: Any) -> AcmeClient:
        wanted = CaSettings(f"{self.url}/dir", ca_file=self.file)._replace(**settings)
        return AcmeClient(wanted, make_key(), lambda: 1_800_000_000.0)


def unpacked(text: str) -> Any:
    octets = b64decode(text)
    return json.loads(octets) if octets else ""


def answer(body: Any, status: int = 200, **header: str) -> Answer:
    more = {name.replace("_", "-"): value for name, value in header.items()}
    return status, {**JSON, **more}, json.dumps(body).encode()


@pytest.fixture
def ca(tmp_path: Path) -> Iterator[Ca]:
    made = Ca(tmp_path)
    yield made
    made.close()


ORDER = {"status": "pending", "authorizations": ["https://ca/1"], "finalize": "https://ca/f"}


def test_an_account_is_made(ca: Ca) -> None:
    ca.paths["/account"] = answer({"status": "valid"}, 201, Location="https://ca/account/1")
    assert ca.connect(email="admin@example.org").account("") == "https://ca/account/1"
    path, protected, payload = ca.heard[-1]
    assert path == "/account" and payload["termsOfServiceAgreed"] is True
    assert payload["contact"] == ["mailto:admin@example.org"]
    assert (
        protected["alg"] == "ES256"
        and "jwk" in protected
        and protected["url"] == f"{ca.url}/account"
    )


def test_without_an_address_nobody_is_named(ca: Ca) -> None:
    ca.paths["/account"] = answer({"status": "valid"}, 201, Location="https://ca/account/1")
    ca.connect().account("")
    assert "contact" not in ca.heard[-1][2]


def test_an_account_that_is_there_is_used(ca: Ca) -> None:
    ca.paths["/account"] = answer({"status": "valid"}, 200, Location="https://ca/account/1")
    assert ca.connect().account("") == "https://ca/account/1"
    assert ca.connect().account("https://ca/account/7") == "https://ca/account/7"


def test_a_binding_is_sent(ca: Ca) -> None:
    ca.paths["/account"] = answer({"status": "valid"}, 201, Location="https://ca/account/1")
    ca.connect(eab=("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajV")).account("")
    binding = ca.heard[-1][2]["externalAccountBinding"]
    assert unpacked(binding["protected"])["kid"] == "kid-1"


def test_an_order_names_what_it_replaces(ca: Ca) -> None:
    ca.paths["/order"] = answer(ORDER, 201, Location="https://ca/order/1", Retry_After="7")
    client = ca.connect()
    client.account("https://ca/account/1")
    order = client.new_order(("a.example", "b.example"), "aki.serial")
    assert order == Order(
        "https://ca/order/1", "pending", ("https://ca/1",), "https://ca/f", retry_after=7.0
    )
    _, protected, payload = ca.heard[-1]
    assert protected["kid"] == "https://ca/account/1"
    assert payload == {
        "identifiers": [
            {"type": "dns", "value": "a.example"},
            {"type": "dns", "value": "b.example"},
        ],
        "replaces": "aki.serial",
    }


def test_a_ca_without_renewal_info_is_not_told_what_is_replaced(ca: Ca) -> None:
    del ca.directory["renewalInfo"]
    ca.paths["/dir"] = answer(ca.directory)
    ca.paths["/order"] = answer(ORDER, 201, Location="https://ca/order/1")
    client = ca.connect()
    client.account("https://ca/account/1")
    client.new_order(("a.example",), "aki.serial")
    assert "replaces" not in ca.heard[-1][2]
    assert client.renewal_window("aki.serial") is None


def test_an_old_nonce_is_tried_again_with_the_new_one(ca: Ca) -> None:
    left = [0]

    def sometimes(then: Answer) -> Callable[[Any], Answer]:
        def given(payload: Any) -> Answer:
            left[0] -= 1
            if left[0]:
                problem = {"type": "urn:ietf:params:acme:error:badNonce", "detail": "old"}
                return 400, PROBLEM, json.dumps(problem).encode()
            return then

        return given

    ca.paths["/account"] = sometimes(
        answer({"status": "valid"}, 201, Location="https://ca/account/1")
    )
    ca.paths["/order"] = sometimes(answer(ORDER, 201, Location="https://ca/order/1"))
    client = ca.connect()
    left[0] = 4
    assert client.account("") == "https://ca/account/1"
    left[0] = 4
    assert client.new_order(("a.example",), "").status == "pending"
    left[0] = 10**6
    with pytest.raises(AuthorityError, match="badNonce"):
        client.new_order(("a.example",), "")
    assert left[0] > 10**6 - 20


def test_the_window_of_renewal(ca: Ca) -> None:
    window = {"start": "2027-01-01T00:00:00Z", "end": "2027-01-02T00:00:00.5Z"}
    ca.paths["/ari/aki.serial"] = answer(
        {"suggestedWindow": window, "explanationURL": "https://ca/why"}, Retry_After="21600"
    )
    found = ca.connect().renewal_window("aki.serial")
    assert found == Window(1_798_761_600.0, 1_798_848_000.5, "https://ca/why", 21_600.0)


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        None,
        5,
        {"suggestedWindow": 5},
        {"suggestedWindow": {"start": "yesterday", "end": "2027-01-02T00:00:00Z"}},
        {"suggestedWindow": {"start": "9999-99-99T00:00:00Z", "end": ""}},
        {"suggestedWindow": {"start": 1e400, "end": []}},
    ],
)
def test_a_window_that_is_garbage(ca: Ca, body: Any) -> None:
    ca.paths["/ari/aki.serial"] = answer(body)
    with pytest.raises(AuthorityError):
        ca.connect().renewal_window("aki.serial")


def test_a_rate_limit_says_when(ca: Ca) -> None:
    problem = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many\nof them"}
    ca.paths["/order"] = (429, {**PROBLEM, "Retry-After": "86400"}, json.dumps(problem).encode())
    client = ca.connect()
    client.account("https://ca/account/1")
    with pytest.raises(AuthorityError, match="rateLimited: too many of them") as caught:
        client.new_order(("a.example",), "")
    assert caught.value.retry_after == 86_400.0
    ca.paths["/order"] = (503, {"Retry-After": "Fri, 15 Jan 2027 09:00:00 GMT"}, b"<html>")
    with pytest.raises(AuthorityError, match="HTTP status 503") as caught:
        client.new_order(("a.example",), "")
    assert caught.value.retry_after == 3600.0


def test_an_account_that_is_gone(ca: Ca) -> None:
    problem = {"type": "urn:ietf:params:acme:error:accountDoesNotExist"}
    ca.paths["/order"] = (400, PROBLEM, json.dumps(problem).encode())
    client = ca.connect()
    client.account("https://ca/account/1")
    with pytest.raises(AuthorityError) as caught:
        client.new_order(("a.example",), "")
    assert caught.value.account_gone


GARBAGE: list[Answer] = [
    (200, JSON, b""),
    (200, JSON, b"\xff\xfe\x00"),
    (200, JSON, b"{"),
    (200, JSON, b"[" * 100_000),
    (200, {"Content-Type": "text/html"}, b"<html>hello"),
    (200, {**JSON, "Replay-Nonce": "\u00e9!"}, b"{}"),
    (200, {"Content-Type": "application/json"}, b"{}"),
    (200, {**JSON, "Content-Encoding": "gzip"}, b"not gzip"),
    (200, JSON, b" " * 300_000),
    (204, JSON, b""),
    (301, {**JSON, "Location": "https://elsewhere.example/"}, b""),
    (307, {**JSON, "Location": "/order"}, b""),
    (404, {}, b""),
    (409, {}, b""),
    (500, PROBLEM, b'{"type": 5, "detail": [1]}'),
    (500, PROBLEM, b'{"type": "x", "subproblems": [[]]}'),
    (500, PROBLEM, b"[]"),
    answer(ORDER),
    answer({**ORDER, "authorizations": 5}, Location="x"),
    answer({**ORDER, "authorizations": ["x"] * 1000}, Location="x"),
    answer({**ORDER, "authorizations": [{}]}, Location="x"),
    answer({**ORDER, "status": None}, Location="x"),
    answer({**ORDER, "status": "y" * 5000}, Location="x"),
    answer({**ORDER, "finalize": 1e300}, Location="x"),
    answer({**ORDER, "certificate": {}}, Location="x"),
    answer([ORDER], Location="x"),
    answer("order", Location="x"),
]


@pytest.mark.parametrize("number", range(len(GARBAGE)))
def test_garbage_is_a_refusal(ca: Ca, number: int) -> None:
    client = ca.connect()
    client.account("https://ca/account/1")
    ca.paths["/order"] = GARBAGE[number]
    with pytest.raises(AuthorityError) as caught:
        client.new_order(("a.example",), "")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"identifier": 5},
        {"identifier": {"value": 5}, "status": "valid"},
        {"identifier": {"value": "a"}, "status": "pending", "challenges": [{"type": "http-01"}]},
        {
            "identifier": {"value": "a"},
            "status": "pending",
            "challenges": [{"type": "http-01", "url": 5, "token": "x"}],
        },
    ],
)
def test_an_authorization_that_is_garbage(ca: Ca, body: Any) -> None:
    client = ca.connect()
    client.account("https://ca/account/1")
    ca.paths["/authz"] = answer(body)
    with pytest.raises(AuthorityError):
        client.authorization(f"{ca.url}/authz")


def test_an_authorization_says_why_it_failed(ca: Ca) -> None:
    client = ca.connect()
    client.account("https://ca/account/1")
    ca.paths["/authz"] = answer(
        {
            "identifier": {"type": "dns", "value": "A.example"},
            "status": "invalid",
            "challenges": [
                {"type": "dns-01", "url": "https://ca/c", "token": "x"},
                {
                    "type": "http-01",
                    "url": "https://ca/d",
                    "token": "y",
                    "error": {"type": "urn:ietf:params:acme:error:dns", "detail": "no A record"},
                },
            ],
        }
    )
    found = client.authorization(f"{ca.url}/authz")
    assert (found.name, found.status, found.error) == ("a.example", "invalid", "dns: no A record")
    assert [one.kind for one in found.challenges] == ["http-01"]


@pytest.mark.parametrize(
    "url", ["http://localhost/x", "file:///etc/passwd", "", "ftp://x", "localhost"]
)
def test_only_https(ca: Ca, url: str) -> None:
    client = ca.connect()
    client.account("https://ca/account/1")
    with pytest.raises(AuthorityError):
        client.certificate(url)


def test_a_ca_that_cannot_prove_who_it_is(ca: Ca, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with pytest.raises(AuthorityError, match="own certificate is not good"):
        ca.connect(ca_file=str(other))
    assert ca.heard == []


def test_no_ca_at_all(ca: Ca) -> None:
    with pytest.raises(AuthorityError, match="cannot be reached"):
        ca.connect(directory="https://localhost:9/dir")


@pytest.mark.parametrize("body", [{}, [], {"newNonce": 5}, {"newNonce": "x", "newAccount": "y"}])
def test_a_directory_that_is_none(ca: Ca, body: Any) -> None:
    ca.paths["/dir"] = answer(body)
    with pytest.raises(AuthorityError):
        ca.connect()


def test_an_answer_that_takes_too_long(ca: Ca) -> None:
    """By our clock: an octet now and then is no answer."""
    times = iter([0.0, 0.0, 61.0, *[61.0] * 100])
    key = make_key()
    settings = CaSettings(f"{ca.url}/dir", ca_file=ca.file)
    with pytest.raises(AuthorityError, match="takes too long"):
        AcmeClient(settings, key, lambda: next(times))


def test_the_environment_has_no_say(ca: Ca, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    ca.connect()


def test_a_redirection_is_not_followed(ca: Ca) -> None:
    client = ca.connect()
    ca.paths["/ari/x"] = (307, {**JSON, "Location": f"{ca.url}/dir"}, b"")
    before = len(ca.heard)
    with pytest.raises(AuthorityError, match="redirection"):
        client.renewal_window("x")
    assert [path for path, _, _ in ca.heard[before:]] == ["/ari/x"]


def test_an_answer_that_is_too_long(ca: Ca) -> None:
    client = ca.connect()
    client.account("https://ca/account/1")
    ca.paths["/cert"] = (200, JSON, b"x" * 262_144)
    assert len(client.certificate(f"{ca.url}/cert")) == 262_144
    ca.paths["/cert"] = (200, JSON, b"x" * 262_145)
    with pytest.raises(AuthorityError, match="too long"):
        client.certificate(f"{ca.url}/cert")
