"""DMARC aggregate reports of others, read: of RFC 7489, of RFC 9990, and of those who follow neither closely.

Elements are known by their local names, whatever the namespace; unknown ones are passed over. `ReportError` says in one
line why something is no report. No document makes anything else raise, or take more than its bounds: there are no
document types and no entities (a document that declares any is refused before they are expanded), elements are at most
MAX_DEPTH deep, a text counts up to MAX_TEXT characters, and after MAX_RECORDS records the rest is only counted, up to
MAX_ELEMENTS elements. How much a compressed one unpacks to is the caller's to bound (`unpack`).
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final
from xml.parsers import expat

from ..message.words import one_line
from .aggregate import DkimResult, Published, Reason, Record, Report, SpfResult
from .unpack import ReportError

__all__ = ["MAX_ELEMENTS", "MAX_RECORDS", "read"]

MAX_DEPTH: Final = 16
MAX_TEXT: Final = 1000
MAX_RECORDS: Final = 50_000
MAX_ELEMENTS: Final = 4_000_000
MAX_RESULTS: Final = 100
"""Signatures, SPF results or reasons of one record."""
MAX_COUNT: Final = 10**12
_CHUNK: Final = 65_536

_WORDS: Final = {"hardfail": "fail", "unknown": "temperror", "error": "permerror"}
"""RFC 7489 appendix C names them as what others write."""


class _Node(dict[str, Any]):
    """An element's children: texts of leaves, of those that may stand there often a list of nodes."""


_LISTS: Final = frozenset(("reason", "dkim", "spf"))
_GROUPS: Final = frozenset(
    (
        "report_metadata",
        "date_range",
        "policy_published",
        "record",
        "row",
        "policy_evaluated",
        "identifiers",
        "auth_results",
        "reason",
    )
)


def read(document: bytes) -> Report:
    """Raises ReportError."""
    reader = _Reader()
    reader.read(document)
    return reader.report()


class _Reader:
    def __init__(self) -> None:
        self._stack: list[tuple[str, _Node | None]] = []
        self._text: list[str] = []
        self._length = 0
        self._elements = 0
        self._top: _Node | None = None
        self._records: list[tuple[Record, int]] = []
        self._left_out = 0

    def read(self, document: bytes) -> None:
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.EntityDeclHandler = _refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            for at in range(0, len(document), _CHUNK):
                parser.Parse(document[at : at + _CHUNK], False)
            parser.Parse(b"", True)
        except ReportError:
            raise
        except expat.ExpatError as error:
            raise ReportError(
                f"it is no XML: {one_line(expat.ErrorString(error.code) or str(error))} in line {error.lineno}"
            ) from None
        except (ValueError, LookupError) as error:
            # An encoding that expat asks Python for
            raise ReportError(f"it is no XML that can be read: {one_line(str(error))}") from None

    def report(self) -> Report:
        if self._top is None:
            raise ReportError("it is no aggregate report: there is no feedback element")
        meta = self._top.get("report_metadata")
        policy = self._top.get("policy_published")
        if not isinstance(meta, _Node) or not isinstance(policy, _Node):
            raise ReportError(
                "it is no aggregate report: it does not say whose it is, and about what"
            )
        span = meta.get("date_range")
        span = span if isinstance(span, _Node) else _Node()
        error = _leaf(meta, "error")
        return Report(
            _leaf(meta, "org_name"),
            _leaf(meta, "email"),
            _leaf(meta, "report_id"),
            _number(_leaf(span, "begin")),
            _number(_leaf(span, "end")),
            Published(
                _leaf(policy, "domain").lower().rstrip("."),
                _leaf(policy, "p").lower() or "none",
                _leaf(policy, "sp").lower(),
                _leaf(policy, "np").lower(),
                _leaf(policy, "adkim").lower(),
                _leaf(policy, "aspf").lower(),
                _leaf(policy, "fo"),
                _leaf(policy, "testing").lower(),
                _leaf(policy, "discovery_method").lower(),
                _leaf(policy, "pct"),
            ),
            tuple(self._records),
            _leaf(meta, "extra_contact_info"),
            (error,) if error else (),
            _leaf(meta, "generator"),
            _leaf(self._top, "version"),
            self._left_out,
        )

    def _start(self, name: str, attributes: object) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise ReportError(f"it has more than {MAX_ELEMENTS} elements")
        if len(self._stack) >= MAX_DEPTH:
            raise ReportError(f"its elements are more than {MAX_DEPTH} deep")
        name = name.rpartition(":")[2]
        self._text.clear()
        self._length = 0
        if not self._stack:
            if name != "feedback":
                raise ReportError(
                    f"it is no aggregate report: it begins with <{one_line(name, 40)}>"
                )
            self._top = _Node()
            self._stack.append((name, self._top))
            return
        parent, above = self._stack[-1]
        node = None
        if above is not None and (name in _GROUPS or parent == "auth_results"):
            node = _Node()
        self._stack.append((name, node))

    def _characters(self, text: str) -> None:
        if self._length < MAX_TEXT:
            self._text.append(text[: MAX_TEXT - self._length])
            self._length += len(text)

    def _end(self, _: str) -> None:
        name, node = self._stack.pop()
        if not self._stack:
            return
        parent, above = self._stack[-1]
        if above is None:
            return
        if name == "record" and parent == "feedback" and node is not None:
            self._add(node)
        elif node is not None and (name == "reason" or parent == "auth_results"):
            found = above.setdefault(name, [])
            if name in _LISTS and len(found) < MAX_RESULTS:
                found.append(node)
        elif node is not None:
            above.setdefault(name, node)
        else:
            above.setdefault(name, "".join(self._text).strip())
        self._text.clear()
        self._length = 0

    def _add(self, node: _Node) -> None:
        if len(self._records) >= MAX_RECORDS:
            self._left_out += 1
            return
        row = _group(node, "row")
        evaluated = _group(row, "policy_evaluated")
        names = _group(node, "identifiers")
        results = _group(node, "auth_results")
        record = Record(
            _source(_leaf(row, "source_ip")),
            _leaf(evaluated, "disposition").lower() or "none",
            _leaf(evaluated, "dkim").lower() or "fail",
            _leaf(evaluated, "spf").lower() or "fail",
            _leaf(names, "header_from").lower().rstrip("."),
            _leaf(names, "envelope_from").lower().rstrip("."),
            _leaf(names, "envelope_to").lower().rstrip("."),
            tuple(
                Reason(_leaf(one, "type"), _leaf(one, "comment"))
                for one in evaluated.get("reason", ())
            ),
            tuple(
                DkimResult(
                    _leaf(one, "domain").lower(),
                    _leaf(one, "selector"),
                    _result(one),
                    _leaf(one, "human_result"),
                )
                for one in results.get("dkim", ())
            ),
            tuple(
                SpfResult(
                    _leaf(one, "domain").lower(),
                    _leaf(one, "scope"),
                    _result(one),
                    _leaf(one, "human_result"),
                )
                for one in results.get("spf", ())
            ),
        )
        self._records.append((record, _number(_leaf(row, "count"))))


def _refuse_doctype(*_: object) -> None:
    raise ReportError("it declares a document type, which no report needs and bombs are made of")


def _group(node: _Node, name: str) -> _Node:
    found = node.get(name)
    return found if isinstance(found, _Node) else _Node()


def _leaf(node: _Node, name: str) -> str:
    found = node.get(name)
    return one_line(found, MAX_TEXT) if isinstance(found, str) else ""


def _result(node: _Node) -> str:
    found = _leaf(node, "result").lower() or "none"
    return _WORDS.get(found, found)


def _number(text: str) -> int:
    """Some write dates and counts with a fraction."""
    whole = text.partition(".")[0]
    if not (whole.isascii() and whole.isdigit() and len(whole) <= 15):
        return 0
    return min(int(whole), MAX_COUNT)


def _source(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return one_line(text, 60) or "?"
