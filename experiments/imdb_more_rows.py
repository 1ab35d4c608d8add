"""IMDB, fine-tuned from one small pretrained encoder on 10,000 reviews, evaluated on 5,000 (imdb_pretrained.py: fewer).

Run:     python experiments/run.py imdb_more_rows --data-dir DIR
Expect:  dense, cut at 512 tokens, at .91; Longformer at 2,048 tokens at least .003 above it. Default sizes.
         One to two hours a mechanism on one core, which is why the other mechanisms are not here yet.
Settings are imdb_pretrained.py's; only the rows differ.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.imdb_pretrained import BASE as FEWER
from longread.config import RunConfig

BASE = replace(FEWER, train_rows=10_000, eval_rows=5_000)


def configs() -> list[RunConfig]:
    return [replace(BASE, attention="dense", max_length=512), replace(BASE, attention="longformer", max_length=2048)]
