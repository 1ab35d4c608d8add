"""How each family's config.json is laid out: literal tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Layout:
    """keys: our field -> theirs; defaults: their key -> what a missing one means; common: our field -> its value."""

    keys: Mapping[str, str]
    defaults: Mapping[str, Any]
    common: Mapping[str, Any] = field(default_factory=dict)


SAME_NAMES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
              "initializer_range", "hidden_act", "type_vocab_size", "layer_norm_eps")  # fmt: skip
KEYS = {name: name for name in SAME_NAMES} | {
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
WITH_CLASSIFIER_DROPOUT = KEYS | {"classifier_dropout": "classifier_dropout"}
DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "initializer_range": 0.02,
    "hidden_act": "gelu",
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
ROBERTA = Layout(WITH_CLASSIFIER_DROPOUT, {**DEFAULTS, "pad_token_id": 1}, {"dropout_before_head": True})
LAYOUTS = {
    "bert": Layout(WITH_CLASSIFIER_DROPOUT, DEFAULTS),
    "roberta": Layout(ROBERTA.keys, {**ROBERTA.defaults, "vocab_size": 50265}, ROBERTA.common),
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "longformer": Layout(KEYS, {**ROBERTA.defaults, "attention_window": 512}, ROBERTA.common),
    "big_bird": Layout(
        WITH_CLASSIFIER_DROPOUT,
        {
            **DEFAULTS,
            "vocab_size": 50358,
            "hidden_act": "gelu_new",
            "max_position_embeddings": 4096,
            "attention_type": "block_sparse",
            "block_size": 64,
            "num_random_blocks": 3,
            "rescale_embeddings": False,
        },
        {"dropout_before_head": True, "dropout_before_norm": True},
    ),
    "electra": Layout(
        {**WITH_CLASSIFIER_DROPOUT, "embedding_size": "embedding_size"},
        {**DEFAULTS, "hidden_size": 256, "embedding_size": 128, "num_attention_heads": 4, "intermediate_size": 1024},
        {"dropout_before_head": True, "head_activation": "gelu"},
    ),
    "distilbert": Layout(
        {
            "vocab_size": "vocab_size",
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "initializer_range": "initializer_range",
            "hidden_act": "activation",
            "dropout": "dropout",
            "attention_dropout": "attention_dropout",
            "classifier_dropout": "seq_classif_dropout",
        },
        {
            "vocab_size": 30522,
            "dim": 768,
            "n_layers": 6,
            "n_heads": 12,
            "hidden_dim": 3072,
            "initializer_range": 0.02,
            "activation": "gelu",
            "dropout": 0.1,
            "attention_dropout": 0.1,
            "seq_classif_dropout": 0.2,
            "max_position_embeddings": 512,
            "pad_token_id": 0,
        },
        {"layer_norm_eps": 1e-12, "type_vocab_size": 0, "head_activation": "relu", "attention_output_dropout": 0.0},
    ),
    "mpnet": Layout(
        {name: key for name, key in KEYS.items() if name != "type_vocab_size"},
        {**DEFAULTS, "vocab_size": 30527, "pad_token_id": 1, "relative_attention_num_buckets": 32},
        {"dropout_before_head": True, "type_vocab_size": 0, "relative_buckets": 32, "relative_max_distance": 128},
    ),
    "modernbert": Layout(
        {
            "vocab_size": "vocab_size",
            "hidden_size": "hidden_size",
            "num_hidden_layers": "num_hidden_layers",
            "num_attention_heads": "num_attention_heads",
            "intermediate_size": "intermediate_size",
            "initializer_range": "initializer_range",
            "hidden_act": "hidden_activation",
            "layer_norm_eps": "norm_eps",
            "attention_bias": "attention_bias",
            "norm_bias": "norm_bias",
            "feed_forward_bias": "mlp_bias",
            "dropout": "mlp_dropout",
            "embedding_dropout": "embedding_dropout",
            "attention_dropout": "attention_dropout",
            "classifier_dropout": "classifier_dropout",
            "head_bias": "classifier_bias",
            "head_activation": "classifier_activation",
        },
        {
            "vocab_size": 50368,
            "hidden_size": 768,
            "num_hidden_layers": 22,
            "num_attention_heads": 12,
            "intermediate_size": 1152,
            "initializer_range": 0.02,
            "hidden_activation": "gelu",
            "max_position_embeddings": 8192,
            "norm_eps": 1e-5,
            "attention_bias": False,
            "norm_bias": False,
            "mlp_bias": False,
            "mlp_dropout": 0.0,
            "embedding_dropout": 0.0,
            "attention_dropout": 0.0,
            "classifier_dropout": 0.0,
            "classifier_bias": False,
            "classifier_activation": "gelu",
            "classifier_pooling": "cls",
            "local_attention": 128,
            "global_attn_every_n_layers": 3,
            "global_rope_theta": 160_000.0,
            "local_rope_theta": 10_000.0,
            "pad_token_id": 50283,
        },
        {
            "type_vocab_size": 0,
            "norm_position": "pre",
            "first_attention_norm": False,
            "position_kind": "rotary",
            "gated": True,
            "dropout_inside": True,
            "head_norm": True,
        },
    ),
}
