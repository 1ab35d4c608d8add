"""What Linformer and Performer need to be fine-tuned well: chosen on rows held out of QNLI's training rows.

Run:     python experiments/run.py qnli_settings --data-dir DIR
Expect:  Linformer: a faster rate for projections and classifier (--new-weights-rate) ahead, because with 16 slots the
         conversion shows the tokens behind the 16th to nobody but faintly, and at 1e-4 that takes long to change.
         Performer: neither rate teaches it these pairs; a higher one was expected to help, and did not.
         Centred features ahead of
         plain ones, learned ones ahead of drawn ones: the first came true.
The evaluation rows are no part of the choice: look at the accuracy on the selection rows in `history.jsonl`.
"""

from __future__ import annotations

from dataclasses import replace

from experiments.qnli import BASE
from longread.config import RunConfig

SHORT = replace(BASE, epochs=1, train_rows=8_000, eval_rows=500, choose_epoch="best", selection_fraction=0.25)


def configs() -> list[RunConfig]:
    linformer = replace(SHORT, attention="linformer", projection_size=16)
    performer = replace(SHORT, attention="performer", num_features=64)
    return [
        *(replace(linformer, new_weights_rate=rate) for rate in (10.0, 1.0, 30.0)),
        *(replace(performer, learning_rate=rate) for rate in (3e-4, 1e-4)),
        replace(performer, centred=True),
        replace(performer, centred=True, learned_features=True, new_weights_rate=10.0),
        replace(performer, learned_features=True, new_weights_rate=10.0),
        replace(performer, centred=True, learned_features=True, new_weights_rate=30.0),
    ]
