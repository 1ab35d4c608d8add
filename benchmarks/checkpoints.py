"""One set of random weights in Hugging Face's layout, for both sides of a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.parts import Row

BERT: dict[str, Any] = {"norm_position": "post", "pooling": "first", "head_activation": "tanh"}
# What config.json says of each architecture, sizes apart.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "bert": BERT | {"type_vocab_size": 2},
    "roberta": BERT | {"type_vocab_size": 1, "position_offset": 2},
    "longformer": BERT | {"type_vocab_size": 1, "position_offset": 2, "attention_window": 512},
    "bigbird": BERT | {"type_vocab_size": 2, "head_activation": "gelu", "dropout_before_norm": True, "block_size": 64,
                       "num_random_blocks": 3},
    "mpnet": BERT | {"position_offset": 2, "relative_buckets": 32, "relative_max_distance": 128},
    "modernbert": {"norm_position": "pre", "first_attention_norm": False, "position_kind": "rotary",
                   "rotary_base": (160_000.0, 10_000.0, 10_000.0), "local_window": 128, "gated": True,
                   "attention_bias": False, "feed_forward_bias": False, "norm_bias": False, "head_bias": False,
                   "head_norm": True, "head_activation": "gelu", "pooling": "mean", "dropout_inside": True},
}  # fmt: skip


def make_checkpoint(row: Row, folder: Path) -> Path | None:
    """None where a peer has another model."""
    if row.peer != "transformers":
        return None
    from longread.models.checkpoint import save_pretrained
    from longread.models.classifier import build
    from longread.models.weights import CHECKSUMS

    sizes = {"vocab_size": row.vocab_size, "max_length": row.max_length}
    model = build(row.attention, **sizes, **row.shape, **ARCHITECTURES[row.architecture])
    directory = folder / "checkpoint"
    save_pretrained(model, directory, layout="huggingface")
    path = directory / "config.json"
    settings = json.loads(path.read_text())
    if "attention_probs_dropout_prob" in settings:
        settings |= {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.1}
    if row.architecture == "modernbert":
        settings |= {"embedding_dropout": 0.1, "mlp_dropout": 0.1}
    if row.attention == "bigbird":
        settings["attention_type"] = "block_sparse"
    path.write_text(json.dumps(settings))
    (directory / CHECKSUMS).unlink()  # the change is meant
    return directory
