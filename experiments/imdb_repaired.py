"""IMDB with Performer and Linformer taught first, on the training texts, to follow the fine-tuned dense encoder.

Run:     longread convert results/imdb-more-rows/runs/DENSE/checkpoint --attention performer --max-length 2048 \\
             --centred --learned-features --repair-task imdb --repair-minutes 20 --repair-learning-rate 3e-4 \\
             --batch-size 16 --precision bfloat16 --threads 1 --data-dir DIR --out out/imdb-repaired-performer
         the same with --attention linformer --repair-minutes 10 --out out/imdb-repaired-linformer
         the last once more, for 60 minutes, --out out/imdb-repaired-linformer-longer
         python experiments/run.py imdb_repaired --data-dir DIR
Expect:  Performer at .89, Linformer at .885 on the 5,000 reviews of imdb_more_rows.py; default sizes, 2,048 tokens.
DENSE is the folder of the dense run of imdb_more_rows.py, which has seen the labels of 10,000 reviews. The fine-tuning
that follows is slow: 5,000 of them (Linformer: 4,000), once, at half the rate. A second Performer and the
Linformer that was taught for longer had all 10,000.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.imdb_more_rows import BASE as MORE
from longread.config import RunConfig

BASE = replace(MORE, max_length=2048, train_rows=5_000, learning_rate=5e-5)


def configs() -> list[RunConfig]:
    performer = replace(
        BASE, attention="performer", init="out/imdb-repaired-performer", centred=True, learned_features=True
    )
    linformer = replace(BASE, attention="linformer", init="out/imdb-repaired-linformer")
    return [
        performer,
        replace(performer, train_rows=10_000),
        replace(linformer, train_rows=4_000),
        replace(linformer, init="out/imdb-repaired-linformer-longer", train_rows=10_000),
    ]
