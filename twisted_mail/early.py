"""What is known before the rest of the program is imported: which configuration is meant, and whether it has workers.

So that what they need is imported beside what the first process does. Light: the standard library only.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["CONFIG_VARIABLE", "configuration_path", "expects_workers"]

CONFIG_VARIABLE: Final = "TWISTED_MAIL_CONFIG"
"""The environment variable that names the configuration."""
_USUAL = re.compile(r"tcp6?:(port=)?(25|465|587|110|995|143|993)(:|$)")


def configuration_path(
    given: str | None, environment: Mapping[str, str], directory: Path
) -> Path | None:
    """The configuration that is meant: `given` on the command line, else what the environment names,
    else ``mail.toml`` in `directory` when there is one, else none (None).
    """
    name = given or environment.get(CONFIG_VARIABLE)
    if name:
        return Path(name).absolute()
    path = directory / "mail.toml"
    return path if path.exists() else None


def expects_workers(path: Path | None, cores: int) -> bool:
    """Whether the configuration in `path` seems to have workers. `Config.workers_on` decides: who believes this has to
    go on when it was wrong. What cannot be read has none.
    """
    if path is None:
        return False
    try:
        found = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False  # said when it is read for good
    count = found.get("workers")
    if count is not None:
        return isinstance(count, int) and count > 0
    listen = found.get("listen")
    if cores < 2 or not isinstance(listen, dict):
        return cores > 1
    return any(
        isinstance(text, str) and _USUAL.search(text)
        for texts in listen.values()
        if isinstance(texts, list)
        for text in texts
    )
