"""IMDB, fine-tuned from one small pretrained encoder: do the tokens behind the 512th pay?

Run:     python experiments/run.py imdb_pretrained --data-dir DIR --only dense longformer bigbird linformer
         longread convert results/imdb-pretrained/runs/DENSE/checkpoint --attention performer --max-length 2048 \\
             --repair-task imdb --repair-minutes 10 --repair-learning-rate 3e-4 --threads 1 --data-dir DIR \\
             --out out/imdb-performer
         python experiments/run.py imdb_pretrained --data-dir DIR --only performer
Expect:  dense, cut at 512 tokens, at .91; Longformer and BigBird at 2,048 tokens a little above it. Default sizes.
         About 20 minutes a mechanism on one core. The goals are for 10,000 training and 5,000 test reviews; here it is
         2,500 and 2,000, for the sake of time.
Performer is first taught to follow the dense encoder that this study fine-tuned (DENSE: that run's folder), as on QNLI.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.minilm import INIT
from longread.config import RunConfig

BASE = RunConfig(
    task="imdb", init=INIT, pooling="mean", batch_size=16, learning_rate=1e-4, epochs=1, train_rows=2_500,
    eval_rows=2_000, precision="bfloat16", threads=1,
)  # fmt: skip


def configs() -> list[RunConfig]:
    long = replace(BASE, max_length=2048)
    return [
        replace(BASE, attention="dense", max_length=512),
        *(replace(long, attention=name) for name in ("longformer", "bigbird")),
        replace(long, attention="performer", init="out/imdb-performer"),
        # Linformer's projections learn faster, as chosen in qnli_settings.py.
        replace(long, attention="linformer", new_weights_rate=10.0),
    ]
