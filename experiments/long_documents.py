"""IMDB, from one small pretrained encoder: do the tokens behind the 512th pay?

Run:     python experiments/run.py long_documents --data-dir DIR
Expect:  dense, cut at 512 tokens, at .91 on 5,000 test reviews; Longformer and BigBird at 2,048 tokens at least .003
         above it, and beside them dense at 2,048 as the control. Distilled at 2,048 first: Performer at .89, Linformer
         at .885. Default sizes; 10,000 training reviews. A day on one core.
Budgets: the distillations of the kept records, which lasted 20 and 60 minutes on one core and came to 190 updates of 16
         reviews for Performer, 1,204 for Linformer.
Chosen:  rates on rows held out of train (settings.py): Linformer's classifier learns ten times as fast as the rest,
         its projections do not.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.recipes import FEATURES, INIT, distilled, linear_models, tuned
from longread.config import RunConfig
from longread.study.chain import Step

RECORDS = ("imdb-pretrained", "imdb-more-rows", "imdb-distilled")
BASE = RunConfig(
    task="imdb", init=INIT, pooling="mean", batch_size=16, learning_rate=1e-4, epochs=1, train_rows=10_000,
    eval_rows=5_000, max_length=2048, precision="bfloat16", attention_dropout=0.0, threads=1,
)  # fmt: skip


def steps() -> list[Step]:
    dense = Step(replace(BASE, attention="dense", max_length=512))
    after = replace(BASE, learning_rate=5e-5)
    performer = distilled(dense, "performer", 190, batch_size=16, max_length=2048, **FEATURES)
    linformer = distilled(dense, "linformer", 1204, batch_size=16, max_length=2048)
    return [
        *linear_models(BASE),
        dense,
        *(Step(replace(BASE, attention=name)) for name in ("longformer", "bigbird", "dense")),
        *tuned(performer, after, (0,), attention="performer", **FEATURES),
        *tuned(linformer, after, (0,), attention="linformer"),
        # What distillation brings: Linformer converted from the pretrained weights as they are.
        Step(replace(BASE, attention="linformer", new_weights_rate=10.0, projection_rate=0.1)),
    ]
