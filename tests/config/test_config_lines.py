"""The lines of keys: for every TOML text, the same paths that `tomllib` finds."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twisted_mail.config.lines import KeyPath, key_lines, line_of


def paths(value: Any, path: KeyPath = ()) -> list[KeyPath]:
    """Every path in a TOML document."""
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    found = [] if not path else [path]
    for key, inner in items:
        found += paths(inner, (*path, key))
    return found


def test_every_form_of_key() -> None:
    text = "\n".join(
        (
            "# comment",
            r'a = "x" # not = a key',
            r'"b\u0062" = 3',
            "[t]",
            r'k = """',
            "[no]",
            r'no = 3 \"""""',
            "[[t.u]]",
            "a = 1",
            "[[t.u]]",
            "b . 'c d' = [ 1, # ]",
            "  ']', {x = 1, y = {z = 2}},",
            "]",
            "[t.u.deep]",
            "d = 1979-05-27 07:32:00 # date",
            "e = '''",
            "it's # ]'''",
            "f = {}",
            "g = []",
        )
    )
    lines = key_lines(text)
    assert lines == {
        ("a",): 2,
        ("bb",): 3,
        ("t",): 4,
        ("t", "k"): 5,
        ("t", "u"): 8,
        ("t", "u", 0): 8,
        ("t", "u", 0, "a"): 9,
        ("t", "u", 1): 10,
        ("t", "u", 1, "b"): 11,
        ("t", "u", 1, "b", "c d"): 11,
        ("t", "u", 1, "b", "c d", 0): 11,
        ("t", "u", 1, "b", "c d", 1): 12,
        ("t", "u", 1, "b", "c d", 2): 12,
        ("t", "u", 1, "b", "c d", 2, "x"): 12,
        ("t", "u", 1, "b", "c d", 2, "y"): 12,
        ("t", "u", 1, "b", "c d", 2, "y", "z"): 12,
        ("t", "u", 1, "deep"): 14,
        ("t", "u", 1, "deep", "d"): 15,
        ("t", "u", 1, "deep", "e"): 16,
        ("t", "u", 1, "deep", "f"): 18,
        ("t", "u", 1, "deep", "g"): 19,
    }
    assert set(paths(tomllib.loads(text))) == set(lines)


def test_the_nearest_thing_around() -> None:
    lines = key_lines("\n[tls]\n")
    assert line_of(lines, ("tls", "key")) == 2
    assert line_of(lines, ("smtp",)) is None


@given(st.text(alphabet="ab.[]{}=,'\"#\\\n \r\t1", max_size=40))
def test_every_text_that_is_toml(text: str) -> None:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(paths(data)) == set(key_lines(text))


@given(
    st.recursive(
        st.sampled_from(['""', '"""\n\\""""', "'\"'", "'''\n'''''", "1", "nan", "[]", "{}"]),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda items: "[\n" + ", # ]\n".join(items) + "\n]"),
            inner.map(lambda item: f"[{item},]"),
        ),
        max_leaves=6,
    ),
    st.sampled_from(["k", "k.l", '"k=]"', '\'[x]\'."\\""']),
    st.sampled_from(["", "[t]\n", "[[t]]\n[[t]]\n", "[[t.u]]\n[t.u.v]\n"]),
)
def test_every_value(value: str, key: str, table: str) -> None:
    text = f"{table}{key} = {value}\nlast = 1"
    lines = key_lines(text)
    assert set(paths(tomllib.loads(text))) == set(lines)
    assert max(lines.values()) == text.count("\n") + 1
