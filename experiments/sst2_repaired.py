"""SST-2 with Linformer and Performer taught first, on the training texts, to follow the fine-tuned dense encoder.

Run:     longread convert results/sst2-slower/runs/DENSE/checkpoint --attention performer --num-features 64 --centred \\
             --learned-features --repair-task sst2 --repair-minutes 20 --repair-learning-rate 3e-4 --batch-size 64 \\
             --precision bfloat16 --threads 1 --data-dir DIR --out out/sst2-performer-64
         the same with --attention linformer --projection-size 16 --out out/sst2-linformer-16
         python experiments/run.py sst2_repaired --data-dir DIR
Expect:  within .02 of dense (sst2_slower.py), where the same fine-tuning without a teacher stays behind.
DENSE is the folder of the dense run of sst2_slower.py, which has seen the labels. The fine-tuning that follows is
short: 20,000 of the rows, once.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.minilm import SPARSE, TAUGHT
from experiments.sst2_slower import SLOWER
from longread.config import RunConfig

BASE = replace(SLOWER, epochs=1, train_rows=20_000)


def configs() -> list[RunConfig]:
    return [
        replace(BASE, attention="performer", init="out/sst2-performer-64", **TAUGHT),
        replace(BASE, attention="linformer", init="out/sst2-linformer-16", **SPARSE["linformer"]),
    ]
