"""SST-2, from one small pretrained encoder: does sparse attention cost accuracy on sentences?

Run:     python experiments/run.py sentences --data-dir DIR
Expect:  dense at .905 or more on the 872 validation sentences; converted from it and fine-tuned, Longformer and BigBird
         within .01 of it, Linformer and Performer (distilled first) within .02. Five hours on one core.
Chosen:  pooling on rows held out of train (settings.py); rate, batch and epochs on no rows of this task: with them the
         same weights, fine-tuned densely with transformers, had reached .904. A tenth of the tokens is dropped, anew
         each epoch, because the dense model memorises; measured on no rows.
Budgets: the distillations of the kept records, which lasted 20 and 50 minutes on one core and came to 685 updates of
         64 texts for Performer, 4,080 for Linformer.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.recipes import FASTER, FEATURES, INIT, SPARSE, distilled, linear_models, tuned
from longread.config import RunConfig
from longread.study.chain import Step

RECORDS = ("sst2", "sst2-slower", "sst2-attention-dropout", "sst2-distilled", "sst2-from-dense")
BASE = RunConfig(
    task="sst2", init=INIT, pooling="mean", batch_size=64, learning_rate=5e-5, epochs=2, precision="bfloat16",
    attention_dropout=0.0, threads=1,
)  # fmt: skip


def steps() -> list[Step]:
    teacher = Step(replace(BASE, attention="dense", epochs=3, token_dropout=0.1))
    after = replace(teacher.config, epochs=1, train_rows=20_000)
    performer = distilled(teacher, "performer", 685, **SPARSE["performer"], **FEATURES)
    linformer = distilled(teacher, "linformer", 4080, **SPARSE["linformer"])
    return [
        *linear_models(BASE),
        teacher,
        *(step for name in ("longformer", "bigbird") for step in tuned(teacher, after, attention=name, **SPARSE[name])),
        *tuned(performer, after, attention="performer", new_weights_rate=FASTER, **SPARSE["performer"], **FEATURES),
        *tuned(linformer, after, attention="linformer", new_weights_rate=FASTER, **SPARSE["linformer"]),
        *without_teacher(),
    ]


def without_teacher() -> list[Step]:
    """Each mechanism converted from the pretrained weights as they are, one seed."""
    return [
        Step(replace(BASE, attention=name, new_weights_rate=FASTER if name == "linformer" else 1.0, **options))
        for name, options in SPARSE.items()
    ]
