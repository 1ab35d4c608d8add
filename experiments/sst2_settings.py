"""Which learning rate and pooling for SST-2? Chosen by accuracy on rows held out of train, never on validation.

Run:     python experiments/run.py sst2_settings --data-dir DIR
Expect:  the mean of the tokens, which these weights were trained with, at least as good as the first token.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.minilm import INIT
from longread.config import RunConfig

BASE = RunConfig(
    task="sst2", init=INIT, train_rows=13_400, batch_size=64, epochs=2, choose_epoch="best", precision="bfloat16",
    threads=1,
)  # fmt: skip


def configs() -> list[RunConfig]:
    return [
        replace(BASE, pooling="mean", learning_rate=1e-4),
        replace(BASE, pooling="first", learning_rate=1e-4),
        replace(BASE, pooling="mean", learning_rate=5e-5),
        replace(BASE, pooling="mean", learning_rate=2e-4),
    ]
