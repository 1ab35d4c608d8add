"""IMDB from scratch on rows drawn as the older study drew them: depth 1, 2 and 3, three seeds.

Run:     python experiments/run.py imdb_study_rows --data-dir DIR
Expect:  .85 or more at each depth, no depth worse than a shallower one by more than the interval, in less time than the
         older study's GPU needed (its seconds: README). Times are quoted from runs on an idle machine.
The older study put both halves of IMDB together and drew its 10,000 and 5,000 reviews from all, so that reviews of one
film are on both sides. The official halves share no film (imdb_deeper.py, same settings): that is harder.
The other mechanisms, at one layer, and the linear models stand beside. The settings are imdb_deeper's, which were
chosen on rows held out of IMDB's train half: some of those are evaluation rows here.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.imdb_deeper import BASE as OFFICIAL
from longread.config import BASELINES, RunConfig

BASE = replace(OFFICIAL, task="imdb-pooled")


def configs() -> list[RunConfig]:
    shapes = [("dense", 1), ("longformer", 1), ("bigbird", 1)]
    shapes += [(name, depth) for depth in (1, 2, 3) for name in ("linformer", "performer")]
    return [
        *(replace(BASE, attention=name) for name in BASELINES),
        *(
            replace(BASE, attention=name, num_hidden_layers=depth, seed=seed)
            for seed in (0, 1, 2)
            for name, depth in shapes
        ),
    ]
