"""What a config.json of ModernBERT says of its pooling and of what differs between its layers, and back.

Older files name a period and two bases of the rotary positions, newer ones every layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from longread.errors import UserError
from longread.models.config import ClassifierConfig

LAYERS = {"full_attention": "dense", "sliding_attention": "local"}  # Hugging Face's name -> the mechanism
OLDER_BASES = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}
POOLING = {"cls": "first", "mean": "mean"}


def settings_from(has: Mapping[str, Any], where: str) -> dict[str, Any]:
    """has: config.json with its defaults. UserError for what no ModernBERT has."""
    pooling = has["classifier_pooling"]
    if not isinstance(pooling, str) or pooling not in POOLING:
        raise UserError(f"{where}: classifier_pooling is {pooling!r}; it must be one of {', '.join(POOLING)}")
    bases, pattern = _rotary_bases(has, where), _period(_layer_types(has, where))
    settings: dict[str, Any] = {
        "attention_output_dropout": has["attention_dropout"],
        "pooling": POOLING[pooling],
        "attention": " ".join(LAYERS[kind] for kind in pattern) or "dense",
        "rotary_base": tuple(bases[kind] for kind in pattern) or bases["full_attention"],
    }
    if "sliding_attention" in pattern:
        settings["local_window"] = _local_window(has["local_attention"], where)
    return settings


def _layer_types(has: Mapping[str, Any], where: str) -> list[str]:
    depth, types = has["num_hidden_layers"], has.get("layer_types")
    if types is None:
        period = has["global_attn_every_n_layers"]
        if not isinstance(period, int) or period < 1:
            raise UserError(f"{where}: global_attn_every_n_layers is {period}; it must be a whole number, 1 or more")
        return ["sliding_attention" if layer % period else "full_attention" for layer in range(depth)]
    if not isinstance(types, list) or len(types) != depth or not all(kind in tuple(LAYERS) for kind in types):
        known = ", ".join(LAYERS)
        raise UserError(f"{where}: layer_types is {types!r}; it must name one of {known} for each of {depth} layers")
    return types


def _rotary_bases(has: Mapping[str, Any], where: str) -> dict[str, float]:
    """By the name of a kind of layer."""
    newer = _object(has, "rope_parameters", where)
    if unknown := [name for name in newer if name not in LAYERS]:
        raise UserError(
            f"{where}: rope_parameters has {unknown[0]!r}; it must have {' and '.join(LAYERS)}, and no more"
        )
    bases = {}
    for kind, older in OLDER_BASES.items():
        rotary = {**_object(newer, kind, where), **_object(has, "rope_scaling", where)}
        rope_type = rotary.get("rope_type", rotary.get("type", "default"))
        if rope_type != "default":
            raise UserError(f"{where}: rope_type is {rope_type!r}; only default is read")
        name = f"rope_theta of {kind}" if "rope_theta" in rotary else older
        base = rotary.get("rope_theta", has[older])
        if not isinstance(base, int | float) or not 0 < base < math.inf:
            raise UserError(f"{where}: {name} is {base!r}; it must be a number above 0")
        bases[kind] = float(base)
    return bases


def _local_window(tokens: Any, where: str) -> int:
    """Theirs sees half of `local_attention`, rounded down, on each side."""
    if not isinstance(tokens, int) or tokens < 2:
        raise UserError(f"{where}: local_attention is {tokens!r}; it must be a whole number, 2 or more")
    return tokens // 2 * 2


def _object(has: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    value = has.get(name) or {}
    if not isinstance(value, Mapping):
        raise UserError(f"{where}: {name} is {value!r}; it must be a JSON object")
    return value


def _period(names: Sequence[str]) -> list[str]:
    """The shortest beginning of a list that the list repeats."""
    for length in range(1, len(names)):
        if all(name == names[place % length] for place, name in enumerate(names)):
            return list(names[:length])
    return list(names)


def keys_for(config: ClassifierConfig) -> dict[str, Any]:
    """Newer names alone; what they cannot say shows when they are read again."""
    theirs = {ours: name for name, ours in LAYERS.items()}
    types = [theirs.get(config.attention_of(layer), "full_attention") for layer in range(config.num_hidden_layers)]
    bases = {kind: config.rotary_base_of(layer) for layer, kind in reversed(list(enumerate(types)))}
    pooling = {ours: name for name, ours in POOLING.items()}
    keys: dict[str, Any] = {
        "layer_types": types,
        "rope_parameters": {k: {"rope_type": "default", "rope_theta": base} for k, base in bases.items() if base},
        "classifier_pooling": pooling.get(config.pooling, "mean"),
    }
    if "local" in config.mechanisms:
        keys["local_attention"] = config.options_of("local").local_window
    return keys
