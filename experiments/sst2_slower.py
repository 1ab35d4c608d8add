"""SST-2 with half the learning rate and half the batch of experiments/sst2.py: does slower learning carry further?

Run:     python experiments/run.py sst2_slower --data-dir DIR
Expect:  dense at .905 or more, the others nearer to it; Linformer's projections learn ten times as fast as the rest.
         About 15 minutes an epoch and mechanism on one core.
Chosen:  on no rows of this task. Rate, batch and epochs are those with which the same weights, fine-tuned densely with
         transformers, had reached .904; Linformer's rate is qnli_settings.py's.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.minilm import each_mechanism
from experiments.sst2 import BASE
from longread.config import RunConfig

SLOWER = replace(BASE, batch_size=64, learning_rate=5e-5)


def configs() -> list[RunConfig]:
    return each_mechanism(SLOWER)
