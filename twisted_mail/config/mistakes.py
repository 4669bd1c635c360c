"""What is wrong with a configuration file, all of it at once, in words for its author.

    mail.toml:12: smtp.max_recipients = -5: must be at least 1

A `Mistake` names file, line, key, value and what is allowed. Values of secret and unknown keys are
never shown: a key in the wrong place may hold a password.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from .lines import KeyPath
from .model import Config

__all__ = ["ConfigError", "Mistake", "dotted", "from_validation", "shown_value"]

_SHOWN: Final = 60
_LOGIN: Final = re.compile(r":(//)?.*@", re.DOTALL)
"""A login in a URL, and in what was meant to be one."""

_ALLOWED: Final = {
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "greater_than": "must be more than {gt}",
    "finite_number": "must be a number",
    "missing": "must be there",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": 'must be text in quotes, "…"',
    "bool_type": "must be true or false",
    "path_type": 'must be the name of a file or directory in quotes, "…"',
    "is_instance_of": 'must be the name of a file or directory in quotes, "…"',
    "tuple_type": "must be a list, […]",
    "model_type": "must be a table",
    "model_attributes_type": "must be a table",
    "too_short": "must have at least {min_length} of them",
    "too_long": "must have at most {max_length} of them",
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake. `line` counts from 1, None when it stands nowhere; `key` is dotted, "" for the
    file as a whole; `value` is TOML, None when it must not or can not be shown.
    """

    file: Path
    line: int | None
    key: str
    value: str | None
    allowed: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line is not None else str(self.file)
        if not self.key:
            return f"{place}: {self.allowed}"
        value = f" = {self.value}" if self.value is not None else ""
        return f"{place}: {self.key}{value}: {self.allowed}"


class ConfigError(Exception):
    """The configuration can not be used. `mistakes` has all of them, in the order of the file."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line or 0))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


def from_validation(error: ValidationError) -> Iterator[tuple[KeyPath, str]]:
    """Each mistake of `error`: where it is, and what is allowed there."""
    errors = error.errors(include_url=False, include_input=False)
    above = {one["loc"][:end] for one in errors for end in range(len(one["loc"]))}
    for one in errors:
        where: KeyPath = one["loc"]
        if one["type"] == "too_short" and where in above:
            continue  # what is wrong in a list was not counted: there may be enough
        context = {key: _plain(value) for key, value in one.get("ctx", {}).items()}
        if one["type"] == "mistakes":
            for below, allowed in context["mistakes"]:
                yield (*where, *below), allowed
        elif one["type"] == "extra_forbidden":
            yield where, _unknown(where)
        elif one["type"] == "literal_error":
            expected = str(context["expected"]).replace("'", '"')
            yield where, f"must be {expected}"
        elif one["type"] == "tuple_type" and _holds_tables(where):
            yield where, f"must be tables, [[{dotted(where)}]]"
        elif one["type"] in _ALLOWED:
            yield where, _ALLOWED[one["type"]].format_map(context)
        else:
            yield where, one["msg"]  # said by `values`, or in pydantic's own words


def dotted(path: KeyPath) -> str:
    """``tls.sni[0].key``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_key(part)}" if text else _key(part)
    return text


def shown_value(data: Mapping[str, Any], path: KeyPath) -> str | None:
    """The value at `path` of a TOML document, as TOML; None for tables, lists and secrets."""
    field = _field(path)
    if field is None or _model(field) is not None:
        return None
    value: Any = data
    for part in path:
        try:
            value = value[part]
        except (LookupError, TypeError):
            return None
    if isinstance(value, (Mapping, list)):
        return None
    if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("secret"):
        return "…"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int) and value.bit_length() > 4 * _SHOWN:
        # TOML has hexadecimal numbers that Python does not write in decimal digits.
        return f"{hex(value)[:_SHOWN]}…"
    if isinstance(value, str):
        value = _LOGIN.sub(r":\1…@", value)
    text = json.dumps(value, ensure_ascii=not str(value).isprintable(), default=str)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _plain(value: Any) -> Any:
    """A bound as one would write it."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _unknown(path: KeyPath) -> str:
    """What to say of an unknown key: the nearest known one, or all there are."""
    import difflib  # lean import: mostly there is no mistake

    name = str(path[-1])
    here = _names(path[:-1])
    near = difflib.get_close_matches(name.lower(), here, n=1, cutoff=0.7)
    if near:
        return f"unknown key; did you mean {dotted((*path[:-1], near[0]))}?"
    if (field := Config.model_fields.get(name)) is not None:
        if _model(field) is not None:
            shown = f"[[{name}]]" if _holds_tables((name,)) else f"[{name}]"
            return f"unknown key; {shown} is a table of its own"
        return "unknown key; it stands at the top of the file, before the first [table]"
    for section in Config.model_fields:
        if name in _names((section,)):
            return f"unknown key; did you mean {section}.{name}?"
    return f"unknown key; allowed are {', '.join(here)}"


def _names(path: KeyPath) -> list[str]:
    field = _field(path)
    model = Config if not path else _model(field) if field is not None else None
    return list(model.model_fields) if model is not None else []


def _field(path: KeyPath) -> FieldInfo | None:
    """The field that `path` leads to, or into a list of."""
    model: type[BaseModel] | None = Config
    field: FieldInfo | None = None
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part) if model is not None else None
        if field is None:
            return None
        model = _model(field)
    return field


def _holds_tables(path: KeyPath) -> bool:
    """Whether the field is a list of tables."""
    field = _field(path)
    return field is not None and get_origin(field.annotation) is tuple and bool(_model(field))


def _model(field: FieldInfo) -> type[BaseModel] | None:
    """The model in a field's annotation: ``Tls``, ``tuple[CertificatePair, ...]``."""
    kind = field.annotation
    candidates = (kind, *get_args(kind)) if not isinstance(kind, UnionType) else get_args(kind)
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _key(part: str) -> str:
    bare = part.isascii() and part.replace("-", "").replace("_", "").isalnum()
    return part if bare else json.dumps(part)
