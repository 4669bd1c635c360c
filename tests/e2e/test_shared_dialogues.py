"""The shared dialogues, word for word, against the server of ``hamburger.edu``."""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Iterator

import pytest
from mailsite import Site, shared_material

USERS = ("bob@hamburger.edu", "carol@hamburger.edu")


@pytest.fixture(scope="module")
def hamburger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("hamburger"))
    site.add_users(*USERS)
    site.start()
    yield site
    site.close()


def read_reply(stream: io.BufferedReader) -> str:
    """The code of one reply: three digits (all lines of a multi-line reply), or POP3's word."""
    while True:
        line = stream.readline().decode()
        assert line.endswith("\r\n"), f"the connection ended in {line!r}"
        if line[:1] in "+-":
            return line.split()[0]
        if line[3] == " ":
            return line[:3]
        assert line[3] == "-", line


def connect(site: Site, listener: str) -> socket.socket:
    plain = site.connect(listener)
    if listener in ("submissions", "pop3s"):
        return site.tls.wrap_socket(plain, server_hostname="localhost")
    return plain


def hold(site: Site, dialogue: str) -> None:
    """Hold one dialogue with the server; the file's own format (see its README)."""
    lines = dialogue.splitlines()
    header = [line for line in lines if line.startswith("# ")]
    listener = next(line.split()[2] for line in header if line.startswith("# port "))
    with connect(site, listener) as plain, plain.makefile("rb") as stream:
        for number, line in enumerate(lines, start=1):
            verb, _, text = line.partition(" ")
            if verb == "S":
                wanted = text.split()[0]
                assert read_reply(stream) == wanted, f"line {number}: {line}"
            elif verb == "C":
                plain.sendall(text.encode() + b"\r\n")
            elif verb == "X":
                try:
                    rest = stream.read()
                except (ConnectionResetError, ssl.SSLError) as error:
                    pytest.fail(f"line {number}: the connection broke: {error}")
                assert rest == b"", f"line {number}: more was said"
            else:
                assert verb in ("#", ""), f"line {number}: {line}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "dialogue" in metafunc.fixturenames:
        files = sorted((shared_material() / "dialogues").glob("*.txt"))
        absent = pytest.mark.skip(reason="../shared/dialogues is not here (or TWISTED_MAIL_SHARED)")
        metafunc.parametrize(
            "dialogue",
            [pytest.param(file, id=file.stem) for file in files]
            or [pytest.param(None, id="absent", marks=absent)],
        )


def test_the_shared_dialogues(hamburger, dialogue):
    hold(hamburger, dialogue.read_text())


def test_what_the_dialogues_brought_is_readable(hamburger):
    hold(
        hamburger,
        "# port smtp\nS 220\nC HELO crepes.fr\nS 250\nC MAIL FROM: <alice@crepes.fr>\nS 250\n"
        "C RCPT TO: <carol@hamburger.edu>\nS 250\nC DATA\nS 354\nC Subject: ketchup\nC \n"
        "C ..stuffed\nC .\nS 250\nC QUIT\nS 221\nX\n",
    )
    with hamburger.pop("carol@hamburger.edu") as session:
        lines = session.retr(session.stat()[0])[1]
    assert b"Subject: ketchup" in lines
    assert lines[-1] == b".stuffed"
