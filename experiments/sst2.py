"""SST-2, fine-tuned from one small pretrained encoder: does sparse attention cost accuracy on sentences?

Run:     python experiments/run.py sst2 --data-dir DIR
Expect:  dense at .905 or more on the 872 validation sentences, Longformer and BigBird within .01 of it, Linformer and
         Performer within .02. About 15 minutes an epoch and mechanism on one core.
Chosen:  learning rate and pooling by accuracy on a tenth of 13,400 training rows, at batch 64
         (experiments/sst2_settings.py; figures in LOG.md, no records kept).
"""

from __future__ import annotations

from dataclasses import replace

from experiments.minilm import INIT, each_mechanism
from longread.config import RunConfig

BASE = RunConfig(
    task="sst2",
    init=INIT,
    pooling="mean",
    batch_size=128,
    learning_rate=1e-4,
    epochs=2,
    precision="bfloat16",
    threads=1,
)


def configs() -> list[RunConfig]:
    # Linformer's faster projections (minilm.py) were found after these records; not repeated with them yet.
    return [replace(config, new_weights_rate=1.0) for config in each_mechanism(BASE)]
