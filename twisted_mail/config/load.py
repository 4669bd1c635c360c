"""Reading a configuration file, whole or not at all.

`load` gives a `Config` that can be used, or raises one `ConfigError` with every mistake in the
file. `default` is the start without a configuration file.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from .checks import SECTIONS
from .lines import KeyPath, key_lines, line_of
from .mistakes import ConfigError, Mistake, dotted, from_validation, shown_value
from .model import Config, Listen
from .secrets import names_variable

__all__ = ["default", "load"]

_MAX_BYTES: Final = 1_048_576
_PLACE: Final = re.compile(r" \(at line (\d+), column (\d+)\)$")

_LOOPBACK: Final = {
    "smtp": ("tcp:2525:interface=127.0.0.1",),
    "submission": ("tcp:2587:interface=127.0.0.1",),
    "submissions": ("tcp:2465:interface=127.0.0.1",),
    "pop3": ("tcp:2110:interface=127.0.0.1",),
    "pop3s": ("tcp:2995:interface=127.0.0.1",),
    "imap": ("tcp:2143:interface=127.0.0.1",),
    "imaps": ("tcp:2993:interface=127.0.0.1",),
}


def default(cwd: Path) -> Config:
    """What is served without a configuration file: localhost on loopback ports, data in `cwd`."""
    return Config.model_validate(
        {"listen": Listen(**_LOOPBACK)}, context={"directory": cwd.absolute()}
    )


def load(path: Path, *, serves: bool = True) -> Config:
    """The configuration in the TOML file `path`. Raises ConfigError with all its mistakes. `serves`: not for a tool,
    which does not have the environment in which the server's secrets are, and needs none of them.

    The certificates it names are read and compared with their keys, its checkers made and its realm
    imported; nothing listens and nothing is written.
    """
    text = _read(path)
    try:
        data = tomllib.loads(text)
        lines = key_lines(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([_syntax(path, text, str(error))]) from None
    except ValueError:
        digits = sys.get_int_max_str_digits()
        allowed = f"not TOML: a number of more than {digits} digits"
        raise ConfigError([Mistake(path, None, "", None, allowed)]) from None
    except RecursionError:
        raise ConfigError([Mistake(path, None, "", None, "nested too deep")]) from None
    context = {"directory": path.absolute().parent, "file": path}
    config, found = _validate(data, context)
    if found:
        # What is sound is looked at once more without the rest: some mistakes lie between keys, or
        # outside the file, and are found only where each key by itself is good.
        data_left = _without(data, found)
        known = {key[:2] for key, _ in found}
        found += [one for one in _validate(data_left, context)[1] if one[0][:2] not in known]
        # Of a list each table is looked at by itself, and those that are wrong are passed over
        no_tables = {key for key, _ in found if len(key) == 1}
        lists = {
            key: value
            for key, value in data.items()
            if isinstance(value, list) and (key,) not in no_tables
        }
        found += _outside({**data_left, **lists}, context, serves)
    else:
        found += _outside(data, context, serves)
    if found or config is None:
        raise ConfigError(
            [
                Mistake(path, line_of(lines, key), dotted(key), shown_value(data, key), allowed)
                for key, allowed in found
            ]
        )
    return config


def _validate(
    data: dict[str, Any], context: dict[str, Any]
) -> tuple[Config | None, list[tuple[KeyPath, str]]]:
    try:
        return Config.model_validate(data, context=context), []
    except ValidationError as error:
        return None, list(from_validation(error))


def _without(data: dict[str, Any], found: list[tuple[KeyPath, str]]) -> dict[str, Any]:
    """`data` without the keys, in tables or at the top, where something was found."""
    left = {key: dict(value) if isinstance(value, dict) else value for key, value in data.items()}
    for (first, *rest), _ in found:
        table = left.get(str(first))
        if rest and isinstance(table, dict):
            table.pop(rest[0], None)
        else:
            left.pop(str(first), None)
    return left


def _outside(
    data: dict[str, Any], context: dict[str, Any], serves: bool
) -> Iterator[tuple[KeyPath, str]]:
    for name, (section, check) in SECTIONS.items():
        written = data.get(name, {})
        several = isinstance(written, list)
        for index, table in enumerate(written if several else [written]):
            try:
                value = section.model_validate(table, context=context)
            except ValidationError:
                continue  # its mistakes are known already, or it is not there
            if not serves and _refers_to_environment(table):
                continue
            for key, allowed in check(value):
                yield (name, *((index,) if several else ()), *key), allowed


def _refers_to_environment(table: dict[str, Any]) -> bool:
    texts = [text for one in table.values() for text in (one if isinstance(one, list) else [one])]
    return any(isinstance(text, str) and names_variable(text) for text in texts)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        allowed = f"must be a file that can be read ({error.strerror})"
        raise ConfigError([Mistake(path, None, "", None, allowed)]) from None
    if len(content) > _MAX_BYTES:
        allowed = f"must be a TOML file of at most {_MAX_BYTES} bytes"
        raise ConfigError([Mistake(path, None, "", None, allowed)])
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Mistake(path, line, "", None, "must be UTF-8")]) from None


def _syntax(path: Path, text: str, message: str) -> Mistake:
    place = _PLACE.search(message)
    if place is None:  # "(at end of document)"
        return Mistake(path, text.count("\n") + 1, "", None, f"not TOML: {message}")
    message = message[: place.start()]
    return Mistake(path, int(place[1]), "", None, f"not TOML: column {place[2]}: {message}")
