"""QQP with Performer and Linformer taught first, without dropout, to follow the fine-tuned dense encoder.

Run:     longread convert results/qqp/runs/DENSE/checkpoint --attention performer --num-features 64 --centred \\
             --learned-features --repair-task qqp --repair-rows 60000 --repair-minutes 20 --repair-learning-rate 3e-4 \\
             --batch-size 64 --precision bfloat16 --threads 1 --data-dir DIR --out out/qqp-repaired-performer
         the same with --attention linformer --projection-size 16 --repair-minutes 15 --out out/qqp-repaired-linformer
         both once more, for 45 and 35 minutes, --out out/qqp-repaired-performer-longer and -linformer-longer
         python experiments/run.py qqp_repaired --data-dir DIR
Expect:  both within .02 of dense, where a repair that dropped activations left them .038 and .035 behind (qqp.py).
DENSE is the folder of the dense run of qqp.py, which has seen the labels of 60,000 rows. The fine-tuning behind it is
short and slow: 20,000 of them, once, at half the rate; behind the longer teaching, all 60,000, because 20,000 of them
had left both a little more than .02 behind. The weights know Quora's duplicates (experiments/minilm.py).
"""

from __future__ import annotations

from dataclasses import replace

from experiments.minilm import SEEDS, SPARSE, TAUGHT
from experiments.qqp import BASE as LONGER
from longread.config import RunConfig

BASE = replace(LONGER, train_rows=20_000, learning_rate=5e-5)


def configs() -> list[RunConfig]:
    taught = [
        replace(BASE, attention="performer", init="out/qqp-repaired-performer", **TAUGHT),
        replace(BASE, attention="linformer", init="out/qqp-repaired-linformer", **SPARSE["linformer"]),
    ]
    longer = [replace(config, init=f"{config.init}-longer", train_rows=60_000) for config in taught]
    return [*(replace(config, seed=seed) for config in taught for seed in SEEDS), *longer]
