"""Which settings for an encoder from scratch on IMDB? Chosen on rows held out of train, never on test rows.

Run:     python experiments/run.py imdb_settings --data-dir DIR
Expect:  half a point from folding Linformer's projections; a steadier loss from less embedding dropout.
10,000 training reviews, as many as in imdb_deeper.py, and 5,000 more of train to choose by: good to half a
point either way. One layer of Linformer at first, then three, and Performer.
"""

from __future__ import annotations

from dataclasses import replace

from longread.config import RunConfig

BASE = RunConfig(
    task="imdb", attention="linformer", num_hidden_layers=1, hidden_size=64, num_attention_heads=4, train_rows=15_000,
    selection_fraction=1 / 3, choose_epoch="best", eval_rows=500, batch_size=32, learning_rate=5e-4, epochs=5,
    max_length=4096, weight_decay=0.1, dropout=0.2, embedding_dropout=0.5, token_dropout=0.4, vocab_size=16_000,
    threads=1,
)  # fmt: skip


def configs() -> list[RunConfig]:
    folded = replace(BASE, projection_init="fold", projection_rate=0.1, embedding_dropout=0.1)
    return [
        BASE,
        replace(BASE, average_weights=0.99),
        replace(BASE, average_weights=0.99, label_smoothing=0.1),
        # The default of 128 slots has a million weights in its projections, more than all else but the embedding.
        replace(BASE, projection_size=32),
        replace(BASE, projection_size=256),
        # Projections that begin as sums of tokens, and learn slowly.
        replace(BASE, projection_init="fold", new_weights_rate=0.1),
        # With half of the embedding dropped the loss on held-out rows rises, the more so the deeper the model.
        *(replace(BASE, attention="performer", num_hidden_layers=d, embedding_dropout=0.1) for d in (1, 3)),
        *(replace(folded, num_hidden_layers=d) for d in (1, 3)),
    ]
