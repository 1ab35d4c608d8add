"""IMDB from scratch: which mechanism, and is any better than counting words?

Run:     python experiments/run.py imdb_from_scratch --data-dir DIR
Expect:  .85 or more for each, the epoch chosen on a tenth of the training rows; the linear models above that.
         One layer takes 5 to 17 minutes a mechanism on one core, three layers three times that. Of one layer alone
         there are records so far; depth.py has deeper ones, with settings that learn faster.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.recipes import linear_models
from longread.config import RunConfig
from longread.study.chain import Step

RECORDS = ("imdb-scratch",)
BASE = RunConfig(
    task="imdb", num_hidden_layers=1, hidden_size=64, num_attention_heads=4, train_rows=10_000, eval_rows=5_000,
    batch_size=128, learning_rate=1e-4, epochs=10, max_length=4096, choose_epoch="best", patience=2,
    schedule="constant", warmup_fraction=0.02, dropout=0.2, embedding_dropout=0.3, token_dropout=0.2,
    vocab_size=16_000, threads=1,
)  # fmt: skip


def steps() -> list[Step]:
    mechanisms = ("dense", "longformer", "bigbird", "performer", "linformer")
    one = [Step(replace(BASE, attention=name)) for name in mechanisms]
    deeper = [
        Step(replace(BASE, attention=name, num_hidden_layers=depth))
        for depth in (2, 3)
        for name in ("linformer", "performer")
    ]
    return [*linear_models(BASE), *one, *deeper]
