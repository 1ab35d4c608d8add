"""Which Hugging Face checkpoints are understood: one literal table of names per family.

A name in a table is a module's; it stands for its `weight` and `bias`. `{layer}` runs over the layers. What their
config.json means is in `family_config`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

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
MASKED_HEAD = "masked_head."  # our names of what only masked-language modelling has
# Heads of masked-language modelling; "masked_head" itself has the bias of the decoder, which is the word embedding.
BERT_MASKED = {
    "cls.predictions": "masked_head",
    "cls.predictions.transform.dense": "masked_head.dense",
    "cls.predictions.transform.LayerNorm": "masked_head.norm",
}
ROBERTA_MASKED = {
    "lm_head": "masked_head",
    "lm_head.dense": "masked_head.dense",
    "lm_head.layer_norm": "masked_head.norm",
}
ELECTRA_MASKED = {
    "generator_lm_head": "masked_head",
    "generator_predictions.dense": "masked_head.dense",
    "generator_predictions.LayerNorm": "masked_head.norm",
}
DISTILBERT_MASKED = {
    "vocab_projector": "masked_head",
    "vocab_transform": "masked_head.dense",
    "vocab_layer_norm": "masked_head.norm",
}
# ModernBERT's classifier has these dense layer and norm, too.
MODERNBERT_MASKED = {"decoder": "masked_head", "head.dense": "masked_head.dense", "head.norm": "masked_head.norm"}
DENSE_HEAD = {"classifier.dense": "head.dense", "classifier.out_proj": "head.classifier"}

# ELECTRA's embedding may be narrower than its layers.
ELECTRA = BODY | {"embeddings_project": "embeddings.project"}
DISTILBERT = {
    "embeddings.word_embeddings": "embeddings.word",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.LayerNorm": "embeddings.norm",
    "transformer.layer.{layer}.attention.q_lin": "blocks.{layer}.attention.query",
    "transformer.layer.{layer}.attention.k_lin": "blocks.{layer}.attention.key",
    "transformer.layer.{layer}.attention.v_lin": "blocks.{layer}.attention.value",
    "transformer.layer.{layer}.attention.out_lin": "blocks.{layer}.attention.output",
    "transformer.layer.{layer}.sa_layer_norm": "blocks.{layer}.attention_norm",
    "transformer.layer.{layer}.ffn.lin1": "blocks.{layer}.up",
    "transformer.layer.{layer}.ffn.lin2": "blocks.{layer}.down",
    "transformer.layer.{layer}.output_layer_norm": "blocks.{layer}.output_norm",
}
DISTILBERT_HEAD = {"pre_classifier": "head.dense", "classifier": "head.classifier"}

MPNET = {
    "embeddings.word_embeddings": "embeddings.word",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.LayerNorm": "embeddings.norm",
    "encoder.relative_attention_bias": "relative_bias",
    "encoder.layer.{layer}.attention.attn.q": "blocks.{layer}.attention.query",
    "encoder.layer.{layer}.attention.attn.k": "blocks.{layer}.attention.key",
    "encoder.layer.{layer}.attention.attn.v": "blocks.{layer}.attention.value",
    "encoder.layer.{layer}.attention.attn.o": "blocks.{layer}.attention.output",
    "encoder.layer.{layer}.attention.LayerNorm": "blocks.{layer}.attention_norm",
    "encoder.layer.{layer}.intermediate.dense": "blocks.{layer}.up",
    "encoder.layer.{layer}.output.dense": "blocks.{layer}.down",
    "encoder.layer.{layer}.output.LayerNorm": "blocks.{layer}.output_norm",
}
MODERNBERT = {
    "embeddings.tok_embeddings": "embeddings.word",
    "embeddings.norm": "embeddings.norm",
    "layers.{layer}.attn_norm": "blocks.{layer}.attention_norm",
    "layers.{layer}.attn.query": "blocks.{layer}.attention.query",
    "layers.{layer}.attn.key": "blocks.{layer}.attention.key",
    "layers.{layer}.attn.value": "blocks.{layer}.attention.value",
    "layers.{layer}.attn.Wo": "blocks.{layer}.attention.output",
    "layers.{layer}.mlp_norm": "blocks.{layer}.output_norm",
    "layers.{layer}.mlp.Wi": "blocks.{layer}.up",
    "layers.{layer}.mlp.Wo": "blocks.{layer}.down",
    "final_norm": "final_norm",
}
MODERNBERT_HEAD = {"head.dense": "head.dense", "head.norm": "head.norm", "classifier": "head.classifier"}
# One module of theirs whose rows are those of several names in a table, one below the other.
FUSED = {"attn.Wqkv": ("attn.query", "attn.key", "attn.value")}

# Heads of pretraining, poolers that the classifier does not use, and buffers that old versions stored.
IGNORED = (
    r"cls\..*",
    r"lm_head\..*",
    r"(discriminator_predictions|generator_predictions|generator_lm_head)\..*",  # ELECTRA
    r"decoder\..*",  # ModernBERT
    r"vocab_(transform|layer_norm|projector)\..*",  # DistilBERT
    r"(.*\.)?pooler\..*",
    r"sequence_summary\..*",  # ELECTRA's, for multiple choice
    r"(.*\.)?embeddings\.(position_ids|token_type_ids)",
)
# Classifiers of tokens or answers, in checkpoints whose architecture is not that of a text classifier.
OTHER_HEADS = ("classifier.", "qa_outputs.")
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


@dataclass(frozen=True)
class Family:
    """`body` lies below `prefix`, `head` and `masked` beside it.

    counts_from_padding: positions start behind the padding id's, which is padding_id whatever config.json says, unless
    that is None.
    """

    model_type: str
    prefix: str
    architecture: str
    body: Mapping[str, str]
    head: Mapping[str, str]
    masked: Mapping[str, str]
    counts_from_padding: bool = False
    padding_id: int | None = None
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def names(self, parameters: Iterable[str], num_hidden_layers: int) -> dict[str, str]:
        """Our parameter name -> Hugging Face's, for all of `parameters` that the tables know."""
        table = {}
        tables = [(f"{self.prefix}.", self.body), ("", self.head), ("", self.masked)]
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
        below = {name.partition(".")[0] for name in self.body} | {"pooler"}
        return f"{self.prefix}.{key}" if key.partition(".")[0] in below else key

    def split(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A file's tensors with each fused module as its parts, under the names of the table."""
        found = {}
        for key, tensor in tensors.items():
            parts = next(((whole, own) for whole, own in self.fused.items() if f".{whole}." in f".{key}"), None)
            if parts is None or not tensor.dim():
                found[key] = tensor
                continue
            whole, own = parts
            for name, part in zip(own, tensor.tensor_split(len(own)), strict=True):
                found[key.replace(whole, name)] = part.clone()
        return found

    def in_file(self, key: str) -> str:
        """The file's key of what a key of the table names, alone or as a part."""
        for whole, own in self.fused.items():
            for name in own:
                key = key.replace(name, whole)
        return key

    def fuse(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of `split`."""
        found = dict(tensors)
        for whole, own in self.fused.items():
            for key in [key for key in found if own[0] in key]:
                parts = [found.pop(key.replace(own[0], name)) for name in own]
                found[key.replace(own[0], whole)] = torch.cat(parts)
        return found

    @property
    def masked_architecture(self) -> str:
        """transformers' class that has the head of masked-language modelling."""
        return self.architecture.replace("ForSequenceClassification", "ForMaskedLM")

    @property
    def has_token_types(self) -> bool:
        return "embeddings.token_type" in self.body.values()

    def first_position(self, pad_token_id: int | None) -> int:
        """The row of the position table that a text's first token has. pad_token_id None: not known, taken for 0."""
        padding = (pad_token_id or 0) if self.padding_id is None else self.padding_id
        return padding + 1 if self.counts_from_padding else 0


FAMILIES = {
    family.model_type: family
    for family in (
        Family(
            "bert",
            "bert",
            "BertForSequenceClassification",
            BODY | {"pooler.dense": "head.dense"},
            POOLED_HEAD,
            BERT_MASKED,
        ),
        Family("roberta", "roberta", "RobertaForSequenceClassification", BODY, DENSE_HEAD, ROBERTA_MASKED, True),
        # RoBERTa in all but their tokenizers.
        Family("xlm-roberta", "roberta", "XLMRobertaForSequenceClassification", BODY, DENSE_HEAD, ROBERTA_MASKED, True),
        Family("camembert", "roberta", "CamembertForSequenceClassification", BODY, DENSE_HEAD, ROBERTA_MASKED, True),
        Family(
            "longformer",
            "longformer",
            "LongformerForSequenceClassification",
            BODY | GLOBAL,
            DENSE_HEAD,
            ROBERTA_MASKED,
            True,
        ),
        Family("big_bird", "bert", "BigBirdForSequenceClassification", BODY, DENSE_HEAD, BERT_MASKED),
        Family("electra", "electra", "ElectraForSequenceClassification", ELECTRA, DENSE_HEAD, ELECTRA_MASKED),
        Family(
            "distilbert",
            "distilbert",
            "DistilBertForSequenceClassification",
            DISTILBERT,
            DISTILBERT_HEAD,
            DISTILBERT_MASKED,
        ),
        Family(
            "mpnet", "mpnet", "MPNetForSequenceClassification", MPNET, DENSE_HEAD, ROBERTA_MASKED, True, padding_id=1
        ),
        Family(
            "modernbert",
            "model",
            "ModernBertForSequenceClassification",
            MODERNBERT,
            MODERNBERT_HEAD,
            MODERNBERT_MASKED,
            fused=FUSED,
        ),
    )
}


# Why what people ask for is not read.
NOT_READ = {
    "albert": "its layers share one set of weights",
    "deberta": "its attention scores content and position apart",
    "deberta-v2": "its attention scores content and position apart",
}


def unknown(model_type: object) -> str:
    """Why a checkpoint of this model_type is not read, and which are."""
    why = NOT_READ.get(str(model_type))
    told = f" ({why}; it can be neither trained nor converted)" if why else ""
    return (
        f"model_type is {model_type!r}{told}; longread reads encoders of type {', '.join((*FAMILIES, 'longread'))} "
        "and no others"
    )


def other_architecture(hf: Mapping[str, Any]) -> str | None:
    """The class that transformers had of a checkpoint, where that is no text classifier."""
    told = hf.get("architectures")
    names = [str(name) for name in told] if isinstance(told, list) else []
    return None if any(name.endswith("ForSequenceClassification") for name in names) else next(iter(names), None)


def ignored(key: str) -> bool:
    return any(re.fullmatch(pattern, key) for pattern in IGNORED)
