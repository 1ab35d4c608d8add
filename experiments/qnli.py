"""QNLI, fine-tuned from one small pretrained encoder: question and sentence in one row, some 50 tokens.

Run:     python experiments/run.py qnli --data-dir DIR
Expect:  dense at .86 or more on the 5,463 validation pairs, Longformer and BigBird within .015, Linformer and Performer
         within .03, with all 26,584 training rows. Here it is 16,000 of them, for the sake of time.
Caveat:  the weights have seen SQuAD questions before (experiments/minilm.py).
"""

from __future__ import annotations

from experiments.minilm import INIT, each_mechanism
from longread.config import RunConfig

BASE = RunConfig(
    task="qnli", init=INIT, pooling="mean", batch_size=64, learning_rate=1e-4, epochs=1, train_rows=16_000,
    precision="bfloat16", threads=1,
)  # fmt: skip


def configs() -> list[RunConfig]:
    return each_mechanism(BASE)
