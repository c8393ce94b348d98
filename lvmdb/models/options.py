"""Configurations from and to plain options: a command line's texts, a run row's JSON."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar, cast

from lvmdb.errors import ModelError, UnknownNameError

Config = TypeVar("Config")


def from_options(config: type[Config], options: Mapping[str, object]) -> Config:
    """Build a configuration from options as they come from a command line or from JSON.

    Args:
        config: the class to build.
        options: values by field name, each of the field's type or a text that spells one
            (`"256"`, `"false"`, `"0.1,1,10"`); a field left out keeps its default.

    Raises:
        UnknownNameError: an option is not a field.
        ModelError: a value does not fit its field.
    """
    hints = typing.get_type_hints(config)
    known = [field.name for field in fields(cast("Any", config))]
    for name in options:
        if name not in known:
            raise UnknownNameError("option", name, known)
    values: dict[str, Any] = {
        name: _coerce(name, value, hints[name]) for name, value in options.items()
    }
    return config(**values)


def to_options(config: Any) -> dict[str, Any]:
    """The configuration as a mapping that JSON can hold; `from_options` reads it back."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(config).items()
    }


def _coerce(name: str, value: object, hint: Any) -> object:
    """Bring one value to its field's type."""
    origin = typing.get_origin(hint)
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, Sequence):
            items = [items]
        return tuple(_coerce(name, item, typing.get_args(hint)[0]) for item in items)
    if origin in (typing.Union, types.UnionType):
        if value is None or value in ("none", "None", ""):
            return None
        inner = next(arg for arg in typing.get_args(hint) if arg is not type(None))
        return _coerce(name, value, inner)
    text = str(value).strip()
    if hint is bool:
        return _boolean(name, text)
    if hint is int or hint is float:
        try:
            if isinstance(value, bool):
                raise ValueError
            if hint is int and isinstance(value, float):
                if not value.is_integer():
                    raise ValueError
                return int(value)
            return hint(text)
        except ValueError:
            kind = "a whole number" if hint is int else "a number"
            raise ModelError(f"{name} must be {kind}, not '{value}'") from None
    return text


def _boolean(name: str, text: str) -> bool:
    lowered = text.lower()
    if lowered in ("true", "yes", "on", "1"):
        return True
    if lowered in ("false", "no", "off", "0"):
        return False
    raise ModelError(f"{name} must be true or false, not '{text}'")
