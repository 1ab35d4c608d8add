"""Why did deeper models do worse in the student study: its settings, its classifier, or its unused mask?

Run:     python experiments/run.py why_depth --data-dir DIR
Expect:  its classifier over positions far below the mean of the tokens, and the more so the deeper the model. With its
         own settings but this model above .8, where its curves ended at .79 or lower.
Parts:   (1) The student study filled every review with padding up to 4,096 tokens, let attention see it, and put a
         linear layer over positions behind. Both, one at a time, at two depths; reviews are cut to 512 tokens here, so
         that filled rows can be paid for; 3,000 reviews, four epochs. Beside the four cells, for the mean of the tokens
         at depth 3: post-norm, learning rates, no warm-up.
         (2) Its rows, tokenizer, sizes, Adam, rate, decay, batch and epochs, no dropout, the last epoch: what differs
         is the model (masks, rows as long as their text, the mean of the tokens). 15 minutes a layer on one core.
"""

from __future__ import annotations

from dataclasses import replace

from longread.config import RunConfig
from longread.study.chain import Step

RECORDS = ("why-deeper", "imdb-study-settings")
CUT = RunConfig(
    task="imdb", attention="linformer", hidden_size=64, num_attention_heads=4, train_rows=3_000, eval_rows=2_500,
    batch_size=32, learning_rate=5e-4, epochs=4, max_length=512, optimizer="adam", weight_decay=5e-4, dropout=0.0,
    vocab_size=16_000, pooling="mean",
)  # fmt: skip
THEIRS = RunConfig(
    task="imdb-pooled", tokenizer="allenai/longformer-base-4096", hidden_size=64, num_attention_heads=4,
    train_rows=10_000, eval_rows=5_000, max_length=4096, batch_size=128, learning_rate=1e-4, optimizer="adam",
    weight_decay=5e-4, schedule="constant", warmup_fraction=0.0, dropout=0.0, epochs=10,
)  # fmt: skip


def steps() -> list[Step]:
    return [Step(config) for config in (*classifier_and_mask(), *their_settings())]


def classifier_and_mask() -> list[RunConfig]:
    cells = [
        replace(CUT, num_hidden_layers=depth, pooling=pooling, fill_rows=filled)
        for pooling in ("positions", "mean")
        for filled in (True, False)
        for depth in (1, 3)
    ]
    deep = replace(CUT, num_hidden_layers=3)
    others = [
        replace(deep, norm_position="post"),
        replace(deep, learning_rate=1e-4),
        replace(deep, learning_rate=2e-3),
        replace(deep, warmup_fraction=0.0),
    ]
    performer = [replace(c, attention="performer") for c in cells if c.fill_rows == (c.pooling == "positions")]
    return [*cells, *others, *performer]


def their_settings() -> list[RunConfig]:
    mechanisms = ("linformer", "performer")
    return [replace(THEIRS, attention=name, num_hidden_layers=depth) for depth in (1, 2, 3) for name in mechanisms]
