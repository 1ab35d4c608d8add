"""The mechanisms of a model's layers: one name, or several that repeat over the layers, such as "dense local local"."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from longread.attention import ATTENTIONS, SelfAttention


def canonical(pattern: Any) -> str:
    """Names with one space between them, as few as say the same. ValueError for one that is not known."""
    names = pattern.split() if isinstance(pattern, str) else [pattern]
    for name in names or [pattern]:
        if name not in ATTENTIONS:
            raise ValueError(f"attention is {name!r}; it must be one of {', '.join(ATTENTIONS)}")
    count = len(names)
    shortest = next(n for n in range(1, count + 1) if count % n == 0 and names == names[:n] * (count // n))
    return " ".join(names[:shortest])


def mechanisms_of(pattern: str) -> dict[str, type[SelfAttention]]:
    """Each mechanism in a pattern once, by name. ValueError for one that is not known."""
    return {name: ATTENTIONS[name] for name in canonical(pattern).split()}


def settings_of(pattern: str) -> dict[str, dataclasses.Field[Any]]:
    """The fields of all its mechanisms' `Options`, by name."""
    return {field.name: field for one in mechanisms_of(pattern).values() for field in dataclasses.fields(one.Options)}


def published_sizes(pattern: str, head_dim: int) -> dict[str, Any]:
    """The settings that the papers of its mechanisms name, for heads of this width."""
    return {k: v for one in mechanisms_of(pattern).values() for k, v in one.published_sizes(head_dim).items()}


def make_options(pattern: str, values: Mapping[str, Any]) -> tuple[Any, ...]:
    """An `Options` of each mechanism from those of `values` that it has. ValueError for a value out of range."""
    made = []
    for one in mechanisms_of(pattern).values():
        own = {field.name for field in dataclasses.fields(one.Options)}
        made.append(one.Options(**{name: value for name, value in values.items() if name in own}))
    return tuple(made)
