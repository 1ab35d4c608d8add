"""IMDB, one small pretrained encoder: is it the length that pays, or the sparse attention?

Run:     python experiments/run.py imdb_lengths --data-dir DIR
Expect:  dense at .87 when it reads 512 tokens and at least .003 more at 2,048; Longformer and BigBird at 2,048 within
         .01 of dense at 2,048. Half an hour of one core of an AMD EPYC.
Rows:    2,500 training reviews and 2,000 of test, those of results/imdb-pretrained.
Chosen:  nothing here: settings are those of long_documents. One seed: a difference may still be the training's chance.
Times:   imdb_lengths_times, on an idle machine.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.long_documents import BASE
from experiments.recipes import linear_models
from longread.study.chain import Step

RECORDS = ("imdb-lengths",)
ROWS = replace(BASE, train_rows=2_500, eval_rows=2_000)


def steps() -> list[Step]:
    """By what each one tells, so that a study stopped half way has the control."""
    return [*linear_models(ROWS), *transformers()]


def transformers() -> list[Step]:
    return [
        Step(replace(ROWS, attention="dense", max_length=512)),
        Step(replace(ROWS, attention="dense")),
        Step(replace(ROWS, attention="longformer")),
        Step(replace(ROWS, attention="bigbird")),
        Step(replace(ROWS, attention="dense", max_length=1024)),
    ]
