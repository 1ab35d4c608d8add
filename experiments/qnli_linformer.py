"""How fast should a converted Linformer's projections learn? Chosen on rows held out of QNLI's training rows.

Run:     python experiments/run.py qnli_linformer --data-dir DIR
Expect:  a faster rate for projections and classifier (--new-weights-rate) ahead: with 16 slots the conversion shows the
         tokens behind the 16th to nobody but faintly, and at 1e-4 that takes long to change.
The evaluation rows are no part of the choice: look at the accuracy on the selection rows in `history.jsonl`.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.minilm import SPARSE
from experiments.qnli import BASE
from longread.config import RunConfig


def configs() -> list[RunConfig]:
    short = replace(BASE, attention="linformer", epochs=1, train_rows=8_000, eval_rows=500, choose_epoch="best",
                    selection_fraction=0.25, projection_size=SPARSE["linformer"]["projection_size"])  # fmt: skip
    return [replace(short, new_weights_rate=rate) for rate in (10.0, 1.0, 30.0)]
