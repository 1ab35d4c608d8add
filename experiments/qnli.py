"""QNLI, fine-tuned from one small pretrained encoder: question and sentence in one row, some 50 tokens.

Run:     python experiments/run.py qnli --data-dir DIR
Expect:  dense at .86 or more on the 5,463 validation pairs, Longformer and BigBird within .015, Linformer and Performer
         within .03. About 30 minutes a mechanism on one core.
Caveat:  the weights have seen SQuAD questions before (experiments/minilm.py).
"""

from __future__ import annotations

from experiments.minilm import INIT, each_mechanism
from longread.config import RunConfig

BASE = RunConfig(
    task="qnli", init=INIT, pooling="mean", batch_size=32, learning_rate=1e-4, epochs=2,
    precision="bfloat16", threads=1,
)  # fmt: skip


def configs() -> list[RunConfig]:
    return each_mechanism(BASE)
