"""QNLI, fine-tuned from one small pretrained encoder: question and sentence in one row, some 50 tokens.

Run:     python experiments/run.py qnli --data-dir DIR --only dense longformer bigbird linformer
         longread convert results/qnli/runs/DENSE/checkpoint --attention performer --num-features 64 \\
             --repair-task qnli --repair-minutes 10 --repair-learning-rate 3e-4 --threads 1 --data-dir DIR \\
             --out out/qnli-performer-64
         python experiments/run.py qnli --data-dir DIR --only performer
Expect:  dense at .86 or more on the 5,463 validation pairs, Longformer and BigBird within .015, Linformer and Performer
         within .03. About 30 minutes a mechanism on one core.
Performer, converted as it is, hardly learns from these rows (qnli_settings.py). It is first taught to follow the dense
encoder that this study fine-tuned, and then fine-tuned itself, for one epoch. DENSE is that run's folder.
Caveat:  the weights have seen SQuAD questions before (experiments/minilm.py).
"""

from __future__ import annotations

from dataclasses import replace

from experiments.minilm import INIT, PAIRS, each_mechanism
from longread.config import RunConfig

BASE = RunConfig(
    task="qnli", init=INIT, pooling="mean", batch_size=32, learning_rate=1e-4, epochs=2,
    precision="bfloat16", threads=1,
)  # fmt: skip


def configs() -> list[RunConfig]:
    return [
        replace(config, init="out/qnli-performer-64", epochs=1) if config.attention == "performer" else config
        for config in each_mechanism(BASE, sparse=PAIRS)
    ]
