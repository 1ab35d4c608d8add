"""IMDB from scratch on rows drawn as the older study drew them: depth 1, 2 and 3, three seeds.

Run:     python experiments/run.py imdb_study_rows --data-dir DIR
Expect:  .85 or more at each depth, no depth worse than a shallower one by more than the interval, in less time than the
         older study's GPU needed. Times are quoted from runs on an idle machine.
The older study put both halves of IMDB together and drew its 10,000 and 5,000 reviews from all, so that reviews of one
film are on both sides. The official halves share no film (imdb_deeper.py).
The other mechanisms (one layer, one seed) and the linear models stand beside. What is not imdb_deeper's setting was
chosen on rows held out of IMDB's train half (imdb_settings.py); some of those are evaluation rows here.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.imdb_deeper import BASE as OFFICIAL
from longread.config import BASELINES, RunConfig

BASE = replace(OFFICIAL, task="imdb-pooled", embedding_dropout=0.1)


def configs() -> list[RunConfig]:
    linformer = replace(BASE, attention="linformer", projection_init="fold", projection_rate=0.1)
    deeper = [
        replace(config, num_hidden_layers=depth, seed=seed)
        for seed in (0, 1, 2)
        for depth in (1, 2, 3)
        for config in (linformer, replace(BASE, attention="performer"))
    ]
    beside = [replace(BASE, attention=name) for name in (*BASELINES, "dense", "longformer", "bigbird")]
    return [*beside, *deeper]
