"""Are the values of a dataclass what its annotations say? One check for settings, however they were given.

An annotation is a type, a Literal, or one of these with a Rule: `batch_size: Annotated[int, Rule(...)]`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from longread.errors import UserError


@dataclass(frozen=True)
class Rule:
    """What a value of the right type must also be: in words, and as a test."""

    wanted: str
    holds: Callable[[Any], bool]


Count = Annotated[int, Rule("1 or more", lambda n: n >= 1)]
EvenCount = Annotated[int, Rule("an even number, 2 or more: it counts both sides", lambda n: n >= 2 and n % 2 == 0)]
Natural = Annotated[int, Rule("0 or more", lambda n: n >= 0)]
Positive = Annotated[float, Rule("above 0", lambda x: x > 0)]
NotNegative = Annotated[float, Rule("0 or more", lambda x: x >= 0)]
Fraction = Annotated[float, Rule("at least 0 and below 1", lambda x: 0 <= x < 1)]
InnerFraction = Annotated[float, Rule("above 0 and below 1", lambda x: 0 < x < 1)]

WORDS = {int: "a whole number", float: "a number", str: "text", bool: "True or False", types.NoneType: "None"}


def check_fields(settings: Any) -> None:
    """UserError for the first field of a dataclass whose value does not fit its annotation."""
    hints = _hints(settings.__class__)
    for field in dataclasses.fields(settings):
        value, hint = getattr(settings, field.name), hints[field.name]
        if not _fits(value, hint):
            close = close_match(value, _choices(hint)) if isinstance(value, str) else ""
            raise UserError(f"{field.name} is {value!r}; it must be {_wanted(value, hint)}{close}")


def close_match(value: str, choices: Iterable[str]) -> str:
    """ "; did you mean bfloat16?", or nothing where no choice is near."""
    near = difflib.get_close_matches(value, list(choices), n=1)
    return f"; did you mean {near[0]}?" if near else ""


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        rules = [part for part in parts[1:] if isinstance(part, Rule)]
        return _fits(value, parts[0]) and all(rule.holds(value) for rule in rules)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, parts[0]) for item in value)
    if hint is Any:
        return True
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, origin or hint)


def _wanted(value: Any, hint: Any) -> str:
    """What would be right, in words; of several possibilities those that come nearest to the value."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        if not _fits(value, parts[0]):
            return _wanted(value, parts[0])
        return " and ".join(part.wanted for part in parts[1:] if isinstance(part, Rule) and not part.holds(value))
    if origin in (Union, types.UnionType):
        near = [part for part in parts if get_origin(part) is Annotated and _fits(value, get_args(part)[0])]
        return " or ".join(_wanted(value, part) for part in near or parts)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin is tuple:
        return f"several, each {_wanted(None, parts[0])}"
    return WORDS.get(hint, f"a {getattr(hint, '__name__', hint)}")


def _choices(hint: Any) -> list[str]:
    if get_origin(hint) is Literal:
        return [part for part in get_args(hint) if isinstance(part, str)]
    return [choice for part in get_args(hint) for choice in _choices(part)]
