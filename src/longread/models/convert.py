"""A dense encoder with another attention, or any encoder with more positions, its weights kept.

Where the new attention covers a whole row, the converted model computes what the dense one did: Longformer for rows of
up to attention_window / 2 + 2 tokens, BigBird up to its full-attention threshold, Linformer up to projection_size.
Longer rows, and Performer's, are followed as well as the mechanism can without training. A model that has such an
attention already keeps it and computes every row that it could read as before.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from typing import Any

import torch
from torch import Tensor

from longread.attention import ATTENTIONS
from longread.attention.linformer import fold
from longread.errors import UserError
from longread.models.classifier import Classifier, ClassifierConfig
from longread.models.loading import Loading

log = logging.getLogger("longread")

# Performer's features per head, in units of D ln D: the paper's order follows a trained softmax too loosely.
FEATURES_PER_D_LOG_D = 4
# How much of a score Performer keeps: the fewer features, the flatter the softmax that they follow at all. Measured on
# film reviews of 30 to 400 tokens against all-MiniLM-L6-v2: best were .5 for 64 features of 32 dimensions, .7 for 443
# and for 2,048; the sentence vectors came up to .1 nearer to the dense ones in cosine than with whole scores.
# Centring the keys alone, or balancing queries against keys, which dense attention would not see, brought nothing.
SOFTENING = 0.6
# The same where the features follow differences from the means alone. Measured on the attention's outputs on texts of
# QNLI and SST-2: best were .4 for 64 features, .5 for 443.
SOFTENING_CENTRED = 1.2
# What the tokens behind the first projection_size give to Linformer's slots: the c-th that comes to a slot this much
# divided by c. The first has weight 1 at any length, so that no weights make the slot a mean; with ones the sums drown
# the first tokens. Measured on film reviews of 64 to 512 tokens against all-MiniLM-L6-v2: of 0, .05, .1, .2, .5 and 1,
# constant, shared out or falling with c, this came closest to the dense sentence vectors on most lengths.
FOLD = 0.1


def convert(
    model: Classifier,
    attention: str,
    max_length: int | None = None,
    *,
    sharpness: float | None = None,
    **options: Any,
) -> Classifier:
    """The same weights under another attention, in evaluation mode; `model` itself is left as it is.

    max_length: tokens of the longest row to come (None: as many as `model` has). Positions beyond the trained ones
    are copies of these, from the first on. sharpness: what Performer's scores are multiplied with (None: the more
    features, the nearer to 1). options: fields of the mechanism and of ClassifierConfig. A model that is not dense
    keeps its attention and gets more positions. UserError for another attention than that, and for settings that the
    mechanism does not have.
    """
    if model.config.attention not in ("dense", attention):
        raise UserError(
            f"the model has {model.config.attention} attention and can only keep it, with more positions; "
            f"only a dense one can be converted to {attention}"
        )
    if attention not in ATTENTIONS:
        raise UserError(f"attention is {attention!r}; it must be one of {', '.join(ATTENTIONS)}")
    if max_length is not None and max_length < 1:
        raise UserError(f"max_length is {max_length}; it must be 1 token or more")
    source = model.config
    softened = attention == "performer" and source.attention == "dense"
    if sharpness is not None and not (softened and 0 < sharpness <= 1):
        raise UserError(f"sharpness is {sharpness}; it is for dense to Performer alone, above 0 and at most 1")
    if softened and options.get("num_features") is None:
        dim = source.width_of_head
        options["num_features"] = max(1, round(FEATURES_PER_D_LOG_D * dim * math.log(dim)))
    centred = softened and bool(options.get("centred"))
    wanted = source.to_dict() | {"attention": attention, "max_length": max_length or source.max_length}
    if softened:
        wanted["attention_dropout"] = 0.0  # Performer has none
    try:
        config = ClassifierConfig.from_dict(wanted | options)
    except (TypeError, ValueError) as error:
        raise UserError(f"convert to {attention}: {error}") from error
    if softened:
        wealth = config.options.num_features / max(1.0, source.width_of_head * math.log(source.width_of_head))
        sharpness = sharpness or 1 / (1 + (SOFTENING_CENTRED if centred else SOFTENING) * wealth**-0.25)
    if centred:
        config = dataclasses.replace(config, options=dataclasses.replace(config.options, sharpness=sharpness))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        converted = Classifier(config)
    state = _state(model, converted)
    misfits = [name for name, tensor in converted.state_dict().items() if state[name].shape != tensor.shape]
    if misfits:
        raise UserError(f"convert to {attention}: the options change the shape of {', '.join(misfits[:5])}; leave them")
    weight = model.embeddings.word.weight
    converted.to(device=weight.device, dtype=weight.dtype).load_state_dict(state)
    own = dataclasses.asdict(config.options)
    if softened and not centred:
        assert sharpness
        _soften(converted, sharpness)
        own["sharpness"] = sharpness
    converted.tokenizer_file = model.tokenizer_file
    done = {
        "from": source.attention,
        "to": attention,
        "max_length": config.max_length,
        "trained": source.max_length,
    }
    loading = model.loading or Loading("a model in memory", "longread")
    converted.loading = dataclasses.replace(loading, converted=done | own)
    log.info("converted %s attention to %s, max_length %d", source.attention, attention, config.max_length)
    return converted.eval()


@torch.no_grad()
def _state(model: Classifier, converted: Classifier) -> dict[str, Tensor]:
    """What the new model starts from: the old one's tensors, and those that only the new one has."""
    old = model.state_dict()
    offset, positions = model.config.position_offset, converted.config.max_length
    old["embeddings.position.weight"] = extend_positions(old["embeddings.position.weight"], offset, positions)
    state = {}
    for name, tensor in converted.state_dict().items():
        like = name.replace("_global.", ".")  # Longformer's second projections start as copies of the first
        if name.endswith(("key_projection", "value_projection")):
            if name in old:
                state[name] = extend_projection(old[name], positions)
            else:
                state[name] = fold(positions, tensor.shape[1], lambda turn: FOLD / turn)
        elif name in old:
            state[name] = old[name]
        elif like in old:
            state[name] = old[like]
        else:
            state[name] = tensor  # Performer's features
    return state


@torch.no_grad()
def _soften(converted: Classifier, sharpness: float) -> None:
    """Queries and keys by the root of `sharpness` each."""
    for block in converted.blocks:
        for projection in (block.attention.query, block.attention.key):  # type: ignore[union-attr]
            projection.weight.mul_(math.sqrt(sharpness))  # type: ignore[union-attr, operator]
            projection.bias.mul_(math.sqrt(sharpness))  # type: ignore[union-attr, operator]


def extend_positions(table: Tensor, offset: int, max_length: int) -> Tensor:
    """[offset + L, hidden] -> [offset + max_length, hidden]: position n gets the embedding of n mod L.

    The rows before `offset` (RoBERTa's padding) stay. A table may become shorter, too.
    """
    trained = table.shape[0] - offset
    rows = torch.arange(max_length, device=table.device) % trained + offset
    return torch.cat([table[:offset], table[rows]])


def extend_projection(table: Tensor, max_length: int) -> Tensor:
    """[L, slots] -> [max_length, slots]: position n is projected as n mod L, behind the L-th with less weight."""
    position = torch.arange(max_length, device=table.device)
    turn = position // table.shape[0]
    weight = torch.where(turn == 0, 1.0, FOLD / turn.clamp(min=1)).to(table.dtype)
    return table[position % table.shape[0]] * weight[:, None]
