"""QNLI with Performer and Linformer taught first, on the training texts, to follow the fine-tuned dense encoder.

Run:     longread convert results/qnli/runs/DENSE/checkpoint --attention performer --num-features 64 --centred \\
             --learned-features --repair-task qnli --repair-minutes 20 --repair-learning-rate 3e-4 --batch-size 64 \\
             --precision bfloat16 --threads 1 --data-dir DIR --out out/qnli-performer-64-centred
         the same with --attention linformer --projection-size 16 --repair-minutes 10 --out out/qnli-linformer-16
         python experiments/run.py qnli_repaired --data-dir DIR
Expect:  nearer to dense than in qnli.py, where ten minutes taught plain features (.765) and nobody Linformer (.792).
DENSE is the folder of the dense run of qnli.py, which has seen the labels. The fine-tuning that follows is short: 8,000
of the rows, once.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.minilm import SPARSE, TAUGHT
from experiments.qnli import BASE as LONGER
from longread.config import RunConfig

BASE = replace(LONGER, epochs=1, train_rows=8_000)


def configs() -> list[RunConfig]:
    return [
        replace(BASE, attention="performer", init="out/qnli-performer-64-centred", **TAUGHT),
        replace(BASE, attention="linformer", init="out/qnli-linformer-16", **SPARSE["linformer"]),
    ]
