"""IMDB from scratch, depth 1, 2 and 3: do deeper models do worse, as the student study found?

Run:     python experiments/run.py depth --data-dir DIR
Expect:  .85 or more at each depth, no depth worse than a shallower one by more than the interval, in less time than the
         student study's GPU needed. Times are quoted from runs on an idle machine.
Rows:    as the student study drew them (imdb-pooled: both halves of IMDB put together, 10,000 and 5,000 reviews drawn
         from all, so that reviews of one film are on both sides), three seeds; and IMDB's official halves, which share
         no film, one seed. Other mechanisms, at one layer, and the linear models stand beside.
Chosen:  on rows held out of IMDB's train half (settings.py); some of those are evaluation rows of imdb-pooled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from experiments.recipes import SEEDS, linear_models
from longread.config import RunConfig
from longread.study.chain import Step

RECORDS = ("imdb-study-rows", "imdb-deeper")
BASE = RunConfig(
    task="imdb", num_hidden_layers=1, hidden_size=64, num_attention_heads=4, train_rows=10_000, eval_rows=5_000,
    batch_size=32, learning_rate=5e-4, epochs=5, max_length=4096, choose_epoch="best", weight_decay=0.1, dropout=0.2,
    embedding_dropout=0.1, token_dropout=0.4, vocab_size=16_000,
)  # fmt: skip
DEEPER: dict[str, dict[str, Any]] = {
    "linformer": {"projection_init": "fold", "projection_rate": 0.1},
    "performer": {},
}


def steps() -> list[Step]:
    return [*on(replace(BASE, task="imdb-pooled"), SEEDS), *on(BASE, (0,))]


def on(base: RunConfig, seeds: tuple[int, ...]) -> list[Step]:
    deeper = [
        Step(replace(base, attention=name, num_hidden_layers=depth, seed=seed, **options))
        for seed in seeds
        for depth in (1, 2, 3)
        for name, options in DEEPER.items()
    ]
    beside = [Step(replace(base, attention=name)) for name in ("dense", "longformer", "bigbird")]
    return [*linear_models(base), *beside, *deeper]
