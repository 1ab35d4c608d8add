"""IMDB from scratch, depth 1, 2 and 3: do deeper models do worse, as the older study found?

Run:     python experiments/run.py imdb_scratch --data-dir DIR
Expect:  .85 or more at every depth, the epoch chosen on a tenth of the training rows; the linear baselines above that.
         Depth 1 takes 5 to 17 minutes on one core, depth 3 three times that. Of depth 1 alone there are records so far.
"""

from __future__ import annotations

from dataclasses import replace

from longread.config import BASELINES, RunConfig

BASE = RunConfig(
    task="imdb", num_hidden_layers=1, hidden_size=64, num_attention_heads=4, train_rows=10_000, eval_rows=5_000,
    batch_size=128, learning_rate=1e-4, epochs=10, max_length=4096, choose_epoch="best", patience=2,
    schedule="constant", warmup_fraction=0.02, dropout=0.2, embedding_dropout=0.3, token_dropout=0.2,
    vocab_size=16_000, threads=1,
)  # fmt: skip


def configs() -> list[RunConfig]:
    first = [replace(BASE, attention=name) for name in ("dense", "longformer", "bigbird", "performer", "linformer")]
    deeper = [
        replace(BASE, attention=name, num_hidden_layers=depth)
        for depth in (2, 3)
        for name in ("linformer", "performer")
    ]
    return [*(replace(BASE, attention=name) for name in BASELINES), *first, *deeper]
