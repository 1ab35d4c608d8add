"""A dense encoder with another attention, or any encoder with more positions, its weights kept.

Where the new attention covers a whole sequence, the converted model computes what the dense one did. Longer ones are
followed as well as the mechanism can without training: how its weights begin is `from_dense` of its class. A relative
position bias is dropped, with a warning, where the mechanism adds none. A model that has such an
attention already keeps it and computes every sequence that it could read as before.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import torch
from torch import Tensor

from longread.attention import ATTENTIONS, SelfAttention
from longread.attention.pattern import settings_of
from longread.checks import close_match
from longread.errors import UserError
from longread.models.classifier import Classifier
from longread.models.config import ClassifierConfig
from longread.models.loading import Loading

log = logging.getLogger("longread")


def convert(model: Classifier, attention: str, max_length: int | None = None, **options: Any) -> Classifier:
    """The same weights under another attention, in evaluation mode; `model` itself is left as it is.

    max_length: tokens of the longest sequence to come (None: as many as `model` has). Positions beyond the trained ones
    are copies of these, from the first on. options: fields of the mechanism and of ClassifierConfig; what the mechanism
    is left to choose it chooses for a converted model. A model that is not dense keeps its attention and gets more
    positions. UserError for another attention than that, and for settings that no mechanism in `attention` has: layers
    that are kept change theirs, with a warning, only where they are named.
    """
    source = model.config
    config = _config(source, attention, max_length, options)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        converted = Classifier(config)
    state = _state(model, converted)
    misfits = [name for name, tensor in converted.state_dict().items() if state[name].shape != tensor.shape]
    if misfits:
        raise UserError(f"convert to {attention}: the options change the shape of {', '.join(misfits[:5])}; leave them")
    weight = model.embeddings.word.weight
    converted.to(device=weight.device, dtype=weight.dtype).load_state_dict(state)
    converted.tokenizer_file = model.tokenizer_file
    if config.max_length == source.max_length:  # with more positions more is read of a text
        converted.cut = model.cut
    converted.decision = model.decision  # the last layer is the same: on texts that are covered, so are the labels
    converted.loading = _loading(model, config)
    if config.attention == source.attention:
        log.info("kept %s attention, max_length %d", config.attention, config.max_length)
    else:
        log.info("converted %s attention to %s, max_length %d", source.attention, config.attention, config.max_length)
    return converted.eval()


def _config(
    source: ClassifierConfig, attention: str, max_length: int | None, options: dict[str, Any]
) -> ClassifierConfig:
    pattern = pattern_of(source, attention)
    for option in settings_of(pattern).keys() & options.keys() - settings_of(attention).keys():
        raise UserError(
            f"{option}: {attention} attention has no such setting; layers that the model keeps have {option} "
            f"{source.own_settings()[option]}, as they were trained; to change it, name them: attention {pattern!r}"
        )
    if max_length is not None and max_length < 1:
        raise UserError(f"max_length is {max_length}; it must be 1 token or more")
    wanted = source.to_dict() | {"attention": pattern, "max_length": max_length or source.max_length}
    names = list(dict.fromkeys(pattern.split()))
    for name in names:
        if name not in source.mechanisms:
            options = ATTENTIONS[name].conversion_options(options, source.width_of_head)
        if not ATTENTIONS[name].supports_attention_dropout:
            wanted["attention_dropout"] = 0.0
    if _without_bias(source, pattern) == names:
        wanted["relative_buckets"] = 0
    try:
        return ClassifierConfig.from_dict(wanted | options)
    except (TypeError, ValueError) as error:
        raise UserError(f"convert to {attention}: {error}") from error


def _loading(model: Classifier, config: ClassifierConfig) -> Loading:
    """How the weights came about, with what is done now; a warning where a part of them is lost."""
    source = model.config
    done: dict[str, Any] = {
        "from": source.attention,
        "to": config.attention,
        "max_length": config.max_length,
        "trained": source.max_length,
    }
    without = _without_bias(source, config.attention)
    if source.relative_buckets and not config.relative_buckets:
        without = list(config.mechanisms)
    if without:
        titles = ", ".join(ATTENTIONS[name].title for name in without)
        done["dropped"] = f"relative position bias ({titles})"
        log.warning(
            "%s: these layers lose the relative position bias that the checkpoint has; "
            "let them learn without it by distillation", titles,
        )  # fmt: skip
    before, now = source.own_settings(), config.own_settings()
    changed = {name: value for name, value in before.items() if name in now and now[name] != value}
    for name, value in changed.items():
        log.warning("layers that were trained with %s %s now have %s", name, value, now[name])
    if changed:
        done["trained_with"] = changed
    loading = model.loading or Loading("a model in memory", "longread")
    earlier = dict(loading.converted or {})  # what was distilled before stays said
    return dataclasses.replace(loading, converted=earlier | done | now)


def _without_bias(source: ClassifierConfig, pattern: str) -> list[str]:
    """The mechanisms of the pattern that lose a bias by offset which the source has."""
    names = dict.fromkeys(pattern.split()) if source.relative_buckets else ()
    return [n for n in names if n not in source.mechanisms and not ATTENTIONS[n].supports_relative_bias]


def pattern_of(source: ClassifierConfig, attention: str) -> str:
    """What the layers are to have: one name takes the place of dense attention and leaves other layers as they are."""
    names = attention.split() or [attention]
    for name in names:
        if name not in ATTENTIONS:
            close = close_match(name, ATTENTIONS)
            raise UserError(f"attention is {name!r}; it must be one of {', '.join(ATTENTIONS)}{close}")
    old = source.attention.split()
    new = [names[0] if name == "dense" else name for name in old] if len(names) == 1 else names
    layers = range(max(1, source.num_hidden_layers))
    if (len(names) == 1 and names[0] not in new) or any(
        old[layer % len(old)] not in ("dense", new[layer % len(new)]) for layer in layers
    ):
        if "dense" not in old:
            raise UserError(
                f"the model has {source.attention} attention and can only keep it, with more positions: only dense "
                f"layers can be converted, and it has none; give attention {source.attention!r}"
            )
        one = next((name for name in names if name not in old), "longformer")
        pattern = " ".join(one if name == "dense" else name for name in old)
        raise UserError(
            f"the model has {source.attention} attention, of which only the dense layers can be converted; give "
            f"attention {one!r}, which takes their place, or a pattern that keeps the others, such as {pattern!r}"
        )
    return " ".join(new)


@torch.no_grad()
def _state(model: Classifier, converted: Classifier) -> dict[str, Tensor]:
    """What the new model starts from: the old one's tensors, each attention layer's as its mechanism makes them."""
    state = model.state_dict()
    if converted.relative_bias is None:
        state.pop("relative_bias.weight", None)
    offset, positions = model.config.position_offset, converted.config.max_length
    if "embeddings.position.weight" in state:
        state["embeddings.position.weight"] = extend_positions(state["embeddings.position.weight"], offset, positions)
    for number, block in enumerate(converted.blocks):
        prefix = f"blocks.{number}.attention."
        layer: SelfAttention = block.attention  # type: ignore[assignment]
        old = {key.removeprefix(prefix): state.pop(key) for key in list(state) if key.startswith(prefix)}
        kept = converted.config.attention_of(number) == model.config.attention_of(number)
        new = layer.from_shorter(old) if kept else layer.from_dense(old)
        state |= {prefix + key: tensor for key, tensor in new.items()}
    return state


def extend_positions(table: Tensor, offset: int, max_length: int) -> Tensor:
    """[offset + L, hidden] -> [offset + max_length, hidden]: position n gets the embedding of n mod L.

    The rows before `offset` (RoBERTa's padding) stay. A table may become shorter, too.
    """
    trained = table.shape[0] - offset
    rows = torch.arange(max_length, device=table.device) % trained + offset
    return torch.cat([table[:offset], table[rows]])
