"""IMDB, fine-tuned from one small pretrained encoder: do the tokens behind the 512th pay?

Run:     python experiments/run.py imdb_pretrained --data-dir DIR
Expect:  dense, cut at 512 tokens, at .91; Longformer and BigBird at 2,048 tokens a little above it. Default sizes.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.minilm import INIT
from longread.config import RunConfig

BASE = RunConfig(
    task="imdb", init=INIT, pooling="mean", batch_size=32, learning_rate=1e-4, epochs=1, train_rows=10_000,
    eval_rows=5_000, precision="bfloat16", threads=1,
)  # fmt: skip


def configs() -> list[RunConfig]:
    long = replace(BASE, max_length=2048)
    return [
        replace(BASE, attention="dense", max_length=512),
        *(replace(long, attention=name) for name in ("longformer", "bigbird", "linformer", "performer")),
    ]
