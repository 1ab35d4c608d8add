"""Random models of transformers, and how this project's are compared with them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from longread.models.checkpoint import from_pretrained
from longread.models.classifier import Classifier
from longread.models.families import FAMILIES
from longread.ops.packed import PackedBatch

logging.getLogger("transformers").setLevel(logging.ERROR)

SMALL = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 800,
    "num_labels": 3,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
# What the peers that do not have these names call them.
OTHER_NAMES = {
    "distilbert": {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
    },
    "modernbert": {"hidden_dropout_prob": "mlp_dropout", "attention_probs_dropout_prob": "attention_dropout"},
}
# Settings whose defaults do not fit a small model without dropout.
DEFAULTS: dict[str, dict[str, Any]] = {
    "distilbert": {"seq_classif_dropout": 0.0},
    "modernbert": {"pad_token_id": 1, "bos_token_id": 0, "cls_token_id": 0, "eos_token_id": 2, "sep_token_id": 2,
                   "num_attention_heads": 2},
}  # fmt: skip


def random_peer(
    model_type: str, *, seed: int = 0, base: bool = False, masked: bool = False, attn_implementation: str = "eager",
    **settings: Any,
) -> Any:  # fmt: skip
    """A classifier of transformers in which no weight, bias or gain is trivial.

    base: without its head. masked: with a head for masked tokens.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSequenceClassification

    named = OTHER_NAMES.get(model_type, {})
    settings = DEFAULTS.get(model_type, {}) | settings
    config = AutoConfig.for_model(model_type, **({named.get(k, k): v for k, v in SMALL.items()} | settings))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        kind = AutoModel if base else AutoModelForMaskedLM if masked else AutoModelForSequenceClassification
        model = kind.from_config(config, attn_implementation=attn_implementation)
        assert model.config._attn_implementation == attn_implementation
        for name, tensor in model.named_parameters():
            if name.lower().endswith(("norm.weight", "layer_norm.weight")):
                nn.init.normal_(tensor, mean=1.0, std=0.3)
            elif name.endswith("bias"):
                nn.init.normal_(tensor, std=0.3)
            else:
                nn.init.normal_(tensor, std=1.0 if "embeddings" in name else tensor.shape[1] ** -0.5)
    return model.eval()


def ours_from(peer: Any, directory: Path, **overrides: Any) -> Classifier:
    """The same model read by this project."""
    peer.save_pretrained(directory)
    return from_pretrained(directory, **overrides)


def batch(peer: Any, lengths: Sequence[int], seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Padded token ids, mask and token types [B, N]; the padding token is nowhere in a text."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    ids = torch.randint(3, peer.config.vocab_size, mask.shape, generator=generator)
    types = torch.randint(0, getattr(peer.config, "type_vocab_size", 1), mask.shape, generator=generator)
    return ids.masked_fill(~mask, peer.config.pad_token_id), mask, types.masked_fill(~mask, 0)


def compare(
    peer: Any,
    model: Classifier,
    lengths: Sequence[int],
    *,
    gradients: bool = False,
    global_positions: Sequence[int] = (),
) -> dict[str, float]:
    """Largest error of hidden states, logits and gradients, in parts of the largest number there."""
    ids, mask, types = batch(peer, lengths)
    extra: dict[str, Tensor] = {}
    global_mask = None
    if global_positions:
        global_mask = torch.zeros_like(mask)
        global_mask[:, list(global_positions)] = True
        global_mask &= mask
        extra["global_attention_mask"] = global_mask.long()
    if hasattr(peer.config, "type_vocab_size"):
        extra["token_type_ids"] = types
    theirs = peer(ids, attention_mask=mask.long(), output_hidden_states=True, **extra)
    logits = model(ids, mask, types if model.config.type_vocab_size else None, global_mask)
    errors = {"logits": relative(logits, theirs.logits)}
    if global_mask is None:
        with torch.no_grad():
            states = model.hidden_states(
                ids[mask], PackedBatch(tuple(lengths)), types[mask] if model.config.type_vocab_size else None
            )
        assert len(states) == len(theirs.hidden_states)
        for layer, (own, other) in enumerate(zip(states, theirs.hidden_states, strict=True)):
            errors[f"hidden state {layer}"] = relative(own, other[:, : mask.shape[1]][mask])
    if gradients:
        errors["gradients"] = gradient_error(peer, theirs.logits, model, logits)
    return errors


def gradient_error(peer: Any, their_logits: Tensor, model: Classifier, logits: Tensor) -> float:
    """Over every parameter, in parts of the largest gradient of all: some are 0 but for rounding."""
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(7)).to(logits.dtype)
    (their_logits * weights).sum().backward()
    (logits * weights).sum().backward()
    own = dict(model.named_parameters())
    family = FAMILIES[peer.config.model_type]
    names = family.names(own, model.config.num_hidden_layers)
    others = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in peer.named_parameters()}
    others = family.split(others)
    assert names.keys() == own.keys()
    own = {name: tensor for name, tensor in own.items() if tensor.requires_grad}
    largest = max(float(grad.abs().max()) for grad in others.values())
    worst = 0.0
    for name, tensor in own.items():
        mine = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        difference = mine - others[names[name]]
        worst = max(worst, float(difference.abs().max()))
    return worst / largest


def relative(actual: Tensor, expected: Tensor) -> float:
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    return float((actual - expected).detach().abs().max() / expected.detach().abs().max())
