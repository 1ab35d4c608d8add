"""QQP, fine-tuned from one small pretrained encoder: are two questions the same?

Run:     python experiments/run.py qqp --data-dir DIR
Expect:  dense at .85 or more, Longformer and BigBird within .01, Linformer and Performer within .02; F1 beside it.
         Evaluated on 10,000 rows. About 30 minutes a mechanism on one core.
Caveat:  the weights have seen Quora's duplicates before (experiments/minilm.py), so these rows are not clean.
         The split is the data directory's own, not GLUE's.
"""

from __future__ import annotations

from experiments.minilm import INIT, PAIRS, each_mechanism
from longread.config import RunConfig

BASE = RunConfig(
    task="qqp", init=INIT, pooling="mean", batch_size=64, learning_rate=1e-4, epochs=1, train_rows=60_000,
    eval_rows=10_000, precision="bfloat16", threads=1,
)  # fmt: skip


def configs() -> list[RunConfig]:
    return each_mechanism(BASE, sparse=PAIRS)
