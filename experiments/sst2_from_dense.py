"""SST-2: one dense fine-tuning with dropped tokens, and every mechanism converted from it.

Run:     python experiments/run.py sst2_from_dense --data-dir DIR --only dense
         longread convert results/sst2-from-dense/runs/DENSE/checkpoint --attention longformer --attention-window 32 \\
             --out out/sst2-from-dense-longformer
         the same with --attention bigbird --block-size 8 --num-random-blocks 1 --out out/sst2-from-dense-bigbird
         the same with --attention performer --num-features 64 --centred --learned-features --repair-task sst2 \\
             --repair-minutes 20 --repair-learning-rate 3e-4 --batch-size 64 --precision bfloat16 --threads 1 \\
             --data-dir DIR
         the same with --attention linformer --projection-size 16 and the same repair
         the last once more, for 50 minutes, --out out/sst2-from-dense-linformer-longer
         python experiments/run.py sst2_from_dense --data-dir DIR
Expect:  dense at .905 or more, where it stayed at .893 and memorised its phrases (sst2_slower.py); Longformer and
         BigBird within .01 of it, Linformer and Performer within .02. DENSE is the folder of the dense run.
Chosen:  a tenth of the tokens is dropped, anew each epoch, because the dense model memorised; measured on no rows. The
         rate of the repair by the distance from the teacher on held-out training texts (figures in LOG.md).
"""

from __future__ import annotations

from dataclasses import replace

from experiments.minilm import SEEDS, SPARSE, TAUGHT
from experiments.sst2_slower import SLOWER
from longread.config import RunConfig

DENSE = replace(SLOWER, epochs=3, token_dropout=0.1)


def configs() -> list[RunConfig]:
    after = replace(DENSE, epochs=1, train_rows=20_000)
    converted = [
        replace(after, attention=name, init=f"out/sst2-from-dense-{name}", **settings)
        for name, settings in (SPARSE | {"performer": TAUGHT}).items()
        if name != "dense"
    ]
    longer = replace(after, attention="linformer", init="out/sst2-from-dense-linformer-longer", **SPARSE["linformer"])
    return [DENSE, *(replace(config, seed=seed) for config in (*converted, longer) for seed in SEEDS)]
