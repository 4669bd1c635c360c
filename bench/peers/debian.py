"""A mail server of Debian's that cannot be installed beside another one: its package is fetched and unpacked, nothing
of the machine's own is changed, and it runs in a mount namespace of its own, its files above the system's.

`unpacked` keeps what it fetched in `$XDG_CACHE_HOME/twisted-mail-bench` (`~/.cache`). `inside` makes the command: in it
/usr and /etc are overlays (the package's and the peer's files above the system's), /run, /var/lib, /var/log and
/var/spool are empty; paths of the peer's directory that it gives stand for some below these. Both need root.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import Missing, need_root, program

__all__ = ["cache", "inside", "unpacked"]

_FETCH = 180
# What outlives its parent (Exim's deliveries) becomes a child of the server, as prctl(2) says of a subreaper, which
# stays one over execve: so its CPU and memory are counted, and it is ended with the rest.
_ADOPTING = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
_EMPTY = ("/run", "/var/lib", "/var/log", "/var/spool")
# Users that Debian's packages make when they are installed; ids that no other has.
_USERS = {"opensmtpd": 64901, "opensmtpq": 64902, "Debian-exim": 64903}


def cache(name: str) -> Path:
    """A folder that stays."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found = base / "twisted-mail-bench" / name
    found.mkdir(parents=True, exist_ok=True)
    return found


def unpacked(*packages: str) -> Path:
    """The folder that holds the files of these packages. Raises `Missing`."""
    need_root()
    for name in ("apt-get", "dpkg-deb", "unshare"):
        program(name)
    place = cache("debian") / packages[0]
    if place.exists():
        return place
    with tempfile.TemporaryDirectory(dir=place.parent) as name:
        # apt-get fetches as a user of its own, where it can
        work = Path(name)
        _done(["apt-get", "-qq", "download", *packages], work)
        for package in work.glob("*.deb"):
            _done(["dpkg-deb", "-x", str(package), "root"], work)
        (work / "root").rename(place)
    return place


def _done(command: Sequence[str], where: Path) -> None:
    try:
        done = subprocess.run(command, cwd=where, capture_output=True, timeout=_FETCH)
    except subprocess.TimeoutExpired:
        raise Missing(f"{command[0]} took more than {_FETCH} seconds") from None
    if done.returncode:
        # what it prints names hosts
        raise Missing(f"{shlex.join(command)} ended with {done.returncode}")


def inside(
    files: Path, directory: Path, etc: Mapping[str, str], places: Mapping[str, Path], command: str
) -> list[str]:
    """What runs the shell command `command` in a namespace of its own, as the same process, if it begins with `exec`.

    `files` are those of `unpacked`; `etc` are texts of files below /etc; `places` maps a path below an emptied folder
    to a folder that exists.
    """
    layer = directory / "etc"
    shutil.rmtree(layer, ignore_errors=True)
    for name, text in etc.items():
        path = layer / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    passwd = "".join(f"{u}:x:{n}:{n}::/nonexistent:/bin/false\n" for u, n in _USERS.items())
    group = "".join(f"{u}:x:{n}:\n" for u, n in _USERS.items())
    (layer / "passwd").write_text(Path("/etc/passwd").read_text() + passwd)
    (layer / "group").write_text(Path("/etc/group").read_text() + group)
    script = ["set -e"]
    for top, above in (("/usr", files / "usr"), ("/etc", layer)):
        lower = f"lowerdir={above}:{top}"
        script.append(shlex.join(["mount", "-t", "overlay", "overlay", "-o", lower, top]))
    for place in _EMPTY:
        script.append(f"mount -t tmpfs -o size=64m,mode=755 tmpfs {place}")
    for inner, outer in places.items():
        quoted = shlex.quote(inner)
        script.append(f"mkdir -p {quoted}")
        script.append(f"mount --bind {shlex.quote(str(outer))} {quoted}")
    script.append(command)
    return [
        sys.executable,
        "-c",
        _ADOPTING,
        program("unshare"),
        "-m",
        "sh",
        "-c",
        "\n".join(script),
    ]
