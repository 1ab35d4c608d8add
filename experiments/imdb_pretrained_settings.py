"""How fast should a converted Linformer's projections learn on long texts? Chosen on rows held out of IMDB train.

Run:     python experiments/run.py imdb_pretrained_settings --data-dir DIR
Expect:  with 256 slots the conversion is dense on more than half of the reviews; projections that learn ten times as
         fast as the rest, which helped with 16 slots (qnli_settings.py), unlearn that.
The evaluation rows are no part of the choice: look at the accuracy on the 500 selection rows in `history.jsonl`.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.imdb_pretrained import BASE
from longread.config import RunConfig

LINFORMER = replace(
    BASE, attention="linformer", max_length=2048, eval_rows=500, choose_epoch="best", selection_fraction=0.2,
    new_weights_rate=10.0,
)  # fmt: skip


def configs() -> list[RunConfig]:
    # The classifier learns ten times as fast in each.
    return [replace(LINFORMER, projection_rate=rate) for rate in (0.1, 0.01)]
