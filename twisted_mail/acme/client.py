"""A CA over HTTPS: `interfaces.Authority` by the libraries acme and josepy.

Promises: HTTPS alone, checked by the authorities that were named; no redirection, no proxy, no password of this
machine's; answers are at most 256 KiB, and have their time in all, not only from octet to octet. Whatever comes, right,
wrong or garbage, is a value or an `AuthorityError`.
"""

from __future__ import annotations

import email.utils
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

import requests
from acme import errors, messages
from acme.client import ClientNetwork, ClientV2
from cryptography.hazmat.primitives import serialization
from josepy.b64 import b64encode
from josepy.errors import Error as JoseError
from josepy.interfaces import JSONDeSerializable
from josepy.jwa import ES256
from josepy.jwk import JWKEC

from .challenges import HTTP, TLS_ALPN
from .interfaces import Authority, AuthorityError, Authorization, Challenge, Order, Window

__all__ = ["AcmeClient", "CaSettings", "connect"]

_CONNECT_SECONDS: Final = 10.0
_READ_SECONDS: Final = 20.0
_TOTAL_SECONDS: Final = 60.0
_MAX_BYTES: Final = 262_144
_MAX_NAMES: Final = 200
_NONCES: Final = 4
"""Tries of one request. RFC 8555 section 6.5: an old nonce is to be tried again with the new one."""
_AGENT: Final = "twisted-mail"
_T = TypeVar("_T")


class CaSettings(NamedTuple):
    """`directory`: URL. `ca_file`: authorities, "" for those of browsers. `eab`: key identifier and key, or None."""

    directory: str
    email: str = ""
    ca_file: str = ""
    eab: tuple[str, str] | None = None

    def __repr__(self) -> str:
        """Without the key."""
        return f"CaSettings({self.directory!r})"


def connect(settings: CaSettings, account_key: bytes, now: Callable[[], float]) -> Authority:
    """The CA, after its directory was read. Blocks. Raises AuthorityError."""
    return AcmeClient(settings, account_key, now)


class AcmeClient:
    """See `connect`. `now`: seconds since 1970, also in a thread."""

    def __init__(self, settings: CaSettings, account_key: bytes, now: Callable[[], float]) -> None:
        self._settings = settings
        self._now = now
        self._key = JWKEC(key=serialization.load_pem_private_key(account_key, None))
        self._net = ClientNetwork(
            self._key,
            alg=ES256,
            # The library gives it to requests as it is, which takes a file as well.
            verify_ssl=settings.ca_file or True,  # type: ignore[arg-type]
            user_agent=_AGENT,
            timeout=(_CONNECT_SECONDS, _READ_SECONDS),  # type: ignore[arg-type]  # as above
        )
        self._net.session = self._session = _Session(now)
        with self._understood():
            found = self._net.get(settings.directory)
            self._directory = messages.Directory.from_json(_object(found))
            self._new_nonce = str(self._directory["newNonce"])
            self._new_account = str(self._directory["newAccount"])
            self._new_order = str(self._directory["newOrder"])
            self._renewal_info = str(_object(found).get("renewalInfo") or "")

    def account(self, known: str) -> str:
        if known:
            self._use(known)
            return known
        binding = None
        if self._settings.eab is not None:
            kid, key = self._settings.eab
            with self._understood():
                binding = messages.ExternalAccountBinding.from_data(
                    self._key.public_key(), kid, key, self._directory
                )
        url = self._tried(lambda: self._made_account(binding))
        self._use(url)
        return url

    def key_authorization(self, token: str) -> str:
        thumbprint = b64encode(self._key.thumbprint()).decode("ascii")
        return f"{token}.{thumbprint}"

    def new_order(self, names: tuple[str, ...], replaces: str) -> Order:
        wish: dict[str, Any] = {"identifiers": [{"type": "dns", "value": name} for name in names]}
        if replaces and self._renewal_info:
            wish["replaces"] = replaces  # RFC 9773 section 5
        response = self._post(self._new_order, _Payload(wish))
        with self._understood():
            return _order(response, str(response.headers["Location"]), self._now())

    def order(self, url: str) -> Order:
        response = self._post(url, None)
        with self._understood():
            return _order(response, url, self._now())

    def authorization(self, url: str) -> Authorization:
        response = self._post(url, None)
        with self._understood():
            body = _object(response)
            found = []
            why = ""
            for one in _list(body.get("challenges"))[:20]:
                kind, token = one.get("type"), one.get("token")
                if kind in (HTTP, TLS_ALPN):
                    found.append(Challenge(kind, _text(one["url"]), _text(token)))
                why = why or _problem(one.get("error"))
            return Authorization(
                _text(body["identifier"]["value"]).lower(),
                _text(body["status"]),
                tuple(found),
                why,
                retry_after(response, self._now()),
            )

    def answer(self, url: str) -> None:
        self._post(url, _Payload({}))

    def finalize(self, order: Order, csr: bytes) -> Order:
        wish = {"csr": b64encode(csr).decode("ascii")}
        response = self._post(order.finalize, _Payload(wish))
        with self._understood():
            return _order(response, order.url, self._now())

    def certificate(self, url: str) -> bytes:
        response = self._post(url, None)
        return bytes(response.content)

    def renewal_window(self, renewal_id: str) -> Window | None:
        if not self._renewal_info or not renewal_id:
            return None
        with self._understood():
            response = self._net.get(f"{self._renewal_info}/{renewal_id}")
            body = _object(response)
            window = body["suggestedWindow"]
            return Window(
                datetime.fromisoformat(window["start"]).timestamp(),
                datetime.fromisoformat(window["end"]).timestamp(),
                str(body.get("explanationURL") or ""),
                retry_after(response, self._now()),
            )

    def _use(self, url: str) -> None:
        self._net.account = messages.RegistrationResource(uri=url, body=messages.Registration())

    def _made_account(self, binding: Any) -> str:
        wish = messages.NewRegistration.from_data(
            email=self._settings.email or None,
            external_account_binding=binding,
            terms_of_service_agreed=True,
        )
        try:
            return str(ClientV2(self._directory, self._net).new_account(wish).uri)
        except errors.ConflictError as conflict:  # RFC 8555 section 7.3: there is one
            return str(conflict.location)

    def _post(self, url: str, payload: _Payload | None) -> requests.Response:
        """A signed request; None: POST-as-GET (RFC 8555 section 6.3)."""
        return self._tried(lambda: self._net.post(url, payload, new_nonce_url=self._new_nonce))

    def _tried(self, request: Callable[[], _T]) -> _T:
        """Again with a new nonce as long as the CA calls the last one old."""
        for left in reversed(range(_NONCES)):
            try:
                with self._understood():
                    return request()
            except _BadNonce:
                if not left:
                    raise
        raise AssertionError

    @contextmanager
    def _understood(self) -> Iterator[None]:
        """Whatever the libraries raise, as AuthorityError."""
        try:
            yield
        except AuthorityError:
            raise
        except messages.Error as error:
            text = ": ".join(str(one) for one in (error.code or error.typ, error.detail) if one)
            if error.code == "badNonce":
                raise _BadNonce(f"the CA says {text}") from None
            gone = error.code == "accountDoesNotExist"
            raise self._error(f"the CA says {text}", account_gone=gone) from None
        except errors.ClientError as error:
            response = error.args[0] if error.args else None
            if isinstance(response, tuple):
                response = response[0]
            if isinstance(response, requests.Response):
                raise self._error(
                    f"the CA answers with HTTP status {response.status_code}"
                ) from None
            raise self._error(f"the CA cannot be understood: {error}") from None
        except errors.Error as error:
            raise self._error(
                f"the CA cannot be understood: {error or type(error).__name__}"
            ) from None
        except requests.exceptions.SSLError as error:
            raise self._error(f"the CA's own certificate is not good: {error}") from None
        except (requests.exceptions.RequestException, OSError) as error:
            raise self._error(f"the CA cannot be reached: {error}") from None
        # Of JSON that is something else than it should be there is no end.
        except (JoseError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise self._error(f"the CA cannot be understood: {error!r}") from None
        except (ArithmeticError, RecursionError) as error:
            raise self._error(f"the CA cannot be understood: {error!r}") from None

    def _error(self, text: str, *, account_gone: bool = False) -> AuthorityError:
        return AuthorityError(text, retry_after=self._session.asked, account_gone=account_gone)


class _BadNonce(AuthorityError):
    pass


class _Payload(JSONDeSerializable):
    """A JSON object as it is: the library's messages do not know `replaces`."""

    def __init__(self, value: dict[str, Any]) -> None:
        self._value = value

    def to_partial_json(self) -> dict[str, Any]:
        return self._value

    @classmethod
    def from_json(cls, jobj: Any) -> NoReturn:
        raise NotImplementedError


class _Session(requests.Session):
    """requests, with the bounds that it has not."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self._now = now
        self.asked: float | None = None
        """Retry-After of the last answer, in seconds."""
        self.trust_env = False
        self.headers["Accept-Encoding"] = "identity"

    def request(self, method: Any, url: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        # RFC 8555 section 6.1
        if not str(url).startswith("https://"):
            raise requests.exceptions.InvalidURL("not https")
        end = self._now() + _TOTAL_SECONDS
        kwargs.update(stream=True, allow_redirects=False)
        self.asked = None
        response = super().request(method, url, **kwargs)
        self.asked = retry_after(response, self._now())
        content = bytearray()
        # read1: what has come, and not what would fill a block
        while piece := response.raw.read1(16_384, decode_content=False):
            content += piece
            if len(content) > _MAX_BYTES:
                response.close()
                raise requests.exceptions.ContentDecodingError("an answer that is too long")
            if self._now() > end:
                response.close()
                raise requests.exceptions.ReadTimeout("an answer that takes too long")
        # Where requests keeps what was read; its public way reads without a bound.
        response._content = bytes(content)
        response._content_consumed = True
        response.close()
        if response.is_redirect:
            raise requests.exceptions.TooManyRedirects("a redirection")
        return response


def _order(response: requests.Response, url: str, now: float) -> Order:
    body = _object(response)
    authorizations = body["authorizations"]
    if not isinstance(authorizations, list) or len(authorizations) > _MAX_NAMES:
        raise ValueError("authorizations")
    return Order(
        url,
        _text(body["status"]),
        tuple(_text(one) for one in authorizations),
        _text(body["finalize"]),
        _text(body.get("certificate", "")),
        _problem(body.get("error")),
        retry_after(response, now),
    )


def _object(response: requests.Response) -> dict[str, Any]:
    found = response.json()
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _list(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 2048:
        raise ValueError("no text")
    return value


def _problem(value: Any) -> str:
    """RFC 7807, as a line."""
    if not isinstance(value, dict):
        return ""
    kind = str(value.get("type", "")).rpartition(":")[2]
    return ": ".join(one for one in (kind, str(value.get("detail") or "")) if one)


def retry_after(response: requests.Response, now: float) -> float | None:
    """Seconds that Retry-After asks for (RFC 9110 section 10.2.3); None when it says nothing."""
    value = str(response.headers.get("Retry-After", "")).strip()
    if value.isascii() and value.isdigit():
        return float(value[:12])
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # the latter for hours, or a zone, of thirty digits
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, moment.timestamp() - now)
