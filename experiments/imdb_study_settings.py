"""IMDB from scratch with the older study's own settings: what of its curves was the settings, and what the code?

Run:     python experiments/run.py imdb_study_settings --data-dir DIR
Expect:  above .8, where the older study's curves ended at .79 or lower; training accuracy near 1, since
         nothing hinders overfitting. 15 minutes a layer on one core.
Its rows (both halves put together), tokenizer, sizes, Adam, rate, decay, batch and epochs; no dropout. What differs is
the model: masks, rows as long as their text, the mean of the tokens in place of a layer over positions (why_deeper.py).
The epoch is the last, as there.
"""

from __future__ import annotations

from dataclasses import replace

from longread.config import RunConfig

BASE = RunConfig(
    task="imdb-pooled", tokenizer="allenai/longformer-base-4096", hidden_size=64, num_attention_heads=4,
    train_rows=10_000, eval_rows=5_000, max_length=4096, batch_size=128, learning_rate=1e-4, optimizer="adam",
    weight_decay=5e-4, schedule="constant", warmup_fraction=0.0, dropout=0.0, epochs=10,
)  # fmt: skip


def configs() -> list[RunConfig]:
    return [
        replace(BASE, attention=name, num_hidden_layers=depth)
        for depth in (1, 2, 3)
        for name in ("linformer", "performer")
    ]
