"""Options of commands that decode, and what they make of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--decode",
        "method",
        type=click.Choice(["auto", "nearest", "vec2text"]),
        default="auto",
        show_default=True,
        help="The nearest concept's text, what vec2text writes, or the first where it is near "
        "enough and else the second.",
    ),
    click.option("-k", default=5, show_default=True, metavar="N", help="Concepts to find."),
    click.option("--exact", is_flag=True, help="Compare with every vector instead of an index."),
)

_EFFORT = (
    click.option(
        "--vec2text-steps",
        "corrections",
        type=int,
        metavar="N",
        help="Corrections of vec2text's first guess.  [default: 20]",
    ),
    click.option(
        "--beam",
        type=int,
        metavar="N",
        help="Guesses that vec2text keeps beside each other.  [default: 4]",
    ),
)


def decoding_options(function: Function) -> Function:
    """`--decode`, `-k`, `--exact`, `--vec2text-steps` and `--beam`."""
    for option in reversed((*_OPTIONS, *_EFFORT)):
        function = option(function)
    return function


def effort_options(function: Function) -> Function:
    """`--vec2text-steps` and `--beam`."""
    for option in reversed(_EFFORT):
        function = option(function)
    return function


def decoding(method: str, k: int, corrections: int | None, beam: int | None) -> Any:
    """The options as one.

    Raises:
        UsageError: vec2text's are given, and it takes no part.
    """
    from lvmdb.decoding.decoders import DecodingOptions
    from lvmdb.errors import UsageError

    given = {"steps": corrections, "beam": beam}
    chosen = {name: value for name, value in given.items() if value is not None}
    if chosen and method == "nearest":
        raise UsageError("--vec2text-steps and --beam are vec2text's: not for --decode nearest")
    return DecodingOptions(method=method, k=k, **chosen)
