"""QNLI and QQP, from one small pretrained encoder: does sparse attention cost accuracy on pairs of texts?

Run:     python experiments/run.py pairs --data-dir DIR
Expect:  QNLI: dense at .86 or more on the 5,463 validation pairs, Longformer and BigBird within .015 of it, Linformer
         and Performer, distilled first, within .03. QQP (10,000 pairs): dense at .85 or more, the others within .01
         and .02. A day on one core.
Chosen:  on rows held out of QNLI's training rows (settings.py): Linformer's rate, Performer's features.
Budgets: the distillations of the kept records, each 20 to 60 minutes on one core, in updates of 64 pairs: QNLI 230
         (Performer) and 1,832 (Linformer), QQP 1,626 and 1,693.
Caveat:  the weights have seen SQuAD's questions and Quora's duplicates before (recipes.py). QQP's split is the data
         directory's own, not GLUE's.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.recipes import FASTER, FEATURES, INIT, PAIRS, SEEDS, distilled, linear_models, tuned
from longread.config import RunConfig
from longread.study.chain import Step

RECORDS = ("qnli", "qnli-distilled", "qnli-from-dense", "qqp", "qqp-distilled")
QNLI = RunConfig(
    task="qnli", init=INIT, pooling="mean", batch_size=32, learning_rate=1e-4, epochs=2, precision="bfloat16",
    attention_dropout=0.0, threads=1,
)  # fmt: skip
QQP = replace(QNLI, task="qqp", batch_size=64, epochs=1, train_rows=60_000, eval_rows=10_000)
# How a distilled model is fine-tuned: once, at half the rate.
SLOWER = 5e-5


def steps() -> list[Step]:
    return [*qnli(), *qqp()]


def qnli() -> list[Step]:
    teacher = Step(replace(QNLI, attention="dense", epochs=3))
    after = replace(QNLI, epochs=1, learning_rate=SLOWER)
    performer = distilled(teacher, "performer", 230, **PAIRS["performer"], **FEATURES)
    linformer = distilled(teacher, "linformer", 1832, **PAIRS["linformer"])
    few = replace(after, train_rows=8_000)
    return [
        *linear_models(QNLI),
        *without_teacher(QNLI),
        teacher,
        *tuned(performer, few, attention="performer", new_weights_rate=FASTER, **PAIRS["performer"], **FEATURES),
        *tuned(linformer, after, attention="linformer", new_weights_rate=FASTER, **PAIRS["linformer"]),
    ]


def qqp() -> list[Step]:
    dense, *sparse = without_teacher(QQP)
    after = replace(QQP, learning_rate=SLOWER)
    performer = distilled(dense, "performer", 1626, train_rows=60_000, **PAIRS["performer"], **FEATURES)
    linformer = distilled(dense, "linformer", 1693, train_rows=60_000, **PAIRS["linformer"])
    return [
        *linear_models(QQP),
        dense,
        *sparse,
        *tuned(
            performer, after, SEEDS, attention="performer", new_weights_rate=FASTER, **PAIRS["performer"], **FEATURES
        ),
        *tuned(linformer, after, SEEDS, attention="linformer", new_weights_rate=FASTER, **PAIRS["linformer"]),
    ]


def without_teacher(base: RunConfig) -> list[Step]:
    """Converted from the pretrained weights as they are; Performer learns nothing so (settings.py)."""
    names = ("dense", "longformer", "bigbird", "linformer")
    faster = {"linformer": FASTER}
    return [Step(replace(base, attention=n, new_weights_rate=faster.get(n, 1.0), **PAIRS[n])) for n in names]
