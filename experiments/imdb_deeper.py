"""IMDB from scratch on its official halves, with settings that learn faster: do deeper models do worse?

Run:     python experiments/run.py imdb_deeper --data-dir DIR
Expect:  about .85 at each depth; one seed (three, on rows drawn from both halves: imdb_study_rows.py).
Sizes and rows are the older study's (width 64, 4 heads, 10,000 reviews, 4,096 tokens); learning rate, batch and what
hinders overfitting are not. They were chosen on rows held out of train: first as LOG.md tells, then again in
imdb_settings.py, so that each model is here twice. Other mechanisms, at one layer, and the linear models stand beside.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from longread.config import BASELINES, RunConfig

BASE = RunConfig(
    task="imdb", num_hidden_layers=1, hidden_size=64, num_attention_heads=4, train_rows=10_000, eval_rows=5_000,
    batch_size=32, learning_rate=5e-4, epochs=5, max_length=4096, choose_epoch="best", weight_decay=0.1, dropout=0.2,
    embedding_dropout=0.5, token_dropout=0.4, vocab_size=16_000,
)  # fmt: skip
LINFORMER: dict[str, Any] = {"projection_init": "fold", "projection_rate": 0.1}


def configs() -> list[RunConfig]:
    deeper = [
        replace(BASE, attention=name, num_hidden_layers=depth)
        for name in ("linformer", "performer")
        for depth in (1, 2, 3)
    ]
    again = [
        replace(config, embedding_dropout=0.1, **(LINFORMER if config.attention == "linformer" else {}))
        for config in deeper
    ]
    beside = [replace(BASE, attention=name) for name in (*BASELINES, "dense", "longformer", "bigbird")]
    return [*beside, *deeper, *again]
