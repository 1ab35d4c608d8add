"""Why did deeper models do worse in the older study? Its classifier and its unused mask, one at a time, at two depths.

Run:     python experiments/run.py why_deeper --data-dir DIR
Expect:  the classifier over positions far below the mean of the tokens, and the more so the deeper the model.
The older study filled every review with padding up to 4,096 tokens, let attention see it, and put a linear layer over
positions behind. Here reviews are cut to 512 tokens, so that filled rows can be paid for; 3,000 reviews, four epochs.
Beside the four cells, for the mean of the tokens at depth 3: post-norm, learning rates, no warm-up.
"""

from __future__ import annotations

from dataclasses import replace

from longread.config import RunConfig

BASE = RunConfig(
    task="imdb", attention="linformer", hidden_size=64, num_attention_heads=4, train_rows=3_000, eval_rows=2_500,
    batch_size=32, learning_rate=5e-4, epochs=4, max_length=512, optimizer="adam", weight_decay=5e-4, dropout=0.0,
    vocab_size=16_000, pooling="mean",
)  # fmt: skip


def configs() -> list[RunConfig]:
    cells = [
        replace(BASE, num_hidden_layers=depth, pooling=pooling, fill_rows=filled)
        for pooling in ("positions", "mean")
        for filled in (True, False)
        for depth in (1, 3)
    ]
    deep = replace(BASE, num_hidden_layers=3)
    others = [
        replace(deep, norm_position="post"),
        replace(deep, learning_rate=1e-4),
        replace(deep, learning_rate=2e-3),
        replace(deep, warmup_fraction=0.0),
    ]
    performer = [replace(c, attention="performer") for c in cells if c.fill_rows == (c.pooling == "positions")]
    return [*cells, *others, *performer]
