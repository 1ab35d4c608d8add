"""IMDB, fine-tuned from one small pretrained encoder on 10,000 reviews, evaluated on 5,000 (imdb_pretrained.py: fewer).

Run:     python experiments/run.py imdb_more_rows --data-dir DIR
Expect:  dense, cut at 512 tokens, at .91; Longformer and BigBird at 2,048 tokens at least .003 above it. Default sizes.
         One to two hours a mechanism on one core. Performer and Linformer with a teacher: imdb_repaired.py.
Settings are imdb_pretrained.py's but for Linformer's projections; the rows differ. Dense stayed .0012 below .91 and had
a second epoch: from its own checkpoint, at half the rate.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.imdb_pretrained import BASE as FEWER
from longread.config import RunConfig

BASE = replace(FEWER, train_rows=10_000, eval_rows=5_000)
# Where this study's first run leaves its weights.
DENSE = "results/imdb-more-rows/runs/827561218026e137/checkpoint"


def configs() -> list[RunConfig]:
    long = replace(BASE, max_length=2048)
    dense = replace(BASE, attention="dense", max_length=512)
    return [
        dense,
        replace(dense, init=DENSE, learning_rate=5e-5),
        *(replace(long, attention=name) for name in ("longformer", "bigbird")),
        # The classifier ten times as fast as the rest, the projections not: imdb_pretrained_settings.py.
        replace(long, attention="linformer", new_weights_rate=10.0, projection_rate=0.1),
    ]
