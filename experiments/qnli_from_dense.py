"""QNLI: the dense encoder fine-tuned for longer, and Performer and Linformer taught to follow it before their own turn.

Run:     python experiments/run.py qnli_from_dense --data-dir DIR --only dense
         longread convert results/qnli-from-dense/runs/DENSE/checkpoint --attention performer --num-features 64 \\
             --centred --learned-features --repair-task qnli --repair-minutes 20 --repair-learning-rate 3e-4 \\
             --batch-size 64 --precision bfloat16 --threads 1 --data-dir DIR --out out/qnli-from-dense-performer
         the same with --attention linformer --projection-size 16 --repair-minutes 15 and its own --out
         the last once more, for 60 minutes, --out out/qnli-from-dense-linformer-longer
         python experiments/run.py qnli_from_dense --data-dir DIR
Expect:  dense at .86 or more, where two epochs gave .852 (qnli.py); Performer and Linformer within .03 of it, where a
         repair that dropped activations left them at .775 and .790 (qnli_repaired.py). DENSE is the folder of the dense
         run. The fine-tuning behind a repair is short and slow: 8,000 of the rows, once, at half the rate;
         behind the longer teaching, all rows, once, as on QQP (qqp_repaired.py), where that closed the gap.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.minilm import SEEDS, SPARSE, TAUGHT
from experiments.qnli import BASE
from longread.config import RunConfig

DENSE = replace(BASE, attention="dense", epochs=3)


def configs() -> list[RunConfig]:
    after = replace(BASE, epochs=1, train_rows=8_000, learning_rate=5e-5)
    taught = [
        replace(after, attention="performer", init="out/qnli-from-dense-performer", **TAUGHT),
        replace(after, attention="linformer", init="out/qnli-from-dense-linformer", **SPARSE["linformer"]),
    ]
    longer = replace(taught[1], init="out/qnli-from-dense-linformer-longer", train_rows=BASE.train_rows)
    return [DENSE, *(replace(config, seed=seed) for config in taught for seed in SEEDS), longer]
