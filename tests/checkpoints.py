"""Small random models in every shape that a checkpoint can have, and directories that hold one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from longread.data.tokenizer import train_tokenizer
from longread.models.checkpoint import save_pretrained
from longread.models.classifier import Classifier, build
from longread.models.weights import CHECKSUMS

SHAPE: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "max_length": 90,
    "layer_norm_eps": 1e-6, "dropout": 0.2, "attention_dropout": 0.15, "num_labels": 3,
    "label_names": ("bad", "so so", "good"),
}  # fmt: skip
POSTNORM: dict[str, Any] = SHAPE | {"norm_position": "post", "pooling": "first", "head_activation": "tanh"}
MODERN: dict[str, Any] = {
    "norm_position": "pre", "position_kind": "rotary", "gated": True, "first_attention_norm": False,
    "attention_bias": False, "norm_bias": False, "feed_forward_bias": False, "dropout_inside": True,
    "head_activation": "gelu", "head_norm": True, "head_bias": False, "layer_norm_eps": 1e-5,
}  # fmt: skip
# What transformers has a classifier for.
THEIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", {"type_vocab_size": 2}),
    "bert without token types": ("bert", {"type_vocab_size": 0, "hidden_act": "gelu_tanh"}),
    "roberta": ("roberta", {"position_offset": 2, "type_vocab_size": 1}),
    "roberta with padding first": ("roberta", {"position_offset": 1, "type_vocab_size": 2}),
    "longformer": (
        "longformer",
        {"attention": "longformer", "attention_window": (4, 8), "position_offset": 2, "type_vocab_size": 1},
    ),
    "big_bird": (
        "big_bird",
        {
            "attention": "bigbird", "block_size": 4, "num_random_blocks": 1, "random_block_plan": "huggingface",
            "dropout_before_norm": True, "head_activation": "gelu", "type_vocab_size": 2,
            "embedding_scale": 12**0.5,
        },
    ),
    "big_bird, dense": (
        "big_bird",
        {"dropout_before_norm": True, "head_activation": "relu", "hidden_act": "relu", "type_vocab_size": 2},
    ),
    "electra": ("electra", {"head_activation": "gelu", "type_vocab_size": 2, "embedding_size": 7}),
    "electra without token types": ("electra", {"head_activation": "gelu", "type_vocab_size": 0, "embedding_size": 7}),
    "electra as wide as its embedding": ("electra", {"head_activation": "gelu", "type_vocab_size": 2}),
    "distilbert": (
        "distilbert",
        {"head_activation": "relu", "hidden_act": "relu", "layer_norm_eps": 1e-12, "attention_output_dropout": 0.0},
    ),
    "mpnet": ("mpnet", {"position_offset": 2, "relative_buckets": 32}),
    "modernbert": (
        "modernbert",
        MODERN | {"attention": "dense local", "local_window": 8, "rotary_base": (50.0, 20.0), "pooling": "mean"},
    ),
    "modernbert of one layer": ("modernbert", MODERN | {"num_hidden_layers": 1, "rotary_base": 70.0}),
}  # fmt: skip
# What it has none for.
OURS: dict[str, dict[str, Any]] = {
    "pre-norm": SHAPE,
    "mean": POSTNORM | {"pooling": "mean"},
    "linear head": POSTNORM | {"head_activation": None},
    "wide heads": POSTNORM | {"head_dim": 10},
    "performer": POSTNORM | {"attention": "performer", "attention_dropout": 0.0, "num_features": 9, "redraw_steps": 5},
    "linformer": POSTNORM | {"attention": "linformer", "projection_size": 7, "embedding_dropout": 0.3},
    "windows": SHAPE | {"attention": "longformer", "attention_window": (4, 6)},
    "rotary with a post-norm": POSTNORM | {"position_kind": "rotary", "attention": "local longformer"},
    "rotary Linformer": POSTNORM | {"position_kind": "rotary", "attention": "linformer local", "projection_size": 7},
    "a bias in part": POSTNORM | {"relative_buckets": 8, "attention": "dense performer", "attention_dropout": 0.0},
    "biased Linformer": POSTNORM | {"relative_buckets": 8, "attention": "linformer", "projection_size": 7},
    "tanh BigBird": POSTNORM | {"attention": "bigbird", "block_size": 2, "dropout_before_norm": True},
}


def random_model(settings: dict[str, Any], seed: int = 0) -> Classifier:
    model = build(**(settings | {"seed": seed}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.4 + (0.5 if tensor.dim() == 1 else 0))
    return model.eval()


def batch(length: int = 61) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(4, 40, (2, length), generator=torch.Generator().manual_seed(3))
    return ids, torch.ones_like(ids, dtype=torch.bool)


def save_bert(directory: Path) -> Path:
    """A directory with a BERT classifier, without checksums as if another program had written it."""
    save_pretrained(random_model(POSTNORM | {"type_vocab_size": 2}), directory, layout="huggingface")
    (directory / CHECKSUMS).unlink()
    return directory


TALK = ["a", "long", "warm", "funny", "film", "that", "crashes", "at", "once", "and", "works", "so", "well"]


def save_with_tokenizer(
    directory: Path, attention: str, options: dict[str, Any], texts: list[str] | None = None, **config: Any
) -> Path:
    """A random classifier in our own layout, with a tokenizer made from `texts`; its logits are not all alike."""
    file = directory / "tokenizer.json"
    train_tokenizer(texts or [" ".join(TALK)] * 3, 300, True).save(file)
    shape = {"vocab_size": 300, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    model = build(attention, **(shape | options | config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4)
        if model.relative_bias is not None:  # zeros, as it begins
            torch.nn.init.normal_(model.relative_bias.weight, generator=torch.Generator().manual_seed(0))
    model.tokenizer_file = file
    save_pretrained(model, directory / "checkpoint", layout="longread")
    return directory / "checkpoint"


def rewrite(directory: Path, change: Any) -> None:
    """The weights again, each entry changed: (name, tensor) -> (name, tensor) or None."""
    (directory / CHECKSUMS).unlink(missing_ok=True)
    entries = [change(name, tensor.clone()) for name, tensor in load_file(directory / "model.safetensors").items()]
    save_file(dict(entry for entry in entries if entry), directory / "model.safetensors")


def edit(directory: Path, **keys: Any) -> None:
    (directory / CHECKSUMS).unlink(missing_ok=True)
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


WORDS = ["The", "film", "was", "fine", "Fine", "and", "FINE", "a", "warm", "Café", "on", "the", "hill", *".,!:bcdeil"]


OF_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# The tokenizer's class and its special tokens, padding where the family's models have it.
WORD_PIECES = {
    "bert": ("BertTokenizer", OF_BERT),
    "electra": ("BertTokenizer", OF_BERT),
    "distilbert": ("DistilBertTokenizer", OF_BERT),
    "mpnet": ("MPNetTokenizer", ("<s>", "<pad>", "</s>", "[UNK]", "<mask>")),
}


def save_tokenizer(family: str, directory: Path, **told: Any) -> None:
    """A small tokenizer of the family's own class, written by transformers."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    if family in WORD_PIECES:
        name, special = WORD_PIECES[family]
        pieces = [*special, *WORDS, *(f"##{w}" for w in WORDS), "film", "cafe"]
        made = getattr(transformers, name)({piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, **told)
    elif family == "big_bird":
        special = ["<pad>", "</s>", "<s>", "<unk>", "[SEP]", "[MASK]", "[CLS]"]
        scores = [(piece, 0.0) for piece in special] + [(f"▁{w}", -3.0 - len(w) / 9) for w in WORDS]
        scores += [(w, -6.0) for w in WORDS] + [("▁", -2.0)]
        made = transformers.BigBirdTokenizer(scores, **told)
    else:
        special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        inner = Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
        inner.train_from_iterator([" ".join(WORDS)] * 3, trainer)
        model = json.loads(inner.to_str())["model"]
        made = transformers.RobertaTokenizer(model["vocab"], [tuple(pair) for pair in model["merges"]], **told)
    made.save_pretrained(directory)
