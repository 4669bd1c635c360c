"""The tables `[[filters]]`: which programs look at mail, and what follows; see `model`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from ..filters.places import check_place
from .section import Section
from .values import File, Text, mistakes_in, said

__all__ = ["Filter"]

_OF_KIND: Final = {
    "password_file": "rspamd",
    "password": "rspamd",
    "malware": "clamav",
    "refuse_score": "spamassassin",
    "headers": "spamassassin",
}
"""Keys that one kind alone obeys."""


def _one_word(value: str) -> str:
    if value and not (value.isascii() and value.isprintable() and " " not in value):
        raise ValueError("must be one word in ASCII")
    return value


Place = Annotated[Text, AfterValidator(said(check_place))]
Word = Annotated[str, AfterValidator(said(_one_word))]


class Filter(Section):
    """A program that looks at mail: tables `[[filters]]`, asked in their order; each sees what those before have
    changed.
    """

    kind: Literal["milter", "rspamd", "clamav", "spamassassin"] = Field(
        description="What it speaks: the milter protocol (version 6), rspamd's HTTP, clamd's INSTREAM, spamd's SPAMC."
    )
    endpoint: Place = Field(
        description='Where it listens, `"unix:/path"` or `"tcp:host:port"`: clamd at `"unix:/run/clamav/clamd.ctl"`, '
        'rspamd at `"tcp:127.0.0.1:11333"` (its normal worker; its proxy on 11332 is a `milter`, as it is shipped), '
        'spamd at `"tcp:127.0.0.1:783"`.'
    )
    name: Word = Field(
        default="", description='What logs and `mailctl explain` call it. `""` is its kind.'
    )
    on: tuple[Literal["smtp", "submission"], ...] = Field(
        default=("smtp", "submission"),
        strict=False,
        min_length=1,
        description="Whose mail it sees: from other servers, from users.",
    )
    on_failure: Literal["accept", "defer", "refuse"] = Field(
        default="defer",
        description="What follows when it cannot be reached, takes too long or answers nonsense: the message goes on "
        "without it, is deferred with 451 4.7.1, or refused.",
    )
    seconds: float = Field(
        default=30,
        ge=1,
        le=600,
        description="Time for one answer; a whole message may take ten times as long.",
    )
    connections: int = Field(
        default=20, ge=1, le=1000, description="Connections to it at a time; who comes later waits."
    )
    password_file: File | None = Field(
        default=None,
        description="rspamd: a file with the password of its controller, in its first line.",
    )
    password: Text = Field(
        default="",
        repr=False,
        json_schema_extra={"secret": True},
        description='rspamd: `"${NAME}"`, the password is in the environment, by that name; or the password itself.',
    )
    malware: Literal["refuse", "junk", "hold", "discard"] = Field(
        default="refuse",
        description="clamav: what becomes of a message with malware. `hold`: what would leave waits in the queue for "
        "`mailctl queue release` or `remove`; what is for a mailbox here goes to its folder for junk.",
    )
    refuse_score: float = Field(
        default=15,
        ge=0,
        le=1000,
        description="spamassassin: points from which on spam is refused and not filed as junk. 0: never.",
    )
    headers: bool = Field(
        default=False, description="spamassassin: put its X-Spam header fields into the message."
    )

    @model_validator(mode="after")
    def _obeyed(self) -> Filter:
        mistakes_in(self._in_vain())
        if self.password and self.password_file is not None:
            mistakes_in([(("password",), "must not be there beside password_file")])
        return self

    def _in_vain(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        # Written as its default it changes nothing, wherever it stands.
        for key, kind in _OF_KIND.items():
            if self.kind != kind and getattr(self, key) != type(self).model_fields[key].default:
                yield (
                    (key,),
                    f'is for kind = "{kind}" alone, and this is "{self.kind}": leave it out',
                )
