"""QQP, fine-tuned from one small pretrained encoder: are two questions the same?

Run:     python experiments/run.py qqp --data-dir DIR --only dense longformer bigbird linformer
         longread convert results/qqp/runs/DENSE/checkpoint --attention performer --num-features 64 --centred \
             --learned-features --repair-task qqp --repair-rows 60000 --repair-minutes 10 \
             --repair-learning-rate 3e-4 --batch-size 64 --precision bfloat16 --threads 1 --data-dir DIR \
             --out out/qqp-performer-64
         the same with --attention linformer --projection-size 16 --repair-minutes 8 --out out/qqp-linformer-16
         python experiments/run.py qqp --data-dir DIR --only performer linformer
Expect:  dense at .85 or more, Longformer and BigBird within .01, Linformer and Performer within .02; F1 beside it.
         Evaluated on 10,000 rows. About 30 minutes a mechanism on one core.
Performer is first taught to follow the dense encoder that this study fine-tuned (DENSE is that run's folder), with
centred and learned features, and then fine-tuned itself: on 30,000 of the rows, for the sake of time. Linformer has a
second row that came the same way, with 10,000 of them.
Caveat:  the weights have seen Quora's duplicates before (experiments/minilm.py), so these rows are not clean.
         The split is the data directory's own, not GLUE's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiments.minilm import INIT, PAIRS, TAUGHT, each_mechanism
from longread.config import RunConfig

BASE = RunConfig(
    task="qqp", init=INIT, pooling="mean", batch_size=64, learning_rate=1e-4, epochs=1, train_rows=60_000,
    eval_rows=10_000, precision="bfloat16", threads=1,
)  # fmt: skip


PERFORMER: dict[str, Any] = TAUGHT | {"init": "out/qqp-performer-64", "train_rows": 30_000}


def configs() -> list[RunConfig]:
    as_converted = [
        replace(config, **PERFORMER) if config.attention == "performer" else config
        for config in each_mechanism(BASE, sparse=PAIRS)
    ]
    linformer = next(config for config in as_converted if config.attention == "linformer")
    return [*as_converted, replace(linformer, init="out/qqp-linformer-16", train_rows=10_000)]
