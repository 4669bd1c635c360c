"""What twistd runs: ``twistd mailserver`` and ``mail.tac``. The command line; all else is in `server`.

Imports here are few: when there will be workers, their zygote is started first, so that it imports what they need while
this process imports what it needs itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from twisted.application.service import Application
from twisted.python import usage

from .early import configuration_path, expects_workers

if TYPE_CHECKING:
    from .server import MailServer
    from .workers.zygote import Started

__all__ = ["Options", "makeService", "make_application"]


class Options(usage.Options):
    """``twistd mailserver``'s own options."""

    synopsis = "[options]"
    longdesc = (
        "A mail server. Without a configuration it serves localhost on loopback ports, with its data in "
        "./mail-data, and prints how to try it."
    )
    optParameters: ClassVar[list[list[str | None]]] = [
        [
            "config",
            "c",
            None,
            "The configuration file. Default: $TWISTED_MAIL_CONFIG, else mail.toml in this directory when "
            "there is one.",
        ]
    ]


def makeService(options: usage.Options) -> MailServer:
    """The service of ``twistd mailserver``. Ends the program when the configuration cannot be used."""
    return _make_server(options["config"], Path.cwd(), getattr(options, "parent", None) or {})


def make_application(tac: str) -> Any:
    """The application of ``mail.tac``, which gives its own path: configured by ``mail.toml`` beside it, or by
    what the environment names.
    """
    application: Any = Application("mailserver")
    _make_server(None, Path(tac).absolute().parent, _twistd_options()).setServiceParent(application)
    return application


def _make_server(given: str | None, directory: Path, twistd: Mapping[str, Any]) -> MailServer:
    path = configuration_path(given, os.environ, directory)
    zygote = _early_zygote(path, twistd)
    # Not before: this takes half a second.
    from .server import make_server

    return make_server(path, directory, twistd, zygote)


def _early_zygote(path: Path | None, twistd: Mapping[str, Any]) -> Started | None:
    """A zygote, when there seem to be workers, and this process stays who and where it is: what is forked of it later
    has to be what this process is by then.
    """
    changes = ("uid", "gid", "chroot", "umask")
    if (
        not twistd.get("nodaemon")
        or any(twistd.get(name) is not None for name in changes)
        or os.path.realpath(twistd.get("rundir") or ".") != os.getcwd()
        or not expects_workers(path, len(os.sched_getaffinity(0)))
    ):
        return None
    from .workers.zygote import start_zygote

    try:
        return start_zygote(_standard_error())
    except OSError:
        return None  # tried again, and said, when it is needed


def _standard_error() -> int | None:
    try:
        return os.fstat(2) and 2
    except OSError:
        return None


def _twistd_options() -> Mapping[str, Any]:
    """twistd's options, read again from its command line: a .tac file is not given them."""
    from twisted.scripts import twistd

    class Again(twistd.ServerOptions):  # type: ignore[misc, name-defined]
        # What has been done when an option was first read is not done twice.
        def opt_reactor(self, name: str) -> None:
            """Installed already."""

        def opt_spew(self) -> None:
            """On already."""

    make: Any = Again  # Twisted's options are not annotated
    options = make()
    try:
        options.parseOptions()
    except usage.UsageError:
        return {}  # loaded by another program than twistd
    return cast(Mapping[str, Any], options)
