"""The server's side of TLS: contexts made of certificate files, chosen by name, read again in time.

`ServerTls` is what a `layer` wants of a server. Promises: TLS 1.2 and newer, forward secrecy and authenticated
encryption (AEAD) always, unless `cbc` is asked for; no compression, no renegotiation; sessions are resumed by tickets,
without a cache, whose key is a new one each day; the whole chain is sent. Files that changed are noticed at a new
handshake, a few seconds later at most, and open connections keep what they have. When the new files are broken, the old
certificates go on and one line in the log says why.

A certificate that comes from a CA by itself (`acme`) has one file, which is used from the moment it
is there in place of the first pair; while the CA looks, its TLS connections (RFC 8737) get the
certificate that proves the name.

It asks no client for a certificate, and does not look at dates: an old certificate is better for
mail than none, and `mailctl check` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from ..certs import ServerKey, load_pair, names_of, read_file

__all__ = ["Pair", "Prove", "ServerTls", "release_buffers"]

Pair = tuple[Path, Path]
"""The files of a certificate chain and of its key."""

Prove = Callable[[str], tuple[x509.Certificate, ServerKey] | None]
"""The certificate that proves to a CA that this name is ours; None when nobody is to ask now."""

LOOK_SECONDS: Final = 5.0
"""The least time between two looks at the files."""

TICKET_SECONDS: Final = 86_400.0
"""How long tickets are made with one key. Who gets hold of it can read the sessions of that time: RFC 9325 section 3.4
wants it changed, every week say.
"""

# Of TLS 1.2; those of 1.3 are OpenSSL's own. Forward secrecy and AEAD: BCP 195 (RFC 9325 section 4.2), and what
# Mozilla calls "intermediate".
_CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"
# And last, CBC with SHA-2: Exchange on Windows Server 2012 R2, whose maker's support ended in October 2026, has nothing
# better for a certificate with an RSA key, and would deliver in clear instead.
_WITH_CBC: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES256+SHA384:ECDHE+AES128+SHA256:!aNULL"

# Groups for the exchange of keys, as BCP 195 has them (RFC 9325 section 4.2.1) and a hybrid one where OpenSSL has it
# (3.5); P-521 and X448 only cost more. In the notation of 3.5: the best one that the client has a share of.
_GROUPS: Final = (
    b"?*X25519MLKEM768/?*X25519:?secp256r1/?secp384r1",
    b"X25519:P-256:P-384",
)

_PROOF: Final = b"acme-tls/1"  # RFC 8737 section 6.2

_Stamp = tuple[tuple[int, int, int, int] | None, ...]


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """Makes the TLS connections of a server.

    `pairs` are the certificates, the first one for clients that name no host or one nobody knows;
    `clock` gives seconds. `preferred`, a file with a key and a chain, goes before them when it is
    there. `prove` is asked for CAs that look. `held`: what is in files that this process may not
    read, for the start. `cbc`: offer CBC suites, too, last. Raises OSError and ValueError, which name the file,
    when the pairs can not be used.
    """

    _log = Logger()

    def __init__(
        self,
        pairs: Sequence[Pair],
        clock: Callable[[], float],
        *,
        preferred: Path | None = None,
        prove: Prove | None = None,
        held: Mapping[Path, bytes] | None = None,
        cbc: bool = False,
    ) -> None:
        self.files: dict[Path, bytes] = {}
        """What was in the files that are used."""
        self._pairs = tuple(pairs)
        self._preferred = preferred
        self._prove = prove
        self._ciphers = _WITH_CBC if cbc else _CIPHERS
        self._clock = clock
        self._looked = self._made = clock()
        self._used: tuple[Pair, ...] = ()
        self._stamp = self._stamps()
        try:
            self._context = self._read(self._wanted(), held)
        except (OSError, ValueError) as error:
            if self._wanted() == self._pairs:
                raise
            self._log.error("the CA's certificate is not used: {error}", error=error)
            self._context = self._read(self._pairs, held)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """A connection that waits for a ClientHello. Looks at the files when it is time."""
        now = self._clock()
        # A clock that was set back must not end the looking.
        if not 0 <= now - self._looked < LOOK_SECONDS:
            self._looked = now
            if self._stamps() != self._stamp:
                self.reload()
        if not 0 <= now - self._made < TICKET_SECONDS:
            # OpenSSL makes a context's key for tickets with it. Of what is used: files may be gone meanwhile.
            self._made = now
            self._context = _context_of(
                self._used, self._prove, self.files.__getitem__, self._ciphers
            )
        return SSL.Connection(self._context, None)

    def reload(self) -> bool:
        """Read all files now (SIGHUP). False, with a line in the log, when the old ones stay."""
        # Taken before reading: what changes in between is read again at the next look. It is kept
        # for files that are broken too, so that one state of them is one line in the log.
        self._stamp = self._stamps()
        wanted = self._wanted()
        try:
            self._context = self._read(wanted)
        except (OSError, ValueError) as error:
            self._log.error("new certificates not used, the old ones stay: {error}", error=error)
            return False
        self._log.info("certificates read: {names}", names=[str(pair[0]) for pair in wanted])
        return True

    def _wanted(self) -> tuple[Pair, ...]:
        """The pairs to be used, as the files are now."""
        if self._preferred is None or not self._preferred.exists():
            return self._pairs
        return ((self._preferred, self._preferred), *self._pairs)

    def _read(self, pairs: Sequence[Pair], held: Mapping[Path, bytes] | None = None) -> SSL.Context:
        files: dict[Path, bytes] = {}

        def read(path: Path) -> bytes:
            try:
                files[path] = read_file(path)
            except PermissionError:
                if held is None or path not in held:
                    raise
                files[path] = held[path]
            return files[path]

        context = _context_of(pairs, self._prove, read, self._ciphers)
        self.files, self._used, self._made = files, tuple(pairs), self._clock()
        return context

    def _stamps(self) -> _Stamp:
        """What changes whenever a file does: a few system calls, no reading."""
        stamps: list[tuple[int, int, int, int] | None] = []
        paths = [path for pair in self._pairs for path in pair]
        if self._preferred is not None:
            paths.append(self._preferred)
        for path in paths:
            try:
                # Through symbolic links: certbot changes those only.
                found = path.stat()
            except OSError:
                stamps.append(None)
            else:
                stamps.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
        return tuple(stamps)


def _context_of(
    pairs: Sequence[Pair], prove: Prove | None, read: Callable[[Path], bytes], ciphers: bytes
) -> SSL.Context:
    """The context of the first pair, which hands over to the others by the name asked for."""
    contexts: dict[bytes, SSL.Context] = {}
    first: SSL.Context | None = None
    for certificate, key in pairs:
        context, names = _single(certificate, key, read, ciphers)
        if prove is not None:
            # Of each: the one that the name has chosen is asked.
            context.set_alpn_select_callback(_proving(prove))
        first = first or context
        for name in names:
            contexts.setdefault(name, context)

    def choose(connection: SSL.Connection) -> None:
        # RFC 6066 section 3: without case, without a dot at the end
        name = (connection.get_servername() or b"").lower().rstrip(b".")
        # RFC 9525 section 6.3: a wildcard is the whole first label
        wildcard = b"*." + name.partition(b".")[2]
        context = contexts.get(name) or contexts.get(wildcard)
        if context is not None and context is not connection.get_context():
            connection.set_context(context)

    if first is None:
        raise ValueError("no certificate")
    first.set_tlsext_servername_callback(choose)
    return first


def _proving(prove: Prove) -> Callable[[SSL.Connection, list[bytes]], Any]:
    """What ALPN is answered with (RFC 8737 section 3): nothing, as if it were not known, unless a CA looks."""

    def choose(connection: SSL.Connection, protocols: list[bytes]) -> Any:
        if protocols != [_PROOF]:
            return SSL.NO_OVERLAPPING_PROTOCOLS
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower()
        found = prove(name)
        if found is None:
            return SSL.NO_OVERLAPPING_PROTOCOLS
        if connection.get_protocol_version() >= SSL.TLS1_3_VERSION:
            # The certificate is chosen after this.
            context = _plain()
            context.use_certificate(found[0])
            context.use_privatekey(found[1])
            connection.set_context(context)
        elif hasattr(connection, "use_certificate"):
            # It has been chosen: OpenSSL points into what `set_context` would free.
            connection.use_certificate(found[0])
            connection.use_privatekey(found[1])
        else:  # pyOpenSSL before it had that
            return SSL.NO_OVERLAPPING_PROTOCOLS
        return _PROOF

    return choose


def _single(
    certificate: Path, key: Path, read: Callable[[Path], bytes], ciphers: bytes
) -> tuple[SSL.Context, list[bytes]]:
    chain, private = load_pair(certificate, key, read)
    context = _plain(ciphers)
    try:
        context.use_certificate(chain[0])
        context.use_privatekey(private)
        for intermediate in chain[1:]:
            context.add_extra_chain_cert(intermediate)
    except SSL.Error as error:  # such as a key too short for OpenSSL's security level
        raise ValueError(f"{certificate} can not be used: {error}") from None
    return context, [name.lower().encode() for name in names_of(chain[0])]


def _plain(ciphers: bytes = _CIPHERS) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)  # RFC 8996
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_cipher_list(ciphers)
    _limit_groups(context)
    # Idle connections give their 34 KiB of buffers back.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # tickets need none
    # The same in all: a ticket is made in the context of a name, and comes back to the first one.
    context.set_session_id(b"twisted-mail")
    return context


def _limit_groups(context: Any) -> None:
    """pyOpenSSL has no word for it: where what it is made of has changed, OpenSSL's own groups stay."""
    try:
        lib, handle = SSL._lib, context._context  # type: ignore[attr-defined]
        if not any(lib.SSL_CTX_set1_curves_list(handle, groups) for groups in _GROUPS):
            return
        lib.ERR_clear_error()  # of a notation that is too new
    except AttributeError:
        pass


def release_buffers(connection: Any) -> None:
    """Give back what the memory BIOs of a quiet `connection` have grown to.

    They never shrink: one that has taken 64 KiB at once, and given as many, keeps 100 KiB. pyOpenSSL has no word for
    new ones (SSL_set_bio(3) frees the old), so this uses what it is made of, and does nothing where that has changed.
    """
    try:
        lib, start = SSL._lib, SSL._ffi.new("char **")  # type: ignore[attr-defined]
        ssl, bios = connection._ssl, (connection._into_ssl, connection._from_ssl)
        if any(lib.BIO_get_mem_data(bio, start) for bio in bios):
            return
        into, out = lib.BIO_new(lib.BIO_s_mem()), lib.BIO_new(lib.BIO_s_mem())
    except AttributeError:
        return
    lib.SSL_set_bio(ssl, into, out)
    connection._into_ssl, connection._from_ssl = into, out
