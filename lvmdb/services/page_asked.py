"""What a page is asked: the fields of its address, or of a form, which are the same.

A page remembers nothing: where somebody is, a context and what was put behind it, is in the
address, which can be kept and sent to others. What is too long for one is in the form alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from lvmdb.services.lvm_bodies import MOST_FOUND, MOST_GENERATED, MOST_LEFT_OUT
from lvmdb.services.problems import ProblemError, clean, from_validation
from lvmdb.services.requests import Name, Text, Title

LONGEST_ADDRESS = 4_000
"""Characters; servers and programs that pass addresses on take as many."""

MOST_FIELDS = 300
"""Fields of a form."""

HOME, SEARCH, RUNS = "/", "/page/search", "/page/runs"
ARTICLES, RANDOM, SIGN_IN, SIGN_OUT = (
    "/page/articles",
    "/page/random",
    "/page/sign-in",
    "/page/sign-out",
)

Digits = Annotated[int, Field(ge=1, le=2**63 - 1)]


def _lines(text: Any) -> Any:
    # Forms end lines with CR LF.
    return text.replace("\r\n", "\n") if isinstance(text, str) else text


class Form(BaseModel):
    """The fields of one page."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: Name | None = None

    @property
    def model(self) -> int | str | None:
        """A run's number, or a promoted name; None where none was chosen."""
        if self.run is not None and self.run.isascii() and self.run.isdecimal():
            return int(self.run)
        return self.run

    def fields(self, *left_out: str) -> list[tuple[str, str]]:
        """Names and values of what is not as it is by default, as a form has them."""
        pairs: list[tuple[str, str]] = []
        for name, value in self.model_dump(exclude_defaults=True, exclude=set(left_out)).items():
            several = value if isinstance(value, tuple) else (value,)
            pairs += [(name, "1" if each is True else str(each)) for each in several]
        return pairs


class Asked(Form):
    """What the page of predictions is asked: a context, what was put behind it, what to find."""

    text: Annotated[Text, BeforeValidator(_lines)] | None = None
    article: Digits | None = None
    at: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    then: Annotated[tuple[UUID, ...], Field(max_length=MOST_LEFT_OUT)] = ()
    k: Annotated[int, Field(ge=1, le=MOST_FOUND)] = 5
    exact: bool = False
    decode: Literal["nearest", "auto", "vec2text"] = "nearest"
    steps: Annotated[int, Field(ge=1, le=MOST_GENERATED)] | None = None
    loop: Literal["index", "none", "vec2text"] = "index"
    repeat: bool = False
    smooth: bool = False

    @property
    def begins(self) -> bool:
        """Whether there is a context."""
        return self.text is not None or self.article is not None

    @property
    def reads(self) -> Literal["index", "none", "vec2text"]:
        """What is read of each prediction: where no concepts are found, the text that is written
        stands for them."""
        written = self.decode == "vec2text" and self.loop == "index"
        return "vec2text" if written else self.loop

    @model_validator(mode="after")
    def _together(self) -> Asked:
        if self.loop == "vec2text" and self.decode != "vec2text":
            raise ValueError("loop vec2text reads what vec2text writes: let it write the texts")
        if self.text is not None and self.article is not None:
            raise ValueError("a context is a text or a place in an article, not both")
        if self.at is not None and self.article is None:
            raise ValueError("a place is one in an article: choose the article as well")
        if not self.begins and (self.then or self.steps is not None):
            raise ValueError("there is no context to go on from: type a text, or take an article")
        return self


class Sought(Form):
    """What the search page is asked."""

    text: Annotated[Text, BeforeValidator(_lines)] | None = None
    k: Annotated[int, Field(ge=1, le=MOST_FOUND)] = 5
    exact: bool = False
    words: bool = False


class Titled(Form):
    """What articles are looked for."""

    title: Title | None = None


Kind = TypeVar("Kind", bound=Form)


def pairs_of(sent: bytes) -> list[tuple[str, str]]:
    """Names and values of a query string or a form's body.

    Raises:
        ProblemError: 400, it is not UTF-8, or has too many fields.
    """
    try:
        return parse_qsl(
            sent.decode("ascii"), errors="strict", max_num_fields=MOST_FIELDS, separator="&"
        )
    except UnicodeError:
        raise ProblemError(400, "invalid_form", "the fields are not UTF-8") from None
    except ValueError:
        raise ProblemError(
            400, "invalid_form", f"there are more than {MOST_FIELDS} fields"
        ) from None


def read(kind: type[Kind], pairs: Sequence[tuple[str, str]]) -> Kind:
    """The fields of a page; what is empty is not there.

    Raises:
        ProblemError: 422, a field is unknown, wrong, or there twice.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name == "then":
            found.setdefault(name, []).append(value)
        elif name in found:
            raise ProblemError(422, "invalid_request", f"the field '{clean(name)}' is there twice")
        elif value.strip():
            found[name] = value if name == "text" else value.strip()
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise from_validation(error.errors()) from None


def typed(pairs: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """What was typed, to be shown again beside what is wrong with it."""
    return {name: value.replace("\0", "") for name, value in pairs}


def address(path: str, form: Form, **changes: Any) -> str | None:
    """The address of a page with these fields, some of them changed; None where it is too long.

    No address asks a language model: whoever follows a link should not set it to work.
    """
    changed = form.model_copy(update=changes) if changes else form
    fields = urlencode(changed.fields("smooth"))
    found = f"{path}?{fields}" if fields else path
    return found if len(found) <= LONGEST_ADDRESS else None
