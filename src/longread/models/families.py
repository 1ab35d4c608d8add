"""Which Hugging Face checkpoints are understood: one literal table of names per family, and their config.json.

A name in a table is a module's; it stands for its `weight` and `bias`. `{layer}` runs over the layers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from longread.errors import UserError
from longread.models.classifier import ClassifierConfig

# Modules below the family's prefix: Hugging Face's name -> ours.
BODY = {
    "embeddings.word_embeddings": "embeddings.word",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.token_type_embeddings": "embeddings.token_type",
    "embeddings.LayerNorm": "embeddings.norm",
    "encoder.layer.{layer}.attention.self.query": "blocks.{layer}.attention.query",
    "encoder.layer.{layer}.attention.self.key": "blocks.{layer}.attention.key",
    "encoder.layer.{layer}.attention.self.value": "blocks.{layer}.attention.value",
    "encoder.layer.{layer}.attention.output.dense": "blocks.{layer}.attention.output",
    "encoder.layer.{layer}.attention.output.LayerNorm": "blocks.{layer}.attention_norm",
    "encoder.layer.{layer}.intermediate.dense": "blocks.{layer}.up",
    "encoder.layer.{layer}.output.dense": "blocks.{layer}.down",
    "encoder.layer.{layer}.output.LayerNorm": "blocks.{layer}.output_norm",
}
GLOBAL = {
    "encoder.layer.{layer}.attention.self.query_global": "blocks.{layer}.attention.query_global",
    "encoder.layer.{layer}.attention.self.key_global": "blocks.{layer}.attention.key_global",
    "encoder.layer.{layer}.attention.self.value_global": "blocks.{layer}.attention.value_global",
}
# Modules beside the family's prefix.
POOLED_HEAD = {"classifier": "head.classifier"}
DENSE_HEAD = {"classifier.dense": "head.dense", "classifier.out_proj": "head.classifier"}

# Heads of pretraining, poolers that the classifier does not use, and buffers that old versions stored.
IGNORED = (
    r"cls\..*",
    r"lm_head\..*",
    r"(.*\.)?pooler\..*",
    r"(.*\.)?embeddings\.(position_ids|token_type_ids)",
)
# Classifiers of tokens or answers, in checkpoints whose architecture is not that of a text classifier.
OTHER_HEADS = ("classifier.", "qa_outputs.")
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


@dataclass(frozen=True)
class Family:
    """`body` lies below `prefix`, `head` beside it. first_position: whether positions start behind the padding id's."""

    model_type: str
    prefix: str
    architecture: str
    body: Mapping[str, str]
    head: Mapping[str, str]
    counts_from_padding: bool = False

    def names(self, parameters: Iterable[str], num_hidden_layers: int) -> dict[str, str]:
        """Our parameter name -> Hugging Face's, for all of `parameters` that the tables know."""
        table = {}
        tables = [(f"{self.prefix}.", self.body), ("", self.head)]
        for prefix, modules in tables:
            for theirs, ours in modules.items():
                for layer in range(num_hidden_layers if "{layer}" in ours else 1):
                    table[ours.format(layer=layer)] = prefix + theirs.format(layer=layer)
        found = {}
        for name in parameters:
            module, _, kind = name.rpartition(".")
            if module in table:
                found[name] = f"{table[module]}.{kind}"
        return found

    def current_name(self, key: str) -> str:
        """A key as today's checkpoints of a classifier have it: with the prefix, and no gamma or beta."""
        for old, new in OLD_NAMES.items():
            key = key.removesuffix(old) + new if key.endswith(old) else key
        return f"{self.prefix}.{key}" if key.startswith(("embeddings.", "encoder.", "pooler.")) else key


FAMILIES = {
    family.model_type: family
    for family in (
        Family(
            "bert",
            "bert",
            "BertForSequenceClassification",
            BODY | {"pooler.dense": "head.dense"},
            POOLED_HEAD,
        ),
        Family("roberta", "roberta", "RobertaForSequenceClassification", BODY, DENSE_HEAD, True),
        # RoBERTa in all but their tokenizers.
        Family("xlm-roberta", "roberta", "XLMRobertaForSequenceClassification", BODY, DENSE_HEAD, True),
        Family("camembert", "roberta", "CamembertForSequenceClassification", BODY, DENSE_HEAD, True),
        Family("longformer", "longformer", "LongformerForSequenceClassification", BODY | GLOBAL, DENSE_HEAD, True),
        Family("big_bird", "bert", "BigBirdForSequenceClassification", BODY, DENSE_HEAD),
    )
}

# Hugging Face's name of an activation -> ours. gelu_new, gelu_fast, ... are one formula.
ACTIVATION_NAMES = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
THEIR_ACTIVATION = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu", "tanh": "tanh"}


def unknown(model_type: object) -> str:
    """Why a checkpoint of this model_type is not read, and which are."""
    return (
        f"model_type is {model_type!r}; longread reads encoders of type {', '.join((*FAMILIES, 'longread'))} "
        "and no others"
    )


# What transformers takes for a key that a config.json leaves out.
DEFAULTS: dict[str, dict[str, Any]] = {
    "bert": {"vocab_size": 30522, "hidden_act": "gelu", "max_position_embeddings": 512, "pad_token_id": 0},
    "roberta": {"vocab_size": 50265, "hidden_act": "gelu", "max_position_embeddings": 512, "pad_token_id": 1},
    "xlm-roberta": {"vocab_size": 30522, "hidden_act": "gelu", "max_position_embeddings": 512, "pad_token_id": 1},
    "camembert": {"vocab_size": 30522, "hidden_act": "gelu", "max_position_embeddings": 512, "pad_token_id": 1},
    "longformer": {
        "vocab_size": 30522,
        "hidden_act": "gelu",
        "max_position_embeddings": 512,
        "pad_token_id": 1,
        "attention_window": 512,
    },
    "big_bird": {
        "vocab_size": 50358,
        "hidden_act": "gelu_new",
        "max_position_embeddings": 4096,
        "pad_token_id": 0,
        "attention_type": "block_sparse",
        "block_size": 64,
        "num_random_blocks": 3,
        "rescale_embeddings": False,
    },
}
COMMON_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
}
# What their config.json has no place for. It is written beside the rest and read again.
EXTRAS = ("seed", "embedding_dropout", "random_block_plan", "dropout_before_head")


def settings_from(hf: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A family's config.json -> the flat settings of an ClassifierConfig, labels apart."""
    family = FAMILIES[hf["model_type"]]
    has = COMMON_DEFAULTS | DEFAULTS[family.model_type] | {key: value for key, value in hf.items() if value is not None}
    if has.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(
            f"{where}: position_embedding_type is {has['position_embedding_type']!r}; only absolute is read"
        )
    for flag in ("is_decoder", "add_cross_attention"):
        if has.get(flag):
            raise UserError(f"{where}: {flag} is true; only encoders are read")
    for name, value in has.items():
        usual = COMMON_DEFAULTS.get(name, DEFAULTS[family.model_type].get(name))
        if isinstance(usual, int | float) and not isinstance(value, int | float) and name != "attention_window":
            raise UserError(f"{where}: config.json: {name} is {value!r}; it must be a number, like {usual}")
    activation = ACTIVATION_NAMES.get(has["hidden_act"])
    if activation is None:
        raise UserError(f"{where}: hidden_act is {has['hidden_act']!r}; known are {', '.join(ACTIVATION_NAMES)}")
    offset = has["pad_token_id"] + 1 if family.counts_from_padding else 0
    settings: dict[str, Any] = {
        "attention": "dense",
        "hidden_act": activation,
        "head_activation": "tanh",
        "dropout_before_head": family.model_type != "bert",
        "max_length": has["max_position_embeddings"] - offset,
        "position_offset": offset,
        "dropout": has["hidden_dropout_prob"],
        "attention_dropout": has["attention_probs_dropout_prob"],
        "classifier_dropout": has.get("classifier_dropout"),
        "norm_position": "post",
        "pooling": "first",
    }
    for same in ("vocab_size", "type_vocab_size", "layer_norm_eps", "initializer_range", "hidden_size",
                 "num_hidden_layers", "num_attention_heads", "intermediate_size"):  # fmt: skip
        settings[same] = has[same]
    if family.model_type == "longformer":
        windows = has["attention_window"]
        windows = [windows] * has["num_hidden_layers"] if isinstance(windows, int) else list(windows)
        settings |= {
            "attention": "longformer",
            "attention_window": windows[0] if len(set(windows)) == 1 else windows,
        }
    if family.model_type == "big_bird":
        settings |= {"dropout_before_norm": True, "head_activation": activation}
        if has["rescale_embeddings"]:
            settings["embedding_scale"] = math.sqrt(has["hidden_size"])
        if has["attention_type"] == "block_sparse":
            settings |= {"attention": "bigbird"} | {key: has[key] for key in ("block_size", "num_random_blocks")}
            settings["random_block_plan"] = "huggingface"
    extras = has.get("longread") or {}
    return settings | {name: extras[name] for name in EXTRAS if name in extras}


def family_of(config: ClassifierConfig, pad_token_id: int | None, source: str | None = None) -> Family | str:
    """The family whose classifier computes what this configuration does, or why there is none.

    pad_token_id: needed where their positions count from it and ours from 0; None: not known. source: the family that
    the weights came from, which is kept where several compute the same.
    """
    if config.attention not in ("dense", "longformer", "bigbird"):
        return f"transformers has no {config.attention} attention"
    if config.norm_position != "post":
        return 'their blocks normalise after the residual (norm_position="post")'
    if config.pooling != "first":
        return 'their classifiers read the first token (pooling="first")'
    if config.head_dim not in (None, config.hidden_size // config.num_attention_heads):
        return "their head_dim is hidden_size / num_attention_heads"
    scaled = not math.isclose(config.embedding_scale, 1)
    if scaled or config.dropout_before_norm or config.attention == "bigbird":
        if not config.dropout_before_norm:
            return "their BigBird drops out before it normalises the embedding (dropout_before_norm=True)"
        if config.attention == "longformer":
            return "their Longformer neither scales its embedding nor drops out before the norm"
        if config.head_activation != config.hidden_act:
            return f"the head of their BigBird has the activation of its blocks ({config.hidden_act})"
        if scaled and not math.isclose(config.embedding_scale, math.sqrt(config.hidden_size)):
            return "their BigBird scales the embedding by the root of hidden_size or not at all"
        return FAMILIES["big_bird"]
    if config.position_offset and pad_token_id not in (None, config.position_offset - 1):
        return (
            f"their RoBERTa and Longformer count positions from behind the padding token's id, here {pad_token_id}, "
            f"and the model from {config.position_offset}"
        )
    if config.head_activation != "tanh":
        return "the head of their model is dense + tanh + linear"
    if config.attention == "longformer":
        if config.options.global_tokens != "first":
            return "the classifier of their Longformer makes the first token global, and no other"
        if config.position_offset == 0 and pad_token_id is None:
            return "their Longformer counts positions from the padding token's id, which is not known"
        return FAMILIES["longformer"]
    if config.position_offset:
        return FAMILIES[source if source in ("xlm-roberta", "camembert") else "roberta"]
    return FAMILIES["bert"]


def first_position(family: Family, config: ClassifierConfig, pad_token_id: int | None) -> int:
    """The row of the position table that a text's first token has in this family's files."""
    if not family.counts_from_padding:
        return 0
    return config.position_offset or (pad_token_id or 0) + 1


def config_for(family: Family, config: ClassifierConfig, token_ids: Mapping[str, int]) -> dict[str, Any]:
    """The inverse of `settings_from`: what their config.json says, labels apart."""
    start = first_position(family, config, token_ids.get("pad_token_id"))
    hf: dict[str, Any] = {
        "architectures": [family.architecture],
        "model_type": family.model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.width_of_intermediate,
        "hidden_act": THEIR_ACTIVATION[config.hidden_act],
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "classifier_dropout": config.classifier_dropout,
        "max_position_embeddings": config.max_length + start,
        "type_vocab_size": max(1, config.type_vocab_size),
        "layer_norm_eps": config.layer_norm_eps,
        "initializer_range": config.initializer_range,
    } | dict(token_ids)
    if family.counts_from_padding:
        hf["pad_token_id"] = start - 1
    if config.attention == "longformer":
        windows = config.options.attention_window
        hf["attention_window"] = list(windows) if isinstance(windows, tuple) else [windows] * config.num_hidden_layers
    if family.model_type == "big_bird":
        hf["attention_type"] = "block_sparse" if config.attention == "bigbird" else "original_full"
        hf["rescale_embeddings"] = not math.isclose(config.embedding_scale, 1)
        hf["use_bias"] = True
        if config.attention == "bigbird":
            hf |= {name: getattr(config.options, name) for name in ("block_size", "num_random_blocks")}
    flat = config.to_dict()
    hf["longread"] = {name: flat[name] for name in EXTRAS if name in flat}
    return hf


def other_architecture(hf: Mapping[str, Any]) -> str | None:
    """The class that transformers had of a checkpoint, where that is no text classifier."""
    names = [str(name) for name in hf.get("architectures") or ()]
    return None if any(name.endswith("ForSequenceClassification") for name in names) else next(iter(names), None)


def ignored(key: str) -> bool:
    return any(re.fullmatch(pattern, key) for pattern in IGNORED)
